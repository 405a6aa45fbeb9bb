"""Arrow types: one type for a column that differs between files, and columns cast to it."""

from collections.abc import Iterator, MutableMapping

import pyarrow as pa

_UNITS = ("s", "ms", "us", "ns")
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_UNSIGNED = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}
_DIGITS = {8: 3, 16: 5, 32: 10}  # decimal digits of the greatest integer of so many bits
_DIGITS_OF_A_DOUBLE = 15  # decimal digits that survive a round trip
_MOST_DIGITS = 76  # of a decimal

# Arrow has no cast between the two types, or no safe one.
_NO_CAST = (pa.ArrowNotImplementedError, pa.ArrowTypeError)
_MISFITS = (pa.ArrowException, OverflowError, TypeError, ValueError)


def common_type(one: pa.DataType, other: pa.DataType, small: bool = False) -> pa.DataType | None:
    """The type that holds every value of both; None if there is none.

    `small`: all 64-bit integers among them lie within ±2^53, so that float64 holds them. Otherwise
    64-bit integers and floats have no common type.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    rules = (_of_dictionaries, _of_extensions, _of_bytes, _of_numbers, _of_times, _of_nested)
    found = (rule(one, other, small) for rule in rules)
    return next((kind for kind in found if kind is not None), None)


def is_text(kind: pa.DataType) -> bool:
    return _is_any(kind, "string", "large_string", "string_view")


def is_bytes(kind: pa.DataType) -> bool:
    return _is_any(kind, "binary", "large_binary", "binary_view", "fixed_size_binary")


def is_any_list(kind: pa.DataType) -> bool:
    return _is_any(kind, "list", "large_list", "fixed_size_list") or _is_list_view(kind)


def _is_list_view(kind: pa.DataType) -> bool:
    return _is_any(kind, "list_view", "large_list_view")


def _is_any(kind: pa.DataType, *names: str) -> bool:
    """Whether a type is one of these, by the names of pyarrow's own tests."""
    return any(getattr(pa.types, f"is_{name}")(kind) for name in names)


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, however they are encoded."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _of_dictionaries(one: pa.DataType, other: pa.DataType, small: bool) -> pa.DataType | None:
    if not pa.types.is_dictionary(one) and not pa.types.is_dictionary(other):
        return None
    value = common_type(value_type(one), value_type(other), small)
    if value is None or not (pa.types.is_dictionary(one) and pa.types.is_dictionary(other)):
        return value
    wide = max(one.index_type.bit_width, other.index_type.bit_width, 32)
    return pa.dictionary(_SIGNED[wide], value)


def _of_extensions(one: pa.DataType, other: pa.DataType, small: bool) -> pa.DataType | None:
    kinds = (one, other)
    if not any(isinstance(kind, pa.BaseExtensionType) for kind in kinds):
        return None
    if any(isinstance(kind, pa.UuidType) for kind in kinds) and any(map(is_text, kinds)):
        return None  # 16 bytes and text: neither can be read as the other
    return common_type(_stored(one), _stored(other), small)


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _of_bytes(one: pa.DataType, other: pa.DataType, small: bool) -> pa.DataType | None:
    kinds = (one, other)
    if not all(is_text(kind) or is_bytes(kind) for kind in kinds):
        return None
    large = any(_is_any(kind, "large_string", "large_binary") for kind in kinds)
    if all(map(is_text, kinds)):
        return pa.large_string() if large else pa.string()
    return pa.large_binary() if large else pa.binary()


def _of_numbers(one: pa.DataType, other: pa.DataType, small: bool) -> pa.DataType | None:
    kinds = (one, other)
    whole = [kind for kind in kinds if pa.types.is_integer(kind)]
    decimals = [kind for kind in kinds if pa.types.is_decimal(kind)]
    floats = [kind for kind in kinds if pa.types.is_floating(kind)]
    if len(whole) == 2:
        return _of_whole(one, other)
    if len(floats) == 2:
        return max(floats, key=lambda kind: int(kind.bit_width))
    if whole and floats:
        bits = whole[0].bit_width
        if bits <= 16:
            return pa.float64() if floats[0].bit_width == 64 else pa.float32()
        return pa.float64() if bits == 32 or small else None
    if decimals and len(decimals) + len(whole) == 2:
        return _of_decimals([*decimals, *(pa.decimal128(_digits(kind), 0) for kind in whole)])
    if decimals and floats and decimals[0].precision <= _DIGITS_OF_A_DOUBLE:
        return pa.float64()
    return None


