"""`python -m tests.simulator --seeds 20000`: simulates thousands of scenarios; prints totals.

`--seed 17` simulates one and shows it; `--plan HOSTS ROWS` measures the load of such a job on its
driver.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulator.driver_load import measure_load
from tests.simulator.invariants import InvariantBroken
from tests.simulator.simulation import replay, simulate

_BATCH = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many scenarios")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="simulate this one, and show it")
    parser.add_argument("--plan", nargs=2, type=int, metavar=("HOSTS", "ROWS"))
    asked = parser.parse_args()
    if asked.plan:
        print(measure_load(hosts=asked.plan[0], rows=asked.plan[1]))
        return 0
    if asked.seed is not None:
        return replay(asked.seed)
    return simulate_many(range(asked.first, asked.first + asked.seeds))


def simulate_many(seeds: range) -> int:
    """Plays the scenarios on all cores; 1 if something was that must never be."""
    began = time.monotonic()
    batches = [seeds[i : i + _BATCH] for i in range(0, len(seeds), _BATCH)]
    totals: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for counts, failures in pool.map(simulate_batch, batches):
            totals += counts
            failed += failures
            for seed, message in failures:
                print(f"seed {seed}: {message}; python -m tests.simulator --seed {seed}")
    seconds = time.monotonic() - began
    print(f"{len(seeds):,} scenarios in {seconds:.0f} s, {len(failed)} failed")
    for name, count in sorted(totals.items()):
        print(f"  {count:>12,}  {name}")
    return 1 if failed else 0


def simulate_batch(seeds: range) -> tuple[Counter[str], list[tuple[int, str]]]:
    """What happened in some scenarios, and those that failed, with why."""
    counts: Counter[str] = Counter()
    failed = []
    for seed in seeds:
        try:
            counts += simulate(seed).counts()
        except (InvariantBroken, Exception) as error:
            failed.append((seed, f"{type(error).__name__}: {error}"))
    return counts, failed


if __name__ == "__main__":
    sys.exit(main())
