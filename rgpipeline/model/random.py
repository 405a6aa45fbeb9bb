"""Random parameters for tests and benchmarks, scaled so that outputs look like a model's."""

import math

import jax
import numpy as np
from jax.typing import DTypeLike

from rgpipeline.model.config import GriffinConfig
from rgpipeline.model.params import Params, flatten, nest, param_shapes
from rgpipeline.model.recipes import HostArray, Path

# The paper draws the decay a (at gate 1) so that a^2 is uniform between these squared.
_LEAST_DECAY, _GREATEST_DECAY = 0.9, 0.999


def random_params(config: GriffinConfig, seed: int, dtype: DTypeLike) -> Params:
    """A whole parameter tree on the default device, the same for the same arguments.

    Kernels are normal with variance 1 / inputs (the residual ones times 2 / depth), decays as in
    the official library (`rnn_real_param_init`), norms and biases small but not zero, so that a
    test notices one that is left out.
    """
    rng = np.random.default_rng(seed)
    leaves = flatten(param_shapes(config, dtype))
    return nest(
        {
            path: jax.device_put(_draw(rng, path, leaf.shape, config).astype(leaf.dtype))
            for path, leaf in leaves.items()
        }
    )


def _draw(
    rng: np.random.Generator, path: Path, shape: tuple[int, ...], config: GriffinConfig
) -> HostArray:
    if path[-1] == "a_param":
        square = rng.uniform(_LEAST_DECAY**2, _GREATEST_DECAY**2, shape)
        decays: HostArray = np.log(np.expm1(-0.5 * np.log(square)))
        return decays
    return rng.standard_normal(shape, np.float32) * np.float32(_scale(path, shape, config))


def _scale(path: Path, shape: tuple[int, ...], config: GriffinConfig) -> float:
    if path[-1] in ("kernel", "embedding"):
        inputs = shape[1] if path[-2] == "gates" else shape[-1]
        is_last = path[-2] in ("linear_out", "out", "down")
        return math.sqrt((2 / config.depth if is_last else 1) / inputs)
    return 0.5 if path[-1] == "conv_kernel" else 0.1
