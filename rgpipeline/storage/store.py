"""A folder of objects, wherever it is: what the output of a job is written through."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import get_ident
from typing import Protocol, TypeVar

from rgpipeline.errors import OutputError, RgpipelineError
from rgpipeline.storage.filesystems import StorageOptions, checked_address, local_path, protocol_of
from rgpipeline.storage.local_store import LocalStore
from rgpipeline.storage.object_store import ObjectStore
from rgpipeline.storage.retries import Retry, brief, translate_error

T = TypeVar("T")
_SLOW_S = 30.0  # a call that takes longer is worth a word

_log = logging.getLogger(__name__)


class Store(Protocol):
    """A folder of immutable objects. Names are relative, with `/` between their parts.

    What one process has created, every other sees at once and whole. Reading what isn't there
    raises FileNotFoundError; a store that fails for good raises StoreError, or OutputError where
    the person can mend it (permissions, credentials, no such bucket).
    """

    def create(self, name: str, data: bytes) -> bool:
        """Creates `name`, if absent, in one atomic step.

        True when the object holds `data` now, False when it holds something else: somebody was
        first. Repeating a call is harmless, so a reply lost on the way is no loss.
        """

    def replace(self, name: str, data: bytes) -> None:
        """Writes `name`, whatever was there: for status under `_rgp/`, never for rows."""

    def read(self, name: str) -> bytes:
        """The whole object."""

    def read_tail(self, name: str, length: int) -> bytes:
        """Its last `length` bytes, or all of it when it has fewer."""

    def list(self, prefix: str = "") -> list[str]:
        """Names that begin with `prefix`, in all subfolders, sorted."""

    def entries(self) -> Sequence[str]:
        """What lies directly in the folder: names of objects and of subfolders, sorted."""

    def exists(self, name: str) -> bool:
        """Whether the object is there."""

    def delete(self, name: str) -> None:
        """Removes the object; it is no error when there is none."""

    def url(self, name: str = "") -> str:
        """The full address of `name`, or of the folder, for messages and for other tools."""


def open_store(
    url: str, storage_options: StorageOptions | None = None, retry: Retry | None = None
) -> "RetryingStore":
    """The store at `url`: a local path, file://, s3:// or gs://.

    Raises OutputError for any other protocol: where nothing can be created exactly once, two
    writers could overwrite each other's rows; and for a misspelt address.
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
    """A store whose passing failures are tried again and whose lasting ones are explained."""

    def __init__(self, inner: Store, retry: Retry) -> None:
        self._inner = inner
        self._retry = replace(retry, noticed=self._notice)
        self._under_way: dict[int, _Call] = {}  # by thread
        self.errors = 0  # passing failures met so far, for metrics

    @property
    def waits_s(self) -> float:
        """For how long the slowest call under way has been waited for; 0.0 while none is slow."""
        call = self._slowest()
        return call.seconds if call is not None else 0.0

    @property
    def trouble(self) -> str:
        """What a slow call waits for, for a person; empty while none is slow."""
        call = self._slowest()
        if call is None:
            return ""
        why = f" ({call.fault})" if call.fault else ""
        return f"{call.what}: the store does not answer{why}; waiting for it"

    def create(self, name: str, data: bytes) -> bool:
        if self._call("writing", name, lambda: self._inner.create(name, data)):
            return True
        # A reply may have been lost here or inside the client's own retries: then the one who
        # was first is ourselves. Bytes tell, for each part carries its writer's attempt id.
        try:
            return self.read(name) == data
        except FileNotFoundError:  # somebody was first, and has removed it since
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
        call = self._under_way[get_ident()]
        if not call.fault:
            call.fault = brief(error)
            _log.info("%s: %s; it is tried again", call.what, call.fault)

    def _slowest(self) -> "_Call | None":
        calls = [call for call in self._under_way.copy().values() if call.seconds > _SLOW_S]
        return max(calls, key=lambda call: call.seconds, default=None)

    def _call(self, doing: str, name: str, action: Callable[[], T], absent: bool = False) -> T:
        """`absent`: FileNotFoundError is an answer, not a fault."""
        call = _Call(f"{doing} {self.url(name)}")
        self._under_way[get_ident()] = call
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
            del self._under_way[get_ident()]


class _Call:
    """One call of a store, under way."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.fault = ""  # the first passing failure
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began
