# SPDX-License-Identifier: Apache-2.0
"""The programs of examples/, each built and run with the exact commands of its header comment."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import tty
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Completed, patience, run, tests_dir

examples_dir = tests_dir.parent / "examples"
question = "What is a KV cache?"
node_modules = examples_dir / "node" / "node_modules"

#: Commands or files that each example needs, and where to get them.
toolchains = {
    "go": {"go": "of Debian's package golang-go"},
    "rust": {"cargo": "of Debian's package cargo"},
    "node": {"npm": "of Node.js", str(node_modules): "which npm ci in examples/node makes"},
    "java": {
        "javac": "of Debian's package default-jdk-headless",
        "/usr/share/java/jna.jar": "of Debian's package libjna-java",
    },
    "csharp": {"mcs": "of Debian's package mono-mcs", "mono": "of Debian's package mono-runtime"},
}
#: One answer: ["question" ["configuration"]].
singles = [
    "c/chat.c",
    "cpp/chat.cpp",
    "cpp/range.cpp",
    "python/chat.py",
    "go/main.go",
    "rust/src/main.rs",
    "node/chat.js",
    "java/Chat.java",
    "csharp/Chat.cs",
]
#: Many answers, in numbered pieces: "configuration" "question"...
multiples = ["c/epoll.c", "c/callbacks.c", "cpp/coroutine.cpp", "python/many.py"]
#: No answers, but tokens: ["question" ["configuration"]].
others = ["c/tokenize.c"]
#: Examples that need a cluster, or NVIDIA Dynamo's package; run by cluster/test_static_router.py,
#: cluster/test_example_worker.py, and cluster/test_dynamo_endpoint.py.
clustered = [
    *("cluster/gateway.c", "cluster/gateway.go", "cluster/worker.c", "cluster/tools.c", "cluster/call.c"),
    *("cluster/publish.c", "cluster/publish.py"),
]
#: Engines in C and C++; their programs send 64 requests.
engines = ["engines/c/main.c", "engines/cpp/main.cpp"]
#: The engine in C in a shared library; the command dynamo-llm loads it.
libraries = ["engines/c/library.c"]

#: Generates a word, then nothing until it is cancelled.
stalling = json.dumps({"engine": "scripted", "options": {"script": [{"text": "one "}, {"stall": True}]}})
busy = {"error": {"status": "OVERLOADED", "message": "too many guests"}}
failing = json.dumps({"engine": "scripted", "options": {"script": [{"text": "one "}, busy]}})
echo = json.dumps({"engine": "echo"})


def environment() -> dict[str, str]:
    """PATH with dynamo-llm, the interpreter, and the toolchains; HOME for their caches; npm without a
    network.
    """
    path = os.pathsep.join(
        [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    kept = ("HOME", "CARGO_HOME", "RUSTUP_HOME", "GOCACHE", "LANG", "LC_ALL")
    offline = {"npm_config_offline": "true"}
    return {"PATH": path, **offline, **{name: os.environ[name] for name in kept if name in os.environ}}


@dataclass
class Program:
    """An example that was built."""

    script: str
    folder: Path

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Returns the command of the header comment, with other arguments."""
        return ["bash", "-c", self.script, "example", *arguments]

    def run(self, *arguments: str) -> Completed:
        """Runs it to its end."""
        return run(self.command(arguments), environment(), cwd=self.folder)

    def interrupt(self, arguments: Sequence[str], first: Sequence[str]) -> tuple[int, str, str]:
        """Runs it in a terminal, sends SIGINT once it has printed these texts, and waits until it ends.

        Ctrl-C comes from a terminal, and mono looks for it only there.
        """
        terminal, inside = os.openpty()
        tty.setraw(inside)
        with subprocess.Popen(
            self.command(arguments),
            env={**environment(), "TERM": "xterm"},
            cwd=self.folder,
            stdin=inside,
            stdout=inside,
            stderr=subprocess.PIPE,
        ) as process:
            os.close(inside)
            watchdog = threading.Timer(patience, process.kill)
            watchdog.start()
            try:
                output = b""
                is_sent = False
                while more := read_terminal(terminal):
                    output += more
                    if not is_sent and all(text.encode() in output for text in first):
                        process.send_signal(signal.SIGINT)
                        is_sent = True
                _, errors = process.communicate()
            finally:
                watchdog.cancel()
                process.kill()
                os.close(terminal)
        assert is_sent, f"it ended early, with {output!r}"
        return process.returncode, without_controls(output.decode()), errors.decode()


