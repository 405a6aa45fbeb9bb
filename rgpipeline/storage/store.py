"""Folders of immutable objects on a disk, in S3 or in Google Cloud Storage: where output goes."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import get_ident
from typing import Protocol, TypeVar

from rgpipeline.errors import OutputError, RgpipelineError
from rgpipeline.storage.backends import LocalStore, ObjectStore
from rgpipeline.storage.filesystems import StorageOptions, checked_address, local_path, protocol_of
from rgpipeline.storage.retries import Retry, brief, translate_error

T = TypeVar("T")
_SLOW_S = 30.0  # a call that takes longer is reported

_log = logging.getLogger(__name__)


class Store(Protocol):
    """A folder of immutable objects. Names are relative, with `/` between their parts.

    An object that one process has created is visible to every other at once, and whole. Reading an
    absent object raises FileNotFoundError. A lasting failure raises OutputError where the person
    can mend it (permissions, credentials, no such bucket), else StoreError.
    """

    def create(self, name: str, data: bytes) -> bool:
        """Creates `name`, if absent, in one atomic step.

        Returns True if the object holds `data` now; False if another writer created it first, with
        other content. A call may be repeated, so a lost reply does no harm.
        """

    def replace(self, name: str, data: bytes) -> None:
        """Writes `name`, and overwrites it if it exists: for status in `_rgp/`, never for rows."""

    def read(self, name: str) -> bytes:
        """The whole object."""

    def read_tail(self, name: str, length: int) -> bytes:
        """The last `length` bytes of an object, or all of it if it has fewer."""

    def list(self, prefix: str = "") -> list[str]:
        """Names that begin with `prefix`, including those in subfolders, sorted."""

    def entries(self) -> Sequence[str]:
        """Names of the objects and subfolders directly in the folder, sorted."""

    def exists(self, name: str) -> bool:
        """Whether the object is there."""

    def delete(self, name: str) -> None:
        """Removes the object, if it exists."""

    def url(self, name: str = "") -> str:
        """The full address of `name`, or of the folder, for messages and for other tools."""


def open_store(
    url: str, storage_options: StorageOptions | None = None, retry: Retry | None = None
) -> "RetryingStore":
    """The store at `url`: a local path, file://, s3:// or gs://.

    Raises OutputError for a misspelt address, and for any other protocol: the others can't create
    an object exactly once, so two writers could overwrite each other's rows.
    """
    url = checked_address(url, OutputError)
    protocol = protocol_of(url)
    inner: Store
    if protocol == "file":
        inner = LocalStore(local_path(url, OutputError))
    elif protocol in ("s3", "gs"):
        inner = ObjectStore(url, storage_options)
    else:
        raise OutputError(
            f"{url}: {protocol}:// can't create an object exactly once, which publishing rows "
            f"rests on; use a local path, s3:// or gs://"
        )
    return RetryingStore(inner, retry or Retry())


class RetryingStore:
    """A store that repeats calls after transient errors, and translates lasting errors."""

    def __init__(self, inner: Store, retry: Retry) -> None:
        self._inner = inner
        self._retry = replace(retry, noticed=self._notice)
        self._calls: dict[int, _Call] = {}  # by thread
        self.errors = 0  # transient errors so far, for metrics

    @property
    def waits_s(self) -> float:
        """Seconds that the slowest call in progress has taken; 0.0 while none is slow."""
        call = self._slowest()
        return call.seconds if call is not None else 0.0

    @property
    def trouble(self) -> str:
        """A message about the slowest call in progress; empty while none is slow."""
        call = self._slowest()
        if call is None:
            return ""
        why = f" ({call.fault})" if call.fault else ""
        return f"{call.what}: the store does not answer{why}; waiting for it"

    def create(self, name: str, data: bytes) -> bool:
        if self._call("writing", name, lambda: self._inner.create(name, data)):
            return True
        # If a reply was lost, here or in the client's own retries, the object is ours. The bytes
        # show it, because each part carries the attempt id of its writer.
        try:
            return self.read(name) == data
        except FileNotFoundError:  # another writer created it first, and it was removed since
            return False

    def replace(self, name: str, data: bytes) -> None:
        self._call("writing", name, lambda: self._inner.replace(name, data))

    def read(self, name: str) -> bytes:
        return self._call("reading", name, lambda: self._inner.read(name), absent=True)

    def read_tail(self, name: str, length: int) -> bytes:
        return self._call("reading", name, lambda: self._inner.read_tail(name, length), absent=True)

    def list(self, prefix: str = "") -> list[str]:
        return self._call("listing", prefix, lambda: self._inner.list(prefix))

    def entries(self) -> Sequence[str]:
        return self._call("listing", "", self._inner.entries)

    def exists(self, name: str) -> bool:
        return self._call("looking for", name, lambda: self._inner.exists(name))

    def delete(self, name: str) -> None:
        self._call("deleting", name, lambda: self._inner.delete(name))

    def url(self, name: str = "") -> str:
        return self._inner.url(name)

    def _notice(self, error: Exception) -> None:
        self.errors += 1
        call = self._calls[get_ident()]
        if not call.fault:
            call.fault = brief(error)
            _log.info("%s: %s; it is tried again", call.what, call.fault)

    def _slowest(self) -> "_Call | None":
        calls = [call for call in self._calls.copy().values() if call.seconds > _SLOW_S]
        return max(calls, key=lambda call: call.seconds, default=None)

    def _call(self, doing: str, name: str, action: Callable[[], T], absent: bool = False) -> T:
        """`absent`: FileNotFoundError is passed on as it is."""
        call = _Call(f"{doing} {self.url(name)}")
        self._calls[get_ident()] = call
        try:
            result = self._retry.call(call.what, action)
            if call.fault:
                _log.info("%s: done, after %.0f s", call.what, call.seconds)
            return result
        except RgpipelineError:
            raise
        except FileNotFoundError as error:
            if absent:
                raise
            raise OutputError(f"{self.url(name)}: no such bucket or folder ({error})") from error
        except Exception as error:
            raise translate_error(call.what, error, OutputError) from error
        finally:
            del self._calls[get_ident()]


class _Call:
    """One call of a store, in progress."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.fault = ""  # the first transient error
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began
