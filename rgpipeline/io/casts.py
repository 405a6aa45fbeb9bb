"""Columns in the types that a plan gives them."""

from collections.abc import Iterator, MutableMapping

import pyarrow as pa

# Arrow has no cast between the two types, or none that it trusts.
_NO_CAST = (pa.ArrowNotImplementedError, pa.ArrowTypeError)
_MISFITS = (pa.ArrowException, OverflowError, TypeError, ValueError)


def fitted(
    table: pa.Table, schema: pa.Schema, faults: MutableMapping[int, str], first: int = 0
) -> pa.Table:
    """`table` with exactly the columns of `schema`: missing ones null, types widened.

    A value that its column's type can't hold becomes null, and a fault of its row, counted from
    `first`.
    """
    places = {name: index for index, name in enumerate(table.column_names)}
    columns = []
    for wanted in schema:
        if wanted.name not in places:
            columns.append(pa.nulls(table.num_rows, wanted.type))
            continue
        column = table.column(places[wanted.name])
        if column.type != wanted.type:
            pieces = list(_cast(column, wanted, faults, first))
            column = pa.chunked_array(pieces, wanted.type)
        columns.append(column)
    return pa.table(columns, schema=schema)


def _cast(
    column: pa.ChunkedArray, wanted: pa.Field, faults: MutableMapping[int, str], first: int
) -> Iterator[pa.Array]:
    """The column's values in another type; what doesn't fit is found by halving."""
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
    """Whether a type has list views in it: Arrow casts their items to nothing (seen in 26.0)."""
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return True
    return any(_has_views(kind.field(index).type) for index in range(kind.num_fields))
