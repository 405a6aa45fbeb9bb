"""The columns of all input files together, with one type for each kept column."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, reduce
from itertools import combinations

import pyarrow as pa

from rgpipeline.errors import InputError
from rgpipeline.io.arrow_types import common_type, is_any_list, value_type
from rgpipeline.io.json_types import ColumnTypes, JsonKinds, is_json
from rgpipeline.io.readers import Reader, Scan
from rgpipeline.io.used_values import exact_name
from rgpipeline.records import InputFile

_THREADS = 32  # they wait for a remote store


class InputColumns:
    """What planning knows of the input's columns."""

    def __init__(
        self,
        scans: Sequence[Scan],
        files: Sequence[InputFile],
        reader: Reader,
    ) -> None:
        """`scans`: of the first files, in the order of `files`."""
        self._reader = reader
        self._types = _merged([scan.types for scan in scans if scan.types is not None])
        # Many files share few schemas: each schema is kept once, with the paths of its files.
        self._schemas: dict[bytes, tuple[dict[str, pa.Field], list[str]]] = {}
        for scan, file in zip(scans, files, strict=False):
            key = scan.schema.remove_metadata().serialize().to_pybytes()
            fields = self._schemas.setdefault(key, ({f.name: f for f in scan.schema}, []))
            fields[1].append(file.path)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All columns, in the files' order."""
        return tuple(dict.fromkeys(name for fields, _ in self._schemas.values() for name in fields))

    def json_kinds(self, name: str) -> JsonKinds | None:
        """Which kinds of values a column of JSON rows has; None where the rows aren't JSON."""
        return None if self._types is None else self._types.kinds(name)

    def holds_lists(self, name: str) -> bool:
        """Whether a used column holds a list in any file."""
        kinds = self.json_kinds(name)
        if kinds is not None:
            return kinds.items is not None
        return any(is_any_list(value_type(field.type)) for field, _ in self.used_fields(name))

    def used_fields(self, name: str) -> Iterator[tuple[pa.Field, str]]:
        """A used column in each of its types, with the path of the first file of that type."""
        for fields, paths in self._schemas.values():
            field = fields.get(exact_name(name), fields.get(name))
            if field is not None:
                yield field, paths[0]

    def kept_field(self, name: str) -> pa.Field:
        """The column, with a type that holds all its values. Raises InputError if there is none."""
        if self._types is not None:
            return self._json_fields[name]
        found = [
            (fields[name], paths) for fields, paths in self._schemas.values() if name in fields
        ]
        marked = [field for field, _ in found if is_json(field)]
        if marked and all(field.type == marked[0].type for field, _ in found):
            return marked[0]
        kinds = [field.type for field, _ in found]
        merged = _common(kinds, small=False)
        if merged is None and self._are_small(name, found):
            merged = _common(kinds, small=True)
        if merged is None:
            raise InputError(_disagreement(name, found))
        return pa.field(name, merged)  # nullable: a row that can't be read is null

    @cached_property
    def _json_fields(self) -> dict[str, pa.Field]:
        assert self._types is not None
        return {field.name: field for field in self._types.schema()}

    def _are_small(self, name: str, found: Sequence[tuple[pa.Field, Sequence[str]]]) -> bool:
        """Whether float64 holds all integers of a column exactly, by the files' statistics."""
        if _common([field.type for field, _ in found], small=True) is None:
            return False
        paths = [
            path for field, paths in found if not pa.types.is_floating(field.type) for path in paths
        ]
        with ThreadPoolExecutor(_THREADS) as pool:
            return all(pool.map(lambda path: self._reader.has_small_integers(path, name), paths))


def _merged(types: Sequence[ColumnTypes]) -> ColumnTypes | None:
    if not types:
        return None
    merged = ColumnTypes()
    for one in types:
        merged.merge(one)
    return merged


def _common(kinds: Sequence[pa.DataType], small: bool) -> pa.DataType | None:
    def step(one: pa.DataType | None, other: pa.DataType) -> pa.DataType | None:
        return None if one is None else common_type(one, other, small)

    return reduce(step, kinds[1:], kinds[0])


def _disagreement(name: str, found: Sequence[tuple[pa.Field, Sequence[str]]]) -> str:
    """The message that names the first two types that can't be merged."""
    pairs = list(combinations(found, 2))
    apart = [pair for pair in pairs if common_type(pair[0][0].type, pair[1][0].type) is None]
    (first, paths), (other, other_paths) = (apart or pairs)[0]
    floats = {pa.types.is_floating(field.type) for field in (first, other)}
    why = ", and double can't hold all of them exactly" if len(floats) == 2 else ""
    return (
        f"column {name!r} has types that don't go together: {first.type} in {paths[0]}; "
        f"{other.type} in {other_paths[0]}{why}. The column is kept; leave it out by "
        f"output.keep (a list of the columns to keep), or write the files again with one type"
    )
