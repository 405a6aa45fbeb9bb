"""A folder of files behind any fsspec URL, read in ranges."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from rgpipeline.errors import WeightsError


class Folder:
    """One folder; names are relative to it.

    Attributes:
        url: The folder as the person wrote it, for messages.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Mapping[str, Any]] | None) -> None:
        """Finds the folder.

        Args:
            url: A path or URL.
            storage_options: fsspec's options, by protocol.

        Raises:
            WeightsError: There is no such folder, or its store cannot be reached.
        """
        self.url = url.rstrip("/")
        protocol = fsspec.utils.get_protocol(url)
        options = (storage_options or {}).get(protocol, {})
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url, **options)
            self._root = root.rstrip("/")
            entries = self._fs.ls(self._root, detail=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WeightsError(f"{url}: no such folder") from error
        except (OSError, ImportError, ValueError) as error:
            raise WeightsError(f"{url}: cannot be read: {error}") from error
        self._sizes = {
            entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry["size"] for entry in entries
        }

    @property
    def local(self) -> Path | None:
        """The folder's path, if it lies on this machine."""
        is_local = isinstance(self._fs, fsspec.implementations.local.LocalFileSystem)
        return Path(self._root) if is_local else None

    def names(self) -> list[str]:
        """Names of the files and folders in it."""
        return list(self._sizes)

    def size(self, name: str) -> int:
        """A file's bytes."""
        return int(self._sizes[name])

    def read_range(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes `start` to `stop` of a file; mapped rather than read where it is local."""
        if start == stop:
            return np.empty(0, np.uint8)
        if self.local is not None:
            return np.memmap(
                self.local / name, np.uint8, mode="r", offset=start, shape=(stop - start,)
            )
        raw = self._fs.cat_file(self._path(name), start=start, end=stop)
        if len(raw) != stop - start:
            raise WeightsError(f"{self.url}/{name}: {stop - start} bytes asked, {len(raw)} read")
        return np.frombuffer(raw, np.uint8)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object.

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

    def has(self, name: str) -> bool:
        """Whether a file is there; `name` may lead out of the folder by `../`."""
        return bool(self._fs.isfile(self._path(name)))

    def download(self, target: Path) -> None:
        """Copies the folder with all that is in it to a local one."""
        self._fs.get(self._root, str(target), recursive=True)

    def _path(self, name: str) -> str:
        parent = self._root
        while name.startswith("../"):
            parent, name = parent.rpartition("/")[0], name.removeprefix("../")
        return f"{parent}/{name}"
