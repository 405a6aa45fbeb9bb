"""Finding the input files that a job names."""

import difflib
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.utils import glob_translate

from rgpipeline.errors import InputError
from rgpipeline.io.files import COMPRESSIONS, FoundFile, explained, version_of
from rgpipeline.io.options import StorageOptions, open_filesystem, protocol_of

DEMO = "demo"  # stands for the prompts that ship with the package
_GLOB = "*?["
_JSON = (".jsonl", ".ndjson", ".json")
_ENDINGS = {
    "parquet": (".parquet", ".pq"),
    "jsonl": tuple(ending + squeezed for ending in _JSON for squeezed in ("", *COMPRESSIONS)),
}
_ENDINGS["openai-batch"] = _ENDINGS["jsonl"]


class Inputs(NamedTuple):
    """The files of a job, in order, and what they are."""

    files: list[FoundFile]
    format: str  # parquet | jsonl | openai-batch


def expand_inputs(
    paths: Sequence[str], format: str, options: StorageOptions | None = None
) -> Inputs:
    """The files that `paths` name: files, folders (with their subfolders) and globs.

    Each entry's files are sorted by path, entries keep their order, and a file named twice is
    taken once. Folders and globs leave out names that begin with `_` or `.`; a folder gives the
    files whose ending fits the format. `auto` goes by the endings, which must agree.
    Raises InputError naming a path that yields nothing, and what is near it.
    """
    found: dict[str, FoundFile] = {}
    for path in paths:
        for file in _expand(_demo() if path == DEMO else path, format, options):
            found.setdefault(file.path, file)
    files = _with_distinct_names(list(found.values()))
    return Inputs(files, _format_of(files) if format == "auto" else format)


def takes_in(path: str, file: str, format: str, options: StorageOptions | None = None) -> bool:
    """Whether an entry of the input would take in `file` (a full address), were it there."""
    if path == DEMO or protocol_of(path) != protocol_of(file):
        return False
    inside, target = (_inside(url, options) for url in (path, file))
    endings = _ENDINGS.get(format, _ENDINGS["parquet"] + _ENDINGS["jsonl"])
    folders = [str(parent) for parent in PurePosixPath(target).parents]
    if not _is_glob(inside):
        hidden = _hidden(posixpath.relpath(target, inside))
        return inside == target or (inside in folders and not hidden and target.endswith(endings))
    if _hidden(posixpath.relpath(target, _glob_base(inside) or "/")):
        return False
    matches = re.compile(glob_translate(inside)).match
    return bool(matches(target) or (any(map(matches, folders)) and target.endswith(endings)))


def _inside(url: str, options: StorageOptions | None) -> str:
    return open_filesystem(url, options)[1].rstrip("/") or "/"


def _is_glob(path: str) -> bool:
    return any(character in path for character in _GLOB)


def _glob_base(path: str) -> str:
    """The folder above a glob's first wildcard."""
    return posixpath.dirname(path[: min(path.find(c) for c in _GLOB if c in path)])


def _expand(path: str, format: str, options: StorageOptions | None) -> list[FoundFile]:
    fs, inside = open_filesystem(path, options)
    try:
        fs.invalidate_cache()
        files = list(_find(fs, inside, format))
    except FileNotFoundError:
        files = []
    except Exception as error:
        raise explained(path, error) from error
    if not files:
        raise InputError(_nothing_at(path, fs, inside, format))
    prefix = "" if protocol_of(path) == "file" else f"{protocol_of(path)}://"
    if protocol_of(path) in ("http", "https"):
        prefix = ""  # fsspec keeps the protocol in these paths
    return [FoundFile(prefix + f.path, f.name, f.size, f.version) for f in files]


def _find(fs: AbstractFileSystem, path: str, format: str) -> Iterator[FoundFile]:
    """Files at a path without its protocol, sorted; their `path` lacks it too."""
    try:
        info = fs.info(path)
    except FileNotFoundError:
        info = None
    if info and info["type"] == "file":
        yield _file(path, posixpath.basename(path), info)
    elif info:
        yield from _walk(fs, path, path, format)
    elif _is_glob(path):
        base = _glob_base(path)
        for match, details in sorted(fs.glob(path, detail=True).items()):
            name = posixpath.relpath(match, base or "/")
            if _hidden(name):
                continue
            if details["type"] == "file":
                yield _file(match, name, details)
            else:
                yield from _walk(fs, match, base, format)


def _walk(fs: AbstractFileSystem, folder: str, base: str, format: str) -> Iterator[FoundFile]:
    endings = _ENDINGS.get(format) or tuple(e for group in _ENDINGS.values() for e in group)
    for path, info in sorted(fs.find(folder, detail=True).items()):
        inside = posixpath.relpath(path, folder)
        if not _hidden(inside) and path.endswith(endings):
            yield _file(path, posixpath.relpath(path, base or "/"), info)


def _file(path: str, name: str, info: dict[str, Any]) -> FoundFile:
    return FoundFile(path, name, int(info.get("size") or 0), version_of(info))


def _hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) for part in name.split("/"))


def _with_distinct_names(files: list[FoundFile]) -> list[FoundFile]:
    """Names make ids, so two may not be alike: then all are taken from their common folder."""
    if not files or max(Counter(file.name for file in files).values()) == 1:
        return files
    folder = posixpath.commonprefix([file.path for file in files]).rpartition("/")[0]
    return [
        FoundFile(f.path, f.path.removeprefix(folder).lstrip("/"), f.size, f.version) for f in files
    ]


def _format_of(files: Sequence[FoundFile]) -> str:
    formats: dict[str, str] = {}
    for file in files:
        fitting = (kind for kind in ("parquet", "jsonl") if file.path.endswith(_ENDINGS[kind]))
        kind = next(fitting, None)
        if kind is None:
            raise InputError(
                f"{file.path}: its ending says no format; set input.format to parquet, jsonl or "
                f"openai-batch"
            )
        formats.setdefault(kind, file.path)
    if len(formats) > 1:
        raise InputError(
            f"input.path: both Parquet ({formats['parquet']}) and JSON Lines "
            f"({formats['jsonl']}); name one kind, or set input.format for folders"
        )
    return next(iter(formats))


def _nothing_at(path: str, fs: AbstractFileSystem, inside: str, format: str) -> str:
    """The message for a path that yields no file."""
    wanted = "" if format == "auto" else f" {format}"
    if fs.isdir(inside):
        there = sorted(posixpath.basename(str(name)) for name in fs.ls(inside, detail=False))
        holds = f"it holds {', '.join(there[:5])}" if there else "it is empty"
        return f"{path}: no{wanted} file in this folder; {holds}"
    folder, name = posixpath.split(inside.rstrip("/"))
    try:
        siblings = [posixpath.basename(str(p)) for p in fs.ls(folder or "/", detail=False)]
    except Exception:  # only a hint is at stake
        return f"{path}: no such file or folder, nor is there a folder {folder}"
    near = difflib.get_close_matches(name, siblings, n=1) or sorted(siblings)[:5]
    what = "nothing matches" if _is_glob(path) else "no such file or folder"
    hint = f"near it: {', '.join(near)}" if near else "its folder is empty"
    return f"{path}: {what}; {hint}"


def _demo() -> str:
    return str(Path(str(package_files("rgpipeline"))) / "demo" / "prompts.parquet")
