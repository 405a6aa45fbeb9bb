"""`rgpipeline report`: a job on one page."""

from pathlib import Path
from typing import Annotated

import typer

from rgpipeline.cli.options import Output, Storage, storage_options


def report(
    output: Output,
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="Where the page is written.")
    ] = Path("report.html"),
    storage: Storage = None,
) -> int:
    """Write a report of a job as one self-contained HTML page: rates, lengths, failures, samples.

    \b
    Examples:
      rgpipeline report out/demo
      rgpipeline report gs://bucket/out/run-7 --to run-7.html

    Works from the output folder alone, also while the job runs.
    """
    from rgpipeline.report import write_report

    write_report(output, to, storage_options(storage))
    typer.echo(f"{to}: the report of {output}; open it in a browser.")
    return 0
