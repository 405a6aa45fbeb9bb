"""Opening input files, local and remote, and the errors met in reading them."""

import errno
import io
import os
import posixpath
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from rgpipeline.errors import InputError, RgpipelineError
from rgpipeline.input_formats import COMPRESSIONS
from rgpipeline.storage.filesystems import StorageOptions, open_filesystem, protocol_of, version_of
from rgpipeline.storage.retries import is_forbidden, is_transient, is_unusable, translate_error

_GLOB = "*?["
_LINES_AHEAD = 1 << 18  # bytes of the buffer that lines are split from
_READ_AHEAD = 4 << 20  # bytes; fsspec's own default for S3 is 50 MB


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of the job's input, as a listing shows it."""

    path: str  # full fsspec URL
    name: str  # relative to what the job named
    size: int  # bytes
    version: str  # etag, or modification time where the store has none
    below: str = ""  # its path below what the job named; Hive partitions are read from it


def listing_filesystem(url: str, options: StorageOptions | None) -> tuple[AbstractFileSystem, str]:
    """As `open_filesystem`; a local one follows symbolic links."""
    fs, inside = open_filesystem(url, options)
    return (LocalFiles() if protocol_of(url) == "file" else fs), inside


def is_glob(path: str) -> bool:
    """Whether the path has a wildcard in it."""
    return any(character in path for character in _GLOB)


def glob_base(path: str) -> str:
    """The folder above a glob's first wildcard."""
    return posixpath.dirname(path[: min(path.find(c) for c in _GLOB if c in path)])


def is_hidden(name: str) -> bool:
    """Whether a part of the name begins with `_` or `.`."""
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def open_file(path: str, options: StorageOptions | None, read_ahead: bool = True) -> BinaryIO:
    """The file's bytes, seekable.

    `read_ahead` suits reading from front to back; without it every read is one request.
    Raises FileNotFoundError, or whatever the store's client raises.
    """
    fs, inside = open_filesystem(path, options)
    if protocol_of(path) == "file":
        return cast("BinaryIO", fs.open(inside, "rb"))
    kind = "readahead" if read_ahead else "none"
    return cast("BinaryIO", fs.open(inside, "rb", block_size=_READ_AHEAD, cache_type=kind))


def arrow_file(path: str, options: StorageOptions | None) -> pa.NativeFile | BinaryIO:
    """The file's bytes for Arrow, which asks for the ranges it needs; nothing is read ahead.

    A local file is opened by Arrow, because reading a Python file takes the interpreter's lock.
    Raises as `open_file`.
    """
    if protocol_of(path) != "file":
        return open_file(path, options, read_ahead=False)
    _, inside = open_filesystem(path, options)
    return pa.OSFile(os.open(inside, os.O_RDONLY))


def decompressed(file: BinaryIO, path: str) -> IO[bytes]:
    """The content of a .gz or .zst file, not seekable; any other file as it is.

    A truncated file raises OSError. Arrow's decoders are used, because Python's zstandard reads a
    truncated file as if it were complete.
    """
    codec = next((c for ending, c in COMPRESSIONS.items() if path.endswith(ending)), None)
    stream = file if codec is None else pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)
    return io.BufferedReader(cast("io.RawIOBase", stream), _LINES_AHEAD)


def current_version(path: str, options: StorageOptions | None) -> tuple[int, str]:
    """(size, version) of a file as it is now; of a link, those of its target.

    Raises FileNotFoundError and clients' errors; InputError if it is no longer a file.
    """
    fs, inside = listing_filesystem(path, options)
    fs.invalidate_cache()
    info = fs.info(inside)
    if info["type"] not in ("file", "other"):  # some stores call a file `other`
        raise InputError(f"{path}: is a {info['type']} now, not a file")
    return int(info["size"] or 0), version_of(info)


def input_error(path: str, error: Exception) -> Exception:
    """What to raise for an error met in reading a file.

    Our own errors and those that may pass are returned as they are; the rest becomes an
    InputError naming the file.
    """
    if isinstance(error, RgpipelineError) or (is_transient(error) and not is_corruption(error)):
        return error
    if isinstance(error, FileNotFoundError) or is_forbidden(error) or is_unusable(error):
        return translate_error(path, error, InputError)
    text = " ".join(str(error).split())[:300]
    return InputError(f"{path}: corrupt, truncated or of another format ({text})")


def is_corruption(error: Exception) -> bool:
    """Whether the bytes were read and are wrong. Arrow's decoders raise OSError without errno."""
    if is_forbidden(error):
        return False
    return isinstance(error, pa.ArrowException | EOFError | zlib.error) or (
        type(error) is OSError and error.errno is None
    )


# Types of entries besides `file` and `directory`.
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
    """fsspec's local files; a link has the type, size and time of change of its target.

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
    """Where a broken link leads, for messages."""
    return f"a link to {Path(path).readlink()}, which is not there"


def _look(entry: "os.DirEntry[str]") -> dict[str, Any] | None:
    """The info of a folder's entry; None if it was removed meanwhile."""
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
    """Whether a linked folder contains the link itself, so that a walk would not end."""
    target = Path(link).resolve()
    way = [folder.resolve() for folder in Path(link).parents]
    return any(folder.is_relative_to(target) for folder in way)
