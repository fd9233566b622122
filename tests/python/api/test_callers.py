# SPDX-License-Identifier: Apache-2.0
"""C, C++, and Python get the same answers, byte by byte, and the same errors."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Completed, compile_c, compile_cpp, dynamo_config, engines_dir, run, tests_dir

callers_dir = tests_dir / "callers"
mistakes: list[dict[str, Any]] = json.loads((callers_dir / "mistakes.json").read_text())
callers = ("c", "cpp", "python")


def drivers(name: str, programs: Path) -> dict[str, list[str | Path]]:
    """Returns the command of each caller's driver."""
    flags = dynamo_config("--cflags", "--libs").split()
    return {
        "c": [compile_c(callers_dir / f"{name}.c", programs / f"{name}-c", *flags)],
        "cpp": [compile_cpp(callers_dir / f"{name}.cpp", programs / f"{name}-cpp", *flags)],
        "python": [sys.executable, callers_dir / f"{name}.py"],
    }


def succeeded(result: Completed) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# ------------------------------------------------------------------------------------ mistakes


def encoded(word: Any) -> str:
    """Encodes a word of a step: without blanks and tabs."""
    text = word if isinstance(word, str) else json.dumps(word)
    return re.sub(
        r"[^!-$&-~]",
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")),
        text,
    )


def table_line(mistake: dict[str, Any]) -> str:
    steps = [" ".join([verb, *map(encoded, words)]) for verb, *words in mistake["steps"]]
    text = "\t".join([mistake["name"], *steps])
    return text.replace("ENGINES", str(engines_dir))


def in_milliseconds(message: str, details: dict[str, Any]) -> str:
    """Returns a message of Python, which has seconds, as the other callers get it."""
    if "timeout_ms" not in details:
        return message
    seconds = f"{details['timeout_ms'] / 1000:g} s"
    assert seconds in message
    return message.replace(seconds, f"{details['timeout_ms']} ms")


def normal(details: dict[str, Any]) -> dict[str, Any]:
    """Removes what legitimately differs: IDs, and the lines of a traceback."""
    if "request_id" in details:
        assert re.fullmatch("req-[0-9a-f]{16}", details["request_id"])
        details["request_id"] = "req-"
    if "traceback" in details.get("python", {}):
        traceback = details["python"]["traceback"].splitlines()
        details["python"]["traceback"] = [traceback[0], traceback[-1]]
    return details


@pytest.fixture(scope="module")
def told(programs: Path) -> dict[str, dict[str, Any]]:
    """The error that each caller gets for each mistake: caller, then mistake."""
    answers: dict[str, dict[str, Any]] = {}
    for caller, command in drivers("mistakes", programs).items():
        table = programs / f"mistakes-{caller}.txt"
        mine = [mistake for mistake in mistakes if caller in mistake.get("callers", callers)]
        table.write_text("".join(table_line(mistake) + "\n" for mistake in mine))
        answers[caller] = {}
        records = succeeded(run([*command, table])).split("\x1e")
        assert records.pop() == ""
        for record in records:
            name, step, status, status_name, message, details = [*record.split("\x1f"), *[""] * 4][:6]
            parsed = json.loads(details or "{}")
            if caller == "python":
                message = in_milliseconds(message, parsed)
                if "message" in parsed:
                    parsed["message"] = in_milliseconds(parsed["message"], parsed)
            answers[caller][name] = {
                "step": step,
                "status": int(status or 0),
                "name": status_name,
                "message": message,
                "details": normal(parsed),
            }
        assert list(answers[caller]) == [mistake["name"] for mistake in mine]
    return answers


def test_the_table() -> None:
    """Names are unique, and most mistakes can be made by all callers."""
    assert len({mistake["name"] for mistake in mistakes}) == len(mistakes)
    assert sum("callers" not in mistake for mistake in mistakes) > 40


@pytest.mark.parametrize("mistake", mistakes, ids=lambda mistake: mistake["name"])
def test_mistake(told: dict[str, dict[str, Any]], mistake: dict[str, Any]) -> None:
    """All callers get the expected error, with the same details."""
    found = {caller: told[caller][mistake["name"]] for caller in mistake.get("callers", callers)}
    for caller, answer in found.items():
        assert answer["name"] == f"DYNAMO_ERROR_{mistake['status']}", (caller, answer)
        assert mistake["message"] in answer["message"], (caller, answer)
        assert answer["step"] == mistake.get("fails", mistake["steps"][-1][0]), (caller, answer)
        details = answer["details"]
        assert (details["status"], details["name"], details["message"]) == (
            answer["status"],
            answer["name"],
            answer["message"],
        )
    first, *others = found.values()
    for other in others:
        assert other == first


# ------------------------------------------------------------------------------------- streams


def check_same(
    commands: dict[str, list[str | Path]], config: dict[str, Any], bodies: Sequence[dict[str, Any]]
) -> str:
    """Checks that all callers print the same for some requests. Returns their output."""
    arguments = [json.dumps(config), *map(json.dumps, bodies)]
    everyone = {caller: succeeded(run([*command, *arguments])) for caller, command in commands.items()}
    everyone["await"] = succeeded(run([*commands["python"], "--await", *arguments]))
    first = everyone["c"]
    assert all(text == first for text in everyone.values()), everyone
    assert first.count("status ") == len(bodies)
    return first


@pytest.fixture(scope="module")
def streams(programs: Path) -> dict[str, list[str | Path]]:
    return drivers("stream", programs)


def test_scripted_streams(streams: dict[str, list[str | Path]]) -> None:
    """Broken and split text, token IDs, errors in the middle."""
    scripts: list[list[dict[str, Any]]] = [
        [{"text": "a"}, {"text": " b", "repeat": 5}, {"finish": "length"}],
        [{"bytes": "f09f"}, {"bytes": "9880e282"}, {"bytes": "ac"}, {"text": 'é\n\t"\\'}],
        [{"bytes": "ff61c3"}, {"text": "z"}],
        [{"token_ids": [0, 4294967295], "text": "x"}, {"token_ids": [7]}],
        [{"text": "partly"}, {"error": {"status": "CONTEXT_LENGTH", "message": "too long"}}],
        [{"refuse": {"status": "OVERLOADED"}}],
        [],
    ]
    text = check_same(streams, {"engine": "scripted"}, [{"prompt": json.dumps(script)} for script in scripts])
    assert "text 7 😀€" not in text  # the é and what follows are part of it
    assert '😀€é\n\t"\\' in text
    assert "text 6 partly\nreason none\nstatus DYNAMO_ERROR_CONTEXT_LENGTH" in text
    assert "ids 0 4294967295 7\n" in text
    assert "status DYNAMO_ERROR_OVERLOADED" in text


@pytest.mark.slow
def test_streams_of_the_demo_model(streams: dict[str, list[str | Path]]) -> None:
    """Greedy answers of a real model: chats, completions, choices, limits, stop strings, whole answers."""
    question = [{"role": "user", "content": "What is a KV cache?"}]
    text = check_same(
        streams,
        {},
        [
            {"messages": question},
            {"messages": question, "stream": False},
            {"messages": question, "max_tokens": 5},
            {"messages": question, "stop": ["values"]},
            {"messages": question, "n": 2, "max_tokens": 8},
            {"prompt": "A KV cache", "max_tokens": 12},
            {"prompt": "A KV cache", "max_tokens": 12, "stream": False},
            {"input": "a"},
        ],
    )
    assert text.count("reason stop") >= 3
    assert text.count("reason length") >= 2
    assert "choice 1\n" in text
    assert text.count("status DYNAMO_END") == 7
