"""What every kind of store has in common: options, listings, ranges, and failing now and then."""

import base64
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import fsspec
import fsspec.utils
from fsspec import AbstractFileSystem

from rgpipeline.errors import StoreError, WeightsError

T = TypeVar("T")
StorageOptions = Mapping[str, Mapping[str, Any]]  # fsspec's keyword arguments, by protocol

CHECK = "check the address, the credentials in the environment and storage_options"
_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.5
_ABSENT = (FileNotFoundError, NotADirectoryError, ImportError)
_VERSIONS = ("ETag", "etag", "generation", "blob_id", "mtime", "LastModified", "created")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hf"}


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


def stored_file(entry: Mapping[str, Any], root: str) -> StoredFile:
    """Of one of fsspec's listing entries below `root`."""
    name = str(entry["name"]).rstrip("/").removeprefix(f"{root}/")
    version = next((entry[key] for key in _VERSIONS if entry.get(key)), "")
    return StoredFile(name, int(entry.get("size") or 0), str(version), _digest(entry))


def ask(where: str, action: Callable[[], T]) -> T:
    """`action()`, again after a pause while the store fails in ways that may pass.

    Raises:
        WeightsError: The store refuses; `where` names what was asked for.
        StoreError: It failed again and again.
        FileNotFoundError, NotADirectoryError, ImportError: As they are.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return action()
        except _ABSENT:
            raise
        # Each store's client has exceptions of its own.
        except Exception as error:
            told = " ".join(str(error).split())
            if _is_refusal(error):
                raise WeightsError(f"{where}: not allowed ({told}); {CHECK}") from error
            if attempt == _ATTEMPTS:
                raise StoreError(
                    f"{where}: cannot be read, {_ATTEMPTS} times ({told}); {CHECK}"
                ) from error
        time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def _is_refusal(error: Exception) -> bool:
    """Whether the store answered that it won't, so that asking again would not help."""
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return True
    response = getattr(error, "response", None)
    status = getattr(error, "code", None) or getattr(response, "status_code", None)
    return str(status) in ("401", "403")


def read_bytes(fs: AbstractFileSystem, path: str, start: int, stop: int) -> bytes:
    """Bytes `start` to `stop` of a file in one request."""
    if type(fs).cat_file is not AbstractFileSystem.cat_file:
        return bytes(fs.cat_file(path, start=start, end=stop))
    # fsspec's own goes through a buffered file, which reads ahead of what it was asked for.
    with fs.open(path, "rb", cache_type="none") as file:
        file.seek(start)
        return bytes(file.read(stop - start))


def options_for(url: str, storage_options: StorageOptions | None) -> Mapping[str, Any]:
    """The options of the URL's protocol, under any of its names (`gs` is `gcs` too)."""
    protocol = fsspec.utils.get_protocol(url)
    if not storage_options:
        return {}
    known = fsspec.get_filesystem_class(protocol).protocol
    names = (protocol, *((known,) if isinstance(known, str) else known))
    return next((storage_options[name] for name in names if name in storage_options), {})


def how_to_install(url: str) -> str:
    """What to do when the package for the URL's protocol is missing."""
    extra = _EXTRAS.get(fsspec.utils.get_protocol(url))
    return f"pip install 'rgpipeline[{extra}]'" if extra else "its protocol needs another package"


def _digest(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    lfs = entry.get("lfs")  # Hugging Face
    if isinstance(lfs, Mapping) and lfs.get("sha256"):
        return "sha256", str(lfs["sha256"])
    if entry.get("md5Hash"):  # Google Cloud Storage
        return "md5", base64.b64decode(entry["md5Hash"]).hex()
    return None
