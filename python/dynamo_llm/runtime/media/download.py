# SPDX-License-Identifier: Apache-2.0
"""Downloads what requests name as http and https URLs.

A URL in a request makes this process open connections that its sender could not open: to services on this
machine, in the local network, or of the cloud provider. So a host is connected only if each of its addresses
is public, or if the configuration names it, and the connection goes to exactly an address that was checked.
Redirects are not followed: the next host would have to be checked again, and a direct URL is easily given.
"""

import http.client
import ipaddress
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from dynamo_llm.errors import CancelledError, InvalidRequestError, UnavailableError
from dynamo_llm.runtime.media.local_file import too_large
from dynamo_llm.runtime.media.media_settings import MediaSettings
from dynamo_llm.runtime.urls import shown_url

_log = logging.getLogger("dynamo_llm.media")

#: Bytes that are read at a time.
_block = 1 << 16
#: Seconds after which a cancel is noticed.
_pause = 0.05
_headers = {
    "Accept-Encoding": "identity",  # what is compressed could be of any size
    "Connection": "close",
    "User-Agent": "dynamo-llm",
}
#: IPv6 addresses that a gateway translates into the IPv4 address in their last four bytes.
_nat64 = ipaddress.ip_network("64:ff9b::/96")
#: The only IPv6 addresses of the Internet. Others may be site-local (fec0::/10), or contain IPv4 addresses
#: (::/96).
_unicast = ipaddress.ip_network("2000::/3")
_ports = {"http": 80, "https": 443}
#: What no URL contains: urlsplit() removes some of it, and HTTPConnection raises for the rest.
_not_in_urls = re.compile(r"[\x00-\x20\x7f]")


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked; the host's name is not looked up again."""

    def __init__(self, host: str, port: int, address: Any, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self.default_port = _ports["http" if context is None else "https"]
        self._address = address
        self._context = context
        self._opened: socket.socket | None = None  # also once HTTPConnection has left it to the answer
        self._is_aborted = False

    def connect(self) -> None:
        """Connects within the timeout that was set.

        :raises TimeoutError: also if the connection was aborted.
        """
        family, kind, protocol, _, address = self._address
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(self.timeout)
            self._set_opened(sock)
            sock.connect(address)
            if self._context is not None:
                # Without the handshake, so that abort() finds the socket that is used for it.
                sock = self._context.wrap_socket(
                    sock, server_hostname=self.host, do_handshake_on_connect=False
                )
                self._set_opened(sock)
                sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    def _set_opened(self, sock: socket.socket) -> None:
        # In this order: abort() sets its flag before it looks for the socket.
        self._opened = sock
        if self._is_aborted:
            raise TimeoutError

    def abort(self) -> None:
        """Ends connecting, all reads, and all writes, from any thread, also if they have not begun."""
        self._is_aborted = True
        if self._opened is not None:
            # Not the method of an SSLSocket, which only the thread that reads may call.
            with suppress(OSError):  # closed meanwhile
                socket.socket.shutdown(self._opened, socket.SHUT_RDWR)


def read(url: str, settings: MediaSettings, is_cancelled: Callable[[], bool]) -> bytes:
    """Returns what a URL names. Blocks, for at most ``settings.timeout_ms`` and the lookup of the host.

    :raises InvalidRequestError: the URL, its host, or the answer is not allowed; the message continues the
        name of the URL's key.
    :raises UnavailableError: the server cannot be reached, fails, or is too slow.
    """
    parts = check(url, settings)
    host, port = str(parts.hostname), parts.port or _ports[parts.scheme]
    address = _address_of(host, port, settings)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    connection = _Connection(host, port, address, context)
    connection.timeout = settings.timeout_ms / 1000
    try:
        with _limited(connection, settings.timeout_ms / 1000, is_cancelled):
            return _receive(connection, parts, settings.max_bytes)
    except TimeoutError as error:
        raise UnavailableError(
            f"cannot be downloaded from {shown_url(url)} within {settings.timeout_ms} ms "
            '("media.timeout_ms" of the configuration)'
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"cannot be downloaded from {shown_url(url)}: {_reason(error)}") from error


@contextmanager
def _limited(connection: _Connection, seconds: float, is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Aborts a connection after a time, and when the request is cancelled; closes it at the end.

    The timeout of a socket is not enough: a server that sends a byte now and then never lets a read time out.

    :raises CancelledError: the request was cancelled.
    :raises TimeoutError: the time has passed.
    """
    end = time.monotonic() + seconds
    has_ended = threading.Event()
    reasons: list[Exception] = []

    def watch() -> None:
        while not reasons:
            left = end - time.monotonic()
            if is_cancelled():
                reasons.append(CancelledError("the request was cancelled"))
            elif left <= 0:
                reasons.append(TimeoutError())
            elif has_ended.wait(min(_pause, left)):
                return
        connection.abort()

    watcher = threading.Thread(target=watch, name="dynamo-llm-download", daemon=True)
    watcher.start()
    try:
        yield
    except Exception as error:
        if reasons:
            raise reasons[0] from error
        raise
    finally:
        has_ended.set()
        watcher.join()
        connection.close()
    if reasons:  # an aborted connection looks like one that the server has closed
        raise reasons[0]


def check(url: str, settings: MediaSettings) -> SplitResult:
    """Checks whether the configuration allows a URL, without a look at its host's addresses.

    :raises InvalidRequestError: it does not, or the URL is not valid; the message continues the name of the
        URL's key.
    """
    if _not_in_urls.search(url):
        raise InvalidRequestError(
            'must be a URL without spaces and control characters; "%20" stands for a space'
        )
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.username is not None or parts.password is not None:
        raise InvalidRequestError(
            'must be a URL such as "https://example.com/image.png", without a user and a password'
        )
    if not settings.allow_network and parts.hostname not in settings.allow_hosts:
        raise InvalidRequestError(
            f"is a URL of the host {_shown_host(parts)}, from which nothing may be downloaded; send the data "
            'as "data:image/png;base64,...", or allow it with "media.allow_hosts" or "media.allow_network" '
            "of the configuration"
        )
    return parts


def _shown_host(parts: SplitResult) -> str:
    return f'"{parts.hostname}"' if str(parts.hostname).isprintable() else "***"


def _address_of(host: str, port: int, settings: MediaSettings) -> Any:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f'has the host "{host}", which is not found: {_reason(error)}') from error
    if host not in settings.allow_hosts:
        for *_, address in found:
            if not is_public(str(address[0])):
                # Not in the message: the sender of a request need not know the addresses of a network.
                _log.info('a request names the host "%s", whose address %s is not public', host, address[0])
                raise InvalidRequestError(
                    f'has the host "{host}", whose address is not public; name the host in '
                    '"media.allow_hosts" of the configuration to allow it'
                )
    return found[0]


def is_public(text: str) -> bool:
    """Whether an IP address is one of the Internet: not of this machine, of a private network, or reserved.
    An IPv6 address that contains an IPv4 address is public only if that is, too.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address in _nat64:
            return is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
        inner = address.teredo[1] if address.teredo is not None else address.sixtofour
        if address not in _unicast or (inner is not None and not is_public(str(inner))):
            return False
    return address.is_global and not address.is_multicast and not address.is_unspecified


def _receive(connection: _Connection, parts: SplitResult, most: int) -> bytes:
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?") if parts.query else ""
    connection.request("GET", target + query, headers=_headers)
    answer = connection.getresponse()
    _check_head(answer, most)
    length = answer.length  # None for an answer in chunks, or to the end of the connection
    data = bytearray()
    while block := answer.read1(min(_block, most + 1 - len(data))):
        data += block
        if len(data) > most:
            raise too_large(most)
    if length is not None and len(data) < length:
        raise http.client.IncompleteRead(bytes(data), length - len(data))
    return bytes(data)


def _check_head(answer: http.client.HTTPResponse, most: int) -> None:
    status = answer.status
    if 300 <= status < 400:
        raise InvalidRequestError("is redirected to another URL, which is not followed; give the final URL")
    if status >= 500 or status == 429:
        raise UnavailableError(f"cannot be downloaded: its server answers with status {status}")
    if status != 200:
        raise InvalidRequestError(f"cannot be downloaded: its server answers with status {status}")
    encoding = answer.getheader("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise InvalidRequestError("cannot be downloaded: its server sends it compressed, unasked")
    if answer.length is not None and answer.length > most:
        raise too_large(most, answer.length)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
