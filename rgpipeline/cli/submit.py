"""`rgpipeline submit`: a job, on a cluster somewhere else."""

from typing import Annotated

import typer

from rgpipeline.cli.options import JobFile, Overrides


def submit(
    job: JobFile,
    address: Annotated[
        str,
        typer.Option(
            "--address", metavar="URL", help="Of the cluster's dashboard: http://HOST:8265."
        ),
    ],
    overrides: Overrides = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the job to its end, or come back.")
    ] = True,
) -> int:
    """Submit a job to a Ray cluster, and follow it there.

    \b
    Examples:
      rgpipeline submit job.yaml --address http://127.0.0.1:8265
      rgpipeline submit job.yaml --address http://127.0.0.1:8265 --no-wait

    Paths in the job file are read on the cluster: use object stores, or a shared disk.
    """
    from rgpipeline.runtime.submission import submit as submit_to

    return submit_to(job, overrides or (), address, wait=wait, echo=typer.echo)
