"""Rows of Arrow tables, of every type."""

from collections.abc import Sequence

import pyarrow as pa

from rgpipeline.io.readers import nulls


def take_rows(table: pa.Table, rows: Sequence[int | None]) -> pa.Table:
    """Some rows of a table, in this order; nulls for None."""
    try:
        return table.take(pa.array(rows, pa.int64()))
    except pa.ArrowNotImplementedError:  # views of text and of lists have no such function
        none = nulls(1, table.schema)
        pieces = [none if row is None else table.slice(row, 1) for row in rows]
        return pa.concat_tables(pieces) if pieces else table.slice(0, 0)
