"""Warnings about files that a listing left out, or that may be taken by mistake."""

import posixpath
from collections.abc import Iterator

from rgpipeline.input_formats import ending_of, how_to_read

_EXAMPLES = 3  # in a line
_LINES = 5  # of one kind
_TABLES = {
    "Delta": "list in input.path what deltalake.DeltaTable({path!r}).file_uris() gives",
    "Iceberg": "list in input.path the files that pyiceberg's table.scan().plan_files() names",
    "Hudi": "write its current snapshot as Parquet files",
}


class LeftOut:
    """Collects what a listing found and did not take."""

    def __init__(self) -> None:
        self._endings: dict[tuple[str, str], list[str]] = {}  # by (folder, ending)
        self._other: dict[str, list[str]] = {}  # by what it is
        self._tables: dict[str, str] = {}  # path: kind

    def by_ending(self, folder: str, path: str) -> None:
        """Adds a file of a folder whose ending is not one of the format's."""
        self._endings.setdefault((folder, ending_of(path)), []).append(path)

    def no_file(self, path: str, what: str) -> None:
        """Adds something that can't be read as a file or listed as a folder."""
        self._other.setdefault(what, []).append(path)

    def table(self, path: str, kind: str) -> None:
        """Adds a folder that is a table: its files alone don't show which are current."""
        self._tables[path] = kind

    def add(self, other: "LeftOut") -> None:
        """Adds what another listing left out."""
        for key, paths in other._endings.items():
            self._endings.setdefault(key, []).extend(paths)
        for what, paths in other._other.items():
            self._other.setdefault(what, []).extend(paths)
        self._tables |= other._tables

    def advice(self) -> str:
        """How to read the files left out for their ending; empty if there are none."""
        return next((_how_to_read(*key, found) for key, found in self._endings.items()), "")

    def warnings(self) -> Iterator[str]:
        """A line for each kind of thing left out."""
        yield from _few(self._ending_lines(), "endings")
        for what, paths in self._other.items():
            yield f"left out, {what}: {_named(paths)}"
        yield from _few(self._table_lines(), "tables")

    def _ending_lines(self) -> Iterator[str]:
        for (folder, ending), found in self._endings.items():
            files = f"{len(found)} file{'s' if len(found) > 1 else ''}"
            ends = f"ending in {ending}" if ending else "without an ending"
            names = _named([posixpath.relpath(path, folder) for path in found])
            advice = _how_to_read(folder, ending, found)
            yield f"{folder}: {files} {ends} left out ({names}); {advice}"

    def _table_lines(self) -> Iterator[str]:
        for path, kind in self._tables.items():
            current = _TABLES[kind].format(path=path)
            yield (
                f"{path} is a table ({kind}): its folder may hold files that are no longer part of "
                f"it, and they are read too; for the current version {current}"
            )


def _how_to_read(folder: str, ending: str, found: list[str]) -> str:
    nested = any(posixpath.dirname(path) != folder.rstrip("/") for path in found)
    glob = f"{folder.rstrip('/')}/{'**/' if nested else ''}*{ending}"
    return how_to_read(found[0], glob)


def _named(paths: list[str]) -> str:
    more = f", and {len(paths) - _EXAMPLES} more" if len(paths) > _EXAMPLES else ""
    return ", ".join(paths[:_EXAMPLES]) + more


def _few(lines: Iterator[str], what: str) -> Iterator[str]:
    found = list(lines)
    yield from found[:_LINES]
    if len(found) > _LINES:
        yield f"… and {len(found) - _LINES} more {what}"
