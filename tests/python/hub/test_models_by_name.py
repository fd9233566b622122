# SPDX-License-Identifier: Apache-2.0
"""Models of the Hugging Face Hub by name, from a server on the loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dynamo_llm
import pytest
import waiting
from conftest import Ask, patience, run
from dynamo_llm import ModelNotFoundError, Runtime, SystemFailedError, UnavailableError
from hub_fixtures import here, hub, tiny_gguf
from hub_server import Hub, Repository, demo_files, wait_until

__all__ = ["here", "hub", "tiny_gguf"]

Use = Callable[..., None]

question = "What is a KV cache?"
answer = "A KV cache keeps the attention keys and values"
needed = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def snapshot(home: Path, name: str = "org/demo") -> Path:
    """The folder of the only downloaded commit."""
    (found,) = (home / "hub" / f"models--{name.replace('/', '--')}" / "snapshots").iterdir()
    return found


def refused(model: str, **more: Any) -> str:
    with pytest.raises(ModelNotFoundError) as caught:
        dynamo_llm.pull(model, **more)
    return caught.value.message


# ------------------------------------------------------------------------------ what is downloaded


def test_runtime(hub: Hub, here: Use, tmp_path: Path) -> None:
    """A configuration downloads what the engine needs, and no more; later ones do not use the network."""
    with Runtime(model="hf:org/demo") as runtime:
        assert runtime.chat(question).result().text.startswith(answer)
        (model,) = runtime.models()
    assert model["id"] == "hf:org/demo"
    assert model["path"] == str(snapshot(tmp_path / "home"))
    assert set(hub.paths()) == needed
    hub.requests.clear()
    hub.status = 500
    with Runtime(models=[{"name": "a", "model": "hf:org/demo"}]) as runtime:
        assert runtime.chat(question, model="a").result().text.startswith(answer)
    assert hub.requests == []


def test_quantization(hub: Hub, here: Use, tmp_path: Path) -> None:
    """Of a GGUF quantization only its file is downloaded."""
    path = dynamo_llm.pull("hf:org/quants:Q4_K_M")
    assert path == snapshot(tmp_path / "home", "org/quants") / "tiny-Q4_K_M.gguf"
    assert hub.paths() == ["tiny-Q4_K_M.gguf"]
    with Runtime(model="hf:org/quants:q4_k_m") as runtime:
        assert runtime.complete("a", max_tokens=2).result().text
    assert dynamo_llm.pull("org/quants:Q8_0").name == "tiny-Q8_0.gguf"
    assert hub.paths() == ["tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf"]


def test_weights_in_parts(hub: Hub, here: Use) -> None:
    """The index tells which files are needed."""
    files = demo_files()
    whole = files.pop("model.safetensors")
    part = "model-00001-of-00001.safetensors"
    index = {"metadata": {}, "weight_map": {"model.norm.weight": part}}
    files |= {
        part: whole,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-x.safetensors": b"",
    }
    hub.repositories["org/parts"] = Repository(files)
    with Runtime(model="hf:org/parts") as runtime:
        assert runtime.chat(question).result().text.startswith(answer)
    assert set(hub.paths()) == {*needed, part, "model.safetensors.index.json"} - {"model.safetensors"}


def test_revisions(hub: Hub, here: Use, tmp_path: Path) -> None:
    """A branch, a tag, or a commit; pulling brings a branch up to date, and creating a runtime does not."""
    first = dynamo_llm.pull("org/demo@v1.0")
    commit = hub.repositories["org/demo"].commit
    assert first.name == commit
    assert dynamo_llm.pull(f"org/demo@{commit}") == dynamo_llm.pull("org/demo") == first
    hub.repositories["org/demo"].files["config.json"] += b"\n"
    with Runtime(model="hf:org/demo") as runtime:
        assert runtime.models()[0]["path"] == str(first)
    second = dynamo_llm.pull("org/demo")
    assert second.name == hub.repositories["org/demo"].commit != commit
    with Runtime(model="hf:org/demo") as runtime:
        assert runtime.models()[0]["path"] == str(second)
    # The unchanged files were not downloaded again.
    assert hub.paths().count("model.safetensors") == 1


def test_tokenizer(hub: Hub, here: Use) -> None:
    """A tokenizer by name does not download the weights."""
    with dynamo_llm.Tokenizer(model="hf:org/demo") as tokenizer, dynamo_llm.Tokenizer() as demo:
        assert tokenizer.encode("a KV cache") == demo.encode("a KV cache")
    assert set(hub.paths()) == needed - {"model.safetensors"}
    assert dynamo_llm.pull("org/demo").is_dir()
    assert hub.paths().count("model.safetensors") == 1


def test_c_program(hub: Hub, ask: Ask, tmp_path: Path) -> None:
    """The configuration means the same in C."""
    assert ask.text({"model": "hf:org/demo"}, question, hub.environment(tmp_path))
    assert set(hub.paths()) == needed
    status, message = ask.error({"model": "hf:org/demo:Q4"}, hub.environment(tmp_path))
    assert status == "DYNAMO_ERROR_MODEL_NOT_FOUND"
    assert 'no quantization "Q4"' in message


def test_isolation(hub: Hub, here: Use, tmp_path: Path) -> None:
    """The parent downloads, so that a restarted child loads the same files, without the network."""
    config: dict[str, Any] = {"model": "hf:org/demo", "isolation": "process"}
    with Runtime(config) as runtime:
        assert runtime.chat(question, model="any").result().text.startswith(answer)
        assert runtime.models()[0]["path"] == str(snapshot(tmp_path / "home"))
        assert set(hub.paths()) == needed
        hub.repositories["org/demo"].files["config.json"] += b"\n"
        hub.requests.clear()
        killed = children()
        for child in killed:
            os.kill(child, signal.SIGKILL)

        def is_answered() -> bool:
            try:
                return runtime.chat(question).result().text.startswith(answer)
            except dynamo_llm.DynamoError:  # it was sent to the child that ended
                return False

        waiting.wait_until(is_answered)
        assert killed and not killed & children()
    assert hub.requests == []


def children() -> set[int]:
    """Process ids of this process's isolated engines."""
    ids = run(["pgrep", "-P", str(os.getpid())]).stdout.split()
    return {int(one) for one in ids if b"child_main" in Path(f"/proc/{one}/cmdline").read_bytes()}


