"""What the loop gets from decode: blocks that the device works on, and what the host reads."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.slot_fields import SamplingFeatures
from rgpipeline.records import TokenLogprobs

State = TypeVar("State")

# Codes in `DecodedBlock.codes`, one for each step and slot.
IDLE, GOES_ON, STOPPED, LAST, FAILED = -1, 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """The results of k decode steps, on the host."""

    tokens: NDArray[np.int32]  # [k, s]
    # [k, s]: IDLE, GOES_ON, STOPPED (token not part of it), LAST, FAILED (logits not finite)
    codes: NDArray[np.int8]
    logprobs: TokenLogprobs | None  # [k, s, ...], if the features ask for them


class PendingBlock(Protocol):
    """A block that the device may still be working on."""

    def read(self) -> DecodedBlock:
        """Waits for the device and copies the block to the host."""
        ...


class PendingStep(Protocol[State]):
    """A decode step whose tokens wait for masks; the device may still be working on it."""

    def draw(
        self, state: State, features: SamplingFeatures, masks: NDArray[np.int32]
    ) -> tuple[State, PendingBlock]:
        """Draws them, as a block of one step.

        `masks` [slots, w], see `grammar_protocol`; must not change, since they may be read later.
        """
        ...
