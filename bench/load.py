"""Full load for an engine, and its time: every buffer row in prefill, every slot in decode."""

import time
from collections.abc import Sequence

import numpy as np

from rgpipeline.engine.api import UNLIMITED, PrefillPack
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.slot_fields import SamplingFeatures, SlotParams
from rgpipeline.engine.slot_state import SlotState
from rgpipeline.spec import Sampling

FILLER = 7  # any token but BOS


def full_packs(engine: GriffinEngine, tokens: int) -> list[PrefillPack]:
    """A prompt of `tokens` tokens for every row of the prefill buffer, in the longest chunks."""
    rows, size = engine.pack_shapes[0]
    packs = []
    for first in range(0, engine.prefill_rows, rows):
        buffer_rows = np.arange(first, first + rows, dtype=np.int32)
        lengths = np.where(buffer_rows < engine.prefill_rows, size, 0).astype(np.int32)
        for chunk in range(max(1, tokens // size)):
            packs.append(
                PrefillPack(
                    tokens=np.full((rows, size), FILLER, np.int32),
                    lengths=lengths,
                    buffer_rows=np.minimum(buffer_rows, engine.prefill_rows),
                    fresh=np.full((rows,), chunk == 0),
                )
            )
    return packs


def prefill_rate(engine: GriffinEngine, packs: Sequence[PrefillPack]) -> float:
    """Prompt tokens per second, compilation apart."""
    buffer = engine.prefill(engine.init_prefill_buffer(), packs[0])  # compiles
    engine.wait(buffer)
    start = time.perf_counter()
    for pack in packs:
        buffer = engine.prefill(buffer, pack)
    engine.wait(buffer)
    return sum(int(pack.lengths.sum()) for pack in packs) / (time.perf_counter() - start)


def decode_blocks(
    engine: GriffinEngine, state: SlotState, blocks: int, steps: int
) -> tuple[SlotState, float]:
    """The state after so many blocks, and their seconds.

    As in the engine's loop, the host reads a block while the device computes the next one.
    """
    features = SamplingFeatures()
    start = time.perf_counter()
    state, pending = engine.decode(state, features, steps)
    for _ in range(blocks - 1):
        state, following = engine.decode(state, features, steps)
        pending.read()
        pending = following
    pending.read()
    return state, time.perf_counter() - start


def endless(temperature: float) -> SlotParams:
    """A sequence that never ends by itself."""
    return SlotParams(
        remaining=UNLIMITED,
        sampling=Sampling(temperature=temperature, ignore_eos=True, max_tokens=None),
        draw=(1, 2),
        prompt=np.asarray([FILLER], np.int32),
    )
