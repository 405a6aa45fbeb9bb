"""Files read and written whole: what is beside weights (tokenizer.model, configurations, chat
templates), and states.
"""

import json
from typing import Any

from rgpipeline.addresses import DEMO, DEMO_FOLDER
from rgpipeline.errors import OutputError, UserError, WeightsError
from rgpipeline.storage.filesystems import StorageOptions, open_filesystem, open_for_reading
from rgpipeline.storage.retries import Retry, is_gated, translate_error

_POINTER = b"version https://git-lfs"


def read_file(
    url: str, storage_options: StorageOptions | None, fault: type[UserError] = WeightsError
) -> bytes | None:
    """The content of the file at `url`, None when no file is there.

    Raises:
        WeightsError: The address is wrong, or the store refuses; or `fault`, if that is given.
        StoreError: The store failed for as long as it was tried again.
    """
    fs, path = open_for_reading(url, storage_options, fault)

    def read() -> bytes | None:
        try:
            # The Hub answers a folder's address with a page for people.
            return bytes(fs.cat_file(path)) if fs.info(path)["type"] == "file" else None
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            if is_gated(error):
                raise
            return None

    return Retry().read(url, read, fault)


def write_file(url: str, data: bytes, storage_options: StorageOptions | None) -> None:
    """Writes the file at `url`, and the folders above it; a file that is there is replaced.

    Raises:
        OutputError: The address is wrong, or the store refuses.
        StoreError: The store failed for as long as it was tried again.
    """
    fs, path = open_filesystem(url, storage_options, OutputError)

    def write() -> None:
        fs.makedirs(fs._parent(path), exist_ok=True)
        fs.pipe_file(path, data)

    try:
        Retry().call(f"writing {url}", write)
    except Exception as error:
        raise translate_error(f"writing {url}", error, OutputError) from error


def read_in(folder: str, name: str, storage_options: StorageOptions | None) -> bytes | None:
    """The content of the file `name` in `folder`, as `read_file`; `demo` ships in the package."""
    folder = DEMO_FOLDER if folder == DEMO else folder
    return read_file(f"{folder.rstrip('/')}/{name}", storage_options)


def names_in(folder: str, name: str, storage_options: StorageOptions | None) -> list[str]:
    """The names of what the folder `name` in `folder` holds; empty if there is none.

    Raises WeightsError and StoreError as `read_file`.
    """
    folder = DEMO_FOLDER if folder == DEMO else folder
    url = f"{folder.rstrip('/')}/{name}"
    fs, path = open_for_reading(url, storage_options, WeightsError)

    def listed() -> list[str]:
        try:
            entries = fs.ls(path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in entries]

    return Retry().read(url, listed, WeightsError)


def json_object(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in a file's content. Raises WeightsError naming the file `where`."""
    require_content(data, where)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise WeightsError(f"{where}: not JSON ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{where}: not a JSON object; it holds a {type(value).__name__}")
    return value


def require_content(head: bytes, where: str) -> None:
    """Raises WeightsError if a file that begins so is a Git LFS pointer, not the file itself."""
    if head.startswith(_POINTER):
        raise WeightsError(
            f"{where}: a Git LFS pointer, not the file; run `git lfs pull` where it is from, and "
            f"copy it again"
        )
