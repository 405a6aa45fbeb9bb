"""Whether the input has the columns that a job speaks of, and of usable types."""

import difflib
from collections.abc import Callable, Sequence

import pyarrow as pa

from rgpipeline.io.columns import AddedColumns
from rgpipeline.io.json_types import is_json
from rgpipeline.spec import Columns, Job
from rgpipeline.text.template import PromptTemplate

Fits = Callable[[pa.DataType], bool]
_ID = "id"


def used_columns(job: Job, columns: Columns) -> list[str]:
    """The input columns that prompts, ids and sampling come from."""
    named = [name for name in columns.model_dump().values() if name is not None]
    return named + list(PromptTemplate(job.input.template).fields if job.input.template else ())


def with_found_id(job: Job, schema: pa.Schema) -> Columns:
    """The job's columns; one called `id` names the rows where the job maps none to that.

    Not if it makes the prompt, or is of a type that names nothing.
    """
    columns = job.input.columns
    if columns.id is not None or _ID not in schema.names or _ID in columns.model_dump().values():
        return columns
    usable = not _misfit("id", schema.field(_ID))
    return columns.model_copy(update={"id": _ID}) if usable else columns


def column_faults(job: Job, columns: Columns, schema: pa.Schema) -> list[str]:
    """The columns that are missing or of a type that can't be used, all told."""
    faults: list[str] = []
    for field, name in columns.model_dump().items():
        if name is None:
            continue
        missing = _missing(f"input.columns.{field}", name, schema)
        faults += missing or _misfit(field, schema.field(name))
    for name in PromptTemplate(job.input.template).fields if job.input.template else ():
        faults += _missing("input.template", name, schema)
    for name in () if job.output.keep == "all" else job.output.keep:
        faults += _missing("output.keep", name, schema)
    return faults


def name_faults(job: Job, kept: Sequence[str]) -> list[str]:
    """What is wrong if a column we add has the name of a kept one, or two kept ones agree.

    Names that differ only in case agree: DuckDB, Spark and most databases don't tell them apart,
    and a query for our `completion` would be answered with the input's `Completion`.
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
        for own in AddedColumns.of(job).names
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
    unmapped = job.input.columns.id is None and job.input.format != "openai-batch"
    return (
        f"; if {taken[0]} names the rows, input.columns.id: {taken[0]}"
        if taken and unmapped
        else ""
    )


def _missing(where: str, name: str, schema: pa.Schema) -> list[str]:
    if name in schema.names:
        return []
    near = difflib.get_close_matches(name, schema.names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return [f"{where}: no column {name!r} in the input (it has {', '.join(schema.names)}){hint}"]


def _misfit(field: str, column: pa.Field) -> list[str]:
    fits, wanted = _WANTED[field]
    if is_json(column) or pa.types.is_null(column.type) or fits(column.type):
        return []
    return [
        f"input.columns.{field}: column {column.name!r} holds {column.type}; {wanted} is needed"
    ]


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    kind = _value_type(kind)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in _LISTS)


def _is_list_of(kind: pa.DataType, item: Fits) -> bool:
    return _is_list(kind) and (pa.types.is_null(kind.value_type) or item(kind.value_type))


def _is_name(kind: pa.DataType) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(_value_type(kind)))


_LISTS: tuple[Fits, ...] = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
)
_WANTED: dict[str, tuple[Fits, str]] = {
    "prompt": (_is_text, "text"),
    "completion": (_is_text, "text"),
    "prompt_ids": (lambda kind: _is_list_of(kind, pa.types.is_integer), "a list of token ids"),
    "messages": (
        lambda kind: _is_text(kind) or _is_list_of(kind, pa.types.is_struct),
        "a list of messages (role, content), or that as JSON text,",
    ),
    "id": (_is_name, "text or whole numbers"),
    "sampling": (
        lambda kind: _is_text(kind) or bool(pa.types.is_struct(kind) or pa.types.is_map(kind)),
        "a struct, a map or a JSON text of sampling keys",
    ),
}
