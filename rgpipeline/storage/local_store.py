"""Objects as files of a local (or network) disk."""

import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rgpipeline.errors import OutputError

_NO_LINKS = "this file system has no hard links, so nothing can be created exactly once"
_LINKS_UNKNOWN = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_SUFFIX = ".tmp"


class LocalStore:
    """Files below one folder, created by temporary file and hard link.

    `link` fails if the name exists, and a linked file is always whole. The data is synced before,
    the folder after, so a committed file survives a power cut. Names of temporary files begin with
    a dot, so other readers of the folder skip them.
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
        inside = prefix.rpartition("/")[0]
        return sorted(self._below(f"{inside}/" if inside else "", prefix))

    def _below(self, inside: str, prefix: str) -> Iterator[str]:
        """Names with a prefix in one folder (its name ends with `/`), and all names below it.

        A folder may hold many thousands of parts, and each shard's log lists its own.
        """
        try:
            with os.scandir(self._path(inside)) as found:
                entries = [entry for entry in found if (inside + entry.name).startswith(prefix)]
        except FileNotFoundError:
            return
        for entry in entries:
            if not entry.is_dir():
                if not _is_temporary(entry.name):
                    yield inside + entry.name
            elif not entry.is_symlink():
                yield from self._below(f"{inside}{entry.name}/", prefix)

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
    """Writes and syncs a temporary file beside `path`; makes the folder if it is missing."""
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


def _is_temporary(name: str) -> bool:
    return name.endswith(_SUFFIX) and name.rpartition("/")[2].startswith(".")
