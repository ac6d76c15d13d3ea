"""A Hugging Face hub on the loopback: the few answers that huggingface_hub needs to fetch and to publish."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """Repositories are `files[(owner/name, revision)][path] -> bytes`; `asked` is every request line."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.refuse: tuple[int, str] | None = None  # status and X-Error-Code of every answer
        self.tokens: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, repository: str, revision: str = "main", **files: bytes) -> None:
        self.files.setdefault((repository, revision), {}).update(files)


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def _get(self) -> None:
        self._note()
        if self.server.refuse:
            return self._fail(*self.server.refuse)
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repository = "/".join(parts[2:4])
            revision = parts[5] if len(parts) > 5 else "main"
            files = self.server.files.get((repository, revision))
            if files is None:
                return self._fail(404, "RepoNotFound")
            if "tree" in parts:
                return self._json([{"type": "file", "path": n, "size": len(d), "oid": "0"} for n, d in files.items()])
            siblings = [{"rfilename": name} for name in files]
            return self._json({"id": repository, "sha": "c0ffee" * 6 + "abcd", "siblings": siblings})
        if len(parts) < 5:
            return self._fail(404, "")
        repository, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        known = [key for key in self.server.files if key[0] == repository]
        if not known:
            return self._fail(404, "RepoNotFound")
        if (repository, revision) not in self.server.files:
            return self._fail(404, "RevisionNotFound")
        data = self.server.files[repository, revision].get(name)
        if data is None:
            return self._fail(404, "EntryNotFound", {"X-Repo-Commit": "c0ffee" * 6 + "abcd"})
        etag = hashlib.sha256(data).hexdigest()
        self._answer(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": "c0ffee" * 6 + "abcd"})

    def do_POST(self) -> None:
        self._note()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.server.refuse:
            return self._fail(*self.server.refuse)
        if token not in self.server.tokens:
            return self._fail(401, "")
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.files.setdefault((repository, "main"), {})
            return self._json({"url": f"{self.server.url}/{repository}"})
        repository = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        assert "/commit/" in self.path, self.path
        for line in body.splitlines():
            item = json.loads(line)
            if item["key"] == "file":
                content = base64.b64decode(item["value"]["content"])
                self.server.files[repository, "main"][item["value"]["path"]] = content
        return self._json({"commitUrl": f"{self.server.url}/{repository}/commit/1", "commitOid": "1", "success": True})

    def _note(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
