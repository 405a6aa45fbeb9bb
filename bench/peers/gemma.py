"""Hugging Face's Gemma with random weights, of the size of the Griffin model.

A transformer with global attention and one head of keys and values: its cache grows with every
token. For figure 1a of the RecurrentGemma paper; like `hf`, in an environment of its own.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from bench.peers.exchange import CURVE_STEPS, Batches, Curve, Rates, Run, Setup, serve

FILLER = 7
FILLED = 64  # tokens of a short cache
# MLP width over that of the Griffin model: both then have the same number of parameters.
_MLP_SHARE = 1.076


class Gemma:
    """Decode steps over a cache of any length."""

    def __init__(self, model: Path) -> None:
        self._griffin = json.loads((model / "config.json").read_text())

    def try_step(self, setup: Setup) -> float:
        """Steps over short caches."""
        return self.curve(setup, FILLED, [0]).step_s[0]

    def measure(self, setup: Setup) -> Rates:
        """Not needed: the bench asks this peer for curves only."""
        raise NotImplementedError

    def run(self, setup: Setup, batches: Batches, options: dict[str, Any]) -> Run:
        """Not needed: the bench asks this peer for curves only."""
        raise NotImplementedError

    def curve(self, setup: Setup, prompt: int, lengths: list[int]) -> Curve:
        """Steps over caches filled with noise: the time does not depend on the values.

        Both kinds of cache of the library are tried, and the faster one counts.
        """
        model = self._open(setup.dtype)
        step_s = []
        for length in [lengths[0], *lengths]:  # the first time warms up
            tries = [_steps_s(model, make(model, setup.batch, prompt + length)) for make in _CACHES]
            step_s.append(min(tries))
        return Curve(step_s[1:])

    def _open(self, dtype: str) -> Any:
        griffin = self._griffin
        width, heads = griffin["hidden_size"], griffin["num_attention_heads"]
        config = transformers.GemmaConfig(
            vocab_size=griffin["vocab_size"],
            hidden_size=width,
            intermediate_size=int(griffin["intermediate_size"] / 2 * _MLP_SHARE),
            num_hidden_layers=griffin["num_hidden_layers"],
            num_attention_heads=heads,
            num_key_value_heads=1,
            head_dim=width // heads,
            max_position_embeddings=1 << 20,
        )
        return transformers.GemmaForCausalLM(config).to(getattr(torch, dtype)).eval()


def _dynamic(model: Any, batch: int, length: int) -> Any:
    cache = transformers.DynamicCache(config=model.config)
    _fill(cache, model, batch, length)
    return cache


def _static(model: Any, batch: int, length: int) -> Any:
    cache = transformers.StaticCache(config=model.config, max_cache_len=length + 2 * CURVE_STEPS)
    _fill(cache, model, batch, length)
    return cache


_CACHES = (_dynamic, _static)


def _fill(cache: Any, model: Any, batch: int, length: int) -> None:
    for layer in range(model.config.num_hidden_layers):
        noise = torch.randn(2, batch, 1, length, model.config.head_dim, dtype=model.dtype)
        cache.update(noise[0], noise[1], layer)


def _steps_s(model: Any, cache: Any) -> float:
    """Seconds of one greedy step that continues from the cache."""
    layer = cache.layers[0]
    tokens = torch.full((layer.keys.shape[0], 1), FILLER)
    with torch.inference_mode():
        for step in range(1 + CURVE_STEPS):
            if step == 1:  # after one to warm up
                start = time.perf_counter()
            logits = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits
            tokens = logits[:, -1:].argmax(dim=-1)
    return (time.perf_counter() - start) / CURVE_STEPS


def _open(arguments: argparse.Namespace) -> Gemma:
    return Gemma(arguments.model)


if __name__ == "__main__":
    serve(_open)
