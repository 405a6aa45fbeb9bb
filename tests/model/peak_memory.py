"""A process that measures its own memory.

    python -m tests.model.peak_memory WEIGHTS DTYPE OPTIONS [ADAPTER]

Prints JSON: the bytes of the weights as the model holds them, and the most memory the process had,
over what it had when everything was imported, while it opened them and while it generated.
"""

import json
import sys
from pathlib import Path

import jax

from rgpipeline import Generator
from rgpipeline.model.params import param_shapes
from rgpipeline.model.weights.checkpoint import read_config
from tests.sources import source

PROMPTS = [list(range(2, 42)), [2, 9, 4]]


def main(weights: str, dtype: str, options: str, adapter: str | None = None) -> None:
    storage_options = json.loads(options)
    shapes = jax.tree.leaves(
        param_shapes(read_config(source(weights, options=storage_options)), dtype)
    )
    before = _memory("VmRSS")
    _begin_peak()
    generator = Generator.load(
        weights,
        adapter=adapter,
        dtype=dtype,
        slots=2,
        prefill_chunk=16,
        storage_options=storage_options,
    )
    opening = _memory("VmHWM") - before
    _begin_peak()
    greedy = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
    tokens = [completion.token_ids for completion in generator.generate(PROMPTS, greedy)]
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in shapes)
    generating = _memory("VmHWM") - before
    told = {"weights": size, "opening": opening, "generating": generating, "tokens": tokens}
    print(json.dumps(told))


def _begin_peak() -> None:
    """VmHWM counts from here."""
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int:
    """Bytes, of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
