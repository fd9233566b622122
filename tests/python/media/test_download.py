# SPDX-License-Identifier: Apache-2.0
"""URLs of requests: which hosts are connected, and what a server may send."""

import logging
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dynamo_llm.errors import CancelledError, DynamoError, InvalidRequestError, UnavailableError
from dynamo_llm.runtime.media import download
from dynamo_llm.runtime.media.media_settings import MediaSettings


class Server:
    """Sends bytes to each client, whatever it asks."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer: Callable[[socket.socket], None] = lambda client: None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/a%20b.png?x=1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                try:
                    self.asked.append(client.recv(10000))
                    self.answer(client)
                except OSError:
                    pass

    def sends(self, *pieces: bytes, pause: float = 0.0) -> None:
        """Sets the answer."""

        def answer(client: socket.socket) -> None:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause)

        self.answer = answer

    def close(self) -> None:
        """Stops."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on this machine."""
    one = Server()
    yield one
    one.close()


def settings(**more: Any) -> MediaSettings:
    """Returns settings that allow this machine."""
    return MediaSettings(**{"allow_hosts": ("127.0.0.1",), "max_bytes": 100, "timeout_ms": 2000, **more})


def refused(url: str, kind: type[DynamoError] = InvalidRequestError, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        download.read(url, settings(**more), lambda: False)
    return caught.value.message


def head(status: str = "200 OK", *headers: str) -> bytes:
    """Returns the beginning of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


def test_answers(server: Server) -> None:
    """With a length, in chunks, or to the end of the connection; the request has nothing of the host."""
    for answer in (
        head("200 OK", "Content-Length: 4") + b"data",
        head("200 OK", "Transfer-Encoding: chunked") + b"2\r\nda\r\n2\r\nta\r\n0\r\n\r\n",
        head() + b"data",
    ):
        server.sends(answer)
        assert download.read(server.url, settings(), lambda: False) == b"data"
    first, *rest = server.asked[0].decode().splitlines()
    assert first == "GET /a%20b.png?x=1 HTTP/1.1"
    assert {line.partition(":")[0] for line in rest if line} == {
        "Host",
        "Accept-Encoding",
        "Connection",
        "User-Agent",
    }


def test_what_a_server_may_not_send(server: Server) -> None:
    """Redirects, errors, compressed data, and too much of it."""
    for answer, kind, why in (
        (head("302 Found", "Location: http://127.0.0.1/"), InvalidRequestError, "redirected"),
        (head("404 Not Found"), InvalidRequestError, "status 404"),
        (head("204 No Content"), InvalidRequestError, "status 204"),
        (head("503 Busy"), UnavailableError, "status 503"),
        (head("200 OK", "Content-Encoding: gzip") + b"x", InvalidRequestError, "compressed"),
        (
            head("200 OK", "Content-Length: 5000000000"),
            InvalidRequestError,
            "has 5000000000 bytes; at most 100",
        ),
        (head() + bytes(101), InvalidRequestError, "more than 100 bytes"),
        (head("200 OK", "Content-Length: 9") + b"data", UnavailableError, "IncompleteRead"),
        (b"what?\r\n\r\n", UnavailableError, "cannot be downloaded from http://127.0.0.1"),
        (b"", UnavailableError, "cannot be downloaded"),
        (head("200 OK", *[f"X-{n}: y" for n in range(200)]), UnavailableError, "cannot be downloaded"),
    ):
        server.sends(answer)
        assert why in refused(server.url, kind), answer
        assert "x=1" not in refused(server.url, kind)  # a query may be a secret


@pytest.mark.parametrize(
    "pieces",
    [
        [b""] * 40,
        [bytes([one]) for one in head("200 OK", "X: " + "y" * 200)],
        [head(), *[b"x"] * 90],
        [head("200 OK", "Transfer-Encoding: chunked"), *[b"1\r\nx\r\n"] * 90],
    ],
    ids=["nothing", "head", "body", "chunks"],
)
def test_slow_servers(server: Server, pieces: list[bytes]) -> None:
    """The time for the whole download is limited, not only that between two bytes."""
    server.sends(*pieces, pause=0.05)
    start = time.monotonic()
    assert "within 500 ms" in refused(server.url, UnavailableError, timeout_ms=500)
    assert time.monotonic() - start < 5


def test_cancel(server: Server) -> None:
    """A request that was cancelled reads no further."""
    server.sends(head(), *[b"x"] * 90, pause=0.02)
    with pytest.raises(CancelledError):
        download.read(server.url, settings(), lambda: True)


def cancelled(url: str, after: float = 0.2) -> None:
    """Checks that a download ends soon after its request was cancelled."""
    start = time.monotonic()
    with pytest.raises(CancelledError):
        download.read(url, settings(timeout_ms=30000), lambda: time.monotonic() > start + after)
    assert time.monotonic() - start < 10


def test_cancel_before_the_body(server: Server) -> None:
    """A cancel ends a download also while the head, or the handshake of TLS, is awaited."""
    server.sends(head().removesuffix(b"\r\n") + b"X: ", *[b"y"] * 600, pause=0.05)
    cancelled(server.url)
    server.answer = lambda client: bytes(client.recv(1))  # returns when the client has closed
    cancelled(server.url)
    cancelled(server.url.replace("http", "https"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends connect() with shutdown()")
def test_cancel_of_connecting() -> None:
    """A cancel ends a download also while a full server does not accept the connection."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        cancelled(f"http://127.0.0.1:{full.getsockname()[1]}/")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_abort_before_connecting(server: Server, scheme: str) -> None:
    """The time may pass before there is a socket to shut down: connecting fails then."""
    port = int(server.url.split(":")[2].partition("/")[0])
    address = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)[0]
    context = ssl.create_default_context() if scheme == "https" else None
    connection = download._Connection("127.0.0.1", port, address, context)
    connection.timeout = 5
    connection.abort()
    with pytest.raises(TimeoutError):
        connection.request("GET", "/")
    assert server.asked == []