def test_engines_with_names_of_their_own(hub: Hub, here: Use) -> None:
    """For an engine that does not load files, "hf:..." is a name like any other."""
    with Runtime(engine="echo", model="hf:org/demo") as runtime:
        assert runtime.chat("a").result().text == "a"
    with pytest.raises(dynamo_llm.NotSupportedError, match='"echo" does not load models'):
        dynamo_llm.pull("org/demo", engine="echo")
    with pytest.raises(dynamo_llm.EngineNotFoundError):
        dynamo_llm.pull("org/demo", engine="nope")
    assert hub.requests == []


def test_paths_do_not_use_the_network(hub: Hub, here: Use) -> None:
    for model in ("org/demo", "models/org", "demo"):
        with pytest.raises(ModelNotFoundError):
            Runtime(model=model)
    with pytest.raises(ModelNotFoundError, match='write "hf:org/demo"'):
        Runtime(model="org/demo")
    assert hub.requests == []


def test_a_third_party_engine(hub: Hub, here: Use, tmp_path: Path) -> None:
    """An engine declares what it loads, and gets a path."""
    (tmp_path / "fetching.py").write_text(
        "class Loading:\n"
        "    model_formats = ('safetensors',)\n"
        "    def __init__(self, config):\n"
        "        self.path = config.model\n"
        "    def start(self): pass\n"
        "    def stop(self): pass\n"
        "    def generate(self, request):\n"
        "        yield {'text': self.path, 'finish_reason': 'stop'}\n"
    )
    config = {"engine": "fetching:Loading", "model": "hf:org/demo", "python": {"path": [str(tmp_path)]}}
    with Runtime(config) as runtime:
        assert runtime.chat("a").result().text == str(snapshot(tmp_path / "home"))


