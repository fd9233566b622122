# SPDX-License-Identifier: Apache-2.0
"""The command: its output, and its exit codes."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from conftest import Completed, compile_c, dynamo_config, engines_dir, patience, run

COMMAND = [sys.executable, "-m", "dynamo_llm"]
slow = '{"engine": "echo", "options": {"repeat": 1000000, "tokens_per_second": 20}}'
failing = json.dumps([{"error": {"status": "OVERLOADED", "message": "too many"}}])


def cli(*words: Any, **more: Any) -> Completed:
    return run([*COMMAND, *words], **more)


def test_chat() -> None:
    """A question is answered on stdout, with nothing on stderr."""
    for words in (["--engine", "echo", "hé 世界"], ["--config", ' {"engine": "echo"}', "hé 世界"]):
        result = cli("chat", *words)
        assert (result.returncode, result.stdout, result.stderr) == (0, "hé 世界\n", "")
    result = cli("chat", "What is a KV cache?", "--max-tokens", "3")
    assert result.returncode == 0
    assert 0 < len(result.stdout) < 30


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared library with an engine in C."""
    flags = ["-shared", "-fPIC", *dynamo_config("--cflags", "--libs").split()]
    folder = tmp_path_factory.mktemp("library")
    return compile_c(engines_dir / "library.c", folder / "libmine.so", *flags)


def test_engine_library(library: Path) -> None:
    """--engine takes the path of a shared library; a value with a "/" or its extension is a path."""
    words = ["--engine", library, "--json", "x"]
    for name, folder in ((library, None), ("./libmine.so", library.parent), ("libmine.so", library.parent)):
        result = cli("chat", "--engine", name, "x", cwd=folder)
        assert (result.returncode, result.stdout, result.stderr) == (0, "entries 1, starts 1\n", "")
    chunk = json.loads(cli("chat", *words).stdout.splitlines()[0])
    assert chunk["model"] == "mine"
    isolated = json.dumps({"engine": {"library": str(library)}, "isolation": "process"})
    assert cli("chat", "--config", isolated, "x").stdout == "entries 1, starts 1\n"


def test_wrong_engine_library(library: Path, tmp_path: Path) -> None:
    """The message names the library, and what is wrong with it."""
    (tmp_path / "libtext.so").write_text("no library")
    for name, message in (
        ("./libnone.so", 'libnone.so" does not exist; give the path of a shared library'),
        (str(tmp_path), "is a folder"),
        (str(tmp_path / "libtext.so"), "is not a shared library"),
    ):
        result = cli("chat", "--engine", name, "x")
        assert (result.returncode, result.stdout) == (1, "")
        assert message in " ".join(result.stderr.split())
    refusing = cli("chat", "--engine", library, "x", env={"DYNAMO_TEST_ENTRY": "newer"})
    assert "was built with dynamo-llm 999.0.0" in " ".join(refusing.stderr.split())


def test_complete() -> None:
    """A text is continued as it is, without a chat template; --stop ends it."""
    for words, more in ((["a b"], {}), (["-"], {"input": "a b"}), ([], {"input": "a b"})):
        result = cli("complete", "--engine", "echo", *words, **more)
        assert (result.returncode, result.stdout, result.stderr) == (0, "a b\n", "")
    chunk = json.loads(cli("complete", "--engine", "echo", "--json", "a").stdout.splitlines()[0])
    assert (chunk["object"], chunk["choices"][0]["text"]) == ("text_completion", "a")
    whole = cli("complete", "A KV cache", "--max-tokens", "12", "--temperature", "0").stdout.strip()
    word = whole.split()[2]
    cut = cli("complete", "A KV cache", "--max-tokens", "12", "--temperature", "0", "--stop", word).stdout
    assert whole.partition(word)[0].strip() == cut.strip()
    assert cli("complete", "--engine", "echo", " ").returncode == 2


