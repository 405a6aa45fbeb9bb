"""Folders of weights behind any fsspec URL, listed once and read in ranges."""

import base64
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from rgpipeline.errors import NoFolderError, WeightsError
from rgpipeline.storage.filesystems import (
    StorageOptions,
    checked_address,
    open_for_reading,
    protocol_of,
    version_of,
)
from rgpipeline.storage.retries import Retry, is_gated
from rgpipeline.storage.small_files import json_object

T = TypeVar("T")

# One stream from an object store carries some 50 MB/s, so several run at once; their buffers are
# all the memory that a download costs.
PIECE_BYTES = 8 << 20
STREAMS = 8


class StoredFile(NamedTuple):
    """A file as its store lists it.

    Attributes:
        name: Relative to the folder.
        size: Bytes.
        version: What tells one content from the next: an etag, or when it was changed.
        digest: (algorithm, hexadecimal digest of the content) where the store knows one.
    """

    name: str
    size: int
    version: str
    digest: tuple[str, str] | None


class Folder:
    """One folder; names are relative to it.

    Attributes:
        url: The folder as the person wrote it, for messages.
    """

    def __init__(
        self, url: str, storage_options: StorageOptions | None = None, retry: Retry | None = None
    ) -> None:
        """Lists the folder.

        Args:
            url: A path or URL.
            storage_options: See `StorageOptions`.
            retry: How long a failing store is tried again.

        Raises:
            NoFolderError: There is no such folder.
            WeightsError: It is a file, or its store refuses.
            StoreError: The store failed for as long as it was tried again.
        """
        self._options = storage_options
        self._retry = retry or Retry()
        self.url = checked_address(url, WeightsError).rstrip("/")
        self._fs, root = open_for_reading(self.url, storage_options, WeightsError)
        self._root = root.rstrip("/")
        entries = self._listed()
        if [entry["name"].rstrip("/") for entry in entries] == [self._root]:
            above = self.url.rpartition("/")[0] or "."
            raise WeightsError(f"{url}: is a file; give the folder that holds it: {above}")
        self._files = {file.name: file for file in map(self._stored, entries)}
        self._streams = ThreadPoolExecutor(STREAMS, thread_name_prefix="weights")

    @property
    def local(self) -> Path | None:
        """The folder's path, if it lies on this machine."""
        return Path(self._root) if isinstance(self._fs, LocalFileSystem) else None

    def at(self, path: Path) -> "Folder":
        """The copy of this folder at `path`; messages still name the original."""
        copy = Folder(str(path))
        copy.url = self.url
        return copy

    def child(self, name: str) -> "Folder":
        """A folder in this one. Raises as the constructor does."""
        return Folder(f"{self.url}/{name}", self._options, self._retry)

    def path_names(self) -> list[str]:
        """The names in its path: those of the folders above it, and its own."""
        return self._root.strip("/").split("/")

    def address(self, above: str) -> str:
        """The address of this folder (``), or of one above it (`../`, `../../`)."""
        levels = above.count("../")
        if self.local is not None and levels:
            return str(self.local.parents[levels - 1])
        return self.url.rsplit("/", levels)[0]

    def names(self) -> list[str]:
        """Names of the files and folders in it."""
        return list(self._files)

    def file(self, name: str) -> StoredFile:
        """A file in it, as it was when the folder was listed."""
        return self._files[name]

    def file_now(self, name: str) -> StoredFile:
        """A file in it, as it is now. Raises WeightsError, StoreError."""
        self._fs.invalidate_cache()
        # By `ls`, as in the constructor: `info` of some stores formats times and etags differently.
        (entry,) = self._ask(name, lambda: self._fs.ls(self._path(name), detail=True))
        return self._stored(entry)

    def tree(self) -> list[StoredFile]:
        """All files in it and in its subfolders. Raises StoreError."""
        found = self._ask("", lambda: self._fs.find(self._root, detail=True))
        return [self._stored(entry) for entry in found.values()]

    def has(self, name: str) -> bool:
        """Whether a file is there; `name` may lead out of the folder by `../`."""

        def found() -> bool:
            try:
                return bool(self._fs.info(self._path(name))["type"] == "file")
            except (FileNotFoundError, NotADirectoryError):
                return False

        return self._ask(name, found)

    def read_range(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes `start` to `stop` of a file; a local file is mapped instead of read.

        Raises:
            StoreError: The store failed for as long as it was tried again.
        """
        if start == stop:
            return np.empty(0, np.uint8)
        if self.local is not None:
            return np.memmap(self.local / name, np.uint8, "r", offset=start, shape=(stop - start,))
        whole = np.empty(stop - start, np.uint8)

        def read(piece: tuple[int, int]) -> None:
            first, last = piece
            raw = self.read_piece(name, first, last)
            whole[first - start : last - start] = np.frombuffer(raw, np.uint8)

        list(self._streams.map(read, pieces(start, stop)))
        return whole

    def read_piece(self, name: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of a file in one request.

        Raises:
            StoreError: It failed, or came short, for as long as it was tried again.
        """

        def read() -> bytes:
            raw = _read_bytes(self._fs, self._path(name), start, stop)
            if len(raw) != stop - start:
                raise OSError(f"{len(raw)} bytes came for bytes {start} to {stop}")
            return raw

        return self._ask(name, read)

    def read_text(self, name: str) -> str:
        """A text file, in UTF-8. Raises StoreError."""
        raw: bytes = self._ask(name, lambda: self._fs.cat_file(self._path(name)))
        return raw.decode("utf-8", "replace")

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object; `name` may lead out of the folder by `../`.

        Raises:
            WeightsError: The file is not one.
            StoreError: The store failed for as long as it was tried again.
        """
        raw: bytes = self._ask(name, lambda: self._fs.cat_file(self._path(name)))
        return json_object(raw, f"{self.url}/{name}")

    def _listed(self) -> list[dict[str, Any]]:
        def listed() -> list[dict[str, Any]]:
            self._fs.invalidate_cache(self._root)  # it may have changed since it was listed last
            try:
                entries: list[dict[str, Any]] = self._fs.ls(self._root, detail=True)
            except (FileNotFoundError, NotADirectoryError) as error:
                if is_gated(error):
                    raise
                raise NoFolderError(f"{self.url}: {_no_folder(self.url)}") from error
            return entries

        return self._ask("", listed)

    def _ask(self, name: str, action: Callable[[], T]) -> T:
        return self._retry.read(f"{self.url}/{name}".rstrip("/"), action, WeightsError)

    def _stored(self, entry: Mapping[str, Any]) -> StoredFile:
        name = str(entry["name"]).rstrip("/").removeprefix(f"{self._root}/")
        version = version_of(entry) or str(entry.get("blob_id") or "")  # the Hub's
        return StoredFile(name, int(entry.get("size") or 0), version, _digest(entry))

    def _path(self, name: str) -> str:
        parent = self._root
        while name.startswith("../"):
            parent, name = parent.rpartition("/")[0], name.removeprefix("../")
        return f"{parent}/{name}"


def pieces(start: int, stop: int) -> Iterable[tuple[int, int]]:
    """The ranges in which bytes `start` to `stop` are read."""
    return [(at, min(at + PIECE_BYTES, stop)) for at in range(start, stop, PIECE_BYTES)]


def _no_folder(url: str) -> str:
    if protocol_of(url) == "hf":
        return (
            "no such folder on the Hub, or a private one; check owner, name and revision (a slash "
            "in a revision is %2F), and set HF_TOKEN for a private one"
        )
    return (
        "no such folder; name one with weights (a path or an fsspec URL, hf://OWNER/NAME for the "
        "Hub), or demo"
    )


def _read_bytes(fs: AbstractFileSystem, path: str, start: int, stop: int) -> bytes:
    if type(fs).cat_file is not AbstractFileSystem.cat_file:
        return bytes(fs.cat_file(path, start=start, end=stop))
    # fsspec's own `cat_file` reads ahead, through a buffered file.
    with fs.open(path, "rb", cache_type="none") as file:
        file.seek(start)
        return bytes(file.read(stop - start))


def _digest(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    lfs = entry.get("lfs")  # Hugging Face
    if isinstance(lfs, Mapping) and lfs.get("sha256"):
        return "sha256", str(lfs["sha256"])
    if entry.get("md5Hash"):  # Google Cloud Storage
        return "md5", base64.b64decode(entry["md5Hash"]).hex()
    return None