# ---------------------------------------------------------------------------------------- offline


def test_offline(hub: Hub, here: Use, tmp_path: Path) -> None:
    """With the key or the variable, the cache must have the model, and all of it."""
    with pytest.raises(ModelNotFoundError, match=r"not in the Hugging Face cache.*dynamo-llm pull org/demo"):
        Runtime(model="hf:org/demo", offline=True)
    with pytest.raises(ModelNotFoundError, match="not in the Hugging Face cache"):
        dynamo_llm.Tokenizer(model="hf:org/demo", offline=True)
    with pytest.raises(ModelNotFoundError, match="not in the Hugging Face cache"):
        Runtime(models=[{"name": "a", "model": "hf:org/demo"}], offline=True)
    assert hub.requests == []
    dynamo_llm.pull("org/demo")
    dynamo_llm.pull("org/quants:Q8_0")
    hub.requests.clear()
    here(HF_HUB_OFFLINE="1")
    assert dynamo_llm.pull("org/demo") == snapshot(tmp_path / "home")
    assert "at least not its revision" in refused("org/demo@v1.0")
    assert "whose copy lacks tiny-Q4_K_M.gguf" in refused("org/quants:Q4_K_M")
    with Runtime(model="hf:org/demo") as runtime:
        assert runtime.chat(question).result().text.startswith(answer)
    os.unlink(snapshot(tmp_path / "home") / "tokenizer.json")
    assert "whose copy lacks tokenizer.json" in refused("org/demo")
    assert hub.requests == []


def test_a_model_that_another_program_downloaded(hub: Hub, here: Use, tmp_path: Path) -> None:
    """Whether it is complete is unknown, so the hub is asked, if it can be reached."""
    path = dynamo_llm.pull("org/demo")
    trees = tmp_path / "home" / "hub" / "models--org--demo" / "trees"
    for file in trees.iterdir():
        file.unlink()
    os.unlink(path / "generation_config.json")
    hub.status = 503
    with Runtime(model="hf:org/demo") as runtime:
        assert runtime.models()[0]["path"] == str(path)
    assert hub.requests
    hub.status = None
    with Runtime(model="hf:org/demo"):
        assert (path / "generation_config.json").exists()


# ------------------------------------------------------------------------------------ permissions


def test_gated(hub: Hub, here: Use, tmp_path: Path) -> None:
    """The message tells what to accept, and where."""
    hub.repositories["org/demo"].access = "gated"
    message = refused("org/demo")
    assert f"accept its conditions at {hub.url}/org/demo" in message
    assert "HF_TOKEN" in message and "hf auth login" in message
    here(HF_TOKEN=hub.token)
    message = refused("org/demo")
    assert (
        f"accept its conditions at {hub.url}/org/demo with the account whose token is of HF_TOKEN" in message
    )
    hub.granted = True
    assert dynamo_llm.pull("org/demo").is_dir()
    assert f"Bearer {hub.token}" in hub.authorizations


def test_token_file(hub: Hub, here: Use, tmp_path: Path) -> None:
    """Private repositories, with the token of `hf auth login`."""
    hub.repositories["org/demo"].access = "private"
    assert "set HF_TOKEN or run hf auth login" in refused("org/demo")
    file = tmp_path / "home" / "token"
    file.parent.mkdir(exist_ok=True)
    file.write_text("hf_wr0ngT0ken0123456789\n")
    message = refused("org/demo")
    assert f'the token in the file "{file}" is not accepted' in message
    file.write_text(hub.token)
    assert dynamo_llm.pull("org/demo").is_dir()
    assert "if it is private" in refused("org/other")


