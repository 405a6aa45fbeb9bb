"""One token's attention, as CPUs compute it, against attention as it is written down."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rgpipeline.model.layers.attention import Source, TokenSources, attend
from rgpipeline.model.ops.temporal import attend_token_on_cpu

BATCH, HEADS, SIZE = 3, 2, 4
SLOT = jnp.asarray([0, 5, 6])


def token(above: float, window: int, *, full: bool) -> tuple[Array, TokenSources]:
    """A query of each row, its ring, and a token whose score is `above` the ring's own."""
    random = np.random.default_rng(1)
    queries = jnp.asarray(random.normal(size=(BATCH, 1, HEADS, SIZE)), jnp.float32)
    queries = queries.at[..., 0].set(SIZE**0.5)
    keys, values = random.normal(size=(2, BATCH, window, SIZE)).astype(np.float32)
    known = np.arange(window) <= np.asarray(SLOT)[:, None]
    key = keys[:, :1] + np.asarray([above, 0, 0, 0], np.float32)
    ring = Source(jnp.asarray(keys), jnp.asarray(values), jnp.asarray(known | full)[:, None])
    overwritten = Source(
        jnp.asarray(key), jnp.asarray(-values[:, :1]), jnp.full((BATCH, 1, 1), full)
    )
    own_key = jnp.take_along_axis(ring.keys, SLOT[:, None, None], axis=1)
    return queries, TokenSources(ring, overwritten, own_key, SLOT)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("above", [-200.0, 0.0, 3.0, 200.0])
@pytest.mark.parametrize("window", [7, 8, 768])  # summed in one part, in two and in three
def test_a_token_attends_to_the_ring_and_to_what_it_overwrote(
    window: int, above: float, full: bool
) -> None:
    queries, sources = token(above, window, full=full)
    expected = attend(queries, (sources.ring, sources.overwritten))
    np.testing.assert_allclose(
        attend_token_on_cpu(queries, sources), expected, rtol=1e-4, atol=1e-5
    )
