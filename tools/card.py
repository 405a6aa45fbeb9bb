"""The demo model's card, from the figures of the run that trained it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from rgpipeline.model.config import GriffinConfig

_TEXT = """# The demo model

A Griffin (RecurrentGemma's architecture) of {parameters:.2f} million parameters that continues
verses in the manner of the King James Bible. It is here so that a pipeline can be tried on a
laptop: it writes readable text, and knows nothing.

- Architecture: width {config.width}, {config.depth} blocks (recurrent, recurrent, attention),
  {config.heads} heads, window {config.window}, MLP of {config.mlp_width}, a vocabulary of
  {config.vocab_size:,} pieces of its own. Weights in bfloat16.
- Data: the King James Bible (public domain) from Debian's package `bible-kjv`, verses one a line,
  without their numbers. Four in a hundred chapters were held out; `prompts.parquet` has openings
  of their verses.
- Training: `python -m tools.train_demo --steps {steps}`, seeded, {seen:.1f} million tokens, AdamW.

## Held-out loss

{count:,} tokens of chapters that training never saw; nats per token, its exponential, and bits
per byte.

| model | nats per token | perplexity | bits per byte |
|---|---|---|---|
{rows}
The n-gram models are interpolated with absolute discounting and trained on the same text.
"""


@dataclass(frozen=True, slots=True)
class Losses:
    """Nats per held-out token."""

    model: float
    baselines: dict[str, float]
    tokens: int
    text_bytes: int


def write_card(
    path: Path, config: GriffinConfig, params: Any, losses: Losses, steps: int, step_tokens: int
) -> None:
    """Writes the card; every figure in it comes from the arguments."""
    named = {"**this model**": losses.model, **losses.baselines}
    rows = ""
    for name, loss in named.items():
        bits = loss * losses.tokens / losses.text_bytes / math.log(2)
        rows += f"| {name} | {loss:.3f} | {math.exp(loss):.1f} | {bits:.3f} |\n"
    text = _TEXT.format(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6,
        config=config,
        steps=steps,
        seen=steps * step_tokens / 1e6,
        count=losses.tokens,
        rows=rows,
    )
    path.write_text(text)
