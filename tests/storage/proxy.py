"""An HTTP proxy in front of a store: loses replies, cuts them short, hangs, answers errors."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal[
    "none", "lost request", "lost reply", "cut reply", "silence", "503", "403", "500 after"
]
Plan = Callable[[str, str], Fault]  # method and path of a request to what happens to it


class FaultyProxy(ThreadingHTTPServer):
    """Forwards to `upstream`; `plan` decides each request's fate. Counts what it did."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.plan: Plan = lambda method, path: "none"
        self.faults: list[Fault] = []
        self.read_bytes = 0  # of answers to GET
        self.lock = Lock()
        self.closing = Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _handle(self) -> None:
        with self.server.lock:
            fault = self.server.plan(self.command, self.path)
            if fault != "none":
                self.server.faults.append(fault)
        body = self._body()
        if fault in ("503", "403"):
            self._answer(int(fault), _error("SlowDown" if fault == "503" else "AccessDenied"))
        elif fault == "lost request":
            self._hang_up()
        elif fault == "silence":  # the connection stays open, and no answer comes
            self.server.closing.wait()
            self._hang_up()
        else:
            self._forward(body, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815

    def _forward(self, body: bytes, fault: Fault) -> None:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        reply = upstream.getresponse()
        data = reply.read()
        upstream.close()
        if self.command == "GET":
            with self.server.lock:
                self.server.read_bytes += len(data)
        if fault == "lost reply":
            self._hang_up()
        elif fault == "500 after":
            self._answer(500, _error("InternalError"))
        else:
            self._answer(reply.status, data, dict(reply.getheaders()), cut=fault == "cut reply")

    def _body(self) -> bytes:
        """As it came; one in chunks is put together, and its header taken back."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        del self.headers["Transfer-Encoding"]
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _answer(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        headers = headers or {"Content-Type": "application/xml"}
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else len(data)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: tests tell what matters."""


def _error(code: str) -> bytes:
    text = f"<Error><Code>{code}</Code><Message>{code}, says the proxy</Message></Error>"
    return text.encode()


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """A proxy in front of `upstream` (http://host:port), running."""
    proxy = FaultyProxy(upstream)
    thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        proxy.shutdown()
        proxy.server_close()
