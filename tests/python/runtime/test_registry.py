# SPDX-License-Identifier: Apache-2.0
"""Finding engines by name."""

from pathlib import Path

import pytest
from conftest import engines_dir
from dynamo_llm.errors import EngineNotFoundError, EngineUnavailableError
from dynamo_llm.runtime import registry
from dynamo_llm.runtime.engines.mistralrs import MistralRsEngine


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path with a distribution that adds engines."""
    (tmp_path / "plugin_engines.py").write_text("class Fine:\n    pass\n\nnot_a_class = 3\n")
    (tmp_path / "plugin_broken.py").write_text("import no_such_package\n")
    info = tmp_path / "dynamo_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dynamo-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.GROUP}]\n"
        "fine = plugin_engines:Fine\n"
        "broken = plugin_broken:Engine\n"
        "mistralrs = plugin_engines:Fine\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_own_engine() -> None:
    """The default engine is found by its name."""
    assert registry.find("mistralrs") is MistralRsEngine


def test_names_are_sorted_and_complete() -> None:
    """The list of names includes the native engines."""
    assert {"echo", "mistralrs", "scripted"} <= set(registry.names())
    assert registry.names() == sorted(registry.names())


@pytest.mark.usefixtures("plugin")
def test_entry_points() -> None:
    """An engine of another package is found, and listed."""
    assert registry.find("fine").__name__ == "Fine"
    assert "fine" in registry.names()


@pytest.mark.usefixtures("plugin")
def test_entry_points_do_not_replace() -> None:
    """Another package cannot take the name of one of this package's engines."""
    assert registry.find("mistralrs") is MistralRsEngine


@pytest.mark.usefixtures("plugin")
def test_entry_point_that_cannot_be_imported() -> None:
    """The message names the missing package."""
    with pytest.raises(EngineUnavailableError, match="no_such_package"):
        registry.find("broken")


def test_module_and_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """module:Class needs no registration."""
    monkeypatch.syspath_prepend(engines_dir)
    assert registry.find("echoes:Async").__name__ == "Async"


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", ["plugin_engines:Missing", "plugin_engines:not_a_class", "plugin_engines:"])
def test_module_without_the_class(name: str) -> None:
    """The error names a class that the module does not have."""
    with pytest.raises(EngineNotFoundError, match="plugin_engines has no class"):
        registry.find(name)


def test_unknown_names() -> None:
    """An unknown name's error has the most similar one and the list; an unknown module's the reason."""
    with pytest.raises(EngineNotFoundError, match=r'did you mean "mistralrs"\? .*echo, .*"module:Class"'):
        registry.find("mistralr")
    with pytest.raises(EngineUnavailableError, match="no_such_module"):
        registry.find("no_such_module:Engine")
