"""The driver's files in the output folder: events and heartbeats, and requests to stop it.

All of this happens in a thread, since the store may be slow or fail and the driver must not wait.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from rgpipeline.errors import RgpipelineError, StoreFullError
from rgpipeline.events import Event, event_file_name, event_line
from rgpipeline.output import Heartbeat, write_heartbeat
from rgpipeline.output.job_folder import read_stop
from rgpipeline.storage.store import RetryingStore

_log = logging.getLogger(__name__)

T = TypeVar("T")
_HEARTBEAT_S, _FLUSH_S, _STOP_S, _PAUSE_S = 5.0, 10.0, 3.0, 0.25


class EventLog:
    """A driver's event log and heartbeats. Only `close` waits for the store."""

    def __init__(self, store: RetryingStore, on_stop: Callable[[], None]) -> None:
        """`on_stop` is called, in the event log's thread, when someone asks the job to stop."""
        self._store = store
        self._on_stop = on_stop
        self._began = time.time_ns() // 1_000_000
        self._sequence = 0
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._heartbeat: Heartbeat | None = None
        self._known_stop: bytes | None = None  # a request to an earlier driver
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event_log", daemon=True)
        self._failed = ""  # why the last use of the store failed; empty when it succeeded
        self.full = ""  # the same, where the store is full

    @property
    def last_error(self) -> str:
        """Why the store can't be used now; empty when the last use succeeded."""
        return self._store.trouble or self._failed

    def open(self) -> None:
        self._thread.start()

    def append(self, event: Event) -> None:
        with self._lock:
            self._lines.append(event_line(event))

    def set_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Sets what the next heartbeats say."""
        self._heartbeat = heartbeat

    def close(self, last: Heartbeat) -> None:
        """Writes what is left, and `last` as the final heartbeat."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._flush()
        self._attempt("the last heartbeat", lambda: write_heartbeat(self._store, last))

    def _run(self) -> None:
        self._known_stop = self._read_stop()
        duties: list[tuple[float, Callable[[], None]]] = [
            (_HEARTBEAT_S, self._write_heartbeat),
            (_FLUSH_S, self._flush),
            (_STOP_S, self._look_for_stop),
        ]
        due = [0.0, time.monotonic() + _FLUSH_S, 0.0]
        while not self._closing.wait(_PAUSE_S):
            for index, (pause, duty) in enumerate(duties):
                if due[index] <= time.monotonic():
                    duty()
                    due[index] = time.monotonic() + pause

    def _write_heartbeat(self) -> None:
        heartbeat = self._heartbeat
        if heartbeat is not None:
            now = replace(heartbeat, updated=time.time())
            self._attempt("a heartbeat", lambda: write_heartbeat(self._store, now))

    def _look_for_stop(self) -> None:
        found = self._read_stop()
        if found is not None and found != self._known_stop:
            self._on_stop()

    def _read_stop(self) -> bytes | None:
        return self._attempt("looking for a request to stop", lambda: read_stop(self._store))

    def _flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        if not lines:
            return
        name = event_file_name(self._began, self._sequence)
        data = "".join(f"{line}\n" for line in lines).encode()
        if self._attempt("the event log", lambda: self._store.create(name, data)) is not None:
            self._sequence += 1
            return
        with self._lock:
            self._lines = lines + self._lines

    def _attempt(self, what: str, action: Callable[[], T]) -> T | None:
        """`action()`; None when the store fails, which costs log lines but no rows."""
        try:
            done = action()
        except (RgpipelineError, OSError) as error:
            self._failed = f"{what}: {error}"
            self.full = str(error) if isinstance(error, StoreFullError) else ""
            _log.warning("%s", self._failed)
            return None
        self._failed = self.full = ""
        return done
