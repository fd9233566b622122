# SPDX-License-Identifier: Apache-2.0
"""The key ``cluster`` of a configuration, without Dynamo."""

import asyncio
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
from dynamo_llm import InvalidConfigError, Runtime, UnavailableError
from dynamo_llm.runtime.cluster.client.model_cards import model_cards
from dynamo_llm.runtime.cluster.settings import Settings, _Keys

variables = (
    "ETCD_ENDPOINTS",
    "NATS_SERVER",
    "DYN_FILE_KV",
    "DYN_NAMESPACE",
    "DYN_NAMESPACE_PREFIX",
    "DYN_NAMESPACE_WORKER_SUFFIX",
)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes Dynamo's environment variables."""
    for name in variables:
        monkeypatch.delenv(name, raising=False)


def test_defaults() -> None:
    """An empty object means etcd on this machine."""
    settings = Settings.read({})
    assert (settings.discovery, settings.etcd) == ("etcd", ("http://127.0.0.1:2379",))
    assert (settings.namespace, settings.router, settings.nats, settings.path) == (
        "dynamo",
        "round_robin",
        (),
        "",
    )


def test_addresses_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo's variables are the defaults; the configuration takes precedence."""
    monkeypatch.setenv("ETCD_ENDPOINTS", "http://a:1, http://b:2")
    monkeypatch.setenv("NATS_SERVER", "nats://c:3")
    monkeypatch.setenv("DYN_FILE_KV", "/kv")
    assert Settings.read({}).etcd == ("http://a:1", "http://b:2")
    assert Settings.read({}).nats == ()
    assert Settings.read({"event_plane": "nats"}).nats == ("nats://c:3",)
    assert Settings.read({"discovery": "file"}).path == "/kv"
    assert Settings.read({"etcd": ["http://d:4"]}).etcd == ("http://d:4",)


