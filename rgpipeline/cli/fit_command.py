"""`rgpipeline fit`: whether a model fits a TPU, and how fast it can be, without one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rgpipeline.cli.shared_options import Json, Overrides, one_of
from rgpipeline.errors import JobError, UserError

if TYPE_CHECKING:
    from rgpipeline.fit import FitReport

NO_FIT = 1


def fit(
    topology: Annotated[
        str, typer.Option("--topology", help="v5e:1x1x1, v5e:2x2, v5e:2x4, v6e:2x2 and the like.")
    ],
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="A job file, in place of --model.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A checkpoint's folder, demo, or recurrentgemma-2b, recurrentgemma-9b.",
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", help="A LoRA adapter's folder; --model is its base's folder."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="If --model is an adapter's folder: its base; default: the one that it names.",
        ),
    ] = None,
    slots: Annotated[
        str | None, typer.Option("--slots", metavar="auto|N|max", help="max finds the most.")
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="auto|bfloat16|float32")] = None,
    quantize: Annotated[str | None, typer.Option("--quantize", metavar="none|int8")] = None,
    mesh: Annotated[
        str | None,
        typer.Option(
            "--mesh",
            metavar="DATA,MODEL",
            help="Parts of the slots, parts of the weights; default: as few of the weights as fit.",
        ),
    ] = None,
    structured: Annotated[
        bool,
        typer.Option("--structured", help="Also what a step costs beside rows with a grammar."),
    ] = False,
    overrides: Overrides = None,
    dump_hlo: Annotated[
        Path | None,
        typer.Option("--dump-hlo", metavar="DIR", help="Write decode.hlo and prefill.hlo there."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Compile the programs a worker runs for a TPU, with no TPU, and say what they will need.

    With a job file, model and engine are the job's, and its input is counted: how many
    device-hours it will take at least. The exit code is 1 if it does not fit.

    \b
    Examples:
      rgpipeline fit --model recurrentgemma-2b --topology v5e:1x1x1 --slots max
      rgpipeline fit -m recurrentgemma-9b --topology v5e:2x2 --mesh 1,4 --json
      rgpipeline fit job.yaml --topology v5e:2x4
    """
    if (job is None) == (model is None):
        raise UserError("give either a job file or --model")
    if job is not None:
        _refuse_beside_a_job(adapter, base, dtype, quantize, mesh)
        return _fit_job(job, overrides or [], topology, slots, structured, dump_hlo, as_json)
    if overrides:
        raise UserError("--set changes a job file, and there is none")
    from rgpipeline.fit import FitRequest
    from rgpipeline.fit import fit as run
    from rgpipeline.jobfile.spec_faults import section
    from rgpipeline.spec import ModelSpec

    request = FitRequest(
        model=section(
            ModelSpec,
            weights=model,
            adapter=adapter,
            base=base,
            dtype=one_of("--dtype", dtype or "auto", ("auto", "bfloat16", "float32")),
            quantize=one_of("--quantize", quantize or "none", ("none", "int8")),
        ),
        topology=topology,
        slots=_slots(slots or "auto"),
        mesh=_mesh(mesh),
        structured=structured,
        dump_hlo=dump_hlo,
    )
    report = run(request)
    return _answer(report, report.render(), as_json)


def _fit_job(
    path: str,
    overrides: list[str],
    topology: str,
    slots: str | None,
    structured: bool,
    dump_hlo: Path | None,
    as_json: bool,
) -> int:
    from rgpipeline.fit import fit_job
    from rgpipeline.jobfile import load_job

    wanted = None if slots is None else _slots(slots)
    estimate = fit_job(
        load_job(path, overrides),
        topology,
        slots=wanted,
        structured=structured,
        dump_hlo=dump_hlo,
    )
    return _answer(estimate.report, estimate.render(), as_json)


def _answer(report: "FitReport", rendered: str, as_json: bool) -> int:
    typer.echo(json.dumps(report.to_json(), indent=2) if as_json else rendered)
    return 0 if report.fits else NO_FIT


def _refuse_beside_a_job(
    adapter: str | None,
    base: str | None,
    dtype: str | None,
    quantize: str | None,
    mesh: str | None,
) -> None:
    options = (
        ("--adapter", "model.adapter", adapter),
        ("--base", "model.base", base),
        ("--dtype", "model.dtype", dtype),
        ("--quantize", "model.quantize", quantize),
        ("--mesh", "workers.mesh", mesh),
    )
    for option, name, value in options:
        if value is not None:
            raise UserError(f"{option} is the job file's {name}; use --set to change it")


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
