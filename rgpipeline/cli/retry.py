"""`rgpipeline retry`: the failed rows of a job, as a job of their own."""

from typing import Annotated

import typer

from rgpipeline.cli.options import Address, Output, Overrides, Storage, storage_options
from rgpipeline.cli.terminal import say_warning
from rgpipeline.wording import counted


def retry(
    output: Output,
    new: Annotated[
        str,
        typer.Option("--output", metavar="NEW", help="Where the new job's completions go."),
    ],
    overrides: Overrides = None,
    address: Address = "auto",
    storage: Storage = None,
) -> int:
    """Run just the failed rows of a job again, as a new job with its own output.

    OUTPUT stays as it is, so that nobody who reads it sees a row twice. Rows keep their ids, and
    so get the tokens that they would have got in the first place.

    \b
    Examples:
      rgpipeline retry out/run-7 --output out/run-7-again
      rgpipeline retry out/run-7 --output out/again --set sampling.max_tokens=4096

    Rows are read from the input as it is now: mend what was wrong with them first. The same
    command again resumes the new job.
    """
    from rgpipeline.cli.run import run_job
    from rgpipeline.output.retry import prepare_retry

    prepared = prepare_retry(output, new, overrides or (), storage_options(storage))
    if prepared is None:
        typer.echo(f"{output}: no failed rows; there is nothing to do again.")
        return 0
    for reason in prepared.left_out:
        say_warning(f"left out, for it can't be read: {reason}")
    typer.echo(f"{counted(prepared.rows, 'failed row')} of {output}")
    return run_job(prepared.job, address=address)
