"""Objects in S3 and Google Cloud Storage, created by conditional puts.

It uses s3fs and gcsfs, because pyarrow's own clients have no conditional put.
"""

from collections.abc import Sequence
from typing import Any

from fsspec import AbstractFileSystem

from rgpipeline.storage.filesystems import StorageOptions, open_filesystem
from rgpipeline.storage.retries import causes

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
