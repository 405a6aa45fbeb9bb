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

from bench.load import FILLER, endless, full_packs
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
from rgpipeline.records import Request, ResolvedSettings
from rgpipeline.spec import EngineSpec, Sampling

Dtype = Literal["float32", "bfloat16"]
_PREFIX_STATES = 16
_STEPS = 4  # a call, where it is the step that is timed


class Ours:
    """The engine with settings as `auto` settles them, but for dtype and slots."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._engine = lru_cache(maxsize=1)(self._open)

    def _open(self, setup: Setup) -> GriffinEngine:
        config, params, _ = loading.load(self._model, cast("Dtype", setup.dtype))
        settings = settings_for(config, tree_bytes(params), setup)
        return GriffinEngine(
            config, params, settings, pack_tokens=pack_tokens(settings, jax.default_backend())
        )

    def measure(self, setup: Setup) -> Rates:
        """Full packs of prefill, then blocks of decode with every slot busy."""
        engine = self._engine(setup)
        packs = full_packs(engine, PROBE)
        stage = engine.prefill(engine.init_prefill_buffer(), packs[0])
        engine.wait(stage)
        start = time.perf_counter()
        for pack in packs:
            stage = engine.prefill(stage, pack)
        engine.wait(stage)
        prefill_s = time.perf_counter() - start

        state = engine.init(SamplingFeatures())
        state = engine.assign(state, dict.fromkeys(range(engine.slots), endless(temperature=0)))
        blocks = max(2, PROBE_STEPS // _STEPS)
        state, pending = engine.decode(state, SamplingFeatures(), _STEPS)
        pending.read()
        start = time.perf_counter()
        state, pending = engine.decode(state, SamplingFeatures(), _STEPS)
        for _ in range(blocks - 1):  # the host a block behind, as in the loop
            state, following = engine.decode(state, SamplingFeatures(), _STEPS)
            pending.read()
            pending = following
        pending.read()
        step_s = (time.perf_counter() - start) / (blocks * _STEPS)
        return Rates(sum(int(pack.lengths.sum()) for pack in packs) / prefill_s, step_s)

    def run(self, setup: Setup, batches: Batches, options: Mapping[str, Any]) -> Run:
        """All rows through one loop; batches mean nothing here. Option: `prefix_cache`."""
        engine = self._engine(setup)
        _generate(engine, _warm_up_rows(engine), _PREFIX_STATES)
        states = _PREFIX_STATES if options.get("prefix_cache", True) else 0
        return _generate(engine, [row for batch in batches for row in batch], states)

    def first_token(self, setup: Setup) -> None:
        """Loads all there is to load, and generates one token."""
        _generate(self._engine(setup), [(_filler(PROBE), 1)], _PREFIX_STATES)

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """Generates to the greatest of the lengths, and looks at the tuner around each."""
        row = (_filler(prompt), max(lengths) + CURVE_STEPS)
        timeline = self.run(setup, [[row] * setup.batch], {}).timeline
        # Seconds at which so many tokens were there; the first entry is the end of the prefill.
        seconds, tokens = (np.asarray([entry[i] for entry in timeline]) for i in (0, 1))
        starts = np.asarray(lengths) * setup.batch
        ends = starts + CURVE_STEPS * setup.batch
        spans = np.interp(ends, tokens, seconds) - np.interp(starts, tokens, seconds)
        return Curve((spans / CURVE_STEPS).tolist())


def settings_for(config: GriffinConfig, weights_bytes: int, setup: Setup) -> ResolvedSettings:
    """What `auto` resolves to, but for dtype and slots."""
    return resolve_settings(
        *(config, EngineSpec(slots=setup.batch), device_memory(), weights_bytes),
        dtype=cast("Dtype", setup.dtype),
        quantize="none",
        platform=jax.default_backend(),
    )


def _warm_up_rows(engine: GriffinEngine) -> list[Row]:
    """Rows that need every program: each shape of prefill, a state kept and copied, decode."""
    rows = [(_filler(size + 1), 2) for _, size in engine.pack_shapes]
    return [*rows, rows[0], rows[0]]


def _generate(engine: GriffinEngine, rows: list[Row], prefix_states: int) -> Run:
    tuner = StepTuner(engine.settings.steps_per_dispatch)
    loop = Loop(engine, prefix_states=prefix_states, tuner=tuner)
    process = psutil.Process()
    # Packed, since what is noted is resident too: an integer in a list takes 40 bytes.
    tokens = [array("i") for _ in rows]
    seconds, generated, resident = array("d"), array("q"), array("q")
    made = 0
    start = time.perf_counter()
    loop.submit(_request(index, prompt, new) for index, (prompt, new) in enumerate(rows))
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
