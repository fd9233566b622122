# SPDX-License-Identifier: Apache-2.0
"""Connections of NVIDIA Dynamo with certificates and passwords, between processes and to real servers."""

import importlib.util
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificate, signed, signer
from cluster_rig.port import free_port
from conftest import patience

if importlib.util.find_spec("dynamo") is None:
    pytest.skip("needs the extra: pip install '.[dynamo]'", allow_module_level=True)

environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the certificates."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ca(folder: Path) -> Certificate:
    """Returns the CA certificate."""
    return signer(folder, "ca")


@pytest.fixture(scope="module")
def mine(folder: Path, ca: Certificate) -> Certificate:
    """Returns a certificate that it signed."""
    return signed(folder, "mine", ca)


@pytest.fixture(scope="module")
def strange(folder: Path) -> Certificate:
    """Returns a certificate that another CA signed."""
    return signed(folder, "strange", signer(folder, "other"))


@contextmanager
def running(*command: str | Path, **more: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a process inside the context."""
    with subprocess.Popen([str(word) for word in command], env=environment, **more) as process:
        try:
            yield process
        finally:
            process.kill()


def wait(condition: Callable[[], Any]) -> None:
    """Waits until a condition is true without an OSError."""
    end = time.monotonic() + patience
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < end
        time.sleep(0.05)


def member(role: str, cluster: dict[str, Any]) -> list[str | Path]:
    """Returns the command of a worker or a client."""
    return [sys.executable, Path(__file__).parent / "cluster_member.py", role, json.dumps(cluster)]


@contextmanager
def worker(cluster: dict[str, Any]) -> Iterator[str]:
    """Runs a worker; returns its address."""
    with running(*member("worker", cluster), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("ready "), line
        yield line.split()[1]


def ask(cluster: dict[str, Any]) -> str:
    """Returns a short summary of what a client gets; nothing is written to stderr."""
    command = [str(word) for word in member("client", cluster)]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=patience, check=True
    )
    assert result.stderr == ""
    return result.stdout.strip()


hello = "['hello']"


def test_requests(tmp_path: Path, ca: Certificate, mine: Certificate, strange: Certificate) -> None:
    """Requests are encrypted; if client certificates are required, only clients with one are accepted."""
    for mutual in (True, False):
        base = {"discovery": "file", "path": str(tmp_path / str(mutual))}
        plane = {**mine.keys(ca), "mutual": mutual}
        with worker({**base, "tls": {"request_plane": plane}}) as address:
            host, port = address.split("/")[0].split(":")
            context = ssl.create_default_context(cafile=ca.cert)
            with (
                socket.create_connection((host, int(port)), patience) as plain,
                context.wrap_socket(plain, server_hostname=host) as encrypted,
            ):
                assert encrypted.version() == "TLSv1.3"
            assert ask({**base, "tls": {"request_plane": plane}}) == hello
            # Clients with a wrong certificate, and clients that do not trust the worker's.
            unknown = {**strange.keys(ca), "mutual": False}
            distrusting = {**mine.keys(strange), "mutual": False}
            # (Without "mutual" the worker takes the first one's request, and cannot connect to answer it.)
            for wrong in (unknown, distrusting) if mutual else (distrusting,):
                answer = ask({**base, "tls": {"request_plane": wrong}})
                assert "Unavailable: TCP connection to" in answer


def test_etcd(tmp_path: Path, ca: Certificate, mine: Certificate, strange: Certificate) -> None:
    """Etcd requires certificates. Clients with a wrong one, or that do not trust it, do not connect."""
    if (program := shutil.which("etcd")) is None:
        pytest.skip("needs etcd: Debian's etcd-server")
    port, peers = free_port(), free_port()
    url, peer = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    command = [
        program, "--data-dir", tmp_path / "etcd", "--listen-client-urls", url, "--advertise-client-urls", url,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"default={peer}", "--cert-file", mine.cert, "--key-file", mine.key,
        "--client-cert-auth", "--trusted-ca-file", ca.cert,
    ]  # fmt: skip
    context = ssl.create_default_context(cafile=ca.cert)
    context.load_cert_chain(mine.cert, mine.key)
    base = {"discovery": "etcd", "etcd": [url]}
    with running(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait(lambda: b"true" in urllib.request.urlopen(f"{url}/health", context=context, timeout=5).read())
        with worker({**base, "tls": {"etcd": mine.keys(ca)}}):
            assert ask({**base, "tls": {"etcd": mine.keys(ca)}}) == hello
            for wrong in (strange.keys(ca), mine.keys(strange)):
                assert "no runtime: etcd" in ask({**base, "tls": {"etcd": wrong}, "seconds": 1})


def test_nats(tmp_path: Path, ca: Certificate, mine: Certificate, strange: Certificate) -> None:
    """Requests through NATS, with certificates and a user."""
    if (program := shutil.which("nats-server", path=environment["PATH"])) is None:
        pytest.skip("needs nats-server")
    port = free_port()
    command = [
        program, "-a", "127.0.0.1", "-p", str(port), "--user", "alice", "--pass", "s3cret",
        "-js", "-sd", tmp_path, "--tlsverify", "--tlscert", mine.cert, "--tlskey", mine.key,
        "--tlscacert", ca.cert,
    ]  # fmt: skip
    base = {
        "discovery": "file",
        "path": str(tmp_path / "kv"),
        "request_plane": "nats",
        "nats": [f"tls://127.0.0.1:{port}"],
    }
    alice = {"username": "alice", "password": "s3cret"}
    with running(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait(lambda: socket.create_connection(("127.0.0.1", port), 5).close() or True)
        with worker({**base, "tls": {"nats": {**mine.keys(ca), **alice}}}):
            assert ask({**base, "tls": {"nats": {**mine.keys(ca), **alice}}}) == hello
            for wrong in (
                {**strange.keys(ca), **alice},
                {"ca": str(ca.cert), **alice},
                {**mine.keys(strange), **alice},
                {**mine.keys(ca), **alice, "password": "wrong"},
            ):
                answer = ask({**base, "tls": {"nats": wrong}, "seconds": 1})
                assert answer.startswith("no runtime: ") and "NATS" in answer
                assert "s3cret" not in answer and "wrong" not in answer