def read_terminal(terminal: int) -> bytes:
    """Returns the next output; empty when the program has closed the terminal."""
    try:
        return os.read(terminal, 4096)
    except OSError as error:
        assert error.errno == errno.EIO
        return b""


def without_controls(text: str) -> str:
    """Removes control sequences for the terminal: mono sets the mode of the keypad."""
    return re.sub(r"\x1b(\[[?0-9;]*[a-zA-Z]|[=>])", "", text)


def commands_of(source: Path) -> tuple[list[str], str]:
    """Returns the commands of a header comment that build an example, and the one that runs it."""
    lines = []
    for line in source.read_text().splitlines():
        found = re.fullmatch(r"(?: \*|//!?)?(?:    |\t| {5})(\S.*)", line)
        if found:
            lines.append(found[1])
        elif lines:
            break
    runs = [line for line in lines if question in line or line.endswith(" ./main")]
    assert runs, f"{source} does not say how to run it"
    return lines[: lines.index(runs[0])], re.split(" [\"']", runs[0])[0]


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Program]:
    """Builds an example, once."""
    built: dict[str, Program] = {}

    def build(name: str) -> Program:
        language = name.split("/", maxsplit=1)[0]
        for tool, origin in toolchains.get(language, {}).items():
            if shutil.which(tool, path=environment()["PATH"]) is None and not Path(tool).exists():
                pytest.skip(f"needs {tool}, {origin}")
        if name not in built:
            folder = tmp_path_factory.mktemp(language) / language
            unbuilt = shutil.ignore_patterns("target", "node_modules")
            shutil.copytree(examples_dir / language, folder, ignore=unbuilt)
            commands, start = commands_of(examples_dir / name)
            if language == "engines":  # they share files in that folder
                folder = folder / Path(name).parent.name
            result = run(["bash", "-ec", "\n".join(commands)], environment(), cwd=folder)
            assert result.returncode == 0, result.stdout + result.stderr
            exports = [command for command in commands if command.startswith("export ")]
            built[name] = Program("\n".join([*exports, f'exec env {start} "$@"']), folder)
        return built[name]

    return build


def answers(output: str) -> dict[str, str]:
    """Returns the whole answers of numbered pieces."""
    whole: dict[str, str] = {}
    for line in output.splitlines():
        number, text = line.split(": ", 1)
        whole[number] = whole.get(number, "") + text
    return whole


@pytest.fixture(scope="session")
def expected(example: Callable[[str], Program]) -> Callable[[str], str]:
    """Returns the answer of examples/c/chat.c to a question."""
    known: dict[str, str] = {}

    def ask(asked: str) -> str:
        if asked not in known:
            result = example("c/chat.c").run(asked)
            assert (result.returncode, result.stderr) == (0, "")
            known[asked], finish = result.stdout.rsplit("\n", 2)[:2]
            assert finish == "(stop)"
        return known[asked]

    return ask


def test_every_example_is_tested() -> None:
    table = (examples_dir / "README.md").read_text()
    tested = singles + multiples + others + clustered + engines + libraries
    assert sorted(re.findall(r"^\| \[(.*?)\]", table, re.M)) == sorted(tested)


@pytest.mark.many(3)
@pytest.mark.parametrize("name", singles)
def test_answer(name: str, example: Callable[[str], Program], expected: Callable[[str], str]) -> None:
    result = example(name).run(question)
    assert (result.returncode, result.stderr) == (0, "")
    finish = "" if name == "cpp/range.cpp" else "(stop)\n"
    assert result.stdout == expected(question) + "\n" + finish
    assert "attention keys and values" in result.stdout


@pytest.mark.parametrize("name", singles)
def test_text_passes_unchanged(name: str, example: Callable[[str], Program]) -> None:
    text = 'a "quoted" \\ back\\slash,\ta tab,\na line, é, 語, 🦀'
    result = example(name).run(text, echo)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(text)


@pytest.mark.parametrize("name", singles)
def test_interrupt_cancels(name: str, example: Callable[[str], Program]) -> None:
    assert example(name).interrupt(["a", stalling], ["one"]) == (130, "one \n(cancelled)\n", "")


@pytest.mark.parametrize("name", singles)
def test_engine_error(name: str, example: Callable[[str], Program]) -> None:
    result = example(name).run("a", failing)
    assert result.returncode == 1
    assert "too many guests" in result.stderr
    assert result.stdout.rstrip("\n") == "one "


