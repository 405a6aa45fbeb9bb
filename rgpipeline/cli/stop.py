"""`rgpipeline stop`: a job that runs anywhere, gently."""

import time

import typer

from rgpipeline.cli.options import Output, Storage, storage_options


def stop(output: Output, storage: Storage = None) -> int:
    """Stop a running job from anywhere: it publishes what is finished, saves what is long, ends.

    \b
    Example:
      rgpipeline stop gs://bucket/out/run-7

    The job's own command ends with code 130; running it again goes on from there.
    """
    from rgpipeline.output.dataset import open_job
    from rgpipeline.output.status import driver_at_work
    from rgpipeline.output.stopping import request_stop

    options = storage_options(storage)
    store, _, _ = open_job(output, options)
    if not driver_at_work(store, time.time()):
        typer.echo(f"{output}: no driver is at work on it; there is nothing to stop.")
        return 0
    request_stop(output, options)
    typer.echo(f"{output}: asked to stop; `rgpipeline status {output}` says when it has.")
    return 0
