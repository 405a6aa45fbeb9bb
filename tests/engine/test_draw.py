"""The largest value's first index, as numpy has it."""

import jax
import numpy as np
import pytest

from rgpipeline.engine.sampling.reductions import argmax


@pytest.mark.parametrize("vocab", [1, 255, 256, 1000, 1024, 50_257])
def test_first_of_the_largest(vocab: int) -> None:
    random = np.random.default_rng(vocab)
    values = random.integers(-9, 9, (40, vocab)).astype(np.float32)  # many of them equal
    values[0, :-1] = -np.inf
    values[1], values[2] = np.sort(values[1]), -np.sort(values[2])
    values[3, -1] = 9.5
    np.testing.assert_array_equal(jax.jit(argmax)(values), values.argmax(-1))
