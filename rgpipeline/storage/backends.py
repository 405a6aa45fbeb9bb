"""Where a store's objects are: files of a local (or network) disk, or objects in S3 and GCS.

For buckets it uses s3fs and gcsfs, because pyarrow's own clients have no conditional put.
"""

import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem

from rgpipeline.errors import OutputError
from rgpipeline.storage.filesystems import StorageOptions, open_filesystem
from rgpipeline.storage.retries import causes

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


# Each object is sent in one request, up to S3's own limit of 5 GB. If the last reply of a multipart
# upload is lost, s3fs aborts the upload, and then nothing shows whether the object exists.
_ONE_REQUEST = 5 * 2**30 - 1


class ObjectStore:
    """Objects below one prefix of a bucket; `create` is If-None-Match or ifGenerationMatch=0."""

    def __init__(self, url: str, options: StorageOptions | None) -> None:
        self._url = url.rstrip("/")
        self._fs: AbstractFileSystem
        self._fs, root = open_filesystem(self._url, options)
        self._root = root.rstrip("/")

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._put(name, data, mode="create")
        except Exception as error:
            if _lost_the_race(error):
                return False
            raise
        return True

    def replace(self, name: str, data: bytes) -> None:
        self._put(name, data)

    def read(self, name: str) -> bytes:
        return bytes(self._fs.cat_file(self._path(name)))

    def read_tail(self, name: str, length: int) -> bytes:
        path = self._path(name)
        try:
            return bytes(self._fs.cat_file(path, start=-length))
        except FileNotFoundError:
            raise
        except Exception:  # S3 and GCS answer 416 for an empty object
            if self._size(path) == 0:
                return b""
            raise

    def list(self, prefix: str = "") -> list[str]:
        self._fs.invalidate_cache()
        folder, _, start = prefix.rpartition("/")
        found = self._fs.find(self._path(folder), prefix=start)
        paths = [path for path in found if path.startswith(f"{self._root}/{prefix}")]
        return sorted(path.removeprefix(f"{self._root}/") for path in paths)

    def entries(self) -> Sequence[str]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (path.rstrip("/").rpartition("/")[2] for path in found if path != self._root)
        return sorted(name for name in names if name)

    def exists(self, name: str) -> bool:
        try:  # `isfile` would report a failing store as an absent object
            return self._size(self._path(name)) is not None
        except FileNotFoundError:
            return False

    def delete(self, name: str) -> None:
        self._fs.invalidate_cache()
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return

    def url(self, name: str = "") -> str:
        return f"{self._url}/{name}" if name else self._url

    def _size(self, path: str) -> int | None:
        """Bytes of an object, None for a folder. Raises FileNotFoundError."""
        self._fs.invalidate_cache()
        info = self._fs.info(path)
        return int(info["size"] or 0) if info["type"] == "file" else None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _put(self, name: str, data: bytes, **mode: Any) -> None:
        self._fs.pipe_file(self._path(name), data, chunksize=_ONE_REQUEST, **mode)


def _lost_the_race(error: BaseException) -> bool:
    """Whether a conditional put was refused because the object exists.

    s3fs raises OSError(EINVAL), with botocore's answer as the cause; gcsfs raises FileExistsError
    or HttpError 412, depending on its version.
    """
    for cause in causes(error):
        response = getattr(cause, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        status = getattr(cause, "code", None)
        if isinstance(cause, FileExistsError) or "412" in (str(code), str(status)):
            return True
        if code == "PreconditionFailed":
            return True
    return False
