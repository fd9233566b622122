# SPDX-License-Identifier: Apache-2.0
"""The configuration's cluster.host and cluster.tls, without a cluster."""

import re
from pathlib import Path
from typing import Any

import pytest
from certificates import Certificate, signed, signer
from conftest import run, run_python
from dynamo_llm import InvalidConfigError
from dynamo_llm.runtime.cluster.planes import Planes
from dynamo_llm.runtime.cluster.settings import Settings

local = "127.0.0.1"


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


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One address applies to all sockets; servers and certificates have no variables."""
    monkeypatch.delenv("DYN_SYSTEM_HOST", raising=False)  # another test's connection may have set it
    planes = Planes.read("10.1.2.3", {})
    assert planes.of_construction() == {}
    assert planes.of_process() == {
        "DYN_TCP_RPC_HOST": "10.1.2.3",
        "DYN_TCP_RESPONSE_STREAM_HOST": "10.1.2.3",
        "DYN_EVENT_PLANE_HOST": "10.1.2.3",
        "DYN_SYSTEM_HOST": "10.1.2.3",
    }
    assert Planes.read("::1", {}).host == "::1"


def test_the_status_server_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is unchanged."""
    monkeypatch.setenv("DYN_SYSTEM_HOST", "10.9.9.9")
    assert Planes.read(local, {}).of_process()["DYN_SYSTEM_HOST"] == "10.9.9.9"


def test_certificates(ca: Certificate, mine: Certificate) -> None:
    """etcd's are passed as text, the others as files; other variables are removed."""
    keys = mine.keys(ca)
    planes = Planes.read(local, {"etcd": keys, "nats": keys, "request_plane": keys})
    made = planes.of_construction()
    assert made["ETCD_AUTH_CA"] == ca.cert.read_text()
    assert made["ETCD_AUTH_CLIENT_CERT"] == mine.cert.read_text()
    assert made["ETCD_AUTH_CLIENT_KEY"] == mine.key.read_text()
    assert made["ETCD_AUTH_USERNAME"] is None and made["ETCD_AUTH_PASSWORD"] is None
    assert made["NATS_TLS_CA_CERT_PATH"] == str(ca.cert)
    assert (made["NATS_TLS_CLIENT_CERT_PATH"], made["NATS_TLS_CLIENT_KEY_PATH"]) == (
        str(mine.cert),
        str(mine.key),
    )
    assert made["NATS_TLS_INSECURE"] is None
    process = planes.of_process()
    assert (process["DYN_TCP_TLS_CERT_PATH"], process["DYN_TCP_TLS_KEY_PATH"]) == (
        str(mine.cert),
        str(mine.key),
    )
    assert process["DYN_TCP_TLS_CA_CERT_PATH"] == process["DYN_TCP_TLS_CLIENT_CA_CERT_PATH"] == str(ca.cert)
    assert process["DYN_TCP_TLS_CLIENT_CERT_PATH"] == str(mine.cert)
    assert process["DYN_TCP_TLS_INSECURE"] is None and process["DYN_TCP_TLS_SERVER_NAME"] is None


