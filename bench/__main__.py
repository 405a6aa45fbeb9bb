"""`make bench`: measures, prints a table, writes results.json and plots into bench/out."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from bench import OUT, plots
from bench.machine import machine
from bench.peer_set import LONGEST_S, PEERS, PeerSet
from bench.planning import BATCHES
from bench.sections import SECTIONS


def main() -> None:
    """Measures the chosen sections; writes the results after each."""
    arguments = _arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    options = (
        tuple(arguments.peers),
        arguments.repeat,
        tuple(arguments.batches),
        arguments.longest_run,
    )
    with PeerSet(out, arguments.quick, *options) as peers:
        for name in arguments.only:
            print(f"{name.replace('_', ' ')}", flush=True)
            start = time.time()
            results[name] = SECTIONS[name].measure(peers)
            for label, value in SECTIONS[name].lines(results[name]):
                print(f"  {label:<26}{value}", flush=True)
            results[name]["took_s"] = time.time() - start
            _write(out / "results.json", arguments.quick, results)
    for path in plots.draw(results, out):
        print(path)
    print(out / "results.json")


def _write(path: Path, quick: bool, results: dict[str, Any]) -> None:
    path.write_text(
        json.dumps({"machine": machine(), "quick": quick, "sections": results}, indent=1)
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    everything = list(SECTIONS)
    parser.add_argument("--only", nargs="+", choices=everything, default=everything)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument(
        "--batches", nargs="+", type=int, default=BATCHES, help="batch sizes to try for each peer"
    )
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the fastest counts")
    parser.add_argument(
        "--longest-run",
        type=float,
        default=LONGEST_S,
        metavar="SECONDS",
        help="a peer that by its rates takes longer for a workload is not run",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tiny model, to try the bench itself"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for results and models")
    return parser.parse_args()


if __name__ == "__main__":
    main()
