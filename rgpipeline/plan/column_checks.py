"""Checks that the input has the columns a job names, in all files, and of usable types."""

import difflib
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from rgpipeline.input_formats import brings_prompts
from rgpipeline.io.arrow_types import is_any_list, is_bytes, is_text, value_type
from rgpipeline.io.json_types import JsonKinds, is_json
from rgpipeline.io.used_values import is_json_type
from rgpipeline.plan.input_columns import InputColumns
from rgpipeline.records import InputFile
from rgpipeline.spec import Columns, Job
from rgpipeline.tasks import added_columns
from rgpipeline.text.prompt_template import PromptTemplate

Fits = Callable[[pa.DataType], bool]
_ID = "id"
_SHOWN = 3  # files that a message names
OPTIONAL_ROLES = {"sampling", "tools"}  # rows without such a column use what the job says


def with_found_id(job: Job, found: InputColumns, partitions: Sequence[pa.Field]) -> Columns:
    """The job's columns; where it maps none to `id`, the input's column called `id` names the rows.

    Not if that column makes the prompt, or has a type that can't name a row.
    """
    columns = job.input.columns
    if columns.id is not None or _ID in columns.model_dump().values():
        return columns
    mapped = columns.model_copy(update={"id": _ID})
    if _ID in found.names:
        return columns if _misfits("id", _ID, found) else mapped
    folder = [field for field in partitions if field.name == _ID]
    return mapped if folder and not _misfit("id", folder[0]) else columns


def column_faults(
    job: Job, columns: Columns, found: InputColumns, partitions: Sequence[pa.Field]
) -> list[str]:
    """A message for each column that is missing or of a type that can't be used."""
    faults: list[str] = []
    known = {field.name: field for field in partitions}
    names = [*found.names, *known]
    for role, name in columns.model_dump().items():
        if name is None:
            continue
        missing = missing_column(f"input.columns.{role}", name, names)
        if missing or name not in known:
            faults += missing or _misfits(role, name, found)
        else:
            faults += _misfit(role, known[name])
    for name in PromptTemplate(job.input.template).fields if job.input.template else ():
        faults += missing_column("input.template", name, names, _inside(name, names))
    for name in () if job.output.keep == "all" else job.output.keep:
        faults += missing_column("output.keep", name, names)
    return faults


def name_faults(job: Job, kept: Sequence[str], choices: bool) -> list[str]:
    """A message where two columns of the output would have one name; `choices`: see `Plan`.

    Names that differ only in case count as one: DuckDB, Spark and most databases treat them so,
    and would answer a query for our `completion` with the input's `Completion`.
    """
    faults: list[str] = []
    by_name: dict[str, list[str]] = {}
    for name in kept:
        by_name.setdefault(name.casefold(), []).append(name)
    if twice := [" and ".join(names) for names in by_name.values() if len(names) > 1]:
        faults.append(
            f"the input has, or output.keep names, columns twice: {', '.join(twice)}; readers such "
            f"as DuckDB and Spark don't tell upper from lower case, so keep one of them by "
            f"output.keep, or rename one"
        )
    taken = {
        own: by_name[own.casefold()]
        for own in added_columns(job, choices).names
        if own.casefold() in by_name
    }
    if taken:
        names = ", ".join(name for names in taken.values() for name in names)
        case = "" if names == ", ".join(taken) else f" (as {', '.join(taken)}; case doesn't count)"
        faults.append(
            f"the input already has columns named {names}, which the output adds{case}; set "
            f'output.prefix (for instance "rg_"), or leave them out by output.keep'
            + _id_hint(job, taken.get(f"{job.output.prefix}id", []))
        )
    return faults


def _id_hint(job: Job, taken: Sequence[str]) -> str:
    unmapped = job.input.columns.id is None and not brings_prompts(job.input.format)
    return (
        f"; if {taken[0]} names the rows, input.columns.id: {taken[0]}"
        if taken and unmapped
        else ""
    )


def _inside(name: str, names: Sequence[str]) -> str:
    """The hint for `meta.title` where only `meta` is a column."""
    outer = name.partition(".")[0]
    if outer == name or outer not in names:
        return ""
    return f"; a field takes a whole column, and not a part of {outer!r}"


def names_rows(column: pa.Field) -> bool:
    """Whether a column's values can be rows' ids."""
    return not _misfit("id", column)


def missing_column(where: str, name: str, names: Sequence[str], hint: str = "") -> list[str]:
    """A message if `name` is not among the columns; `where`: the key that names it."""
    if name in names:
        return []
    near = difflib.get_close_matches(name, names, n=1)
    hint = hint or (f"; did you mean {near[0]!r}?" if near else "")
    return [f"{where}: no column {name!r} in the input (it has {', '.join(names)}){hint}"]


def _misfits(role: str, name: str, found: InputColumns) -> list[str]:
    """What is wrong with a column that the job uses.

    A column of JSON values is refused only if none of its values can be used; otherwise the
    unusable ones become errors of their rows. A Parquet column has one type in a whole file.
    """
    kinds = found.json_kinds(name)
    if kinds is not None:
        kind = kinds.type()
        if (kind is not None and pa.types.is_null(kind)) or _HOLDS[role](kinds):
            return []
        found_type = "JSON values of several types" if kind is None else str(kind)
        return [_wrong_type(role, name, found_type)]
    fields = list(found.used_fields(name))
    by_type = {str(field.type): (field, path if len(fields) > 1 else "") for field, path in fields}
    return [fault for field, path in by_type.values() for fault in _misfit(role, field, path)]