def _of_whole(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    signed = [pa.types.is_signed_integer(kind) for kind in (one, other)]
    wide = max(one.bit_width, other.bit_width)
    if signed[0] == signed[1]:
        return (_SIGNED if signed[0] else _UNSIGNED)[wide]
    unsigned = (other if signed[0] else one).bit_width
    wide = max(wide, 2 * unsigned)
    return _SIGNED[wide] if wide <= 64 else pa.decimal128(_digits(pa.uint64()), 0)


def _digits(kind: pa.DataType) -> int:
    if kind.bit_width < 64:
        return _DIGITS[kind.bit_width]
    return 19 if pa.types.is_signed_integer(kind) else 20


def _of_decimals(kinds: list[pa.DataType]) -> pa.DataType | None:
    scale = max(kind.scale for kind in kinds)
    digits = max(kind.precision - kind.scale for kind in kinds) + scale
    if digits > _MOST_DIGITS:
        return None
    return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)


def _of_times(one: pa.DataType, other: pa.DataType, small: bool) -> pa.DataType | None:
    """Of two units the finer one; a value out of its range is a fault of its row."""
    kinds = (one, other)
    if all(map(pa.types.is_timestamp, kinds)):
        if (one.tz is None) != (other.tz is None):
            return None
        return pa.timestamp(_finer(one, other), one.tz if one.tz == other.tz else "UTC")
    if all(map(pa.types.is_time, kinds)):
        unit = _finer(one, other)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if all(map(pa.types.is_duration, kinds)):
        return pa.duration(_finer(one, other))
    return pa.date64() if all(map(pa.types.is_date, kinds)) else None


def _finer(one: pa.DataType, other: pa.DataType) -> str:
    return _UNITS[max(_UNITS.index(one.unit), _UNITS.index(other.unit))]


def _of_nested(one: pa.DataType, other: pa.DataType, small: bool) -> pa.DataType | None:
    kinds = (one, other)
    if all(map(is_any_list, kinds)):
        item = common_type(one.value_type, other.value_type, small)
        large = any(_is_any(kind, "large_list", "large_list_view") for kind in kinds)
        if item is None:
            return None
        return pa.large_list(item) if large else pa.list_(item)
    if all(map(pa.types.is_map, kinds)):
        key = common_type(one.key_type, other.key_type, small)
        item = common_type(one.item_type, other.item_type, small)
        return None if key is None or item is None else pa.map_(key, item)
    return _of_structs(one, other, small) if all(map(pa.types.is_struct, kinds)) else None


def _of_structs(one: pa.DataType, other: pa.DataType, small: bool) -> pa.DataType | None:
    fields: dict[str, pa.DataType] = {}
    for kind in (one, other):
        for field in kind:
            merged = common_type(fields.get(field.name, pa.null()), field.type, small)
            if merged is None:
                return None
            fields[field.name] = merged
        if len({field.name for field in kind}) < kind.num_fields:
            return None  # a name twice
    return pa.struct(list(fields.items()))


def fitted(
    table: pa.Table, schema: pa.Schema, faults: MutableMapping[int, str], first: int = 0
) -> pa.Table:
    """`table` with exactly the columns of `schema`: missing ones null, types widened.

    A value that doesn't fit its column's type becomes null, and a fault of its row, counted from
    `first`.
    """
    indices = {name: index for index, name in enumerate(table.column_names)}
    columns = []
    for wanted in schema:
        if wanted.name not in indices:
            columns.append(pa.nulls(table.num_rows, wanted.type))
            continue
        column = table.column(indices[wanted.name])
        if column.type != wanted.type:
            pieces = list(_cast(column, wanted, faults, first))
            column = pa.chunked_array(pieces, wanted.type)
        columns.append(column)
    return pa.table(columns, schema=schema)


def _cast(
    column: pa.ChunkedArray, wanted: pa.Field, faults: MutableMapping[int, str], first: int
) -> Iterator[pa.Array]:
    """The column's values in another type; values that don't fit are found by halving."""
    try:
        yield from _converted(column, wanted.type).chunks
    except _MISFITS as error:
        if len(column) == 1:
            faults.setdefault(
                first,
                f"{wanted.name!r}: a value of type {column.type} does not fit {wanted.type}, the "
                f"type of this column in all files together ({error}); leave the column out by "
                f"output.keep, or write all files with one type",
            )
            yield pa.nulls(1, wanted.type)
            return
        middle = len(column) // 2
        yield from _cast(column.slice(0, middle), wanted, faults, first)
        yield from _cast(column.slice(middle), wanted, faults, first + middle)


def _converted(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if pa.types.is_dictionary(wanted) and pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        if not _has_views(column.type):
            return column.cast(wanted)
    except _NO_CAST:
        pass
    values = column.to_pylist()
    return pa.chunked_array([pa.array(values, wanted)], wanted)


def _has_views(kind: pa.DataType) -> bool:
    """Whether a type has list views in it: Arrow 26.0 loses their items in a cast."""
    if _is_list_view(kind):
        return True
    return any(_has_views(kind.field(index).type) for index in range(kind.num_fields))
