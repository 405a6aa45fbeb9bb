"""Shape checking for the model's public functions, and the golden models."""

import os
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_platforms", "cpu")

ARITHMETIC = (
    "griffin_state",
    "layers.attention",
    "layers.blocks",
    "layers.griffin",
    "layers.modules",
    "layers.rglru",
    "layers.rings",
    "ops.primitives",
)

with install_import_hook([f"rgpipeline.model.{name}" for name in ARITHMETIC], "beartype.beartype"):
    import rgpipeline.model.layers.griffin  # noqa: F401

# After the hook, which checks only what is imported later.
from rgpipeline.generator import request_maker  # noqa: E402
from tests.model.golden import CASES, Golden  # noqa: E402

request_maker.CACHE = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])  # as everywhere in the tests


@pytest.fixture(scope="session", params=CASES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return _loaded(request.param)


_cache: dict[str, Golden] = {}


def _loaded(case: str) -> Golden:
    return _cache.setdefault(case, Golden(case))
