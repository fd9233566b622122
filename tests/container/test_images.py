# SPDX-License-Identifier: Apache-2.0
"""The images: built as the Dockerfile says, entered as compose.yaml says, without a container engine.

It takes root, an x86-64 Debian or Ubuntu, and a network for apt and pip while the images are built.
"""

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import compose
import debian
import dockerfile
import pytest
from debian import Mount, Root, quietly
from dockerfile import top

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for roots of its own")

work = top / "build" / "test" / "container"
stages = dockerfile.parse(dockerfile.path.read_text())
services, says = compose.parse(compose.path.read_text(), stages)

#: Seconds after which something hangs; slow machines need some of it.
patience = 100


def running() -> list[str]:
    """Programs that run in a root."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # Gone meanwhile, or hidden even from root, which nothing is that these tests start.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if (process / "root").readlink().is_relative_to(work):
                found.append(f"{process.name}: {(process / 'cmdline').read_text()}")
    return found


def eventually(true: Callable[[], object], seconds: float = patience) -> bool:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a test does, nothing is left mounted or running."""
    yield
    assert eventually(lambda: not running(), 20), running()
    assert str(work) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture(scope="session")
def images() -> dict[str, Root]:
    """All stages, built in their order. What each took is left in built.txt."""
    roots, lines = {}, []
    for stage in stages.values():
        release = stage.base.partition(":")[2].removesuffix("-slim")
        debian.base(work, release)  # made once: it is not part of the stage's time
        start = time.monotonic()
        roots[stage.name] = debian.build(stage, release, work)
        megabytes = debian.size(roots[stage.name].folder) / 1e6
        lines.append(f"{stage.name}: {time.monotonic() - start:.0f} s, {megabytes:.0f} MB\n")
        (work / "built.txt").write_text("".join(lines))
    return roots


@pytest.fixture(scope="session")
def network() -> Iterator[list[str]]:
    """Command that runs another in a network of its own, which is a loopback and nothing else."""
    script = f"ip link set lo up && echo up && exec sleep {40 * patience}"
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "up\n"
            yield ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        finally:
            holder.kill()


@dataclass
class Container:
    """A service's root, confined as compose.yaml says, in the network."""

    service: compose.Service
    root: Root
    network: list[str]

    def command(self, words: Sequence[str]) -> list[str]:
        """How a program is run in it."""
        return [*self.network, *self.root.command(words)]

    def run(self, words: Sequence[str]) -> str:
        """Run a program that is to succeed; what it prints."""
        return quietly(self.command(words), patience)

    def is_well(self) -> bool:
        """What its health check says."""
        command = self.command(self.service.health)
        return subprocess.run(command, capture_output=True, timeout=patience, check=False).returncode == 0

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        """The service runs, and is well; it ends when it is asked to."""
        log = work / f"{self.service.name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(self.command(self.service.words), stdout=output, stderr=output)
        try:
            eventually(lambda: process.poll() is not None or self.is_well())
            assert process.poll() is None, log.read_text()[-8000:]
            assert self.is_well(), log.read_text()[-8000:]
            yield
            # The first process of its namespace: compose's init would hand the signal on to it.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            quietly(["kill", "-TERM", *children.split()], patience)
            process.wait(patience)
        finally:
            process.kill()  # and with it what it started
            process.wait(patience)


