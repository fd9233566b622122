# SPDX-License-Identifier: Apache-2.0
"""Unusual files of a model: special files, links, sizes, indexes."""

import json
import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
from conftest import run
from dynamo_llm import ModelNotFoundError, Runtime, Tokenizer
from dynamo_llm.paths import demo_model_dir
from dynamo_llm.runtime import model_files
from dynamo_llm.runtime.engines.mistralrs import temporary_files
from reliability import reliability

#: Loads each folder of its command line, and prints the result, and that the process still works.
load = """
import sys, dynamo_llm
for folder in sys.argv[1:]:
    try:
        with dynamo_llm.Runtime(model=folder) as runtime:
            print("answer", runtime.complete("hello", max_tokens=2).result().text.encode("ascii", "replace"))
    except dynamo_llm.DynamoError as error:
        print(type(error).__name__, error.message)
with dynamo_llm.Runtime() as runtime:
    print("demo", len(runtime.complete("hello", max_tokens=4, ignore_eos=True).result().text) > 0)
"""


def fifo(path: Path) -> None:
    """Creates a file that blocks the process that opens it."""
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    """Creates a file that cannot be opened. Its path may be long, so it is created elsewhere."""
    place = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(place)


def folder(path: Path) -> None:
    """Creates a folder with the name of a file."""
    path.mkdir()


def link_to(target: str) -> Callable[[Path], None]:
    """Returns a function that creates a link; to itself if the target is the file's own name."""

    def make(path: Path) -> None:
        path.symlink_to(target or path.name)

    return make


kinds: dict[str, Callable[[Path], None]] = {
    "a FIFO": fifo,
    "a socket": unix_socket,
    "a folder": folder,
    "a device": link_to("/dev/zero"),
    "symbolic links": link_to(""),
    "which does not exist": link_to("nowhere/at/all"),
    "a kernel file": link_to("/proc/kmsg"),
}

#: Files that are read while a model loads.
names = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/other.jinja",
    "adapter_config.json",
    "modules.json",
)


def with_file(place: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Copies the demo model with one file replaced."""
    shutil.copytree(demo_model_dir(), place)
    path = place / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    return place


def test_special_files(tmp_path: Path) -> None:
    """The error names each, and its kind, without blocking or reading it."""
    cases = [(name, kind) for name in names for kind in ("a FIFO", "a device")]
    cases += [(name, kind) for name in ("config.json", "chat_template.jinja") for kind in kinds]
    cases.append(("model.safetensors", "a kernel file"))
    folders = [
        with_file(tmp_path / str(index), name, kinds[kind]) for index, (name, kind) in enumerate(cases)
    ]
    result = run([sys.executable, "-c", load, *folders])
    *lines, demo = result.stdout.splitlines()
    assert demo == "demo True", result.stderr
    for line, place, (name, kind) in zip(lines, folders, cases, strict=True):
        assert line.startswith(f'ModelNotFoundError the file "{place / name}" of the model '), line
        what = line.partition(" of the model ")[2]
        assert kind in what or (kind == "symbolic links" and "cannot be opened" in what), line
    reliability(
        "a FIFO, a socket, a device or an endless link in a model's folder",
        len(cases),
        "an error that names it",
    )


def test_unused_files(tmp_path: Path) -> None:
    """They do no harm: mistral.rs, which knows more names, does not see them."""
    cases = ["params.json", "x.gguf", "extra.safetensors", "model.safetensors.index.json", "tekken.json"]
    cases += ["chat_template.json.d/x", "preprocessor_config.json", "processor_config.json", "x.uqff"]
    folders = [with_file(tmp_path / str(index), name, fifo) for index, name in enumerate(cases)]
    result = run([sys.executable, "-c", load, *folders])
    *lines, demo = result.stdout.splitlines()
    assert demo == "demo True", result.stderr
    assert [line.partition(" ")[0] for line in lines] == ["answer"] * len(cases), lines


def test_links_as_in_a_cache(tmp_path: Path) -> None:
    """The cache of the Hugging Face Hub has links to files elsewhere."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    shutil.copytree(demo_model_dir(), blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    with Runtime(model=snapshot) as linked, Runtime() as demo:
        texts = [one.complete("hello", max_tokens=8).result().text for one in (linked, demo)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
)
def test_large_files(tmp_path: Path, name: str) -> None:
    """A sparse text file of 10 GB is not read."""

    def make(path: Path) -> None:
        path.write_bytes(b"{")
        os.truncate(path, 10 << 30)

    place = with_file(tmp_path / "model", name, make)
    with pytest.raises(ModelNotFoundError, match=rf"{name}.* has 10737418240 bytes; at most \d+ are read"):
        Runtime(model=place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is nested too deeply"),
        ('{"a":' * 100_000, "is nested too deeply"),
        ("[" + "[]," * 5_000_000 + "[]]", "about 10000002 values; at most 8000000"),
        ("\xff", "not valid JSON"),
        ("[]", "must be an object"),
    ],
)
def test_json(tmp_path: Path, text: str, message: str) -> None:
    """JSON that would use up memory, or the stack, is rejected before it is parsed."""
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ModelNotFoundError, match=rf"tokenizer\.json.* {message}"):
        model_files.read_json(path)


