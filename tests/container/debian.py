# SPDX-License-Identifier: Apache-2.0
"""Debian roots in folders: made by debootstrap, and entered in namespaces of their own.

Whatever is mounted is mounted in the namespace of one command and goes with it, so that nothing is left to
unmount, and a root that is removed holds nothing of the machine's.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile import Copy, Stage, top

#: Of the machine, for pip and apt: how they reach their indexes.
passed_on = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
system_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def quietly(command: Sequence[str | Path], seconds: float, **more: object) -> str:
    """Run a program that is to succeed; what it prints."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
        check=False,
        **more,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: {done.returncode}\n{done.stdout[-8000:]}"
    return str(done.stdout)


def remove(folder: Path) -> None:
    """Remove a root; never what may be mounted in it."""
    subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True, timeout=300)


@dataclass(frozen=True)
class Mount:
    """Something of the machine in a root."""

    source: Path
    target: str
    writable: bool = False


@dataclass
class Root:
    """A root, and how a program is run in it."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = "0:0"
    #: As compose.yaml says: not even root could change the root, nor get back what was given up.
    confined: bool = False
    mounts: Sequence[Mount] = ()
    tmpfs: Sequence[str] = ()

    def command(self, words: Sequence[str]) -> list[str]:
        """The command that enters the root and runs another."""
        root = shlex.quote(str(self.folder))
        lines = ["set -e", f"mount --bind {root} {root}"]
        if self.confined:
            lines.append(f"mount -o remount,bind,ro {root}")
        lines += [
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o mode=1777,size=64m tmpfs {root}/dev/shm",
        ]
        lines += [
            f"mount -t tmpfs -o {shlex.quote(options or 'mode=755')} tmpfs {root}{target}"
            for target, _, options in (entry.partition(":") for entry in self.tmpfs)
        ]
        for mount in self.mounts:
            source, target = shlex.quote(str(mount.source)), f"{root}{mount.target}"
            lines.append(f"mount --bind {source} {target}")
            if not mount.writable:
                lines.append(f"mount -o remount,bind,ro {target}")
        user, group = self.user.split(":")
        keep = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        if self.confined:
            keep += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        env = [f"{name}={value}" for name, value in ({"PATH": system_path} | dict(self.env)).items()]
        # Changing the user drops what --kill-child set; without it a command that timed out would go on.
        keep.append("--pdeathsig=KILL")
        inside = ["env", "-i", *env, "setpriv", *keep, *words]
        lines.append(f"exec chroot {root} {shlex.join(inside)}")
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(lines)]

    def run(self, words: Sequence[str], seconds: float) -> str:
        """Run a program that is to succeed; what it prints."""
        return quietly(self.command(words), seconds)


def machine(work: Path, release: str) -> tuple[list[Mount], dict[str, str]]:
    """How this machine reaches the indexes of apt and pip: mounts and variables that no image keeps."""
    run = work / "run"  # outlives the steps, for what pip downloads
    (run / "pip").mkdir(parents=True, exist_ok=True)
    env = {name: os.environ[name] for name in passed_on if name in os.environ} | {"PIP_CACHE_DIR": "/run/pip"}
    if "PIP_CERT" in os.environ:
        shutil.copy(os.environ["PIP_CERT"], run / "ca.crt")
        env["PIP_CERT"] = "/run/ca.crt"
    mounts = [
        Mount(run, "/run", writable=True),
        Mount(Path("/etc/resolv.conf").resolve(), "/etc/resolv.conf"),
    ]
    if mirror(release) is not None:
        mounts.append(Mount(Path("/etc/apt"), "/etc/apt"))
    return mounts, env


def mirror(release: str) -> str | None:
    """From where this machine has this release of Debian, if it has it."""
    words = (
        "apt-get",
        "indextargets",
        "--format",
        "$(CODENAME) $(COMPONENT) $(REPO_URI)",
        "Created-By: Packages",
    )
    if shutil.which("apt-get") is None:
        return None
    for line in quietly(words, 60).splitlines():
        match line.split():
            case [codename, "main", address] if codename == release:
                return address
    return None


def base(work: Path, release: str) -> Path:
    """The smallest Debian, made once and kept, as the image of the same name has it."""
    folder = work / f"base-{release}"
    if (folder / "complete").exists():
        return folder
    remove(folder)
    root = folder / "root"
    root.mkdir(parents=True)
    address = mirror(release)
    quietly(["debootstrap", "--variant=minbase", release, root, *([address] if address else [])], 1500)
    # Nothing of this machine, but places to mount it; and no package starts its service.
    for name, text in (("hostname", ""), ("hosts", "127.0.0.1 localhost\n"), ("resolv.conf", "")):
        (root / "etc" / name).write_text(text)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    (folder / "complete").touch()
    return folder


def copy(step: Copy, roots: Path, target: Path) -> None:
    """COPY."""
    origin = top if step.stage is None else roots / step.stage
    for name in step.sources:
        source = origin / name.lstrip("/")
        inside = target / str(step.inside(name)).lstrip("/")
        if source.is_dir():
            inside = target / step.target.lstrip("/")
            shutil.copytree(source, inside, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, inside)


def build(stage: Stage, release: str, work: Path) -> Root:
    """Build a stage; the stages that it copies from are built."""
    roots = work / "roots"
    folder = roots / stage.name
    remove(folder)
    roots.mkdir(exist_ok=True)
    quietly(["cp", "-a", base(work, release) / "root", folder], 300)
    mounts, env = machine(work, release)
    jobs = {"CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("JOBS", "2")}
    for step in stage.steps:
        if isinstance(step, Copy):
            copy(step, roots, folder)
        else:
            Root(folder, env | jobs, mounts=mounts).run(step, 1500)
    return Root(folder, stage.env, stage.user)


def size(folder: Path) -> int:
    """Bytes that a folder takes."""
    return int(quietly(["du", "-sxB1", folder], 60).split()[0])
