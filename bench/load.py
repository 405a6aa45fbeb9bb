"""What keeps an engine busy while it is timed: every place reading, every slot writing."""

import numpy as np

from rgpipeline.engine.api import UNLIMITED, PrefillPack
from rgpipeline.engine.griffin_engine import GriffinEngine
from rgpipeline.engine.slot_fields import SlotParams
from rgpipeline.spec import Sampling

FILLER = 7  # any token but BOS


def full_packs(engine: GriffinEngine, tokens: int) -> list[PrefillPack]:
    """A prompt of `tokens` tokens for every place, in the longest chunks, as a loop packs them."""
    rows, size = engine.pack_shapes[0]
    packs = []
    for first in range(0, engine.staging, rows):
        places = np.arange(first, first + rows, dtype=np.int32)
        lengths = np.where(places < engine.staging, size, 0).astype(np.int32)
        for chunk in range(max(1, tokens // size)):
            packs.append(
                PrefillPack(
                    tokens=np.full((rows, size), FILLER, np.int32),
                    lengths=lengths,
                    places=np.minimum(places, engine.staging),
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