def _misfit(role: str, column: pa.Field, path: str = "") -> list[str]:
    fits, _ = _WANTED[role]
    if is_json(column) or is_json_type(value_type(column.type)):
        return []
    if pa.types.is_null(column.type) or fits(column.type):
        return []
    return [_wrong_type(role, column.name, str(column.type)) + (f" (in {path})" if path else "")]


def _wrong_type(role: str, name: str, found_type: str) -> str:
    return f"input.columns.{role}: column {name!r} holds {found_type}; {_WANTED[role][1]} is needed"


def _is_text(kind: pa.DataType) -> bool:
    return is_text(value_type(kind))


def _is_list_of(kind: pa.DataType, *items: Fits) -> bool:
    if not is_any_list(kind):
        return False
    item = value_type(kind.value_type)
    return pa.types.is_null(item) or is_json_type(item) or any(fits(item) for fits in items)


def _is_name(kind: pa.DataType) -> bool:
    kind = value_type(kind)
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    dates = (pa.types.is_date, pa.types.is_timestamp, pa.types.is_time)
    named = is_text(kind) or is_bytes(kind) or isinstance(kind, pa.UuidType)
    return named or any(test(kind) for test in (*tests, *dates))


def _holds_items(kinds: JsonKinds, test: Callable[[JsonKinds], bool]) -> bool:
    """Whether at least one list is empty, or has an item that passes the test."""
    items = kinds.items
    return items is not None and (test(items) or items.type() == pa.null())


_WANTED: dict[str, tuple[Fits, str]] = {
    "prompt": (_is_text, "text"),
    "state": (_is_text, "the address of a stored state, as text,"),
    "completion": (
        lambda kind: _is_text(kind) or _is_list_of(kind, is_text),
        "text, or a list of texts,",
    ),
    "prompt_ids": (lambda kind: _is_list_of(kind, pa.types.is_integer), "a list of token ids"),
    "messages": (
        lambda kind: _is_text(kind) or _is_list_of(kind, pa.types.is_struct, pa.types.is_map),
        "a list of messages (role, content), or that as JSON text,",
    ),
    "tools": (
        lambda kind: _is_text(kind) or _is_list_of(kind, pa.types.is_struct, pa.types.is_map),
        "a list of tools (JSON schemas of functions), or that as JSON text,",
    ),
    "id": (_is_name, "text, a whole number, a date, a decimal, a UUID or a few bytes"),
    "sampling": (
        lambda kind: _is_text(kind) or bool(pa.types.is_struct(kind) or pa.types.is_map(kind)),
        "a struct, a map or a JSON text of sampling keys",
    ),
}
# The same for JSON values: whether at least one of them is usable.
_HOLDS: dict[str, Callable[[JsonKinds], bool]] = {
    "prompt": lambda kinds: kinds.text,
    "state": lambda kinds: kinds.text,
    "completion": lambda kinds: kinds.text or _holds_items(kinds, lambda item: item.text),
    "prompt_ids": lambda kinds: _holds_items(kinds, lambda item: item.least is not None),
    "messages": lambda k: k.text or _holds_items(k, lambda item: item.keys is not None),
    "tools": lambda k: k.text or _holds_items(k, lambda item: item.keys is not None),
    "id": lambda kinds: kinds.text or kinds.least is not None or kinds.floats,
    "sampling": lambda kinds: kinds.text or kinds.keys is not None,
}


def missing_columns(
    job: Job,
    columns: Columns,
    files: Sequence[InputFile],
    schemas: Sequence[pa.Schema],
    partitions: Sequence[str],
) -> Iterator[str]:
    """A message for each needed column that some files lack: all rows of those files would fail.

    `schemas`: one for each file. The columns of sampling options and tools aren't needed: rows
    without them use the job's options, or none.
    """
    filled = [(file, schema) for file, schema in zip(files, schemas, strict=True) if file.rows]
    for field, name in _needed(job, columns):
        lacking = [(file, schema) for file, schema in filled if name not in schema.names]
        if name in partitions or not 0 < len(lacking) < len(filled):
            continue
        named = ", ".join(file.path for file, _ in lacking[:_SHOWN])
        more = f" and {len(lacking) - _SHOWN} more files" if len(lacking) > _SHOWN else ""
        has = ", ".join(lacking[0][1].names) or "no columns"
        yield (
            f"{field}: no column {name!r} in {named}{more} (there: {has}); rename its column, or "
            f"leave the file out of input.path"
        )


def _needed(job: Job, columns: Columns) -> Iterator[tuple[str, str]]:
    for field, name in columns.model_dump(exclude=OPTIONAL_ROLES).items():
        if name is not None:
            yield f"input.columns.{field}", name
    for name in PromptTemplate(job.input.template).fields if job.input.template else ():
        yield "input.template", name
