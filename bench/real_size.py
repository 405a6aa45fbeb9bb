"""RecurrentGemma-2B's shapes on this CPU: start, memory, prefill and decode, by dtype and slots.

`python -m bench.real_size`. The weights are random, in bfloat16, 5.4 GB below `bench/out`. In
float32 it needs about 14 GB of memory.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ml_dtypes

from bench import OUT
from bench.machine import machine
from bench.model import model_folder
from bench.peers.exchange import Setup
from bench.processes import Process, first_token

# As in a job file: `model.dtype`, and `model.quantize: int8`.
DTYPES = {
    "float32": ("float32", ""),
    "bfloat16": ("bfloat16", ""),
    "int8": ("bfloat16", "int8"),
}


def measure(name: str, dtype: str, slots: list[int], out: Path) -> dict[str, Any]:
    """One dtype: a start without compiled programs, one with them, and the rates by slots."""
    model = model_folder(name, out, dtype=ml_dtypes.bfloat16)
    kind, way = DTYPES[dtype]
    with TemporaryDirectory() as cache:
        cold, warm = (first_token(model, Setup(kind, 1, way), Path(cache)) for _ in range(2))
    rates = {}
    for count in slots:
        with Process("bench.peers.ours", model, out) as process:
            found = process.measure(Setup(kind, count, way))
        rates[count] = {
            "prefill_tokens_per_s": found.prefill_tokens_per_s,
            "step_s": found.step_s,
            "decode_tokens_per_s": count / found.step_s,
        }
    return {
        "first_token_cold_s": cold["seconds"],
        "first_token_warm_s": warm["seconds"],
        "peak_bytes_one_slot": warm["peak_bytes"],
        "slots": rates,
    }


def lines(dtype: str, measured: dict[str, Any]) -> list[str]:
    """What `measure` returned, for people."""
    found = [
        f"{dtype}: first token after {measured['first_token_warm_s']:.1f} s "
        f"({measured['first_token_cold_s']:.1f} s with compilation), "
        f"{measured['peak_bytes_one_slot'] / 2**30:.1f} GiB with one slot"
    ]
    for slots, rates in measured["slots"].items():
        found.append(
            f"  {slots:>3} slots: a step {rates['step_s']:.3f} s, "
            f"{rates['decode_tokens_per_s']:.1f} tok/s; "
            f"prefill {rates['prefill_tokens_per_s']:.0f} tok/s"
        )
    return found


def main() -> None:
    """Measures, prints lines, and writes real_size.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.real_size", description=__doc__)
    parser.add_argument("--model", default="2b", help="`2b`, or `tiny` to try this itself")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--slots", nargs="+", type=int, default=[1, 8, 16, 64])
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "model": arguments.model}
    for dtype in arguments.dtypes:
        results[dtype] = measure(arguments.model, dtype, arguments.slots, arguments.out)
        print(*lines(dtype, results[dtype]), sep="\n", flush=True)
    (arguments.out / "real_size.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