def test_embed(tmp_path: Path) -> None:
    """One vector a line, of arguments or of the lines of standard input, as numbers or as JSON."""
    model = tiny_models.embedder(tmp_path / "embedder")
    result = cli("embed", "--model", model, "one text", "another")
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    vectors = [[float(number) for number in line.split()] for line in result.stdout.splitlines()]
    assert [len(vector) for vector in vectors] == [32, 32] and vectors[0] != vectors[1]
    lines = "one text\n\nanother\n" * 40  # more than one request
    entries = [
        json.loads(line) for line in cli("embed", "--model", model, "--json", input=lines).stdout.splitlines()
    ]
    assert [entry["index"] for entry in entries] == list(range(80))
    assert entries[-2]["embedding"] == pytest.approx(vectors[0], abs=1e-5)
    short = cli("embed", "--model", model, "--dimensions", "8", "one text").stdout
    assert len(short.split()) == 8
    refused = cli("embed", "--engine", "echo", "a")
    assert (refused.returncode, refused.stdout) == (1, "") and "embeddings" in refused.stderr
    assert cli("embed", "--engine", "echo", input="\n").returncode == 2
    listed = json.loads(cli("models", "--json", model, env={"HF_HOME": "/no"}).stdout)
    assert listed[1]["use"] == f"dynamo-llm embed --model {model}"


def test_tokenize() -> None:
    """Ids with their pieces, and ids back to text."""
    text = "A KV cache, größe €😀"
    told = json.loads(cli("tokenize", "--json", text).stdout)
    assert len(told["ids"]) == len(told["pieces"]) > 5
    assert "".join(told["pieces"]).endswith(text)
    lines = cli("tokenize", "-", input=text).stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == told["ids"]
    assert [json.loads(line.split(None, 1)[1]) for line in lines] == told["pieces"]
    plain = json.loads(cli("tokenize", "--no-special", "--json", text).stdout)["ids"]
    for words, more in (
        ([*map(str, plain)], {}),
        ([], {"input": json.dumps(plain)}),
        (["-"], {"input": "\n".join(map(str, plain))}),
    ):
        assert cli("tokenize", "--ids", "--no-special", *words, **more).stdout == text + "\n"
    wrong = cli("tokenize", "--ids", "12", "x1")
    assert wrong.returncode == 2 and '"x1" is not a token id' in wrong.stderr
    assert "99999999 is" in cli("tokenize", "--ids", "99999999").stderr.replace("ids[0] ", "99999999 ")
    assert cli("tokenize", "two", "texts").returncode == 2


def test_prompt_on_stdin() -> None:
    """A "-" reads standard input, and so does a missing prompt where stdin is not a terminal."""
    for words in (["-"], []):
        assert cli("chat", "--engine", "echo", *words, input="one two").stdout == "one two\n"
    result = cli("chat", "--engine", "echo", input="")
    assert (result.returncode, result.stdout) == (2, "")
    assert "the prompt is empty" in result.stderr


def test_chat_json() -> None:
    """Each line is one of OpenAI's chunks; an error is a line, too."""
    chunks = [
        json.loads(line) for line in cli("chat", "--engine", "echo", "--json", "a b").stdout.splitlines()
    ]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "a b"
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    result = cli("chat", "--engine", "scripted", "--json", failing)
    assert (result.returncode, result.stderr) == (1, "")
    error = json.loads(result.stdout)["error"]
    assert (error["name"], error["message"]) == ("DYNAMO_ERROR_OVERLOADED", "too many")


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        ('{"engin": "echo"}', 1, 'did you mean "engine"'),
        ('{"engine" "echo"}', 2, "line 1 column 11"),
        ("/no/such/file", 2, 'the file "/no/such/file" cannot be read: No such file'),
        ('{"model": "/no/such/model"}', 1, "/no/such/model"),
    ],
)
def test_wrong_config(config: str, code: int, message: str) -> None:
    """The message on stderr names what is wrong."""
    result = cli("chat", "--config", config, "hello")
    assert (result.returncode, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.split())


