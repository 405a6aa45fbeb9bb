"""`rgpipeline validate`: everything that is wrong with a job, before it runs."""

import json
from typing import TYPE_CHECKING

import typer

from rgpipeline.cli.options import JobFile, Json, Overrides
from rgpipeline.cli.terminal import say_error, say_warning
from rgpipeline.wording import counted

if TYPE_CHECKING:
    from rgpipeline.plan import Plan


def validate(job: JobFile, overrides: Overrides = None, as_json: Json = False) -> int:
    """Find everything that can be found wrong with a job without running it, all at once.

    Looks at the job file, the input's files and columns, the weights and the tokenizer, and the
    output folder.

    \b
    Examples:
      rgpipeline validate job.yaml
      rgpipeline validate job.yaml --set input.path='s3://bucket/*.parquet' --json
    """
    from rgpipeline.validation import examine

    found = examine(job, overrides or ())
    if as_json:
        typer.echo(json.dumps(found.to_json()))
        return 2 if found.faults else 0
    for warning in found.warnings:
        say_warning(warning)
    for fault in found.faults:
        say_error(fault)
    if found.faults:
        return 2
    plan = found.plan
    told = "" if plan is None else f": {_size(plan)}"
    ids = "; the column 'id' names the rows" if found.id_was_found else ""
    typer.echo(f"{job}: valid{told}{ids}")
    return 0


def _size(plan: "Plan") -> str:
    files = counted(len(plan.files), "file")
    return f"{counted(plan.rows, 'row')} in {files}, {counted(len(plan.shards), 'shard')}"
