"""This engine as a peer: its loop over slots, as a worker runs it, without files."""

import argparse
import time
from array import array
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, cast

import jax
import numpy as np
import psutil

from bench.load import FILLER, decode_blocks, endless, full_packs, prefill_rate
from bench.peers.exchange import (
    CURVE_STEPS,
    PROBE,
    PROBE_STEPS,
    Batches,
    Curve,
    Rates,
    Row,
    Run,
    Setup,
    serve,
)
from rgpipeline.engine.factory import use_compilation_cache
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.loop import Loop
from rgpipeline.engine.programs.lowering import tree_bytes
from rgpipeline.engine.programs.program_shapes import pack_tokens
from rgpipeline.engine.sizing import device_memory, resolve_settings
from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.engine.step_tuner import StepTuner
from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.weights import loading
from rgpipeline.model.weights.model_source import resolve_source
from rgpipeline.records import Request, ResolvedSettings
from rgpipeline.spec import EngineSpec, ModelSpec, Sampling

Dtype = Literal["float32", "bfloat16"]
_PREFIX_STATES = 16
_STEPS = 4  # of a decode call, when a step is timed


class Ours:
    """The engine with the settings that `auto` resolves to, except dtype and slots.

    Its way `int8`: weights are quantized.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.engine = lru_cache(maxsize=1)(self._open)

    def _open(self, setup: Setup) -> GriffinEngine:
        model = ModelSpec(weights=self.model, dtype=setup.dtype, quantize=_quantize(setup))
        config, params, _ = loading.load(resolve_source(model))
        settings = settings_for(config, tree_bytes(params), setup)
        return GriffinEngine(
            config, params, settings, pack_tokens=pack_tokens(settings, jax.default_backend())
        )

    def try_step(self, setup: Setup) -> float:
        """One block of decode."""
        return self._step_s(setup, 1)

    def measure(self, setup: Setup) -> Rates:
        """Full packs of prefill, then blocks of decode with all slots busy."""
        engine = self.engine(setup)
        prefill_tokens_per_s = prefill_rate(engine, full_packs(engine, PROBE))
        return Rates(prefill_tokens_per_s, self._step_s(setup, max(2, PROBE_STEPS // _STEPS)))

    def _step_s(self, setup: Setup, blocks: int) -> float:
        engine = self.engine(setup)
        state = engine.init(SamplingFeatures())
        state = engine.assign(state, dict.fromkeys(range(engine.slots), endless(temperature=0)))
        state, _ = decode_blocks(engine, state, 1, _STEPS)  # compiles
        _, seconds = decode_blocks(engine, state, blocks, _STEPS)
        return seconds / (blocks * _STEPS)

    def run(self, setup: Setup, batches: Batches, options: Mapping[str, Any]) -> Run:
        """All rows through one loop, whatever their batches. Option: `prefix_cache`."""
        engine = self.engine(setup)
        _generate(engine, _warm_up_rows(engine), _PREFIX_STATES)
        states = _PREFIX_STATES if options.get("prefix_cache", True) else 0
        return _generate(engine, [row for batch in batches for row in batch], states)

    def first_token(self, setup: Setup) -> None:
        """Loads and compiles everything, and generates one token."""
        _generate(self.engine(setup), [(_filler(PROBE), 1)], _PREFIX_STATES)

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """Generates further than the longest of the lengths, and takes the speed after each.

        Further, because a call for the last tokens may make steps that nobody needs.
        """
        row = (_filler(prompt), max(lengths) + 2 * CURVE_STEPS)
        timeline = self.run(setup, [[row] * setup.batch], {}).timeline
        # Seconds until so many tokens were generated; the first entry is the end of the prefill.
        seconds, tokens = (np.asarray([entry[i] for entry in timeline]) for i in (0, 1))
        starts = np.asarray(lengths) * setup.batch
        ends = starts + CURVE_STEPS * setup.batch
        spans = np.interp(ends, tokens, seconds) - np.interp(starts, tokens, seconds)
        return Curve((spans / CURVE_STEPS).tolist())


def settings_for(config: GriffinConfig, weights_bytes: int, setup: Setup) -> ResolvedSettings:
    """What `auto` resolves to, with the setup's dtype and slots."""
    return resolve_settings(
        *(config, EngineSpec(slots=setup.batch), device_memory(), weights_bytes),
        dtype=cast("Dtype", setup.dtype),
        quantize=_quantize(setup),
        platform=jax.default_backend(),
    )


def _quantize(setup: Setup) -> Literal["none", "int8"]:
    return "int8" if setup.way == "int8" else "none"


def _warm_up_rows(engine: GriffinEngine) -> list[Row]:
    """Rows that use every program: each prefill shape, a state kept and copied, decode."""
    rows = [(_filler(size + 1), 2) for _, size in engine.pack_shapes]
    return [*rows, rows[0], rows[0]]


def _generate(engine: GriffinEngine, rows: list[Row], prefix_states: int) -> Run:
    tuner = StepTuner(engine.settings.steps_per_dispatch)
    loop = Loop(engine, prefix_states=prefix_states, tuner=tuner)
    return generate(
        loop, [_request(index, prompt, new) for index, (prompt, new) in enumerate(rows)]
    )


def generate(loop: Loop[Any, Any], requests: list[Request]) -> Run:
    """All requests, by their index, through a loop."""
    process = psutil.Process()
    # Arrays, since these notes count as resident memory too: an integer in a list takes 40 bytes.
    tokens = [array("i") for _ in requests]
    seconds, generated, resident = array("d"), array("q"), array("q")
    made = 0
    start = time.perf_counter()
    loop.submit(requests)
    while not loop.idle:
        for emission in loop.step():
            tokens[cast("int", emission.key)].extend(emission.token_ids.tolist())
            made += len(emission.token_ids)
        seconds.append(time.perf_counter() - start)
        generated.append(made)
        resident.append(process.memory_info().rss)
    timeline = list(zip(seconds, generated, resident, strict=True))
    return Run(seconds[-1], tokens=[row.tolist() for row in tokens], timeline=timeline)


def _request(key: int, prompt: list[int], new: int) -> Request:
    sampling = Sampling(max_tokens=new, temperature=0, ignore_eos=True)
    return Request(key, np.asarray(prompt, np.int32), sampling, (0, key))


def _filler(length: int) -> list[int]:
    return [FILLER] * length


def _open(arguments: argparse.Namespace) -> Ours:
    use_compilation_cache(arguments.cache)
    return Ours(str(arguments.model))


if __name__ == "__main__":
    serve(_open)
