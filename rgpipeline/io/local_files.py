"""The local disk as listings see it: through symbolic links, and without waiting for pipes."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

# What an entry may be besides `file` and `directory`.
BROKEN = "broken link"  # or one that leads in a circle
LOOP = "link to a folder above"
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "pipe (FIFO)",
    stat.S_IFSOCK: "socket",
}
_NOWHERE = {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EACCES}


class LocalFiles(LocalFileSystem):  # type: ignore[misc]
    """fsspec's local files, where a link is what it leads to: its type, size and time of change.

    `type` is `file`, `directory`, BROKEN, LOOP, or the name of another kind of file.
    """

    cachable = False

    def info(self, path: Any, **_: Any) -> dict[str, Any]:
        """Raises FileNotFoundError, also for a link that leads nowhere."""
        name = str(self._strip_protocol(os.fspath(path)))
        try:
            return _info(name, Path(name).stat())
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise FileNotFoundError(errno.ENOENT, str(error), name) from error
            raise

    def ls(self, path: Any, detail: bool = False, **_: Any) -> list[Any]:
        folder = str(self._strip_protocol(os.fspath(path)))
        if not Path(folder).is_dir():
            found = [self.info(folder)]
        else:
            with os.scandir(folder) as entries:
                found = [info for entry in entries if (info := _look(entry)) is not None]
        return found if detail else [info["name"] for info in found]


def describe_link(path: str) -> str:
    """What a broken link says: where it leads."""
    return f"a link to {Path(path).readlink()}, which is not there"


def _look(entry: "os.DirEntry[str]") -> dict[str, Any] | None:
    """What a folder's entry is; None when it went away meanwhile."""
    link = entry.is_symlink()
    try:
        found = entry.stat()
    except OSError as error:
        if link and error.errno in _NOWHERE:
            return {"name": entry.path, "type": BROKEN, "size": 0}
        if isinstance(error, FileNotFoundError):
            return None
        raise
    info = _info(entry.path, found)
    if link and info["type"] == "directory" and _leads_up(entry.path):
        info["type"] = LOOP
    return info


def _info(name: str, found: os.stat_result) -> dict[str, Any]:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "device")
    facts = {"size": found.st_size, "mtime": found.st_mtime, "ino": (found.st_dev, found.st_ino)}
    return {"name": name, "type": kind, **facts}


def _leads_up(link: str) -> bool:
    """Whether a linked folder holds a folder on the way to the link: its walk would not end."""
    target = Path(link).resolve()
    way = [folder.resolve() for folder in Path(link).parents]
    return any(folder.is_relative_to(target) for folder in way)