def test_hosts_that_are_not_allowed(server: Server) -> None:
    """No host is, unless the configuration says so; and this machine and its network only by name."""
    port = server.url.split(":")[2]
    assert 'the host "127.0.0.1", from which nothing may be downloaded' in refused(server.url, allow_hosts=())
    for host in ("127.0.0.1", "localhost", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"):
        url = f"http://{host}:{port}"
        message = refused(url, allow_hosts=("other",), allow_network=True)
        assert "whose address is not public; name the host in" in message, host
    assert server.asked == []
    server.sends(head() + b"x")
    assert (
        download.read(f"http://LOCALHOST:{port}", settings(allow_hosts=("localhost",)), lambda: False) == b"x"
    )


def test_private_addresses_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """The sender of a request does not learn the address of an internal name; the log has it."""
    with caplog.at_level(logging.INFO, "dynamo_llm.media"):
        message = refused("http://localhost/", allow_network=True)
    assert "127.0.0.1" not in message
    assert "::1" not in message
    assert re.search(r'"localhost", whose address (127\.0\.0\.1|::1) is not public', caplog.text)


def test_characters_that_no_url_has() -> None:
    """They are an error of the request, wherever they are: also where urlsplit() would remove them."""
    for url in (
        "http://127.0.0.1\0/x.png",
        "http://127.0.0.1 /x.png",
        "http://127.0.0.1\x7f/x.png",
        "http://127.0.0.1/a b.png",
        "http://127.0.0.1/a\r\nb.png",
        "http://127.0.0.1/x.png\t",
        "http://exa\nmple.com/x.png",
    ):
        assert "without spaces and control characters" in refused(url, allow_network=True), url


def test_wrong_urls() -> None:
    """A URL without a host, with a password, or of a host that does not exist."""
    for url in ("http:///x", "http://", "http://u:secret@127.0.0.1/", "http://127.0.0.1:x/", "http://[::1/"):
        message = refused(url)
        assert "without a user and a password" in message
        assert "secret" not in message
    assert "which is not found" in refused(
        "http://no-such-host.invalid/", UnavailableError, allow_network=True
    )
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "refused" in refused(f"http://127.0.0.1:{port}/", UnavailableError).lower()


def test_certificates(server: Server) -> None:
    """https needs a certificate: a server without TLS is an error."""
    server.sends(head() + b"x")
    assert "cannot be downloaded" in refused(server.url.replace("http", "https"), UnavailableError)


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::5db8:d822", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),  # what cloud providers tell of a machine, keys included
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fe80::1%lo", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),  # 10.0.0.1, through a gateway
        ("2002:a00:1::", False),  # 10.0.0.1, through a tunnel
        ("fec0::1", False),  # site-local
        ("::10.0.0.1", False),  # compatible with IPv4, as once planned
        ("::93.184.216.34", False),
        ("4000::1", False),  # not assigned
    ],
)
def test_public_addresses(address: str, is_public: bool) -> None:
    """Addresses of the Internet, also if they are written within others."""
    assert download.is_public(address) is is_public
