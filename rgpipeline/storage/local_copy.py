"""Copies of remote weights on this machine's disk.

All processes of a machine share one copy. An interrupted copy is resumed. A finished one is checked
against the store: size and version always, and the digest of the content if the store has one.

    CACHE/NAME-HASH/files/...      the copied files, under their own names
    CACHE/NAME-HASH/journal/...    for each file: which version it copies, and the pieces copied
"""

import fcntl
import hashlib
import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TextIO

from rgpipeline.errors import StoreError, WeightsError
from rgpipeline.storage.filesystems import local_path
from rgpipeline.storage.folders import STREAMS, Folder, StoredFile, pieces

_DONE = "done"


def local_copy(folder: Folder, files: Sequence[StoredFile], cache: Path) -> Folder:
    """The folder, with these files of it on the local disk.

    If another process is copying, this one waits for it, and takes over if it dies.

    Raises:
        WeightsError: The disk has too little room, or the originals changed meanwhile.
        StoreError: The store failed; the pieces copied so far are kept.
    """
    if folder.local is not None:
        return folder
    digest = hashlib.sha256(folder.url.encode()).hexdigest()[:12]
    target = local_path(str(cache), WeightsError) / f"{folder.url.rpartition('/')[2]}-{digest}"
    (target / "files").mkdir(parents=True, exist_ok=True)
    with _locked(target):
        copies = [_Copy(folder, file, target) for file in files]
        missing = [copy for copy in copies if not copy.is_done()]
        _require_room(target, sum(copy.file.size for copy in missing))
        for copy in missing:
            copy.finish()
    return folder.at(target / "files")


class _Copy:
    """The copy of one file, and its journal."""

    def __init__(self, folder: Folder, file: StoredFile, target: Path) -> None:
        self.file = file
        self._folder = folder
        self._path = target / "files" / file.name
        self._journal = target / "journal" / urllib.parse.quote(file.name, safe="")
        self._header = json.dumps([file.size, file.version, folder.url])

    def is_done(self) -> bool:
        return self._entries()[-1:] == [_DONE]

    def finish(self) -> None:
        there = [entry for entry in self._entries() if entry != _DONE]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._journal.parent.mkdir(exist_ok=True)
        with self._path.open("r+b" if there else "wb") as target:
            target.truncate(self.file.size)
            with self._reopened(there) as journal:
                self._copy(target.fileno(), journal, set(map(int, there)))
                self._check()
                self._write(journal, _DONE)

    def _reopened(self, entries: list[str]) -> TextIO:
        """The journal, rewritten with these entries: its last line may have been cut short."""
        fresh = self._journal.with_suffix(".new")
        with fresh.open("w") as journal:
            self._write(journal, self._header, *entries)
        fresh.replace(self._journal)
        return self._journal.open("a")

    def _copy(self, target: int, journal: TextIO, there: set[int]) -> None:
        writing = Lock()

        def copy(piece: tuple[int, int]) -> None:
            start, stop = piece
            raw = self._folder.read_piece(self.file.name, start, stop)
            os.pwrite(target, raw, start)
            os.fdatasync(target)  # the piece must be on disk before the journal says so
            with writing:
                self._write(journal, str(start))

        with ThreadPoolExecutor(STREAMS) as pool:
            missing = [piece for piece in pieces(0, self.file.size) if piece[0] not in there]
            list(pool.map(copy, missing))

    def _check(self) -> None:
        now = self._folder.file_now(self.file.name)
        if (now.size, now.version) != (self.file.size, self.file.version):
            self._journal.unlink()
            raise WeightsError(
                f"{self._folder.url}/{self.file.name} was changed while it was copied; try again"
            )
        if self.file.digest is None:
            return
        algorithm, expected = self.file.digest
        with self._path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != expected:
            self._journal.unlink()
            raise StoreError(
                f"{self._folder.url}/{self.file.name}: its copy has {algorithm} {found}, the store "
                f"says {expected}; the copy is given up: try again"
            )

    def _entries(self) -> list[str]:
        """The copied pieces of this version, and `_DONE` if the file was checked."""
        try:
            header, *entries = self._journal.read_text().split("\n")
            whole = self._path.stat().st_size == self.file.size
        except FileNotFoundError:
            return []
        return entries[:-1] if whole and header == self._header else []

    @staticmethod
    def _write(journal: TextIO, *lines: str) -> None:
        journal.write("".join(f"{line}\n" for line in lines))
        journal.flush()


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Locks out other processes of this machine; the kernel frees the lock of a dead one."""
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target).free
    if needed > free:
        raise WeightsError(
            f"{target}: the weights' copy needs {needed / 1e9:.1f} GB, the disk has "
            f"{free / 1e9:.1f} GB left; name a folder on a larger one as workers.cache"
        )
