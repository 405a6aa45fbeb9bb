"""Tokens per second on the TPU of this machine, beside the bounds that `rgpipeline fit` gives.

    python -m bench.tpu [--model recurrentgemma-2b] [--slots 64 256 384] [--quantize int8]

One chip, random weights (the speed does not depend on them), all slots busy, all windows full,
sampling at temperature 1. Prints a line of JSON for each number of slots, then a table.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from bench.load import decode_blocks, endless, full_packs, prefill_rate
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.programs.lowering import PLAIN
from rgpipeline.engine.programs.program_shapes import pack_tokens
from rgpipeline.engine.sizing import device_memory, resolve_settings
from rgpipeline.engine.step_tuner import MAX_STEPS
from rgpipeline.errors import RgpipelineError
from rgpipeline.fit import FitRequest, fit
from rgpipeline.model.config import GriffinConfig, known_config
from rgpipeline.model.param_tree import Params, flatten, nest
from rgpipeline.model.params import param_shapes
from rgpipeline.model.platforms import kernels_for
from rgpipeline.model.weights.checkpoint import read_config
from rgpipeline.model.weights.model_source import resolve_source
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec, ModelSpec

_TOPOLOGIES = {"TPU v5 lite": "v5e:1x1x1", "TPU v6 lite": "v6e:1x1x1", "TPU v5": "v5p:1x1x1"}
_REPEATS = 5
_NO_TPU = """no TPU here: jax runs on {platform} ({kind}).
On a TPU VM: pip install 'rgpipeline[tpu]', then make bench-tpu, with no other process on the chip.
Without one, `rgpipeline fit` gives the compiler's estimates."""


class Measured(NamedTuple):
    """Tokens per second of one chip."""

    slots: int
    decode: float
    prefill: float


def main() -> int:
    """Measures, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="recurrentgemma-2b")
    parser.add_argument("--slots", type=int, nargs="+", default=[64, 256, 384])
    parser.add_argument("--quantize", choices=("none", "int8"), default="none")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each of five measurements")
    parser.add_argument("--any-device", action="store_true", help="measure on a GPU or CPU, too")
    options = parser.parse_args()
    device = jax.devices()[0]
    if device.platform != "tpu" and not options.any_device:
        print(_NO_TPU.format(platform=device.platform, kind=device.device_kind), file=sys.stderr)
        return 2
    config = _config(options.model)
    rows = []
    for slots in options.slots:
        measured = measure(config, slots, options.quantize, options.seconds)
        bounds = _bounds(options.model, slots, options.quantize, device.device_kind)
        rows.append({**measured._asdict(), **bounds, "device": device.device_kind})
        print(json.dumps(rows[-1]), flush=True)
    print(_table(rows))
    return 0


def measure(
    config: GriffinConfig, slots: int, quantize: Literal["none", "int8"], seconds: float
) -> Measured:
    """Prefills every slot to a full window, then decodes with all of them.

    `seconds`: of each of the measurements of decoding.
    """
    platform = jax.default_backend()
    settings = resolve_settings(
        *(config, EngineSpec(slots=slots, steps_per_dispatch=MAX_STEPS), device_memory(), 0),
        dtype="bfloat16",
        quantize=quantize,
        platform=platform,
    )
    engine = GriffinEngine(
        config,
        _random_params(config, settings),
        settings,
        pack_tokens=pack_tokens(settings, platform),
        kernels=kernels_for(platform),
    )
    prefill = prefill_rate(engine, full_packs(engine, config.window))
    state = engine.assign(engine.init(PLAIN), dict.fromkeys(range(slots), endless(temperature=1)))
    return Measured(slots, _decode_rate(engine, state, seconds), prefill)


def _decode_rate(engine: GriffinEngine, state: Any, wanted_s: float) -> float:
    """The median of several measurements."""
    state, _ = decode_blocks(engine, state, 2, engine.steps)  # compiles
    state, seconds = decode_blocks(engine, state, 2, engine.steps)
    blocks = max(2, round(wanted_s / (seconds / 2)))
    rates = []
    for _ in range(_REPEATS):
        state, seconds = decode_blocks(engine, state, blocks, engine.steps)
        rates.append(blocks * engine.steps * engine.slots / seconds)
    return statistics.median(rates)


def _random_params(config: GriffinConfig, settings: ResolvedSettings) -> Params:
    """Random weights, drawn on the device: on the host, 2B parameters would take minutes."""

    def draw(key: jax.Array, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if leaf.dtype == jnp.int8:
            return jax.random.randint(key, leaf.shape, -127, 128, leaf.dtype)
        scale = leaf.shape[-1] ** -0.5
        drawn: jax.Array = jax.random.normal(key, leaf.shape, jnp.float32) * scale
        return drawn.astype(leaf.dtype)

    leaves = flatten(param_shapes(config, jnp.dtype(settings.dtype), settings.quantize == "int8"))
    drawn = jax.jit(draw, static_argnums=1)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return nest(
        {path: drawn(key, leaf) for key, (path, leaf) in zip(keys, leaves.items(), strict=True)}
    )


def _config(model: str) -> GriffinConfig:
    if model.count("-") and "/" not in model:
        return known_config(model)
    return read_config(resolve_source(ModelSpec(weights=model)))


def _bounds(model: str, slots: int, quantize: Any, kind: str) -> dict[str, float]:
    if kind not in _TOPOLOGIES:
        return {}
    try:
        asked = ModelSpec(weights=model, quantize=quantize)
        report = fit(FitRequest(asked, _TOPOLOGIES[kind], slots=slots))
    except RgpipelineError as error:  # print the measurement without it
        print(f"{slots} slots: no bound: {error}", file=sys.stderr)
        return {}
    if report.decode is None or report.prefill is None:
        return {}
    return {
        "decode_bound": report.decode.tokens_per_second_bound,
        "prefill_bound": report.prefill.tokens_per_second_bound,
    }


def _table(rows: Iterable[dict[str, Any]]) -> str:
    lines = ["", "slots   decode tok/s   of bound   prefill tok/s   of bound"]
    for row in rows:
        shares = [
            f"{row[name] / row[f'{name}_bound']:8.0%}" if f"{name}_bound" in row else "       -"
            for name in ("decode", "prefill")
        ]
        lines.append(
            f"{row['slots']:5} {row['decode']:14,.0f}   {shares[0]} "
            f"{row['prefill']:15,.0f}   {shares[1]}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
