"""Arrow types for JSON values, which have none until one has seen them all.

Values of one column that share a type get it: text, whole numbers, numbers, booleans, lists and
objects (an object's keys are the union of all that occur). A column whose values don't share one
(a list here, text there), or whose objects have no or very many keys, holds each value's JSON
text instead, and says so in its field's metadata.
"""

import json
import sys
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

import pyarrow as pa

_AS_JSON = {b"rgp.json": b"1"}
_MOST_KEYS = 256  # objects with more are dictionaries rather than records
_MOST = int(sys.float_info.max)
_MISFITS = (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError)


class ColumnTypes:
    """Finds columns and their types, block by block; `None` marks a column without a common one."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType | None] = {}

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        for name in dict.fromkeys(name for row in rows for name in row):
            found = _type_of([row.get(name) for row in rows])
            known = self._types.get(name, pa.null())
            self._types[name] = _common(known, found)

    def schema(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field(name, pa.string(), metadata=_AS_JSON)
                if kind is None
                else pa.field(name, kind)
                for name, kind in self._types.items()
            ]
        )


def is_json(field: pa.Field) -> bool:
    """Whether a column holds JSON text for want of a common type."""
    return bool(field.metadata and b"rgp.json" in field.metadata)


def merge_fields(fields: Sequence[pa.Field]) -> pa.Field | None:
    """One field for the columns of one name in several files; None when their types disagree."""
    first = fields[0]
    if any(is_json(field) for field in fields):
        return first.with_type(pa.string()).with_metadata(_AS_JSON)
    merged: pa.DataType | None = first.type
    for field in fields[1:]:
        merged = _common(merged, field.type)
    return None if merged is None else pa.field(first.name, merged)


def column_of(
    field: pa.Field, rows: Sequence[dict[str, Any]], faults: MutableMapping[int, str]
) -> pa.Array:
    """The column `field` of `rows`. Values that don't fit its type become null, and a fault."""
    values = [row.get(field.name) for row in rows]
    if is_json(field):
        values = [None if v is None else json.dumps(v) for v in values]
    if pa.types.is_floating(field.type):  # Arrow minds whole numbers that no float is equal to
        values = [float(v) if type(v) is int and abs(v) < _MOST else v for v in values]
    try:
        return pa.array(values, field.type)
    except _MISFITS:
        pass
    for index, value in enumerate(values):
        try:
            pa.array([value], field.type)
        except _MISFITS as error:
            faults.setdefault(index, f"{field.name!r} can't be held as {field.type} ({error})")
            values[index] = None
    return pa.array(values, field.type)


def _type_of(values: Sequence[Any]) -> pa.DataType | None:
    try:
        found = pa.array(values).type
    except _MISFITS:
        kinds = {type(value) for value in values if value is not None}
        if kinds == {str}:  # some can't be encoded; those are faults of their rows
            return pa.string()
        return pa.float64() if kinds <= {int, float} else None
    if any(pa.types.is_floating(leaf) for leaf in _leaves(found)) and _has_boolean(values, found):
        return None  # Arrow would take true for 1.0
    return found if _is_record(found) else None


def _has_boolean(values: Iterable[Any], kind: pa.DataType) -> bool:
    """Whether a boolean stands where `kind` has no place for one."""
    if pa.types.is_struct(kind):
        rows = [value for value in values if value is not None]
        return any(_has_boolean([row.get(f.name) for row in rows], f.type) for f in kind)
    if pa.types.is_list(kind):
        items = [item for value in values if value is not None for item in value]
        return _has_boolean(items, kind.value_type)
    return not pa.types.is_boolean(kind) and bool in set(map(type, values))


def _common(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    if one is None or other is None:
        return None
    if one == other:
        return one
    schemas = [pa.schema([("", kind)]) for kind in (one, other)]
    try:
        merged = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None
    return merged if _is_record(merged) else None


def _is_record(kind: pa.DataType) -> bool:
    """Whether Parquet can hold the type, and its objects look like records."""
    return all(0 < struct.num_fields <= _MOST_KEYS for struct in _structs(kind))


def _structs(kind: pa.DataType) -> Iterable[pa.StructType]:
    if pa.types.is_struct(kind):
        yield kind
    for index in range(kind.num_fields):
        yield from _structs(kind.field(index).type)


def _leaves(kind: pa.DataType) -> Iterable[pa.DataType]:
    if not kind.num_fields:
        yield kind
    for index in range(kind.num_fields):
        yield from _leaves(kind.field(index).type)
