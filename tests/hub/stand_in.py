"""A hub on this machine: the part of its HTTP interface that datasets and transformers use, over local folders."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


class HubStandIn:
    """Serves repositories while it is entered; `asked` holds method and path of every request."""

    def __init__(self, repositories: dict[str, Path], *, commit: str) -> None:
        """Take folders by `datasets/OWNER/NAME` or `models/OWNER/NAME`; all have one commit."""
        self.repositories, self.commit = repositories, commit
        self.asked: list[str] = []
        hub = self

        class Handler(_Handler):
            stand_in = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubStandIn:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    stand_in: HubStandIn

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path).strip("/")
        self.stand_in.asked.append(f"{self.command} /{path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # models have no word of their own before /resolve/
        is_file = "/resolve/" in path
        if is_file and not path.startswith("datasets/"):
            path = f"models/{path}"
        named = path.removeprefix("api/")
        for name, folder in self.stand_in.repositories.items():
            if named == name or named.startswith(f"{name}/"):
                action, _, rest = named[len(name) + 1 :].partition("/")
                inside = rest.partition("/")[2]  # after the revision
                if is_file:
                    return self._file(folder / inside)
                return self._api(name, folder, action, inside, parse_qs(url.query), body)
        return self._missing("RepoNotFound")

    def _api(self, name, folder, action, inside, query, body) -> None:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        if action in ("", "revision"):
            siblings = [{"rfilename": str(path.relative_to(folder))} for path in files]
            found = {
                "_id": "0", "id": name.partition("/")[2], "sha": self.stand_in.commit, "private": False,
                "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings,
            }  # fmt: skip
            return self._json(found)
        if action == "paths-info":
            wanted = {*json.loads(body)["paths"]}
            return self._json([e for e in map(_entry(folder), files) if e["path"] in wanted])
        top = folder / inside
        if action != "tree" or not top.is_dir():
            return self._missing("EntryNotFound")
        listed = (
            top.rglob("*") if query.get("recursive", [""])[0].lower() == "true" else top.iterdir()
        )
        return self._json([_entry(folder)(path) for path in sorted(listed)])

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._missing("EntryNotFound")
        content = path.read_bytes()
        return self._send(200, content, ETag=f'"{_oid(content)}"')

    def _json(self, found: object) -> None:
        self._send(200, json.dumps(found).encode(), **{"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._send(404, b"{}", **{"X-Error-Code": code, "Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        every = {"X-Repo-Commit": self.stand_in.commit, "Content-Length": str(len(content))}
        for name, value in {**every, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        pass


def _entry(folder: Path):
    """How the interface lists a path of a repository."""

    def of(path: Path) -> dict[str, object]:
        name = str(path.relative_to(folder))
        if path.is_dir():
            return {"type": "directory", "path": name, "size": 0, "oid": "0" * 40}
        content = path.read_bytes()
        return {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}

    return of


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
