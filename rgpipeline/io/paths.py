"""Finding the input files that a job names."""

import difflib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fsspec import AbstractFileSystem
from fsspec.utils import glob_translate

from rgpipeline.addresses import DEMO, DEMO_FOLDER
from rgpipeline.errors import InputError
from rgpipeline.input_formats import FORMATS, endings_of, format_of, how_to_read
from rgpipeline.io.input_files import (
    FoundFile,
    describe_link,
    glob_base,
    input_error,
    is_glob,
    is_hidden,
    listing_filesystem,
)
from rgpipeline.io.listing import LeftOut, find_files
from rgpipeline.storage.filesystems import StorageOptions, open_filesystem, protocol_of

_DEMO_PROMPTS = f"{DEMO_FOLDER}/prompts.parquet"


class Inputs(NamedTuple):
    """The files of a job, in order, and what they are."""

    files: list[FoundFile]
    format: str  # one of FORMATS
    warnings: tuple[str, ...] = ()  # about files left out, or perhaps taken by mistake


def expand_inputs(
    paths: Sequence[str], format: str, options: StorageOptions | None = None
) -> Inputs:
    """The files that `paths` name: files, folders (with their subfolders) and globs.

    Each entry's files are sorted by path, entries keep their order, and a file named twice is
    taken once. Folders and globs leave out names that begin with `_` or `.`; a folder gives the
    files whose ending fits the format. A symbolic link is followed, and keeps its own name.
    `auto` finds the format by the endings, which must agree.
    Raises InputError for a path with no files (naming similar ones), for a broken link, and for a
    path that is neither file nor folder.
    """
    found: dict[str, FoundFile] = {}
    left = LeftOut()
    for path in paths:
        for file in _expand(_DEMO_PROMPTS if path == DEMO else path, format, options, left):
            found.setdefault(file.path, file)
    files = _with_distinct_names(list(found.values()))
    kind = _format_of(files) if format == "auto" else format
    return Inputs(files, kind, tuple(left.warnings()))


def takes_in(path: str, file: str, format: str, options: StorageOptions | None = None) -> bool:
    """Whether an entry of the input would include `file` (a full address) if that existed."""
    if path == DEMO or protocol_of(path) != protocol_of(file):
        return False
    inside, target = (_inside(url, options) for url in (path, file))
    if protocol_of(path) != "file":
        return _would_take(inside, target, format)
    pairs = (inside, target), (os.path.realpath(inside), os.path.realpath(target))
    return any(_would_take(*pair, format) for pair in pairs)


def _would_take(inside: str, target: str, format: str) -> bool:
    endings = endings_of(format)
    folders = [str(parent) for parent in PurePosixPath(target).parents]
    if not is_glob(inside) or inside in folders:
        hidden = is_hidden(posixpath.relpath(target, inside))
        return inside == target or (inside in folders and not hidden and target.endswith(endings))
    if is_hidden(posixpath.relpath(target, glob_base(inside) or "/")):
        return False
    matches = re.compile(glob_translate(inside)).match
    return bool(matches(target) or (any(map(matches, folders)) and target.endswith(endings)))


def _inside(url: str, options: StorageOptions | None) -> str:
    return open_filesystem(url, options)[1].rstrip("/") or "/"


def _expand(
    path: str, format: str, options: StorageOptions | None, left: LeftOut
) -> list[FoundFile]:
    fs, inside = listing_filesystem(path, options)
    here = LeftOut()
    try:
        fs.invalidate_cache()
        files = list(find_files(fs, inside, format, here))
    except FileNotFoundError:
        files = []
    except Exception as error:
        raise input_error(path, error) from error
    if not files:
        raise InputError(_nothing_at(path, fs, inside, format, here.advice()))
    left.add(here)
    prefix = "" if protocol_of(path) == "file" else f"{protocol_of(path)}://"
    if protocol_of(path) in ("http", "https"):
        prefix = ""  # fsspec keeps the protocol in these paths
    return [replace(file, path=prefix + file.path) for file in files]


def _with_distinct_names(files: list[FoundFile]) -> list[FoundFile]:
    """Names make ids and must differ: if two are equal, all become relative to a common folder."""
    if not files or max(Counter(file.name for file in files).values()) == 1:
        return files
    folder = posixpath.commonprefix([file.path for file in files]).rpartition("/")[0]
    return [replace(file, name=file.path.removeprefix(folder).lstrip("/")) for file in files]


def _format_of(files: Sequence[FoundFile]) -> str:
    formats: dict[str, str] = {}
    for file in files:
        kind = format_of(file.path)
        if kind is None:
            raise InputError(f"{file.path}: {how_to_read(file.path)}")
        formats.setdefault(kind, file.path)
    if len(formats) > 1:
        titles = {name: one.title for name, one in FORMATS.items() if name in formats}
        found = [f"{title} ({formats[name]})" for name, title in titles.items()]
        raise InputError(
            f"input.path: both {' and '.join(found)}; a job reads one format. Of folders, "
            f"input.format ({' or '.join(titles)}) takes the files of one; or name them by a "
            f"glob (in/*.parquet)"
        )
    return next(iter(formats))


def _nothing_at(path: str, fs: AbstractFileSystem, inside: str, format: str, advice: str) -> str:
    """The message for a path without input files. `advice`: how to read the files that it has."""
    if protocol_of(path) == "file" and Path(inside).is_symlink():
        return f"{path}: {describe_link(inside)}"
    wanted = "" if format == "auto" else f" {format}"
    if fs.isdir(inside):
        there = sorted(posixpath.basename(str(name)) for name in fs.ls(inside, detail=False))
        holds = f"it holds {', '.join(there[:5])}" if there else "it is empty"
        return "; ".join(filter(None, [f"{path}: no{wanted} file in this folder", holds, advice]))
    folder, name = posixpath.split(inside.rstrip("/"))
    try:
        siblings = [posixpath.basename(str(p)) for p in fs.ls(folder or "/", detail=False)]
    except Exception:  # only a hint is at stake
        return f"{path}: no such file or folder, nor is there a folder {folder}"
    near = difflib.get_close_matches(name, siblings, n=1) or sorted(siblings)[:5]
    what = "nothing matches" if is_glob(path) else "no such file or folder"
    hint = f"near it: {', '.join(near)}" if near else "its folder is empty"
    return f"{path}: {what}; {hint}"
