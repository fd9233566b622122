# SPDX-License-Identifier: Apache-2.0
"""No code of a model folder runs: no module, no pickle, and no chat template outside of its sandbox."""

import json
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
from conftest import run
from reliability import reliability

# Creates a runtime and asks it. Prints the error.
ask = """
import sys
import dynamo_llm
try:
    with dynamo_llm.Runtime(sys.argv[1]) as runtime:
        runtime.chat("a").result()
except dynamo_llm.DynamoError as error:
    print(repr(error), error.details)
print("asked")
"""


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mined(tmp_path: Path) -> tuple[Path, Path]:
    """A model folder with code in each place from which a library once ran some, and the folder that this
    code would create.
    """
    folder, mark = tmp_path / "model", tmp_path / "mark"
    folder.mkdir()
    demo = dynamo_llm.paths.demo_model_dir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (demo / name).exists():
            (folder / name).write_bytes((demo / name).read_bytes())
    config = json.loads((demo / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    code = f"import os\nos.mkdir({str(mark)!r})\nclass C: ...\n"
    for name in ("code.py", "modeling_code.py", "tokenization_code.py", "__init__.py", "conftest.py"):
        (folder / name).write_text(code)
    settings: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["code.C", "code.C"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name in ("pytorch_model.bin", "model.pt", "consolidated.00.pth"):
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    return folder, mark


def load(config: Mapping[str, Any]) -> str:
    """Returns the error of a model that cannot be loaded, from a separate process."""
    result = run([sys.executable, "-c", ask, json.dumps(config)])
    assert result.stdout.endswith("asked\n"), result.stderr
    return result.stdout


def test_the_bomb_works(mined: tuple[Path, Path]) -> None:
    """Unpickling it runs the command."""
    folder, mark = mined
    pickle.loads((folder / "model.pt").read_bytes())
    assert mark.is_dir()


@pytest.mark.parametrize("engine", ["mistralrs", "transformers", "vllm"])
def test_no_code_of_a_model_folder_runs(mined: tuple[Path, Path], engine: str) -> None:
    """Pickles are not read, and modules are not imported. An engine that is not installed reads nothing."""
    folder, mark = mined
    said = load({"engine": engine, "model": str(folder)})
    assert "Error(" in said, said
    assert not mark.exists()
    reliability(
        f"a model's folder with pickles and modules that run code, engine {engine}",
        1,
        "an error; no code ran",
    )


def test_no_code_of_a_tokenizer_folder_runs(mined: tuple[Path, Path]) -> None:
    folder, mark = mined
    with dynamo_llm.Tokenizer(model=str(folder)) as tokenizer:
        assert tokenizer.encode("a")
    listed = run([sys.executable, "-m", "dynamo_llm", "models", str(folder.parent)])
    assert listed.returncode == 0, listed.stderr
    assert not mark.exists()
    reliability("a tokenizer's folder with modules that run code", 1, "the tokenizer works; no code ran")


templates = {
    "a class of the interpreter": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals of a function": "{{ raise_exception.__globals__ }}",
    "an attribute by its name": "{{ messages | map(attribute='__class__') | list }}",
    "a format string": "{{ '{0.__class__}'.format(messages) }}",
    "a change of what it was given": "{{ messages.append(1) }}",
}


@pytest.mark.parametrize("trick", templates)
def test_a_template_stays_in_its_sandbox(trick: str, tmp_path: Path) -> None:
    """A model's chat template can only compute text."""
    demo = dynamo_llm.paths.demo_model_dir()
    (tmp_path / "tokenizer.json").write_bytes((demo / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.jinja").write_text(templates[trick])
    with dynamo_llm.Tokenizer(model=str(tmp_path)) as tokenizer:
        try:
            text = tokenizer.apply_template("a")
        except dynamo_llm.DynamoError as error:
            text = error.message
            assert "template" in text
    assert "<class" not in text and "function" not in text
    reliability(f"a chat template that asks for {trick}", 1, "refused, or an empty text")


def test_endless_template(tmp_path: Path) -> None:
    """A template that would run for long is stopped."""
    demo = dynamo_llm.paths.demo_model_dir()
    (tmp_path / "tokenizer.json").write_bytes((demo / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{% for i in range(100000000) %}a{% endfor %}")
    with (
        dynamo_llm.Tokenizer(model=str(tmp_path)) as tokenizer,
        pytest.raises(dynamo_llm.DynamoError, match="range"),
    ):
        tokenizer.apply_template("a")
