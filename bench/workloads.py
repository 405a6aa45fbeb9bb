"""The workloads: prompts of random tokens, always the same."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.model import CONFIGS

BOS, FIRST_TOKEN = 2, 3
SEED = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt, BOS first, and its exact number of new tokens (end-of-sequence is ignored)."""

    prompt: list[int]
    new: int


@dataclass(frozen=True, slots=True)
class Workload:
    """Rows to generate greedily."""

    name: str
    rows: list[Row]

    @property
    def prompt_tokens(self) -> int:
        return sum(len(row.prompt) for row in self.rows)

    @property
    def new_tokens(self) -> int:
        return sum(row.new for row in self.rows)


def workload(name: str, quick: bool) -> Workload:
    """A workload by its name; `quick`: an eighth of it or less, for the tiny model."""
    vocab = CONFIGS["tiny" if quick else "183m"].vocab_size
    rng = np.random.default_rng(SEED)
    return Workload(name, _MAKERS[name](rng, vocab, quick))


def _fixed(rng: np.random.Generator, vocab: int, quick: bool) -> list[Row]:
    """64 prompts of 128, 128 new each."""
    return [Row(_prompt(rng, vocab, 128), 16 if quick else 128) for _ in range(64)]


def _mixed(rng: np.random.Generator, vocab: int, quick: bool) -> list[Row]:
    """128 prompts, lengths and outputs of 16 to 512, both log-uniform."""
    count = 32 if quick else 128
    most = 128 if quick else 512
    lengths, news = (_log_uniform(rng, 16, most, count) for _ in range(2))
    return [Row(_prompt(rng, vocab, n), new) for n, new in zip(lengths, news, strict=True)]


def _long_prompt(rng: np.random.Generator, vocab: int, quick: bool) -> list[Row]:
    """8 prompts of 1,024, 32 new each."""
    return [Row(_prompt(rng, vocab, 1024), 32) for _ in range(8)]


def _long_output(rng: np.random.Generator, vocab: int, quick: bool) -> list[Row]:
    """8 sequences of 4,096 from prompts of 64."""
    return [Row(_prompt(rng, vocab, 64), 1024 if quick else 4096) for _ in range(8)]


def _shared_prefix(rng: np.random.Generator, vocab: int, quick: bool) -> list[Row]:
    """64 prompts with a common head of 512, own tails of 16 to 128, 64 new each."""
    head = _prompt(rng, vocab, 512)
    tails = _log_uniform(rng, 16, 128, 64)
    return [Row(head + _prompt(rng, vocab, n + 1)[1:], 16 if quick else 64) for n in tails]


def _prompt(rng: np.random.Generator, vocab: int, length: int) -> list[int]:
    tokens: NDArray[np.int64] = rng.integers(FIRST_TOKEN, vocab, length)
    return [BOS, *tokens[1:].tolist()]


def _log_uniform(rng: np.random.Generator, least: int, most: int, count: int) -> list[int]:
    drawn = np.exp(rng.uniform(np.log(least), np.log(most), count))
    return [int(n) for n in np.rint(drawn)]


_MAKERS = {
    "fixed": _fixed,
    "mixed": _mixed,
    "long_prompt": _long_prompt,
    "long_output": _long_output,
    "shared_prefix": _shared_prefix,
}
NAMES = tuple(_MAKERS)