def test_alternatives(hub: Hub, here: Use) -> None:
    """Errors name what exists."""
    assert "Similar ones: org/demo" in refused("org/demmo")
    assert 'has no revision "v2"; it has: main, v1.0' in refused("org/demo@v2")
    assert 'has no quantization "Q5_K_M"; it has: Q4_K_M, Q8_0' in refused("org/quants:Q5_K_M")
    assert "has 2 GGUF models; name one of them" in refused("org/quants")
    assert "does not load GGUF" in refused("org/quants:Q8_0", engine="transformers")


# ----------------------------------------------------------------------------------------- faults


def test_cut_connections(hub: Hub, here: Use) -> None:
    """A download continues where the connection was cut."""
    hub.cuts["model.safetensors"] = [1_000_000, 700_000]
    path = dynamo_llm.pull("org/demo")
    ranges = [
        asked for verb, name, asked in hub.requests if verb == "GET" and name.endswith("model.safetensors")
    ]
    assert ranges[0] is None and len(ranges) == 3
    starts = [int(str(asked).removeprefix("bytes=").rstrip("-")) for asked in ranges[1:]]
    assert 0 < starts[0] <= 1_000_000 and starts[0] < starts[1] <= 1_700_000
    assert (path / "model.safetensors").read_bytes() == hub.repositories["org/demo"].files[
        "model.safetensors"
    ]


