# SPDX-License-Identifier: Apache-2.0
"""URLs of requests: which hosts are connected, and what a server may send."""

import socket
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


def test_hosts_that_are_not_allowed(server: Server) -> None:
    """No host is, unless the configuration says so; and this machine and its network only by name."""
    port = server.url.split(":")[2]
    assert 'the host "127.0.0.1", from which nothing may be downloaded' in refused(server.url, allow_hosts=())
    for host in ("127.0.0.1", "localhost", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"):
        url = f"http://{host}:{port}"
        message = refused(url, allow_hosts=("other",), allow_network=True)
        assert "is not public; name the host in" in message, host
    assert server.asked == []
    server.sends(head() + b"x")
    assert (
        download.read(f"http://LOCALHOST:{port}", settings(allow_hosts=("localhost",)), lambda: False) == b"x"
    )


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
    ],
)
def test_public_addresses(address: str, is_public: bool) -> None:
    """Addresses of the Internet, also if they are written within others."""
    assert download.is_public(address) is is_public