@pytest.fixture
def container(images: dict[str, Root], network: list[str], tmp_path: Path) -> Callable[[str], Container]:
    """Makes a service's root what compose.yaml says. Volumes are new, and belong to whom the image says."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(services)}\n")

    def make(name: str) -> Container:
        service = services[name]
        image = images[service.stage.name]
        mounts = [Mount(hosts, "/etc/hosts")]
        for volume in service.says.get("volumes", []):
            source, target = volume.split(":")
            folder = tmp_path / source
            if not folder.exists():
                quietly(["cp", "-a", f"{image.folder}{target}", folder], patience)
            mounts.append(Mount(folder, target, writable=True))
        root = Root(image.folder, service.env, service.says["user"], True, mounts, service.says["tmpfs"])
        return Container(service, root, network)

    return make


Make = Callable[[str], Container]


def test_version(container: Make) -> None:
    """The command is there, and of this source tree."""
    version = re.search(r'VERSION_STRING "(.+?)"', (top / "include" / "dynamo_llm.h").read_text())
    assert version is not None
    assert version[1] in container("dynamo-llm").run(["dynamo-llm", "--version"])


@pytest.mark.parametrize("question", ["What is a KV cache?", "What is prefill?"])
def test_answer(container: Make, question: str) -> None:
    """The command, the C program and Python get the same from the demo model."""
    client = container("dynamo-llm")
    code = "import dynamo_llm, sys; print(dynamo_llm.Runtime().chat(sys.argv[1]).result().text)"
    answer = client.run(["python", "-W", "error", "-c", code, question]).strip()
    assert len(answer) > 20
    assert client.run([*client.service.says["entrypoint"], question]).strip() == answer
    text, finish = client.run(["dynamo-llm-chat", question]).strip().rsplit("\n", 1)
    assert (text.strip(), finish) == (answer, "(stop)")


def test_default_question(container: Make) -> None:
    """What the service does without a word said."""
    client = container("dynamo-llm")
    assert "KV cache" in client.run(client.service.words)


def test_c_finds_the_python_of_the_image(container: Make) -> None:
    """The default works, in each language that the image has."""
    assert container("dynamo-llm").run(["dynamo-llm", "doctor"])


#: Programs that compile, link, build or install.
program = re.compile(
    r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|ld|as|clang)(-\d+)?|cc1(plus)?|make|cmake|ninja|pip[\d.]*"
)


def tools(root: Root) -> set[str]:
    """What of these a root has, and Python packages that install others. Links lead to a file that counts."""
    found = set()
    for folder, _, files in os.walk(root.folder):
        for file in files:
            mode = os.lstat(f"{folder}/{file}").st_mode
            if program.fullmatch(file) and stat.S_ISREG(mode) and mode & 0o111:
                found.add(file)
        if Path(folder).name in ("pip", "ensurepip", "setuptools") and "__init__.py" in files:
            found.add(f"the package {Path(folder).name}")
    return found


@pytest.mark.parametrize("name", services)
def test_no_tools_of_the_build(images: dict[str, Root], name: str) -> None:
    """A running image has no compiler, and nothing that installs Python packages."""
    assert tools(images[services[name].stage.name]) == set()


def test_the_build_had_them(images: dict[str, Root]) -> None:
    """What the test above looks for is named as it is named."""
    assert tools(images["build"]) >= {"cc1plus", "pip", "the package pip", "the package ensurepip"}
    assert tools(images["frontend-build"]) >= {"pip"}


@pytest.mark.parametrize("name", services)
def test_confined(container: Make, name: str) -> None:
    """A service is the user 10001, who can neither write to the root nor become more."""
    script = (
        "id -u; id -g; id -G; sed -n 's/^\\(CapPrm\\|CapEff\\|CapBnd\\|NoNewPrivs\\):.//p' /proc/self/status"
    )
    said = container(name).run(["sh", "-ec", script]).split()
    assert said == ["10001", "10001", "10001", *["0" * 16] * 3, "1"]
    script = "touch /tmp/here; for folder in / /opt /etc /var/lib; do ! touch $folder/here 2>/dev/null; done"
    container(name).run(["sh", "-ec", script])
    assert container(name).run(["sh", "-ec", "df --output=size -m /tmp | tail -n 1"]).split() == ["64"]


@pytest.mark.parametrize("name", [image.stage.name for image in services.values()])
def test_default_user(images: dict[str, Root], name: str) -> None:
    """An image does not run as root, even without compose.yaml."""
    assert images[name].run(["id", "-u"], patience).strip() == "10001"


def get(network: list[str], address: str) -> str:
    """What this machine gets from an address of the network."""
    code = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=10).read().decode())"
    return quietly([*network, sys.executable, "-c", code, address], patience)


def test_etcd_and_frontend(container: Make, network: list[str]) -> None:
    """etcd gets well, then the frontend, which answers and has no models; both end when asked to."""
    etcd, frontend = container("etcd"), container("frontend")
    with etcd.started(), frontend.started():
        assert json.loads(get(network, "http://127.0.0.1:8000/v1/models")) == {"object": "list", "data": []}
        assert json.loads(get(network, "http://127.0.0.1:8000/health"))["status"] == "healthy"
        assert json.loads(get(network, "http://127.0.0.1:2379/health"))["health"] == "true"


def test_etcd_keeps_its_data(container: Make) -> None:
    """What is in the volume outlives a container."""
    etcd = container("etcd")
    with etcd.started():
        assert etcd.run(["etcdctl", "put", "name", "value"]) == "OK\n"
    with etcd.started():
        assert etcd.run(["etcdctl", "get", "--print-value-only", "name"]) == "value\n"


def test_not_well_without_etcd(container: Make) -> None:
    """A health check can fail."""
    assert not container("etcd").is_well()
    assert not container("frontend").is_well()


def test_time_out_leaves_nothing(container: Make) -> None:
    """A program that takes too long ends with all that it started."""
    client = container("dynamo-llm")
    with pytest.raises(subprocess.TimeoutExpired):
        quietly(client.command(["sh", "-c", "sleep 3000 & touch /tmp/here; sleep 3000"]), 2)
