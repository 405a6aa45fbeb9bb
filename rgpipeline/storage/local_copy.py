"""Copies of remote weights on this machine's disk.

A copy is made once for all processes of a machine, taken up where an interrupted one stopped, and
checked against what the store knows of the original: size and version always, and the content's
digest where the store has one.

    CACHE/NAME-HASH/files/...      the copy, as the folder has it
    CACHE/NAME-HASH/journal/...    for each file: what it is a copy of, the pieces that are there
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

    A process that finds another at it waits until that one is done, and takes over if it dies.

    Raises:
        WeightsError: The disk has too little room, or the originals changed meanwhile.
        StoreError: The store failed; what was copied is kept for the next try.
    """
    if folder.local is not None:
        return folder
    name = folder.url.rpartition("/")[2]
    place = (
        local_path(str(cache), WeightsError)
        / f"{name}-{hashlib.sha256(folder.url.encode()).hexdigest()[:12]}"
    )
    (place / "files").mkdir(parents=True, exist_ok=True)
    with _alone(place):
        copies = [_Copy(folder, file, place) for file in files]
        missing = [copy for copy in copies if not copy.is_done()]
        _require_room(place, sum(copy.file.size for copy in missing))
        for copy in missing:
            copy.finish()
    return folder.at(place / "files")


class _Copy:
    """One file's copy, and the journal of it."""

    def __init__(self, folder: Folder, file: StoredFile, place: Path) -> None:
        self.file = file
        self._folder = folder
        self._path = place / "files" / file.name
        self._journal = place / "journal" / urllib.parse.quote(file.name, safe="")
        self._header = json.dumps([file.size, file.version, folder.url])

    def is_done(self) -> bool:
        return self._entries()[-1:] == [_DONE]

    def finish(self) -> None:
        """Copies what is missing, and checks the whole."""
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
        """The journal with these entries, written anew: its last line may have been cut short."""
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
            os.fdatasync(target)  # the journal must not know of it before the disk does
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
        """The pieces that are there of this very version, and whether it was found right."""
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
def _alone(place: Path) -> Iterator[None]:
    """While no other process of this machine is inside; the kernel frees what a dead one held."""
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_room(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        raise WeightsError(
            f"{place}: the weights' copy needs {needed / 1e9:.1f} GB, the disk has "
            f"{free / 1e9:.1f} GB left; name a folder on a larger one as workers.cache"
        )
