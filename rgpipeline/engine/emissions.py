"""What a decoded block means for its tenants."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import FAILED, IDLE, LAST, STOPPED, DecodedBlock, PendingBlock
from rgpipeline.engine.numbers import NO_NUMBERS
from rgpipeline.engine.slots import Tenant
from rgpipeline.records import Emission, FinishReason, Snapshot, TokenLogprobs


@dataclass(frozen=True, slots=True)
class InFlight:
    """A dispatched block, with who sat where."""

    block: PendingBlock
    steps: int
    prefills: int  # calls made until it was dispatched
    tenants: list[Tenant]
    snapshots: Mapping[int, Mapping[str, NDArray[np.generic]]]  # by slot


class BlockRead:
    """A decoded block, slot by slot.

    How much each slot gained is worked out for all of them at once: numpy asked 256 times would
    take longer than all the rest that the host does for a block.
    """

    def __init__(self, block: DecodedBlock) -> None:
        codes = block.codes
        emitted = (codes != IDLE) & (codes != STOPPED) & (codes != FAILED)
        self._tokens = block.tokens.T.copy()  # [s, k]
        self._logprobs = block.logprobs
        self._emitted: list[int] = np.count_nonzero(emitted, axis=0).tolist()
        self._stopped: list[bool] = (codes == STOPPED).any(axis=0).tolist()
        self._last: list[bool] = (codes == LAST).any(axis=0).tolist()
        self._failed: list[bool] = (codes == FAILED).any(axis=0).tolist()

    def emission(
        self, tenant: Tenant, arrays: Mapping[str, NDArray[np.generic]] | None
    ) -> Emission:
        """The tenant's tokens in the block, credited to it.

        `arrays` is its state after the block, if a snapshot was asked for; a sequence that ended
        needs none.
        """
        slot = tenant.slot
        if self._failed[slot]:
            none = self._tokens[slot, :0]
            return Emission(tenant.request.key, none, "error", error=NO_NUMBERS)
        emitted, finish = self._emitted[slot], self._finish(slot)
        tenant.generated += emitted
        return Emission(
            key=tenant.request.key,
            token_ids=self._tokens[slot, :emitted],
            finish=finish,
            logprobs=self._told(slot, emitted, tenant.request.sampling.logprobs),
            snapshot=None if arrays is None or finish is not None else snapshot(tenant, arrays),
        )

    def _finish(self, slot: int) -> FinishReason | None:
        if self._stopped[slot]:
            return "stop"
        return "length" if self._last[slot] else None

    def _told(self, slot: int, emitted: int, wanted: int) -> TokenLogprobs | None:
        if not wanted or self._logprobs is None:
            return None
        top = wanted if wanted > 1 else 0
        return TokenLogprobs(
            sampled=self._logprobs.sampled[:emitted, slot].copy(),
            top_ids=self._logprobs.top_ids[:emitted, slot, :top].copy(),
            top=self._logprobs.top[:emitted, slot, :top].copy(),
        )


def snapshot(tenant: Tenant, arrays: Mapping[str, NDArray[np.generic]]) -> Snapshot:
    """The tenant's state after the tokens credited to it, on the host (waits for the device)."""
    before = tenant.request.snapshot.generated if tenant.request.snapshot else 0
    read = {name: np.asarray(array) for name, array in arrays.items()}
    return Snapshot(arrays=read, generated=before + tenant.generated)
