"""Arguments and options that several commands have in common."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import typer
import yaml

from rgpipeline.errors import JobError, UserError

Choice = TypeVar("Choice", bound=str)

JobFile = Annotated[str, typer.Argument(metavar="JOB", help="The job file (YAML).")]
Output = Annotated[
    str, typer.Argument(metavar="OUTPUT", help="A job's output folder: a path, s3:// or gs://.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a field of the job file, as in YAML: sampling.temperature=0.2; repeatable.",
    ),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="auto|local|ADDR",
        help="The Ray cluster: the one in reach, or a local one (auto); always a local one; or "
        "this address.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Storage = Annotated[
    list[str] | None,
    typer.Option(
        "--storage",
        metavar="PROTOCOL.KEY=VALUE",
        help="An fsspec option for reading OUTPUT: s3.endpoint_url=http://…; repeatable. "
        "${NAME} reads the environment.",
    ),
]


def storage_options(given: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """`s3.key=value` strings as fsspec options by protocol. Raises JobError."""
    options: dict[str, dict[str, Any]] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        protocol, dot, key = name.partition(".")
        if not (equals and dot and protocol and key):
            raise JobError(
                f"--storage {text}: PROTOCOL.KEY=VALUE is expected, such as s3.endpoint_url=http://…"
            )
        try:
            options.setdefault(protocol, {})[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise JobError(f"--storage {text}: the value is not valid YAML") from None
    return options


def one_of(option: str, value: str, choices: tuple[Choice, ...]) -> Choice:
    """`value`, if it is among the choices. Raises UserError naming them."""
    for choice in choices:
        if value == choice:
            return choice
    raise UserError(f"{option} {value}: is not {', '.join(choices[:-1])} or {choices[-1]}")
