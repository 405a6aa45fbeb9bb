"""`python -m tests.simulator --seeds 20000`: nights by the thousand, and what they came to.

`--seed 17` plays one again and shows it; `--plan HOSTS ROWS` answers what so large a job asks of
its driver.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulator.books import Broken
from tests.simulator.planning import plan
from tests.simulator.play import play, replay

_BATCH = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many nights")
    parser.add_argument("--first", type=int, default=0, help="the first night's seed")
    parser.add_argument("--seed", type=int, help="play this one again, and show it")
    parser.add_argument("--plan", nargs=2, type=int, metavar=("HOSTS", "ROWS"))
    asked = parser.parse_args()
    if asked.plan:
        print(plan(hosts=asked.plan[0], rows=asked.plan[1]))
        return 0
    if asked.seed is not None:
        return replay(asked.seed)
    return play_many(range(asked.first, asked.first + asked.seeds))


def play_many(seeds: range) -> int:
    """Plays the nights on all cores; 1 if something was that must never be."""
    began = time.monotonic()
    batches = [seeds[i : i + _BATCH] for i in range(0, len(seeds), _BATCH)]
    totals: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for counts, failures in pool.map(play_batch, batches):
            totals += counts
            failed += failures
            for seed, message in failures:
                print(f"seed {seed}: {message}; python -m tests.simulator --seed {seed}")
    seconds = time.monotonic() - began
    print(f"{len(seeds):,} nights in {seconds:.0f} s, {len(failed)} failed")
    for name, count in sorted(totals.items()):
        print(f"  {count:>12,}  {name}")
    return 1 if failed else 0


def play_batch(seeds: range) -> tuple[Counter[str], list[tuple[int, str]]]:
    """What happened in some nights, and those that failed, with why."""
    counts: Counter[str] = Counter()
    failed = []
    for seed in seeds:
        try:
            counts += play(seed).counts()
        except (Broken, Exception) as error:
            failed.append((seed, f"{type(error).__name__}: {error}"))
    return counts, failed


if __name__ == "__main__":
    sys.exit(main())
