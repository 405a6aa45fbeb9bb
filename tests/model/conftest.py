"""The golden models; all on CPU."""

import os
from pathlib import Path

import jax
import pytest

from rgpipeline.generator import request_maker
from tests.model.golden import CASES, Golden

jax.config.update("jax_platforms", "cpu")
request_maker.CACHE = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])  # as everywhere in the tests


@pytest.fixture(scope="session", params=CASES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return _loaded(request.param)


_cache: dict[str, Golden] = {}


def _loaded(case: str) -> Golden:
    return _cache.setdefault(case, Golden(case))
