"""A store in memory that fails when told to; `flaky://` for fsspec."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FlakyStore(MemoryFileSystem):  # type: ignore[misc]
    """Counts the ranges it is asked for, and plays its faults, one for each call."""

    protocol = "flaky"
    cachable = False
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    ranges: ClassVar[list[tuple[str, int]]] = []  # (path, start)
    faults: ClassVar[Iterator[Exception | None]] = iter(())
    facts: ClassVar[dict[str, Any]] = {}  # added to every listing entry

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("flaky:/")))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        fault = next(type(self).faults, None)
        if fault is not None:
            raise fault
        if start is not None:
            self.ranges.append((path, start))
        return bytes(super().cat_file(path, start=start, end=end, **kwargs))

    def find(self, path: str, **kwargs: Any) -> Any:
        found = super().find(path, **kwargs)
        return {name: {**entry, **self.facts} for name, entry in found.items()}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        found = super().ls(path, detail, **kwargs)
        return [{**entry, **self.facts} for entry in found] if detail else found


@contextmanager
def flaky_store() -> Iterator[type[FlakyStore]]:
    """An empty store that obeys."""
    FlakyStore.store.clear()
    FlakyStore.ranges.clear()
    FlakyStore.faults, FlakyStore.facts = iter(()), {}
    fsspec.register_implementation("flaky", FlakyStore, clobber=True)
    yield FlakyStore
