"""From a request in a slot to what the device needs to know of it."""

import numpy as np

from rgpipeline.engine.api import Tenancy
from rgpipeline.engine.checks import stop_ids
from rgpipeline.engine.slots import Tenant


def tenancy_of(tenant: Tenant, eos_ids: tuple[int, ...]) -> Tenancy:
    """What the tenant's slot starts to decode with."""
    request, sampling = tenant.request, tenant.request.sampling
    generated, token, seen = 0, int(request.tokens[-1]), None
    if request.snapshot is not None:
        generated = request.snapshot.generated
        token = int(request.snapshot.arrays["token"])
        seen = request.snapshot.arrays.get("seen")
    return Tenancy(
        token=token,
        remaining=tenant.limit,
        banned_for=max(0, sampling.min_tokens - generated),
        stop_ids=stop_ids(request, eos_ids),
        sampling=sampling,
        draw=request.draw,
        prompt=request.tokens,
        seen=None if seen is None else seen.astype(np.int32),
    )
