"""Text that the demo model never saw, and what a model makes of it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

import rgpipeline
from rgpipeline.text.tokenizer import Tokenizer

DEMO = Path(rgpipeline.__file__).parent / "demo"
TEXTS, LENGTH = 6, 320  # the window is 128


class Logprobs(NamedTuple):
    """Of every next token, float64 [b t v], after each of the tokens [b t]."""

    tokens: np.ndarray
    values: np.ndarray

    def divergence_from(self, truth: "Logprobs") -> float:
        """Mean Kullback-Leibler divergence, in nats a token."""
        differences = np.exp(truth.values) * (truth.values - self.values)
        return float(differences.sum(-1).mean())

    def perplexity(self) -> float:
        following = self.tokens[:, 1:, None]
        return float(np.exp(-np.take_along_axis(self.values[:, :-1], following, -1).mean()))


def logprobs(tokens: np.ndarray, logits: np.ndarray) -> Logprobs:
    wide = logits.astype(np.float64)
    return Logprobs(tokens, wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True))


def held_out() -> np.ndarray:
    """Token ids of verses, int32 [TEXTS LENGTH]."""
    tokenizer = Tokenizer.load(str(DEMO))
    verses = pq.read_table(DEMO / "prompts.parquet")["verse"].to_pylist()
    ids = np.array(tokenizer.encode("\n".join(verses), bos=False), np.int32)
    texts = ids[: TEXTS * (LENGTH - 1)].reshape(TEXTS, -1)
    return np.pad(texts, ((0, 0), (1, 0)), constant_values=tokenizer.bos_id)