def test_files_that_grow(tmp_path: Path) -> None:
    """Only as many bytes are read as the file had when it was opened."""
    path = tmp_path / "config.json"
    path.write_text("{}")
    with model_files.open_file(path) as file:
        size = model_files.size_of(file)
        with path.open("a") as end:
            end.write("x" * 1000)
        assert file.read(size) == b"{}"


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": "../model.safetensors"}, "'../model.safetensors'"),
        ({"a": "/etc/passwd"}, "'/etc/passwd'"),
        ({"a": "..", "b": "."}, "'.'"),
        ({"a": "sub/model.safetensors"}, "'sub/model.safetensors'"),
        ({"a": "model.bin"}, "'model.bin'"),
        ({"a": "a\0.safetensors"}, r"x00.safetensors'"),
        ({"a": "\ud800.safetensors"}, r"ud800"),
        ({"a": "x" * 5000 + ".safetensors"}, "cannot be opened"),
        (
            {f"t{index}": f"{index}.safetensors" for index in range(100_000)},
            "names 100000 files; at most 4096",
        ),
        ({"a": 5}, '"weight_map"'),
        ([], '"weight_map"'),
        ({"a": "zz.safetensors"}, "lacks zz.safetensors"),
    ],
)
def test_indexes(tmp_path: Path, places: object, message: str) -> None:
    """The parts of the weights must be beside the index that names them."""
    tiny_models.llama(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ModelNotFoundError) as caught:
        Runtime(model=tmp_path / "model")
    assert message in caught.value.message, caught.value.message


def test_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is listed up to a limit."""
    monkeypatch.setattr(model_files, "most_entries", 5)
    for number in range(6):
        (tmp_path / f"{number}.gguf").touch()
    with pytest.raises(ModelNotFoundError, match="more than 5 entries"):
        model_files.named(tmp_path, "*.gguf")


def test_gguf_among_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GGUF file may be in any folder; mistral.rs does not see the files beside it."""
    path = tiny_models.gguf(tmp_path / "model.gguf")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"):
        os.mkfifo(tmp_path / name)
    monkeypatch.setattr(model_files, "most_entries", 3)
    with Runtime(model=path) as runtime:
        assert runtime.complete("hello", max_tokens=2, ignore_eos=True).result().text


@pytest.mark.parametrize("kind", ["a FIFO", "a device", "a folder"])
def test_tokenizers(tmp_path: Path, kind: str) -> None:
    """A tokenizer without a model opens its files in the same way."""
    place = with_file(tmp_path / "model", "tokenizer.json", kinds[kind])
    with pytest.raises(ModelNotFoundError, match=kind):
        Tokenizer(model=place)


def test_command_line(tmp_path: Path) -> None:
    """``dynamo-llm models`` prints why a model cannot be used."""
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        with_file(tmp_path / name, name, fifo)
    os.mkfifo(tmp_path / "x.gguf")
    program = [Path(sys.executable).with_name("dynamo-llm"), "models", "--json", tmp_path]
    result = run(program, env={"HF_HOME": str(tmp_path)})
    found = {one["name"]: one["problem"] for one in json.loads(result.stdout)}
    assert {name for name, problem in found.items() if problem and "is a FIFO" in problem} == {
        *("config.json", "model.safetensors", "tokenizer.json", "x.gguf")
    }


def test_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of others in the shared temporary folder are neither opened nor mistaken for the library's."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / ".lock").touch()
    os.utime(victim / ".lock", (0, 0))
    for name in ("dynamo-llm-a", "dynamo-llm-b.jinja"):
        os.mkfifo(tmp_path / name)
    for name, make in (("c", fifo), ("d", link_to("/dev/zero")), ("e", link_to(str(victim / ".lock")))):
        (tmp_path / f"dynamo-llm-{name}").mkdir()
        make(tmp_path / f"dynamo-llm-{name}" / ".lock")
    (tmp_path / "dynamo-llm-f").symlink_to(victim)
    with temporary_files.folder({"chat_template.jinja": "x"}) as made:
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert (made / "chat_template.jinja").read_text() == "x"
    assert not made.exists()
    assert (victim / ".lock").exists()
    assert (tmp_path / "dynamo-llm-e").exists()