@pytest.mark.parametrize("source", ["configuration", "environment"])
def test_quic_with_certificates(
    ca: Certificate, mine: Certificate, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """It is refused: a caller who sets certificates must not get answers that they do not protect."""
    monkeypatch.delenv("DYN_RESPONSE_PLANE", raising=False)
    given: dict[str, Any] = {"tls": {"request_plane": mine.keys(ca)}}
    assert Settings.read({**given, "response_plane": "tcp"}).response_plane == "tcp"
    if source == "environment":
        monkeypatch.setenv("DYN_RESPONSE_PLANE", "quic")
    else:
        given["response_plane"] = "quic"
    with pytest.raises(InvalidConfigError, match=r'"cluster\.response_plane" .* "tcp", not "quic"'):
        Settings.read(given)


def test_one_way_and_a_name(ca: Certificate, mine: Certificate) -> None:
    """Client certificates are presented, but not requested."""
    given = {**mine.keys(ca), "mutual": False, "server_name": "worker.example"}
    process = Planes.read(local, {"request_plane": given}).of_process()
    assert process["DYN_TCP_TLS_CLIENT_CA_CERT_PATH"] is None
    assert process["DYN_TCP_TLS_CLIENT_CERT_PATH"] == str(mine.cert)
    assert process["DYN_TCP_TLS_SERVER_NAME"] == "worker.example"


def test_secrets() -> None:
    """They are passed to Dynamo, and do not appear in the repr."""
    tls = {
        "etcd": {"username": "alice", "password": "s3cret"},
        "nats": {"token": "s3cret"},
    }
    planes = Planes.read(local, tls)
    assert "s3cret" not in repr(planes) and "alice" in repr(planes)
    made = planes.of_construction()
    assert (made["ETCD_AUTH_USERNAME"], made["ETCD_AUTH_PASSWORD"]) == ("alice", "s3cret")
    assert made["NATS_AUTH_TOKEN"] == "s3cret" and made["NATS_AUTH_USERNAME"] is None
    assert "s3cret" not in str(planes.of_process())


@pytest.mark.parametrize(
    ("host", "tls", "message"),
    [
        ("localhost", {}, r'"cluster.host" .* must be an IP address .*, not "localhost"'),
        ("0.0.0.0", {}, r'"cluster.host" .*, not "0.0.0.0"'),
        (local, {"etdc": {}}, r'unknown key "cluster.tls.etdc" .*; did you mean "cluster.tls.etcd"\?'),
        (local, {"etcd": {"crt": "x"}}, r'unknown key "cluster.tls.etcd.crt" .*"cluster.tls.etcd.cert"\?'),
        (
            local,
            {"event_plane": {}},
            r'"cluster.tls.event_plane" .* does not support TLS over ZeroMQ; .*"tls.nats"',
        ),
        (local, {"file": {}}, r'"cluster.tls.file" .* by its permissions'),
        (local, {"etcd": "x"}, r'"cluster.tls.etcd" .* must be an object'),
        (local, {"etcd": {"ca": 1}}, r'"cluster.tls.etcd.ca" .* must be a string'),
        (local, {"request_plane": {"mutual": "no"}}, r'"cluster.tls.request_plane.mutual" .* true or false'),
        (
            local,
            {"etcd": {"username": "a"}},
            r'"cluster.tls.etcd.username" .* also requires "cluster.tls.etcd.password"',
        ),
        (local, {"request_plane": {}}, r'"cluster.tls.request_plane" .* requires "ca", "cert", and "key"'),
        (local, {"nats": {"token": "a", "nkey": "b"}}, r'"cluster.tls.nats" .* has token and nkey; use one'),
        (local, {"nats": {"credentials": "/no/where"}}, r'cannot read "/no/where": No such file'),
    ],
)
def test_mistakes(host: str, tls: dict[str, Any], message: str) -> None:
    """Each error names the key and the valid values."""
    with pytest.raises(InvalidConfigError, match=message):
        Planes.read(host, tls)


def test_files_that_do_not_fit(folder: Path, ca: Certificate, mine: Certificate) -> None:
    """Missing and wrong files, a key that does not match, a key with a passphrase."""
    other = signed(folder, "other", ca)
    locked, text = folder / "locked.pem", folder / "text.pem"
    text.write_text("no certificate")
    locking = ["openssl", "pkcs8", "-topk8", "-in", mine.key, "-out", locked, "-passout", "pass:pass"]
    assert run(locking).returncode == 0
    for change, message in (
        ({"key": ""}, r'"cluster.tls.etcd.ca" .* also requires "cluster.tls.etcd.key"'),
        ({"cert": str(folder / "none")}, r'"cluster.tls.etcd.cert" .*: cannot read ".*none": No such file'),
        ({"ca": str(folder)}, r'"cluster.tls.etcd.ca" .*: cannot read ".*": Is a directory'),
        ({"ca": str(text)}, r'"cluster.tls.etcd.ca" .* does not contain a PEM certificate'),
        ({"cert": str(text)}, r'"cluster.tls.etcd.cert" .* does not contain a PEM certificate'),
        ({"key": str(other.key)}, r'"cluster.tls.etcd.cert" .*, or ".*other-key.pem" is not its key'),
        ({"key": str(locked)}, r'"cluster.tls.etcd.key" .* has a passphrase'),
        ({"username": "a", "password": "b"}, r'"cluster.tls.etcd" .* sends only one'),
    ):
        with pytest.raises(InvalidConfigError, match=message):
            Planes.read(local, {"etcd": {**mine.keys(ca), **change}})


def test_urls(ca: Certificate, mine: Certificate) -> None:
    """They must match the certificates, and errors never contain a password of a URL."""
    with_tls = Planes.read(local, {"etcd": mine.keys(ca), "nats": {"ca": str(ca.cert)}})
    with_tls.check_urls(["https://e:2379"], ["tls://n:4222"])
    plain = Planes.read(local, {})
    plain.check_urls(["http://e:2379"], ["nats://n:4222", "tls://n:4222"])
    for planes, etcd, nats, message in (
        (with_tls, ["http://e:2379"], [], r'"cluster.etcd" .* must begin with https://'),
        (with_tls, [], ["nats://n"], r'"cluster.nats" .* must begin with tls://'),
        (plain, ["https://e:2379"], [], r'requires "ca", "cert", and "key" in "cluster.tls.etcd"'),
        (plain, [], ["nats://a:s3cret@n"], r'"cluster.nats" .*; set it in "cluster.tls.nats" instead'),
    ):
        with pytest.raises(InvalidConfigError, match=message) as caught:
            planes.check_urls(etcd, nats)
        assert "s3cret" not in str(caught.value)


def test_two_runtimes_that_differ(ca: Certificate, mine: Certificate) -> None:
    """The first one determines the values for the process."""
    code = f"""
import os
from dynamo_llm import InvalidConfigError
from dynamo_llm.runtime.cluster.planes import Planes, claim
os.environ["DYN_TCP_TLS_INSECURE"] = "1"
keys = {mine.keys(ca)!r}
claim(Planes.read("127.0.0.1", {{"request_plane": keys}}))
assert os.environ["DYN_TCP_RPC_HOST"] == "127.0.0.1" and "DYN_TCP_TLS_INSECURE" not in os.environ
claim(Planes.read("127.0.0.1", {{"request_plane": keys, "nats": {{"token": "other"}}}}))
for planes in (Planes.read("127.0.0.2", {{"request_plane": keys}}), Planes.read("127.0.0.1", {{}})):
    try:
        claim(planes)
    except InvalidConfigError as error:
        print(error)
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    host, tls = result.stdout.splitlines()
    assert '"cluster.host" of the configuration is "127.0.0.2"' in host and 'used "127.0.0.1"' in host
    assert re.search(r'"cluster.tls.request_plane" .* is not set, but .* used RequestPlane\(ca=', tls)
