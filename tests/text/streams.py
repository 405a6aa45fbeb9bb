"""What a detokenizer gives and keeps, for tokenizers of either kind."""

import json
import tracemalloc
from pathlib import Path

from rgpipeline.text import completion
from rgpipeline.text.completion import IncrementalDetokenizer
from rgpipeline.text.tokenizer import Tokenizer


def streamed(tokenizer: Tokenizer, pushes: list[list[int]]) -> str:
    """The joined pieces, with every detokenizer after the first taken up from a saved state."""
    text, state = "", None
    for ids in pushes:
        detokenizer = IncrementalDetokenizer(tokenizer, state)
        text += detokenizer.push(ids)
        state = json.loads(json.dumps(detokenizer.state()))
    return text + IncrementalDetokenizer(tokenizer, state).flush()


def bytes_kept(tokenizer: Tokenizer) -> int:
    """The memory that this package's lines keep from 5,000 pushes into one detokenizer."""
    detokenizer = IncrementalDetokenizer(tokenizer)
    block = [*tokenizer.encode("In the beginning 日本語"), 236]  # ends within a character
    detokenizer.push(block)
    tracemalloc.start()
    for _ in range(5000):
        detokenizer.push(block)
    # Threads that other tests left behind allocate too: only this package's lines count.
    own = tracemalloc.Filter(True, f"{Path(completion.__file__).parent}/*")
    kept = tracemalloc.take_snapshot().filter_traces([own]).statistics("filename")
    tracemalloc.stop()
    return sum(statistic.size for statistic in kept)
