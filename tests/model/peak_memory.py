"""A process that measures its own memory.

    python -m tests.model.peak_memory WARM_UP WEIGHTS DTYPE OPTIONS

Prints JSON: the bytes of the weights as the model holds them, and the most memory the process had
over what it had before, while it opened them and generated. Before that it does the same with
another, tiny model, so that what a JAX process needs for any model at all is not counted.
"""

import json
import sys
from pathlib import Path

import jax

from rgpipeline.generator import Generator
from rgpipeline.model.opening import read_config
from rgpipeline.model.params import param_shapes

PROMPTS = [list(range(2, 42)), [2, 9, 4]]


def main(warm_up: str, weights: str, dtype: str, options: str) -> None:
    generate(warm_up, dtype, options)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    tokens = generate(weights, dtype, options)
    peak = _memory("VmHWM") - before
    shapes = param_shapes(read_config(weights, json.loads(options)), dtype)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    print(json.dumps({"weights": size, "peak": peak, "tokens": tokens}))


def generate(weights: str, dtype: str, options: str) -> int:
    generator = Generator.load(
        weights, dtype=dtype, slots=2, prefill_chunk=32, storage_options=json.loads(options)
    )
    done = generator.generate(PROMPTS, {"temperature": 0, "max_tokens": 8, "ignore_eos": True})
    return sum(len(completion.token_ids) for completion in done)


def _memory(field: str) -> int:
    """Bytes, of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
