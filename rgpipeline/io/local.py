"""Objects as files of a local (or network) disk."""

import errno
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rgpipeline.errors import OutputError

_NO_LINKS = "this file system has no hard links, so nothing can be created exactly once"
_LINKS_UNKNOWN = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_SUFFIX = ".tmp"


class LocalStore:
    """Files below one folder, created by temporary file and hard link.

    `link` fails when the name exists, and shows a file whole or not at all; data and folder are
    synced first and last, so what was committed outlives a power cut. Temporary files begin
    with a dot, as readers of the folder expect of what isn't theirs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def create(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _LINKS_UNKNOWN:
                raise OutputError(f"{path.parent}: {_NO_LINKS}; use another folder") from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)
        return True

    def replace(self, name: str, data: bytes) -> None:
        path = self._path(name)
        temporary = _write_temporary(path, data)
        try:
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)

    def read(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    def read_tail(self, name: str, length: int) -> bytes:
        with self._path(name).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - length))
            return file.read()

    def list(self, prefix: str = "") -> list[str]:
        start = self._folder / prefix.rpartition("/")[0]
        names = []
        for folder, subfolders, files in os.walk(start, onerror=_raise_unless_missing):
            inside = Path(folder).relative_to(self._folder).as_posix()
            at = "" if inside == "." else f"{inside}/"
            names += [at + file for file in files]
            subfolders[:] = [
                s for s in subfolders if f"{at}{s}/".startswith(prefix[: len(at + s) + 1])
            ]
        return sorted(name for name in names if name.startswith(prefix) and not _is_temporary(name))

    def entries(self) -> Sequence[str]:
        try:
            return sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return []

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def url(self, name: str = "") -> str:
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / name


def _write_temporary(path: Path, data: bytes) -> Path:
    """A synced file with `data`, beside `path`, whose folder is made when missing."""
    _make_folder(path.parent)
    temporary = path.parent / f".{uuid.uuid4().hex}{_SUFFIX}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return temporary


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_temporary(name: str) -> bool:
    return name.endswith(_SUFFIX) and name.rpartition("/")[2].startswith(".")
