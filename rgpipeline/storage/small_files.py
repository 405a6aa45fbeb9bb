"""The few small files this layer reads, from any fsspec URL."""

import importlib.resources
from collections.abc import Mapping
from typing import Any

import fsspec
import fsspec.core
import fsspec.utils

from rgpipeline.errors import WeightsError

StorageOptions = Mapping[str, Mapping[str, Any]]  # fsspec's keyword arguments, by protocol


def read_file(url: str, storage_options: StorageOptions | None) -> bytes | None:
    """The content of the file at `url`, None when no file is there.

    Raises WeightsError when the store cannot be read.
    """
    protocol = fsspec.utils.get_protocol(url)
    try:
        fs, path = fsspec.core.url_to_fs(url, **_options(protocol, storage_options or {}))
        # The Hub answers a folder's address with a page for people.
        return bytes(fs.cat_file(path)) if fs.info(path)["type"] == "file" else None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    # Each store's client has exceptions of its own (credentials, network, missing packages).
    except Exception as error:
        told = " ".join(str(error).split())
        raise WeightsError(
            f"{url}: cannot be read ({told}); check the address, the credentials in the "
            f"environment and storage_options.{protocol}"
        ) from error


def read_in(folder: str, name: str, storage_options: StorageOptions | None) -> bytes | None:
    """The content of the file `name` in `folder`, as `read_file`; `demo` ships in the package."""
    if folder == "demo":
        folder = str(importlib.resources.files("rgpipeline") / "demo")
    return read_file(f"{folder.rstrip('/')}/{name}", storage_options)


def _options(protocol: str, storage_options: StorageOptions) -> Mapping[str, Any]:
    """The protocol's options, under any of its names (`gs` is `gcs` too)."""
    if not storage_options:
        return {}
    known = fsspec.get_filesystem_class(protocol).protocol
    names = (protocol, *((known,) if isinstance(known, str) else known))
    return next((storage_options[name] for name in names if name in storage_options), {})
