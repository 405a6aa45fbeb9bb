"""Arrow types for columns of JSON values, found by looking at all values.

If the values of a column share a type, the column has it: text, whole numbers, numbers, booleans,
lists and objects (with the union of all keys). Otherwise the column holds the JSON text of each
value, and its field's metadata says so. That happens if the values have different types (a list
here, text there), if no type holds them all exactly (whole numbers below 0 and above 2^63 together,
or beyond 2^53 beside fractions), and if objects have no keys or very many.
"""

import json
from collections.abc import MutableMapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

AS_JSON = {b"rgp.json": b"1"}
_MOST_KEYS = 256  # objects with more are dictionaries rather than records
_DEEPEST = 32  # levels of lists and objects
_EXACT = 2**53  # the whole numbers up to it are exact in float64
_MISFITS = (
    pa.ArrowException,
    OverflowError,
    RecursionError,
    UnicodeError,
    TypeError,
    ValueError,
)


class JsonKinds:
    """The kinds of values seen in a column, in the items of lists, or at one key of objects."""

    __slots__ = ("boolean", "depth", "floats", "items", "keys", "least", "most", "text")

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.text = self.boolean = self.floats = False
        self.least: int | None = None  # of the whole numbers
        self.most: int | None = None
        self.items: JsonKinds | None = None  # of all lists
        self.keys: KindsByKey | None = None  # of all objects

    def add(self, values: Sequence[Any]) -> None:
        kinds = set(map(type, values))
        self.text |= str in kinds
        self.boolean |= bool in kinds
        self.floats |= float in kinds
        if int in kinds:
            self._add_whole([value for value in values if type(value) is int])
        if list in kinds:
            self.items = self.items or JsonKinds(self.depth + 1)
            lists = (value for value in values if type(value) is list)
            if self.depth < _DEEPEST:
                self.items.add(list(chain.from_iterable(lists)))
        if dict in kinds:
            self.keys = self.keys or KindsByKey(self.depth + 1, _MOST_KEYS)
            if self.depth < _DEEPEST:
                self.keys.add([value for value in values if type(value) is dict])

    def merge(self, other: "JsonKinds") -> None:
        """Adds the values that `other` has seen."""
        self.text |= other.text
        self.boolean |= other.boolean
        self.floats |= other.floats
        if other.least is not None and other.most is not None:
            self._add_whole([other.least, other.most])
        if other.items is not None:
            self.items = self.items or JsonKinds(self.depth + 1)
            self.items.merge(other.items)
        if other.keys is not None:
            self.keys = self.keys or KindsByKey(self.depth + 1, _MOST_KEYS)
            self.keys.merge(other.keys)

    def type(self) -> pa.DataType | None:
        """The Arrow type that holds all values exactly; None if there is none."""
        whole = self.least is not None
        seen = (self.text, self.boolean, whole or self.floats, self.items, self.keys)
        if self.depth >= _DEEPEST or sum(kind not in (False, None) for kind in seen) > 1:
            return None
        if self.items is not None:
            item = self.items.type()
            return None if item is None else pa.list_(item)
        if self.keys is not None:
            return self.keys.record()
        if self.text or self.boolean:
            return pa.string() if self.text else pa.bool_()
        return self._number() if whole or self.floats else pa.null()

    def _add_whole(self, values: Sequence[int]) -> None:
        least, most = min(values), max(values)
        self.least = least if self.least is None else min(self.least, least)
        self.most = most if self.most is None else max(self.most, most)

    def _number(self) -> pa.DataType | None:
        if self.least is None or self.most is None:
            return pa.float64()
        if self.floats:
            return pa.float64() if self.least >= -_EXACT and self.most <= _EXACT else None
        if self.least >= -(2**63) and self.most < 2**63:
            return pa.int64()
        return pa.uint64() if self.least >= 0 and self.most < 2**64 else None


class KindsByKey:
    """The kinds of an object's values by key, in the order in which the keys were seen."""

    __slots__ = ("_depth", "_kinds", "_most", "crowded")

    def __init__(self, depth: int, most: int | None = None) -> None:
        """`most`: the largest number of keys; with more the object is `crowded`, not a struct."""
        self._depth = depth
        self._most = most
        self._kinds: dict[str, JsonKinds] = {}
        self.crowded = False

    def add(self, objects: Sequence[dict[str, Any]]) -> None:
        values: dict[str, list[Any]] = {}
        for one in objects:
            if self.crowded:
                return
            for key, value in one.items():
                values.setdefault(key, []).append(value)
            if self._most is not None and len(values) > self._most:
                self._crowd()
        for key, seen in values.items():
            self._of(key).add(seen)
        self._require_few()

    def merge(self, other: "KindsByKey") -> None:
        if other.crowded:
            self._crowd()
        for key, kinds in other._kinds.items():
            self._of(key).merge(kinds)
        self._require_few()

    def get(self, key: str) -> JsonKinds | None:
        return self._kinds.get(key)

    def types(self) -> dict[str, pa.DataType | None]:
        return {key: kinds.type() for key, kinds in self._kinds.items()}

    def record(self) -> pa.DataType | None:
        """The struct of all keys; None if there is none."""
        types = sorted(self.types().items())
        if self.crowded or not types or any(kind is None for _, kind in types):
            return None
        try:
            return pa.struct(types)
        except UnicodeError:  # half a surrogate in a key
            return None

    def _of(self, key: str) -> JsonKinds:
        kinds = self._kinds.get(key)
        if kinds is None:
            kinds = self._kinds[key] = JsonKinds(self._depth)
        return kinds

    def _require_few(self) -> None:
        if self._most is not None and len(self._kinds) > self._most:
            self._crowd()

    def _crowd(self) -> None:
        self.crowded = True
        self._kinds.clear()


class ColumnTypes:
    """Finds the columns of JSON rows and their types, block by block and file by file."""

    def __init__(self) -> None:
        self._columns = KindsByKey(0)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        self._columns.add(rows)

    def merge(self, other: "ColumnTypes") -> None:
        """Adds another file's rows."""
        self._columns.merge(other._columns)

    def kinds(self, name: str) -> JsonKinds | None:
        """The kinds of values of a column; None if no row has it."""
        return self._columns.get(name)

    def schema(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field(name, pa.string(), metadata=AS_JSON)
                if kind is None
                else pa.field(name, kind)
                for name, kind in self._columns.types().items()
            ]
        )


def is_json(field: pa.Field) -> bool:
    """Whether a column holds JSON text because its values have no common type."""
    return bool(field.metadata and b"rgp.json" in field.metadata)


def column_of(
    field: pa.Field, rows: Sequence[dict[str, Any]], faults: MutableMapping[int, str]
) -> pa.Array:
    """The column `field` of `rows`. Values that don't fit its type become null, and a fault."""
    values = [row.get(field.name) for row in rows]
    if is_json(field):
        values = [json_text(value, index, field.name, faults) for index, value in enumerate(values)]
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


def json_text(value: Any, row: int, name: str, faults: MutableMapping[int, str]) -> str | None:
    """A value as JSON text; null stays null.

    A value with half a surrogate pair in it, or nested too deeply, becomes null and a fault of its
    row: a column with a type couldn't hold it either.
    """
    if value is None:
        return None
    try:
        text = json.dumps(value)
        if "\\ud" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except _MISFITS as error:
        faults.setdefault(row, f"{name!r} can't be held as JSON text ({error})")
        return None
    return text