def test_namespaces_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container of Dynamo's operator: a worker has its generation's namespace, a client sees all."""
    monkeypatch.setenv("DYN_NAMESPACE", "prod-llama")
    monkeypatch.setenv("DYN_NAMESPACE_WORKER_SUFFIX", "0a1b2c3d")
    worker = Settings.read({})
    assert worker.full_path("backend.generate") == "prod-llama-0a1b2c3d.backend.generate"
    monkeypatch.delenv("DYN_NAMESPACE_WORKER_SUFFIX")
    monkeypatch.setenv("DYN_NAMESPACE_PREFIX", "prod-llama")
    client = Settings.read({})
    assert (client.namespace, client.namespace_prefix) == ("prod-llama", "prod-llama")
    assert client.sees("prod-llama-0a1b2c3d") and not client.sees("test-llama")
    given = Settings.read({"namespace": "mine"})
    assert (given.namespace, given.namespace_prefix) == ("mine", None)
    assert given.full_path("backend.generate") == "mine.backend.generate"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"namespce": "x"}, 'unknown key "cluster.namespce".*did you mean "cluster.namespace"'),
        ({"discovery": "zookeeper"}, '"cluster.discovery".*one of etcd, file, kubernetes'),
        ({"namespace": "a.b"}, '"cluster.namespace".*without dots'),
        ({"namespace": ""}, '"cluster.namespace".*must be one name'),
        ({"etcd": "http://a:1"}, r'"cluster.etcd".*array of URLs, such as \["http://127.0.0.1:2379"\]'),
        ({"etcd": []}, '"cluster.etcd".*array of URLs'),
        ({"etcd": ["a:1"]}, '"cluster.etcd".*"a:1", which must begin with http:// or https://'),
        ({"etcd": ["http://a:99999"]}, '"cluster.etcd"'),
        ({"discovery": "file", "etcd": ["http://a:1"]}, '"cluster.etcd".*"discovery" "etcd", not "file"'),
        ({"path": "/x"}, '"cluster.path".*"discovery" "file"'),
        ({"nats": ["nats://a:1"]}, '"cluster.nats" .*"request_plane" or "event_plane"'),
        ({"request_plane": "nats", "nats": ["http://a:1"]}, '"cluster.nats".*nats:// or tls://'),
        ({"router": "best"}, '"cluster.router".*round_robin, random, power_of_two, kv, least_loaded, direct'),
        ({"router_options": {"x": 1}}, '"cluster.router_options".*"router" "kv"'),
        ({"namespace_prefix": "a.b"}, '"cluster.namespace_prefix".*without dots'),
        ({"migration_max_seq_len": 0}, '"cluster.migration_max_seq_len".*from 1 to'),
        ({"response_plane": "udp"}, '"cluster.response_plane".*one of tcp, quic'),
        ({"migration_limit": -1}, '"cluster.migration_limit".*from 0 to'),
        ({"stall_ms": -1}, '"cluster.stall_ms".*from 0 to'),
        ({"request_timeout_ms": 0}, '"cluster.request_timeout_ms".*from 1 to'),
        ({"connect_timeout_ms": True}, '"cluster.connect_timeout_ms".*integer'),
        ({"lease_ttl_s": 0}, '"cluster.lease_ttl_s".*from 1 to 3600'),
        ({"host": "somewhere"}, '"cluster.host".*IP address'),
        ({"tls": {"etdc": {}}}, '"cluster.tls.etdc".*did you mean "cluster.tls.etcd"'),
    ],
)
def test_mistakes(given: dict[str, Any], message: str) -> None:
    """Each error names the key and the valid values."""
    with pytest.raises(InvalidConfigError, match=message):
        Settings.read(given)


def test_passwords_are_not_shown() -> None:
    """Neither errors nor repr() contain them."""
    login = {"username": "u", "password": "secret"}
    settings = Settings.read({"tls": {"etcd": login}})
    assert "secret" not in repr(settings) + settings.address
    with pytest.raises(InvalidConfigError) as caught:
        Settings.read({"etcd": ["http://u:secret@a:1"]})
    assert "secret" not in str(caught.value)


def test_shared_connections() -> None:
    """Settings share a connection unless they differ in its address or credentials."""
    one = Settings.read({"etcd": ["http://a:1"]})
    assert one.connection_key == Settings.read({"etcd": ["http://a:1"], "router": "kv"}).connection_key
    assert one.connection_key != Settings.read({"etcd": ["http://b:1"]}).connection_key
    login = {"etcd": {"username": "u", "password": "p"}}
    assert one.connection_key != Settings.read({"etcd": ["http://a:1"], "tls": login}).connection_key


def test_the_schema_contains_it() -> None:
    """The C++ library checks the same keys, also those of each model."""
    properties = dynamo_llm.config_schema()["properties"]
    assert properties["cluster"]["properties"]["router"]["enum"][3] == "kv"
    for config in ({"cluster": {"rooter": "kv"}}, {"models": [{"name": "a", "cluster": {"rooter": "kv"}}]}):
        with pytest.raises(InvalidConfigError, match=r'cluster\.rooter.*did you mean ".*cluster\.router"'):
            Runtime(config)


def test_cpp_and_python_have_the_same_keys() -> None:
    """C++ and Python accept the same keys."""
    known = set(dynamo_llm.config_schema()["properties"]["cluster"]["properties"])
    assert known == {key.name for key in fields(_Keys)}


def test_default_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default folder that another user created in advance is rejected; a configured one is trusted."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = tmp_path / "dynamo_store_kv"
    assert Settings.read({"discovery": "file"}).path == str(place)
    place.mkdir()
    assert Settings.read({"discovery": "file"}).path == str(place)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InvalidConfigError, match=r'"cluster\.path".*belongs to another user'):
        Settings.read({"discovery": "file"})
    assert Settings.read({"discovery": "file", "path": str(tmp_path)}).path == str(tmp_path)


@pytest.mark.parametrize("kind", ["a FIFO", "a device", "not valid JSON", "at most"])
def test_files_that_are_not_cards(tmp_path: Path, kind: str) -> None:
    """The error names an unreadable file, without blocking."""
    card, instance = tmp_path / "v1" / "mdc" / "card", tmp_path / "v1" / "instances" / "card"
    for folder in (card.parent, instance.parent):
        folder.mkdir(parents=True)
    instance.touch()
    if kind == "a FIFO":
        os.mkfifo(card)
    elif kind == "a device":
        card.symlink_to("/dev/zero")
    else:
        card.write_text("{")
        os.truncate(card, 1 if kind == "not valid JSON" else 10 << 30)
    settings = Settings.read({"discovery": "file", "path": str(tmp_path)})
    with pytest.raises(UnavailableError, match=f"{card} is not a model card: .*{kind}"):
        asyncio.run(model_cards(settings))
