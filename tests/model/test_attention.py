"""One token's attention, as CPUs compute it, against attention as it is written down."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rgpipeline.model.layers.attention import Source, attend, attend_one

BATCH, HEADS, WINDOW, SIZE = 3, 2, 8, 4
PLACE = jnp.asarray([0, 5, 7])


def token(above: float, *, full: bool) -> tuple[Array, tuple[Source, Source]]:
    """A query of each row, its ring, and a token whose score is `above` the ring's own."""
    random = np.random.default_rng(1)
    queries = jnp.asarray(random.normal(size=(BATCH, 1, HEADS, SIZE)), jnp.float32)
    queries = queries.at[..., 0].set(SIZE**0.5)
    keys, values = random.normal(size=(2, BATCH, WINDOW, SIZE)).astype(np.float32)
    known = np.arange(WINDOW) <= np.asarray(PLACE)[:, None]
    key = keys[:, :1] + np.asarray([above, 0, 0, 0], np.float32)
    ring = Source(jnp.asarray(keys), jnp.asarray(values), jnp.asarray(known | full)[:, None])
    beside = Source(jnp.asarray(key), jnp.asarray(-values[:, :1]), jnp.full((BATCH, 1, 1), full))
    return queries, (ring, beside)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("above", [-200.0, 0.0, 3.0, 200.0])
def test_a_token_attends_to_the_ring_and_to_what_it_overwrote(above: float, full: bool) -> None:
    queries, sources = token(above, full=full)
    own_key = jnp.take_along_axis(sources[0].keys, PLACE[:, None, None], axis=1)
    expected = attend(queries, sources)
    np.testing.assert_allclose(
        attend_one(queries, sources, own_key, PLACE), expected, rtol=1e-4, atol=1e-5
    )
