"""What the device may still be working on: blocks of decoded tokens, and scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import DecodedBlock
from rgpipeline.engine.programs.forward import Steps
from rgpipeline.records import TokenLogprobs

Scores = Callable[[NDArray[np.int32], NDArray[np.int32]], Any]


@dataclass(frozen=True, slots=True)
class DeviceBlock:
    """`api.PendingBlock` of a GriffinEngine."""

    steps: Steps
    count: int  # of them that were run
    each: int  # rows for each slot, of which the first is the slot's

    def read(self) -> DecodedBlock:
        """See `api.PendingBlock.read`."""
        found = jax.device_get(self.steps)
        steps = jax.tree.map(lambda rows: rows[: self.count, :: self.each], found)
        sampled = steps.sampled
        logprobs = None
        if sampled.logprob.shape[-1]:
            logprobs = TokenLogprobs(sampled.logprob, sampled.top_ids, sampled.top_logprobs)
        return DecodedBlock(sampled.token, steps.codes, logprobs)


@dataclass(frozen=True, slots=True)
class DeviceScores:
    """`api.PendingScores` of a GriffinEngine."""

    shape: tuple[int, int]
    blocks: list[tuple[NDArray[np.int64], NDArray[np.int64], Any]]  # see `read`

    def read(self) -> NDArray[np.float32]:
        """See `api.PendingScores.read`."""
        scores = np.zeros(self.shape, np.float32)
        for positions, places, found in self.blocks:
            scores.reshape(-1)[positions] = np.asarray(found)[places]
        return scores


def score_positions(
    program: Scores, targets: NDArray[np.int32], block: int, groups: int
) -> DeviceScores:
    """Has the head read those positions of a pack that have a target, block by block.

    Args:
      program: (positions [groups * block], targets [groups * block]) -> log-probabilities. Each
        group of chips has an equal part of the rows, of the positions asked for, and numbers its
        own positions from 0.
      targets: [r, t], -1 where nothing is asked for.
      block: positions that a group's head reads at once.
      groups: of chips.
    """
    each = targets.size // groups
    wanted = [np.flatnonzero(part >= 0) for part in targets.reshape(groups, each)]
    blocks = []
    for start in range(0, max(map(len, wanted)), block):
        own = [positions[start : start + block] for positions in wanted]
        places = np.concatenate([g * block + np.arange(len(part)) for g, part in enumerate(own)])
        positions = np.concatenate([g * each + part for g, part in enumerate(own)])
        asked, tokens = np.zeros((2, groups * block), np.int32)
        asked[places] = np.concatenate(own)
        tokens[places] = targets.reshape(-1)[positions]
        blocks.append((positions, places, program(asked, tokens)))
    return DeviceScores((targets.shape[0], targets.shape[1]), blocks)
