"""`make bench`: measures, prints a table, writes results.json and plots into bench/out."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from bench import plots, report
from bench.field import HF, OFFICIAL, OURS, Field
from bench.folders import OUT
from bench.machine import machine
from bench.planning import BATCHES
from bench.sections import SECTIONS


def main() -> None:
    """Measures what was asked for, section by section; each is kept as soon as it is done."""
    arguments = _arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    options = (tuple(arguments.peers), arguments.repeat, tuple(arguments.batches))
    with Field(out, arguments.quick, *options) as field:
        for name in arguments.only:
            print(f"{name.replace('_', ' ')}", flush=True)
            began = time.time()
            results[name] = SECTIONS[name](field)
            for what, how_much in report.lines(name, results[name]):
                print(f"  {what:<26}{how_much}", flush=True)
            results[name]["took_s"] = time.time() - began
            _keep(out / "results.json", arguments.quick, results)
    for path in plots.draw(results, out):
        print(path)
    print(out / "results.json")


def _keep(path: Path, quick: bool, results: dict[str, Any]) -> None:
    path.write_text(
        json.dumps({"machine": machine(), "quick": quick, "sections": results}, indent=1)
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    everything = list(SECTIONS)
    parser.add_argument("--only", nargs="+", choices=everything, default=everything)
    peers = [OURS, OFFICIAL, HF]
    parser.add_argument("--peers", nargs="+", choices=peers, default=peers)
    parser.add_argument(
        "--batches", nargs="+", type=int, default=BATCHES, help="batch sizes for peers to try"
    )
    parser.add_argument("--repeat", type=int, default=1, help="times; the fastest counts")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny model, to try the bench itself"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for results and models")
    return parser.parse_args()


if __name__ == "__main__":
    main()
