"""Files that lack a column which other files of the input have, and the job can't do without."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from rgpipeline.records import InputFile
from rgpipeline.spec import Columns, Job
from rgpipeline.text.prompt_template import PromptTemplate

_SHOWN = 3


def missing_columns(
    job: Job,
    columns: Columns,
    files: Sequence[InputFile],
    schemas: Sequence[pa.Schema],
    partitions: Sequence[str],
) -> Iterator[str]:
    """A message for each column that some files lack, so that all of their rows would fail.

    `schemas`: of each file. Sampling options are no such column: a row without any has the job's.
    """
    filled = [(file, schema) for file, schema in zip(files, schemas, strict=True) if file.rows]
    for field, name in _needed(job, columns):
        lacking = [(file, schema) for file, schema in filled if name not in schema.names]
        if name in partitions or not 0 < len(lacking) < len(filled):
            continue
        told = ", ".join(file.path for file, _ in lacking[:_SHOWN])
        more = f" and {len(lacking) - _SHOWN} more files" if len(lacking) > _SHOWN else ""
        has = ", ".join(lacking[0][1].names) or "no columns"
        yield (
            f"{field}: no column {name!r} in {told}{more} (there: {has}); rename its column, or "
            f"leave the file out of input.path"
        )


def _needed(job: Job, columns: Columns) -> Iterator[tuple[str, str]]:
    for field, name in columns.model_dump(exclude={"sampling"}).items():
        if name is not None:
            yield f"input.columns.{field}", name
    for name in PromptTemplate(job.input.template).fields if job.input.template else ():
        yield "input.template", name
