"""One small model for all tests of the Generator."""

import os
from pathlib import Path

import pytest

from rgpipeline import Generator
from rgpipeline.generator import request_maker

request_maker.CACHE = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])  # as everywhere in the tests

GOLDEN = Path(__file__).parent.parent / "golden"
HF = str(GOLDEN / "a" / "hf")
TOKENIZER = str(GOLDEN / "tokenizer")


def load(**options) -> Generator:
    small = {"tokenizer": TOKENIZER, "dtype": "float32", "slots": 4, "prefill_chunk": 16}
    return Generator.load(HF, **{**small, **options})


@pytest.fixture(scope="session")
def generator() -> Generator:
    return load()
