"""`rgpipeline fit`: whether a model fits a TPU, and how fast it can be, without one."""

from pathlib import Path
from typing import Annotated

import typer

from rgpipeline.cli.options import Json


def fit(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Checkpoint folder, demo, or a known size: 2b, 9b.")
    ],
    topology: Annotated[
        str, typer.Option("--topology", help="v5e:1x1x1, v5e:2x2, v6e:2x4 and the like.")
    ],
    slots: Annotated[
        str, typer.Option("--slots", metavar="N|max", help="max finds the most that fit.")
    ] = "max",
    quantize: Annotated[str, typer.Option("--quantize", metavar="none|int8")] = "none",
    dump_hlo: Annotated[
        Path | None,
        typer.Option("--dump-hlo", metavar="DIR", help="Write decode.hlo and prefill.hlo there."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Compile the programs a worker runs for a TPU, with no TPU, and say what they would need.

    \b
    Examples:
      rgpipeline fit --model 2b --topology v5e:1x1x1
      rgpipeline fit --model 2b --topology v5e:1x1x1 --slots 256 --quantize int8 --json
    """
    from rgpipeline.fit import cli_fit

    return cli_fit(model, topology, slots, quantize=quantize, dump_hlo=dump_hlo, as_json=as_json)
