"""Listing the files at one path: a file, a folder with its subfolders, or a glob."""

import glob as patterns
import posixpath
from collections.abc import Iterator
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem

from rgpipeline.errors import InputError
from rgpipeline.input_formats import endings_of, format_of, may_hold_rows
from rgpipeline.io.input_files import BROKEN, FoundFile, describe_link
from rgpipeline.io.left_out import LeftOut
from rgpipeline.storage.filesystems import version_of

_GLOB = "*?["
_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
# Beside Arrow files these are metadata of Hugging Face `datasets`, not JSON Lines.
_SAVED_TO_DISK = ("dataset_info.json", "state.json", "dataset_dict.json")


def find_files(
    fs: AbstractFileSystem, path: str, format: str, left: LeftOut
) -> Iterator[FoundFile]:
    """Files at a path without its protocol, sorted; their `path` lacks it too.

    What is found and not taken is added to `left`. Raises InputError for a broken link in place of
    an input file, and for a path that is neither file nor folder; FileNotFoundError.
    """
    try:
        info = fs.info(path)
    except FileNotFoundError:
        info = None
    if info is None:
        if is_glob(path):
            yield from _matches(fs, path, format, left)
    elif info["type"] == "directory":
        yield from _walk(fs, path, path, format, left)
    elif info["type"] == "file":
        yield _file(path, posixpath.basename(path), info)
    else:
        raise InputError(f"{path}: is a {info['type']}, not a file; write its rows into one")


def is_glob(path: str) -> bool:
    """Whether the path has a wildcard in it."""
    return any(character in path for character in _GLOB)


def glob_base(path: str) -> str:
    """The folder above a glob's first wildcard."""
    return posixpath.dirname(path[: min(path.find(c) for c in _GLOB if c in path)])


def is_hidden(name: str) -> bool:
    """Whether a part of the name begins with `_` or `.`."""
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def _matches(fs: AbstractFileSystem, path: str, format: str, left: LeftOut) -> Iterator[FoundFile]:
    base = glob_base(path)
    found = _glob(fs, path, left)
    if not found:
        path, base = _literal(fs, path)
        found = _glob(fs, path, left) if base else {}
    if found and "http" not in fs.protocol:  # web servers have no folders to ask for
        for mark, kind in _LOGS.items():
            if fs.isdir(f"{base or '/'}/{mark}"):
                left.table(base, kind)
    for match, details in sorted(found.items()):
        name = posixpath.relpath(match, base or "/")
        if is_hidden(name):
            continue
        if details["type"] == "directory":
            yield from _walk(fs, match, base, format, left)
        elif _is_file(match, details, True, left):
            yield _file(match, name, details)


def _glob(fs: AbstractFileSystem, path: str, left: LeftOut) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = fs.glob(path, detail=True, **_noticing(fs, left))
    return found


def _literal(fs: AbstractFileSystem, path: str) -> tuple[str, str]:
    """The glob with those wildcards escaped that are in names of existing folders; and its base.

    `data[1]/*.parquet` names a folder `data[1]`, if it exists. Empty strings if none exists.
    """
    above, escaped = "", ""
    parts = path.split("/")
    for depth, part in enumerate(parts[:-1]):
        literal = f"{above}/{part}" if depth else part
        if not is_glob(part):
            escaped = f"{escaped}/{part}" if depth else part
        elif fs.isdir(literal):
            escaped = f"{escaped}/{patterns.escape(part)}"
        else:
            break
        above = literal
    rest = "/".join(parts[len(above.split("/")) :])
    if not is_glob(above):
        return "", ""
    return f"{escaped}/{rest}", posixpath.normpath(f"{above}/{glob_base(rest)}")


def _walk(
    fs: AbstractFileSystem, folder: str, base: str, format: str, left: LeftOut
) -> Iterator[FoundFile]:
    endings = endings_of(format)
    taken: list[FoundFile] = []
    read: set[Any] = set()  # inodes
    others: dict[str, Any] = {}
    for path, info in sorted(fs.find(folder, detail=True, **_noticing(fs, left)).items()):
        inside = posixpath.relpath(path, folder)
        if _is_table_metadata(folder, inside, left) or is_hidden(inside):
            continue
        fits = path.endswith(endings)
        if not _is_file(path, info, fits, left):
            continue
        if fits:
            taken.append(_file(path, posixpath.relpath(path, base or "/"), info))
            read.add(info.get("ino"))
        elif format_of(path) is None and may_hold_rows(path):
            others[path] = info.get("ino")
    for path, inode in others.items():
        if (
            inode is None or inode not in read
        ):  # else it was read by a link: blobs of the Hub's cache
            left.by_ending(folder, path)
    if any(path.endswith(".arrow") for path in [*others, *(file.path for file in taken)]):
        rows = [file for file in taken if not file.path.endswith(_SAVED_TO_DISK)]
        taken = rows if all(file.path.endswith(".arrow") for file in rows) else taken
    yield from taken


def _noticing(fs: AbstractFileSystem, left: LeftOut) -> dict[str, Any]:
    """Makes a local listing report folders that can't be read, which fsspec leaves out."""
    if "file" not in fs.protocol:
        return {}
    return {"on_error": partial(_unreadable, left)}


def _unreadable(left: LeftOut, error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        left.no_file(str(error.filename), error.strerror or "unreadable")


def _is_file(path: str, info: dict[str, Any], wanted: bool, left: LeftOut) -> bool:
    """Whether an entry of a listing is a file; any other kind is added to `left`."""
    kind = info["type"]
    if kind == BROKEN and wanted:
        raise InputError(
            f"{path}: {describe_link(path)}; fetch the file (dvc pull, git annex get, …), or "
            f"remove the link"
        )
    if kind not in ("file", "other"):  # some stores call a file `other`
        left.no_file(path, kind)
    return kind in ("file", "other")


def _is_table_metadata(folder: str, inside: str, left: LeftOut) -> bool:
    """Whether a file is metadata of a table (Delta, Hudi, Iceberg), not one of its data files."""
    parts = inside.split("/")
    for mark, kind in _LOGS.items():
        if mark in parts[:-1]:
            left.table(posixpath.normpath("/".join([folder, *parts[: parts.index(mark)]])), kind)
            return True
    if len(parts) > 1 and parts[-2] == "metadata" and parts[-1].endswith(".metadata.json"):
        left.table(posixpath.normpath("/".join([folder, *parts[:-2]])), "Iceberg")
        return True
    return False


def _file(path: str, name: str, info: dict[str, Any]) -> FoundFile:
    return FoundFile(path, name, int(info.get("size") or 0), version_of(info), below=name)
