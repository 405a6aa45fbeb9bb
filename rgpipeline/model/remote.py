"""A folder of files behind any fsspec URL, read in ranges."""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import fsspec.core
import fsspec.utils
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from rgpipeline.errors import StoreError, WeightsError

StorageOptions = Mapping[str, Mapping[str, Any]]  # fsspec's keyword arguments, by protocol

# One stream from an object store carries some 50 MB/s: large tensors are read in pieces at once.
_PIECE_BYTES = 32 << 20
_STREAMS = 8
_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.5


class Folder:
    """One folder; names are relative to it.

    Attributes:
        url: The folder as the person wrote it, for messages.
    """

    def __init__(self, url: str, storage_options: StorageOptions | None) -> None:
        """Finds the folder.

        Args:
            url: A path or URL.
            storage_options: See `StorageOptions`; secrets already in place.

        Raises:
            WeightsError: There is no such folder, or its store cannot be reached.
        """
        self.url = url.rstrip("/")
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url, **_options(url, storage_options))
            self._root = root.rstrip("/")
            entries = self._fs.ls(self._root, detail=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WeightsError(f"{url}: no such folder") from error
        # Each store's client has exceptions of its own (credentials, network, missing packages).
        except Exception as error:
            raise WeightsError(
                f"{url}: cannot be read ({error}); check the address, the credentials in the "
                f"environment and storage_options"
            ) from error
        self._sizes = {
            entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry["size"] for entry in entries
        }
        self._streams = ThreadPoolExecutor(_STREAMS, thread_name_prefix="weights")

    @property
    def local(self) -> Path | None:
        """The folder's path, if it lies on this machine."""
        return Path(self._root) if isinstance(self._fs, LocalFileSystem) else None

    def names(self) -> list[str]:
        """Names of the files and folders in it."""
        return list(self._sizes)

    def size(self, name: str) -> int:
        """A file's bytes."""
        return int(self._sizes[name])

    def has(self, name: str) -> bool:
        """Whether a file is there; `name` may lead out of the folder by `../`."""
        return bool(self._fs.isfile(self._path(name)))

    def read_range(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes `start` to `stop` of a file; mapped rather than read where it is local.

        Raises:
            StoreError: A remote store failed again and again.
        """
        if start == stop:
            return np.empty(0, np.uint8)
        if self.local is not None:
            return np.memmap(self.local / name, np.uint8, "r", offset=start, shape=(stop - start,))
        whole = np.empty(stop - start, np.uint8)

        def read(first: int) -> None:
            last = min(first + _PIECE_BYTES, stop)
            whole[first - start : last - start] = self._piece(name, first, last)

        list(self._streams.map(read, range(start, stop, _PIECE_BYTES)))
        return whole

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object; `name` may lead out of the folder by `../`.

        Raises:
            WeightsError: The file is not one.
        """
        try:
            value = json.loads(self._fs.cat_file(self._path(name)))
        except ValueError as error:
            raise WeightsError(f"{self.url}/{name}: not JSON: {error}") from error
        if not isinstance(value, dict):
            raise WeightsError(f"{self.url}/{name}: not a JSON object")
        return value

    def download(self, target: Path) -> None:
        """Copies the folder with all that is in it to a local one.

        Raises:
            StoreError: The store failed.
        """
        try:
            self._fs.get(self._root, str(target), recursive=True)
        except Exception as error:
            raise StoreError(f"{self.url}: cannot be copied here: {error}") from error

    def _piece(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """A range in one request, asked again when the store fails or the range comes short."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                raw = self._fs.cat_file(self._path(name), start=start, end=stop)
                if len(raw) == stop - start:
                    return np.frombuffer(raw, np.uint8)
                fault = f"{len(raw)} bytes came"
            except Exception as error:
                fault = str(error)
            if attempt < _ATTEMPTS:
                time.sleep(_FIRST_PAUSE_S * 2**attempt)
        raise StoreError(
            f"{self.url}/{name}: bytes {start} to {stop} cannot be read, {_ATTEMPTS} times: {fault}"
        )

    def _path(self, name: str) -> str:
        parent = self._root
        while name.startswith("../"):
            parent, name = parent.rpartition("/")[0], name.removeprefix("../")
        return f"{parent}/{name}"


def _options(url: str, storage_options: StorageOptions | None) -> Mapping[str, Any]:
    """The options of the URL's protocol, under any of its names (`gs` is `gcs` too)."""
    protocol = fsspec.utils.get_protocol(url)
    if not storage_options:
        return {}
    known = fsspec.get_filesystem_class(protocol).protocol
    names = (protocol, *((known,) if isinstance(known, str) else known))
    return next((storage_options[name] for name in names if name in storage_options), {})
