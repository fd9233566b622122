# SPDX-License-Identifier: Apache-2.0
"""A server on the loopback that speaks the protocol of the Hugging Face Hub, and can misbehave."""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dynamo_llm import paths


def demo_files() -> dict[str, bytes]:
    """Returns the files of the demo model, and of what no engine reads."""
    files = {path.name: path.read_bytes() for path in paths.demo_model_dir().iterdir() if path.is_file()}
    return {
        **files,
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "pytorch_model.bin": b"pickle" * 1000,
        "onnx/model.onnx": b"onnx" * 1000,
        "consolidated.safetensors": b"duplicate" * 1000,
        "training_args.bin": b"args",
    }


@dataclass
class Repository:
    """A repository of the server."""

    files: dict[str, bytes]
    revisions: list[str] = field(default_factory=lambda: ["main"])
    """Branches and tags; all of them are the same commit."""
    access: str = "public"
    """``gated`` and ``private`` ones need :attr:`Hub.token`."""

    @property
    def commit(self) -> str:
        """The commit of all revisions: it depends on the files."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, data in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + data)
        return digest.hexdigest()


@dataclass
class Hub:
    """The server's repositories, its faults, and what it was asked."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    token: str = "hf_c4n4ry5ecret0123456789"
    granted: bool = False
    """Whether the account of the token has access to gated repositories."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path, and ``Range`` of each request."""
    authorizations: set[str | None] = field(default_factory=set)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """By file: after how many bytes of the answer the connection is cut, for each of the next answers."""
    drips: set[str] = field(default_factory=set)
    """Files of which a byte comes from time to time."""
    silent: set[str] = field(default_factory=set)
    """Beginnings of paths that get no answer."""
    endless: set[str] = field(default_factory=set)
    """Files and beginnings of paths whose answer does not end."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers that replace those of the answers."""
    status: int | None = None
    """Status of all answers."""
    redirects: str = ""
    """URL of the server that has the files."""
    echoes: bool = False
    """Whether error messages repeat what the client sent."""
    listed: dict[str, Any] = field(default_factory=dict)
    """Additional files that the tree lists, with their sizes."""
    is_closing: threading.Event = field(default_factory=threading.Event)

    def paths(self, method: str = "GET") -> list[str]:
        """Returns the paths of the files that were asked for."""
        return [
            path.split("/resolve/")[1].partition("/")[2]
            for verb, path, _ in self.requests
            if verb == method and "/resolve/" in path
        ]

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Returns the environment of a program that uses this server and a cache of its own."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",  # the machine, or another test, may have set it
            **more,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    # ---------------------------------------------------------------------------------------- answers

    def _send(
        self,
        status: int,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        size: int | None = None,
    ) -> None:
        self.send_response(status)
        merged = {"Content-Length": str(len(data) if size is None else size), **(headers or {})}
        for name, value in {**merged, **self.hub.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        kind = {"Content-Type": "application/json"}
        self._send(status, json.dumps(value).encode(), {**kind, **headers})

    def _error(self, status: int, code: str, message: str = "") -> None:
        if self.hub.echoes:
            message += f" {self.headers.get('Authorization')}"
        named = {"X-Error-Code": code} if code else {}
        self._json({"error": message or code}, status, **named, **{"X-Error-Message": message or code})

    def _answer(self) -> None:
        try:
            self._route()
        except ConnectionError:
            self.close_connection = True

    def _route(self) -> None:
        hub = self.hub
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        hub.requests.append((self.command, path, self.headers.get("Range")))
        authorization = self.headers.get("Authorization")
        hub.authorizations.add(authorization)
        if any(path.startswith(one) for one in hub.silent):
            hub.is_closing.wait(120)
            return
        if any(path.startswith(one) for one in hub.endless):
            self._endless()
            return
        if hub.status is not None:
            self._error(hub.status, "", "it does not work")
            return
        if path == "/api/models":
            asked = {key: values[0].lower() for key, values in parse_qs(parts.query).items()}
            start = f"{asked['author']}/" if "author" in asked else ""
            names = [name for name in hub.repositories if asked.get("search", "") in name.lower()]
            self._json([{"id": name} for name in names if name.startswith(start)])
            return
        is_api = path.startswith("/api/models/")
        rest = path.removeprefix("/api/models/") if is_api else path.removeprefix("/")
        organization, name, *more = rest.split("/")
        repository = hub.repositories.get(f"{organization}/{name}")
        if authorization not in (None, f"Bearer {hub.token}"):
            self._error(401, "", "Invalid credentials in Authorization header")
            return
        has_token = authorization is not None
        if repository is None or (repository.access == "private" and not has_token):
            # As the hub: whoever has no token does not learn whether a repository exists.
            self._error(
                404 if has_token else 401, "RepoNotFound" if has_token else "", "Repository not found"
            )
            return
        if repository.access == "gated" and not (has_token and hub.granted) and not is_api:
            self._error(403 if has_token else 401, "GatedRepo", "Access to it is restricted.")
            return
        self._of_repository(f"{organization}/{name}", repository, more)

    def _of_repository(self, name: str, repository: Repository, words: list[str]) -> None:
        verb = words[0] if words else ""
        commit = repository.commit
        if verb == "refs":
            refs = [
                {"name": one, "ref": f"refs/heads/{one}", "targetCommit": commit}
                for one in repository.revisions
            ]
            self._json({"branches": refs, "converts": [], "tags": []})
            return
        known = (*repository.revisions, commit)
        if verb in ("revision", "tree") and words[1] not in known:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {words[1]}")
        elif verb in ("", "revision"):
            self._json(
                {"id": name, "sha": commit, "siblings": [{"rfilename": one} for one in repository.files]}
            )
        elif verb == "tree":
            sizes: dict[str, Any] = {one: len(data) for one, data in repository.files.items()}
            self._json(
                [
                    {"type": "file", "path": path, "size": size, "oid": _etag(path.encode())}
                    for path, size in {**sizes, **self.hub.listed}.items()
                ]
            )
        elif verb == "resolve":
            self._file(repository, words[1], "/".join(words[2:]))
        else:
            self._error(404, "", f"unknown path {self.path}")

    def _file(self, repository: Repository, revision: str, path: str) -> None:
        commit = repository.commit
        if revision not in (*repository.revisions, commit):
            self._error(404, "RevisionNotFound")
            return
        data = repository.files.get(path)
        if data is None:
            self._error(404, "EntryNotFound")
            return
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if self.hub.redirects:
            sizes = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": headers["ETag"]}
            self._send(302, headers={**headers, **sizes, "Location": f"{self.hub.redirects}{self.path}"})
            return
        if self.command == "HEAD":
            self._send(200, headers=headers, size=len(data))
            return
        if path in self.hub.endless:
            self._endless(headers)
            return
        start, status = 0, 200
        if (asked := self.headers.get("Range")) is not None:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        cuts = self.hub.cuts.get(path, [])
        if path in self.hub.drips:
            self._send(status, b"", headers, len(rest))
            for at in range(len(rest)):
                if self.hub.is_closing.wait(0.2):
                    return
                self.wfile.write(rest[at : at + 1])
        elif cuts and cuts[0] < len(rest):
            self._send(status, rest[: cuts.pop(0)], headers, len(rest))
            self.close_connection = True
        else:
            self._send(status, rest, headers)

    def _endless(self, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in {**(headers or {}), "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        block = b"[" * (1 << 20)
        while not self.hub.is_closing.is_set():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))


def _etag(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Hub]:
    """Runs a server in threads of this process."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.is_closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def wait_until(hub: Hub, text: str, seconds: float = 30) -> None:
    """Waits until a request for a path that contains a text has come."""
    end = time.monotonic() + seconds
    while not any(text in path for _, path, _ in hub.requests):
        assert time.monotonic() < end, hub.requests
        time.sleep(0.01)
