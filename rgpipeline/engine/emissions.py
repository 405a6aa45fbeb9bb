"""What a decoded block means for one tenant."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rgpipeline.engine.api import IDLE, LAST, STOPPED, DecodedBlock
from rgpipeline.engine.slots import Tenant
from rgpipeline.records import Emission, FinishReason, Snapshot, TokenLogprobs


def emission(
    tenant: Tenant, block: DecodedBlock, arrays: Mapping[str, NDArray[np.generic]] | None
) -> Emission:
    """The tenant's tokens in the block, credited to it.

    `arrays` is its state after the block, if a snapshot was asked for; a sequence that ended
    needs none.
    """
    slot, codes = tenant.slot, block.codes[:, tenant.slot]
    emitted = int(np.count_nonzero((codes != IDLE) & (codes != STOPPED)))
    tenant.generated += emitted
    finish = _finish(codes)
    return Emission(
        key=tenant.request.key,
        token_ids=block.tokens[:emitted, slot].copy(),
        finish=finish,
        logprobs=_logprobs(block, slot, emitted, tenant.request.sampling.logprobs),
        snapshot=None if arrays is None or finish is not None else snapshot(tenant, arrays),
    )


def snapshot(tenant: Tenant, arrays: Mapping[str, NDArray[np.generic]]) -> Snapshot:
    """The tenant's state after the tokens credited to it, on the host (waits for the device)."""
    before = tenant.request.snapshot.generated if tenant.request.snapshot else 0
    read = {name: np.asarray(array) for name, array in arrays.items()}
    return Snapshot(arrays=read, generated=before + tenant.generated)


def _finish(codes: NDArray[np.int8]) -> FinishReason | None:
    if STOPPED in codes:
        return "stop"
    return "length" if LAST in codes else None


def _logprobs(block: DecodedBlock, slot: int, emitted: int, wanted: int) -> TokenLogprobs | None:
    if not wanted or block.logprobs is None:
        return None
    top = wanted if wanted > 1 else 0
    return TokenLogprobs(
        sampled=block.logprobs.sampled[:emitted, slot].copy(),
        top_ids=block.logprobs.top_ids[:emitted, slot, :top].copy(),
        top=block.logprobs.top[:emitted, slot, :top].copy(),
    )
