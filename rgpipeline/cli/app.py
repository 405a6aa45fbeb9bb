"""The command line: all commands put together, and the program's entry point."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NoReturn

import typer

from rgpipeline import __version__
from rgpipeline.cli.cat_command import cat
from rgpipeline.cli.exits import HardExit, accept_any_text, guarded, interruptible
from rgpipeline.cli.fit_command import fit
from rgpipeline.cli.generate_command import generate
from rgpipeline.cli.job_commands import run, submit, validate
from rgpipeline.cli.output_commands import report, retry, status, stop

_HELP = """
Batch generation with RecurrentGemma (Griffin) models: a table of prompts in, every completion
out, however long.

\b
  rgpipeline run jobs/demo.yaml                 run a job; the same again resumes it
  rgpipeline status out/demo                    how far it is, from anywhere
  rgpipeline cat out/demo | less                read the completions
  rgpipeline generate --model demo "And God"    try a model, without a job

\b
Exit codes: 0 all rows done · 1 failed · 2 your mistake (one message says which)
· 3 finished, some rows failed · 130 interrupted; run the same again to resume.
"""

# They log errors that they also raise.
_NOISY_LOGGERS = ("gcsfs", "s3fs", "fsspec", "aiobotocore", "botocore", "google.auth")

COMMANDS: Mapping[Callable[..., int], str] = {
    run: "Run a job, or resume it.",
    submit: "Submit a job to a Ray cluster.",
    status: "Say how far a job is.",
    stop: "Stop a running job gently, from anywhere.",
    report: "Write a report of a job as an HTML page.",
    cat: "Print a job's completions.",
    generate: "Continue one prompt, streaming.",
    fit: "Say whether a model fits a TPU, without one.",
    validate: "Find what is wrong with a job before it runs.",
    retry: "Run a job's failed rows again, as a new job.",
}


@dataclass(slots=True)
class Settings:
    """The options given before the command."""

    debug: bool = False


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The program: runs one command and ends the process with its exit code."""
    end = HardExit()
    try:
        end.code = call(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as leaving:  # its code, as Python reads it
        end.code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        raise
    sys.exit(end.code)


def call(arguments: Sequence[str]) -> int:
    """Runs one command line; every failure is reported on stderr. Returns the exit code."""
    settings = Settings()
    accept_any_text()
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    arguments = list(arguments) or ["--help"]

    def command() -> int:
        code = app()(args=arguments, prog_name="rgpipeline", standalone_mode=False, obj=settings)
        return code if isinstance(code, int) else 0

    return guarded(command, lambda: settings.debug)


def app() -> typer.Typer:
    """The program with every command."""
    commands = typer.Typer(
        help=_HELP,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    commands.callback()(_before)
    for command, help in COMMANDS.items():
        commands.command(short_help=help)(interruptible(command))
    return commands


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rgpipeline {__version__}")
        raise typer.Exit


def _before(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_version),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks.", envvar="RGPIPELINE_DEBUG")
    ] = False,
) -> None:
    context.obj.debug = debug
