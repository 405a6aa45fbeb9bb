"""One small model for all tests of the Generator."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rgpipeline import Generator
from rgpipeline.generator import request_maker
from tests.model.running import engines_compiled_fast

request_maker.CACHE = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])  # as everywhere in the tests

GOLDEN = Path(__file__).parent.parent / "golden"
HF = str(GOLDEN / "a" / "hf")
TOKENIZER = str(GOLDEN / "tokenizer")


def load(**options) -> Generator:
    small = {"tokenizer": TOKENIZER, "dtype": "float32", "slots": 4, "prefill_chunk": 16}
    return Generator.load(HF, **{**small, **options})


@pytest.fixture(scope="package", autouse=True)
def compiled_fast() -> Iterator[None]:
    """No test here is of the programs themselves."""
    with engines_compiled_fast():
        yield


@pytest.fixture(scope="package")
def generator(compiled_fast: None) -> Generator:
    return load()
