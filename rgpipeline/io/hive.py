"""Hive partitions: columns that stand in the names of folders, `year=2024/month=7/part.parquet`."""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

import pyarrow as pa

from rgpipeline.wording import encodable

_FOLDER = re.compile(r"([^=/]+)=([^/]*)")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_values(path: str) -> dict[str, str | None]:
    """The columns in a file's path, outermost first, as text; null for Hive's own null."""
    matches = (_FOLDER.fullmatch(folder) for folder in path.split("/")[:-1])
    return {
        encodable(unquote(match[1])): None if match[2] == _NULL else encodable(unquote(match[2]))
        for match in matches
        if match
    }


def partition_fields(paths: Iterable[str]) -> list[pa.Field]:
    """The partition columns of several files: int64 where every value is written as one is.

    `01234`, `+5` and `1_000` would come back as other text, so they keep their column text.
    """
    seen: dict[str, set[str | None]] = {}
    for path in paths:
        for name, value in partition_values(path).items():
            seen.setdefault(name, set()).add(value)
    return [pa.field(name, _type_of(values)) for name, values in seen.items()]


def with_partitions(table: pa.Table, path: str, names: Sequence[str]) -> pa.Table:
    """`table` with the path's value in the partition columns `names`, keeping their types."""
    for name, value in partition_values(path).items():
        if name in names:
            index = table.schema.get_field_index(name)
            field = table.schema.field(index)
            constant = pa.scalar(value, pa.string()).cast(field.type)
            column = pa.repeat(constant, table.num_rows)
            table = table.set_column(index, field, column)
    return table


def _type_of(values: Iterable[str | None]) -> pa.DataType:
    whole = all(value is None or _is_whole(value) for value in values)
    return pa.int64() if whole and any(values) else pa.string()


def _is_whole(value: str) -> bool:
    """Whether the text is what an int64 is written as."""
    if not re.fullmatch(r"-?[0-9]{1,19}", value):
        return False
    return str(int(value)) == value and -(2**63) <= int(value) < 2**63
