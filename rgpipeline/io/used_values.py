"""Columns that make prompts, ids and sampling, with each row's value exactly as in its file.

A value must not depend on other rows or files. So these columns get no common type: a column of a
Parquet file keeps the file's type, and a column of JSON values that are not all text holds the JSON
text of each value.
"""

import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from rgpipeline.errors import RowError
from rgpipeline.io.json_types import AS_JSON, is_json, json_text

_NANOSECONDS = 1000  # in a microsecond, the finest that Python's dates hold

Decode = Callable[[Any], Any]


def json_column(
    name: str, values: Sequence[Any], faults: MutableMapping[int, str]
) -> tuple[pa.Field, pa.Array]:
    """A column of exact JSON values. A value that can't be encoded becomes null, and a fault."""
    if any(value is not None and type(value) is not str for value in values):
        texts = [json_text(value, row, name, faults) for row, value in enumerate(values)]
        field = exact_field(name)
        return field, pa.array(texts, field.type)
    field = pa.field(name, pa.large_string())
    try:
        return field, pa.array(values, field.type)
    except UnicodeError:
        pass
    kept = list(values)
    for row, value in enumerate(kept):
        try:
            "" if value is None else value.encode()
        except UnicodeError as error:
            faults.setdefault(row, f"{name!r} can't be held as text ({error})")
            kept[row] = None
    return field, pa.array(kept, field.type)


def value_of(field: pa.Field, scalar: pa.Scalar) -> Any:
    """One value as a Python object: text, numbers, dates, lists, dicts for structs and maps.

    A struct has all fields of its type: those that are null are left out, as in JSON of the row.
    JSON text is decoded if the column's type or metadata says that it is JSON. Raises RowError
    naming the column if that fails.
    """
    if not scalar.is_valid:
        return None
    try:
        if is_json(field):
            return json.loads(scalar.as_py())
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            return _nanoseconds(scalar)
        value = scalar.as_py(maps_as_pydicts="strict")
        decode = _decoder(field.type)
        return value if decode is None else decode(value)
    except RecursionError as error:
        raise RowError(f"{field.name!r} is nested too deeply to be read") from error
    except (ValueError, KeyError, OverflowError) as error:
        raise RowError(f"{field.name!r}: {field.type} that can't be read ({error})") from error


def exact_name(name: str) -> str:
    """The name, in a retry's input, of the column with the exact JSON text of a used one."""
    return f"rgp_exact.{name}"


def exact_field(name: str) -> pa.Field:
    """A column of values as JSON text, see `exact_text`."""
    return pa.field(name, pa.large_string(), metadata=AS_JSON)


def exact_text(value: object) -> str:
    """A value as JSON text; a value of a type that JSON lacks is the text that it is used as."""
    return json.dumps(value, default=as_text)


def as_text(value: object) -> str:
    """The text of a value. Bytes are decoded as UTF-8, or else written as hex digits."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if not isinstance(value, bytes):
        return str(value)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()


def is_json_type(kind: pa.DataType) -> bool:
    """Whether a Parquet column is of the logical type JSON."""
    return isinstance(kind, pa.JsonType)


def _decoder(kind: pa.DataType) -> Decode | None:
    """A function that decodes values of a type; None for types that need no decoding.

    It decodes JSON, and leaves out the null fields of structs.
    """
    if is_json_type(kind):
        return json.loads
    if pa.types.is_dictionary(kind):
        return _decoder(kind.value_type)
    if pa.types.is_struct(kind):
        return _in_struct({field.name: _decoder(field.type) for field in kind})
    if pa.types.is_map(kind):
        item = _decoder(kind.item_type)
        return None if item is None else _in_map(item)
    if kind.num_fields == 1:  # a list of any kind
        item = _decoder(kind.field(0).type)
        return None if item is None else _in_list(item)
    return None


def _in_struct(fields: Mapping[str, Decode | None]) -> Decode:
    def decode(value: Any) -> Any:
        if value is None:
            return None
        given = {key: one for key, one in value.items() if one is not None}
        return {key: found(one) if (found := fields[key]) else one for key, one in given.items()}

    return decode


def _in_map(item: Decode) -> Decode:
    def decode(value: Any) -> Any:
        if value is None:
            return None
        return {key: None if one is None else item(one) for key, one in value.items()}

    return decode


def _in_list(item: Decode) -> Decode:
    def decode(value: Any) -> Any:
        return None if value is None else [None if one is None else item(one) for one in value]

    return decode


def _nanoseconds(scalar: pa.Scalar) -> datetime | str:
    """A timestamp; as text if it is finer than Python's dates."""
    micros, rest = divmod(scalar.value, _NANOSECONDS)
    date: datetime = pa.scalar(micros, pa.timestamp("us", scalar.type.tz)).as_py()
    if not rest:
        return date
    text = date.isoformat(" ", "microseconds")
    return f"{text[:26]}{rest:03d}{text[26:]}"  # 26: as far as the microseconds