def test_config_file(tmp_path: Path) -> None:
    """--config takes a file; --engine overrides it."""
    file = tmp_path / "config.json"
    file.write_text('{"engine": "nope"}')
    assert cli("chat", "--config", file, "x").returncode == 1
    assert cli("chat", "--config", file, "--engine", "echo", "x").stdout == "x\n"
    file.write_text("[]")
    assert "is not a JSON object" in cli("chat", "--config", file, "x").stderr


def test_reader_that_stops() -> None:
    """If the reader of the output has closed it, the command ends quietly."""
    with subprocess.Popen(
        [*COMMAND, "chat", "--config", slow, "word"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(1) == b"w"
        process.stdout.close()
        try:
            assert process.wait(patience) == 141
        finally:
            process.kill()
        assert process.stderr.read() == b""


def test_config_imports_little() -> None:
    """A makefile that asks for flags does not wait for imports that only a conversation needs."""
    code = (
        "import sys\nfrom dynamo_llm.cli import main\nmain(['config', '--cflags'], standalone_mode=False)\n"
        "print({'rich', 'prompt_toolkit', 'mistralrs', 'dynamo_llm.runtime.host'} & set(sys.modules))"
    )
    result = run([sys.executable, "-c", code])
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "set()"), result.stderr


def test_bench() -> None:
    """Counts add up; the exit code is 1 if requests fail."""
    words = ["--requests", "5", "--concurrency", "2", "--json"]
    report = json.loads(cli("bench", "--engine", "echo", "--prompt", "a b c", *words).stdout)
    assert (report["requests"], report["failed"], report["completion_tokens"]) == (5, 0, 15)
    assert report["time_to_first_response_ms"]["p50"] <= report["time_to_end_ms"]["p99"]
    failed = cli("bench", "--engine", "scripted", "--prompt", failing, *words)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["message"] == "too many"


def test_doctor() -> None:
    """Everything works here; without the default engine's package it prints what to install."""
    result = cli("doctor", "--json")
    findings = json.loads(result.stdout)
    assert result.returncode == 0
    assert findings["runs"]["default"]["works"] and findings["runs"]["echo"]["works"]
    assert findings["engines"]["mistralrs"]["packages"]["mistralrs"]
    assert Path(findings["python_for_c"]["libpython"]).exists()
    named = json.loads(cli("doctor", "--json", env={"DYNAMO_LLM_PYTHON": "/bin/false"}).stdout)
    assert "not a working Python" in named["python_for_c"]["problem"]


def gguf(architecture: str, length: int) -> bytes:
    """Returns a GGUF header without tensors."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    words = text("tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc")
    return (
        b"GGUF"
        + struct.pack("<IQQ", 3, 0, 3)
        + words
        + (text("general.architecture") + struct.pack("<I", 8) + text(architecture))
        + (text(f"{architecture}.context_length") + struct.pack("<II", 4, length))
    )


def test_models(tmp_path: Path) -> None:
    """Models in folders and the Hugging Face cache; broken ones with the reason."""
    good = gguf("llama", 2048)
    (tmp_path / "good.gguf").write_bytes(good)
    (tmp_path / "short.gguf").write_bytes(good[:40])
    snapshot = tmp_path / "home" / "hub" / "models--org--name" / "snapshots" / "1234"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"architectures": ["A"], "max_position_embeddings": 7}')
    (snapshot / "pytorch_model.bin").write_bytes(b"pickle")
    result = cli("models", "--json", tmp_path, env={"HF_HOME": str(tmp_path / "home")})
    demo, *others = json.loads(result.stdout)
    assert (demo["format"], demo["problem"], demo["use"]) == ("safetensors", None, "dynamo-llm chat")
    by_name = {one["name"]: one for one in others}
    found = by_name["good.gguf"]
    assert (found["architecture"], found["context_length"], found["bytes"]) == ("llama", 2048, len(good))
    assert "cut off" in by_name["short.gguf"]["problem"]
    assert "pickled" in by_name["org/name"]["problem"]
    assert by_name["org/name"]["use"] is None