def test_interrupted_pull(hub: Hub, tmp_path: Path) -> None:
    """Ctrl-C ends a download at once; what is complete is kept, and the previous version stays usable."""
    hub.drips.add("model.safetensors")
    command = [sys.executable, "-m", "dynamo_llm", "pull", "org/demo"]
    environment = {**os.environ, **hub.environment(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        wait_until(hub, "model.safetensors")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(patience) == 130
        assert process.stderr is not None and b"Traceback" not in process.stderr.read()
    assert not (tmp_path / "hub" / "models--org--demo" / "refs").exists()
    hub.drips.clear()
    hub.requests.clear()
    assert run(command, hub.environment(tmp_path)).returncode == 0
    assert hub.paths() == ["model.safetensors"]


def test_failed_update(hub: Hub, here: Use) -> None:
    """A newer version that cannot be downloaded completely does not replace the old one."""
    path = dynamo_llm.pull("org/demo")
    files = hub.repositories["org/demo"].files
    files["model.safetensors"] = files["model.safetensors"][:-1] + b"\0"
    hub.headers["ETag"] = '"../../../../evil"'
    with pytest.raises(UnavailableError):
        dynamo_llm.pull("org/demo")
    hub.headers.clear()
    assert dynamo_llm.pull("org/demo", offline=True) == path


@pytest.mark.slow
def test_slow_servers(hub: Hub, here: Use) -> None:
    """A download has a time limit for progress, whatever the server sends or does not send."""
    here(HF_HUB_DOWNLOAD_TIMEOUT="1")
    hub.drips.add("model.safetensors")
    start = time.monotonic()
    with pytest.raises(UnavailableError, match="fewer than 65536 bytes came within 6 seconds") as caught:
        dynamo_llm.pull("org/demo")
    assert caught.value.retriable
    hub.drips.clear()
    hub.silent.add("/api/models/org/demo/revision")
    with pytest.raises(UnavailableError, match="no answer came within 6 seconds"):
        dynamo_llm.pull("org/demo@v1.0", engine="transformers")
    assert time.monotonic() - start < 40


def test_endless_answers(hub: Hub, here: Use, tmp_path: Path) -> None:
    """Neither memory nor disk fills up."""
    hub.endless.add("model.safetensors")
    with pytest.raises(UnavailableError, match=r"more than the \d+ bytes that it announced"):
        dynamo_llm.pull("org/demo")
    left = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert left < 200_000_000
    hub.endless.add("/api/models/")
    with pytest.raises(UnavailableError, match=r"MiB|no answer came within"):  # whichever is first
        dynamo_llm.pull("org/demo")


def test_unreachable(hub: Hub, here: Use) -> None:
    here(HF_ENDPOINT="http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:9 cannot be reached") as caught:
        Runtime(model="hf:org/demo")
    assert caught.value.retriable
    here(HF_ENDPOINT=hub.url)
    hub.status = 400
    with pytest.raises(UnavailableError, match="HTTP status 400: it does not work"):
        Runtime(model="hf:org/demo")


def test_no_space(hub: Hub, here: Use) -> None:
    """The sizes are compared with the free space before anything is downloaded."""
    hub.listed["model.safetensors"] = 10**18
    with pytest.raises(
        SystemFailedError, match=r"needs 1000000\d+ more bytes .* has \d+ free; free some space"
    ):
        dynamo_llm.pull("org/demo")
    assert hub.paths() == []


def test_unwritable_cache(hub: Hub, here: Use, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    here(HF_HOME=str(tmp_path / "file" / "x"))
    with pytest.raises(SystemFailedError, match=r"could not be saved.*HF_HOME selects another folder"):
        dynamo_llm.pull("org/demo")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ETag", "../../../evil"),
        ("ETag", "x" * 300),
        ("X-Linked-Etag", "a/b"),
        ("X-Repo-Commit", ".."),
        ("X-Repo-Commit", "a\\b"),
    ],
)
def test_hostile_headers(hub: Hub, here: Use, tmp_path: Path, header: str, value: str) -> None:
    """Headers become names of files in the cache, and must not leave it."""
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    hub.headers[header] = value
    with pytest.raises(UnavailableError, match=f"header {header} is not valid"):
        dynamo_llm.pull("org/demo")
    outside = {path for path in tmp_path.rglob("*evil*")} - before
    assert outside == set()


def test_hostile_lists(hub: Hub, here: Use, tmp_path: Path) -> None:
    """Names that leave the folder are not downloaded; an answer without sense is an error."""
    hub.listed |= {
        "../../../../evil.json": 4,
        "/evil.jinja": 4,
        "additional_chat_templates/../../evil.jinja": 4,
    }
    path = dynamo_llm.pull("org/demo")
    assert {file.name for file in path.iterdir()} == needed
    assert not list(tmp_path.rglob("evil*"))
    hub.repositories["org/demo"].files["config.json"] += b"\n"
    hub.listed["tokenizer.json"] = "many"
    with pytest.raises(UnavailableError, match="whose answer is not valid"):
        dynamo_llm.pull("org/demo")


def test_changed_file(hub: Hub, here: Use) -> None:
    """A file that has not the listed size is not used."""
    hub.listed["config.json"] = 7
    with pytest.raises(UnavailableError, match="does not have the 7 bytes that the server listed"):
        dynamo_llm.pull("org/demo")


# --------------------------------------------------------------------------------------- progress


def test_progress(hub: Hub, here: Use) -> None:
    """Phases come in order, and bytes reach the total; an exception ends the download."""
    hub.cuts["model.safetensors"] = [2_000_000]
    reports: list[dynamo_llm.Progress] = []
    dynamo_llm.pull("org/demo", progress=reports.append)
    calls = [(report.phase, report.bytes_done, report.bytes_total) for report in reports]
    assert calls[0] == ("resolve", 0, 0)
    assert (reports[0].fraction, reports[-1].fraction) == (None, 1)
    assert [phase for phase, _, _ in calls] == sorted((phase for phase, _, _ in calls), reverse=True)
    total = sum(len(hub.repositories["org/demo"].files[name]) for name in needed)
    assert calls[-1] == ("download", total, total)
    assert all(0 <= count <= size == total for phase, count, size in calls if phase == "download")

    def fail(progress: dynamo_llm.Progress) -> None:
        raise KeyError(progress.phase)

    with pytest.raises(KeyError, match="resolve"):
        dynamo_llm.pull("org/quants:Q8_0", progress=fail)


def test_two_at_once(hub: Hub, tmp_path: Path) -> None:
    """Two programs that want the same model download it once."""
    command = [sys.executable, "-m", "dynamo_llm", "pull", "org/demo"]
    environment = {**os.environ, **hub.environment(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate(timeout=patience)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert paths == {f"{snapshot(tmp_path)}\n"}
    assert hub.paths().count("model.safetensors") == 1
