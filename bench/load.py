"""What keeps an engine busy while it is timed: every buffer row reading, every slot writing."""

import numpy as np

from rgpipeline.engine.api import UNLIMITED, PrefillPack
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.slot_fields import SlotParams
from rgpipeline.spec import Sampling

FILLER = 7  # any token but BOS


def full_packs(engine: GriffinEngine, tokens: int) -> list[PrefillPack]:
    """Packs of a prompt of `tokens` tokens for every buffer row, in the longest chunks."""
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


def endless(temperature: float) -> SlotParams:
    """A slot's sequence that never ends by itself."""
    return SlotParams(
        remaining=UNLIMITED,
        sampling=Sampling(temperature=temperature, ignore_eos=True, max_tokens=None),
        draw=(1, 2),
        prompt=np.asarray([FILLER], np.int32),
    )
