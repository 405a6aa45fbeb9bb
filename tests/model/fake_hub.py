"""As much of the Hugging Face Hub's HTTP interface as reading a repository needs."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

REPO = "owner/model"
COMMIT = "0" * 40
BRANCH = "feature%2Fx"  # quoted, as clients ask for it
_REVISION = f"(main|{COMMIT}|{BRANCH})"
_INFO = re.compile(rf"/api/models/{REPO}(/revision/{_REVISION})?(\?.*)?")
_TREE = re.compile(rf"/api/models/{REPO}/tree/{_REVISION}(/(?P<path>[^?]*))?(\?.*)?")
_FILE = re.compile(rf"/{REPO}/resolve/{_REVISION}/(?P<path>[^?]*)")


@contextmanager
def hub(folder: Path, token: str, *, gated: bool = False) -> Iterator[str]:
    """Serves the folder as a repository to those who have the token; gives the address.

    `gated`: others see which files there are, as with a model whose licence must be accepted.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != f"Bearer {token}":
                if not gated:
                    return self._send(401, b"{}")
                if _FILE.match(self.path):
                    return self._send(401, b"{}", {"X-Error-Code": "GatedRepo"})
            if match := _FILE.match(self.path):
                return self._send_file(folder / match["path"])
            if match := _TREE.fullmatch(self.path):
                return self._send_tree(folder / (match["path"] or ""))
            if _INFO.fullmatch(self.path):
                return self._send_json({"id": REPO, "modelId": REPO, "sha": COMMIT})
            if self.path.startswith(f"/{REPO}/tree/"):
                return self._send(200, b"<html>for people</html>")
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET  # noqa: N815

        def _send_json(self, value: Any) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send_tree(self, path: Path) -> None:
            if not path.is_dir():
                return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return self._send_json([_entry(inner, folder) for inner in sorted(path.iterdir())])

        def _send_file(self, path: Path) -> None:
            if not path.is_file():
                return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            content, asked = path.read_bytes(), self.headers.get("Range")
            if asked is None:
                return self._send(200, content)
            first, last = (int(n) for n in asked.removeprefix("bytes=").split("-"))
            return self._send(206, content[first : last + 1])

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    lfs = {"lfs": {"oid": digest, "size": len(content), "pointerSize": 130}}
    entry = {"type": "file", "path": name, "oid": digest[:40], "size": len(content)}
    return entry | (lfs if name.endswith(".safetensors") else {})
