"""`rgpipeline fit`: whether a model fits a TPU, and how fast it can be, without one."""

import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from rgpipeline.cli.options import Json
from rgpipeline.errors import JobError

NO_FIT = 1

_T = TypeVar("_T", bound=str)


def fit(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="A checkpoint's folder, demo, or a name: recurrentgemma-2b, -9b."
        ),
    ],
    topology: Annotated[
        str, typer.Option("--topology", help="v5e:1x1x1, v5e:2x2, v6e:2x4 and the like.")
    ],
    slots: Annotated[
        str, typer.Option("--slots", metavar="auto|N|max", help="max finds the most that fit.")
    ] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", metavar="auto|bfloat16|float32")] = "auto",
    quantize: Annotated[str, typer.Option("--quantize", metavar="none|int8")] = "none",
    mesh: Annotated[
        str | None,
        typer.Option("--mesh", metavar="DATA,MODEL", help="Default: all chips data parallel."),
    ] = None,
    dump_hlo: Annotated[
        Path | None,
        typer.Option("--dump-hlo", metavar="DIR", help="Write decode.hlo and prefill.hlo there."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Compile the programs a worker runs for a TPU, with no TPU, and say what they will need.

    \b
    Examples:
      rgpipeline fit --model recurrentgemma-2b --topology v5e:1x1x1
      rgpipeline fit -m recurrentgemma-2b --topology v5e:1x1x1 --slots max --quantize int8 --json
    """
    from rgpipeline.fit import FitRequest
    from rgpipeline.fit import fit as run

    report = run(
        FitRequest(
            model=model,
            topology=topology,
            slots=_slots(slots),
            dtype=_one_of("--dtype", dtype, ("auto", "bfloat16", "float32")),
            quantize=_one_of("--quantize", quantize, ("none", "int8")),
            mesh=_mesh(mesh),
            dump_hlo=dump_hlo,
        )
    )
    typer.echo(json.dumps(report.to_json(), indent=2) if as_json else report.render())
    return 0 if report.fits else NO_FIT


def _slots(text: str) -> int | Literal["auto", "max"]:
    if text == "auto":
        return "auto"
    if text == "max":
        return "max"
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise JobError(f"--slots {text}: expected auto, max, or a positive number")


def _mesh(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.replace("data=", "").replace("model=", "").split(",")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise JobError(f"--mesh {text}: expected DATA,MODEL, such as 1,4")
    return int(sides[0]), int(sides[1])


def _one_of(option: str, value: str, known: tuple[_T, ...]) -> _T:
    for one in known:
        if value == one:
            return one
    raise JobError(f"{option} {value}: expected one of {', '.join(known)}")