@pytest.mark.parametrize("name", singles + multiples)
def test_wrong_configuration(name: str, example: Callable[[str], Program]) -> None:
    arguments = ["a", '{"engin": "echo"}']
    result = example(name).run(*(arguments if name in singles else reversed(arguments)))
    assert (result.returncode, result.stdout.strip()) == (1, "")
    assert message_of('{"engin": "echo"}') in result.stderr


def message_of(config: str) -> str:
    """Returns the library's message for a wrong configuration."""
    import dynamo_llm

    with pytest.raises(dynamo_llm.InvalidConfigError) as error:
        dynamo_llm.Runtime(config)
    assert "engin" in error.value.message
    return str(error.value.message)


@pytest.mark.many(2)
@pytest.mark.parametrize("name", multiples)
def test_many_answers(name: str, example: Callable[[str], Program], expected: Callable[[str], str]) -> None:
    questions = [question, "What is prefill?", "What is decode?"]
    result = example(name).run("{}", *questions)
    assert (result.returncode, result.stderr) == (0, "")
    assert answers(result.stdout) == {str(i): expected(q) for i, q in enumerate(questions, 1)}


@pytest.mark.parametrize("name", multiples)
def test_interrupt_cancels_all(name: str, example: Callable[[str], Program]) -> None:
    numbers = [str(number) for number in range(1, 6)]
    status, output, errors = example(name).interrupt(
        [stalling, *numbers], [f"{number}: one" for number in numbers]
    )
    assert (status, errors) == (130, "")
    assert answers(output) == {number: "one (cancelled)" for number in numbers}


@pytest.mark.parametrize("name", multiples)
def test_many_engine_errors(name: str, example: Callable[[str], Program]) -> None:
    result = example(name).run(failing, "a", "b")
    assert result.returncode == 1
    assert "too many guests" in result.stderr


def test_tokens(example: Callable[[str], Program]) -> None:
    result = example("c/tokenize.c").run(question)
    assert (result.returncode, result.stderr) == (0, "")
    *tokens, last = result.stdout.splitlines()
    ids, pieces = zip(*(re.fullmatch(r" *(\d+) (.*)", line).groups() for line in tokens), strict=True)  # type: ignore[union-attr]
    assert "".join(pieces) == f"<|begin|><|user|>{question}<|end|><|assistant|>"
    assert (ids[:2], ids[-2:], last) == (("1", "3"), ("0", "4"), f"{len(ids)} tokens")


def test_tokens_of_an_unknown_model(example: Callable[[str], Program]) -> None:
    result = example("c/tokenize.c").run("a", '{"model": "/no/such"}')
    assert (result.returncode, result.stdout) == (1, "")
    assert '"/no/such" does not exist' in result.stderr


@pytest.mark.parametrize("name", engines)
def test_engine_batches(name: str, example: Callable[[str], Program]) -> None:
    """Several sequences get their token in one step, and both programs print the same whole answers."""
    result = example(name).run()
    assert (result.returncode, result.stderr) == (0, "")
    *some, summary = result.stdout.splitlines()
    known = example("engines/c/main.c").run().stdout.splitlines()[:-1]
    assert len(some) == 3 and some == known
    counts = re.fullmatch(r"64 answers, (\d+) tokens in (\d+) steps, (\d+) in the largest", summary)
    assert counts, summary
    tokens, steps, largest = map(int, counts.groups())
    assert 64 <= tokens <= steps * largest
    assert 1 < largest <= 64


def test_engine_library(example: Callable[[str], Program]) -> None:
    """The command loads the engine in C by its path, and an engine in a child process does, too."""
    program = example("engines/c/library.c")
    result = program.run(question)
    assert (result.returncode, result.stderr) == (0, "")
    config = {"engine": {"library": "./libbabble.so"}, "isolation": "process"}
    isolated = program.run(question, "--config", json.dumps(config))
    assert (isolated.returncode, isolated.stdout, isolated.stderr) == (0, result.stdout, "")
    assert len(result.stdout.split()) > 3


def test_a_missing_command_is_noticed(tmp_path: Path) -> None:
    source: Any = tmp_path / "silent.c"
    source.write_text("/* Says nothing. */\n")
    with pytest.raises(AssertionError, match="does not say how to run it"):
        commands_of(source)
