"""`python -m tests.chaos`: rounds of jobs killed again and again, bounded in time."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.chaos.rounds import Round, chaos_cluster

_RESERVE_S = 90.0  # for the last job to finish undisturbed


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parse(arguments)
    began = time.monotonic()
    with chaos_cluster() as here:
        seed = asked.seed
        while True:
            left = 60 * asked.minutes - (time.monotonic() - began) - _RESERVE_S
            if here.rounds and (left < 60 or len(here.rounds) == asked.rounds):
                break
            by_hand = asked.engine == "hand" or (asked.engine == "both" and bool(seed % 2))
            result = here.run_round(seed, by_hand, asked.rows, max(20.0, left), asked.pause)
            print(_told(seed, result), flush=True)
            seed += 1
        total = _summary(here.rounds)
        print(f"\n{total}\n{len(here.rounds)} rounds in {time.monotonic() - began:.0f} s")
        return 0 if all(result.comparison.equal for result in here.rounds) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=0, help="at most; 0: as time allows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=400, help="of each job's input")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between kills, about")
    parser.add_argument("--engine", choices=("both", "hand", "model"), default="both")
    return parser.parse_args(arguments)


def _told(seed: int, result: Round) -> str:
    what = "by hand" if result.by_hand else "demo model"
    same = result.comparison
    said = "".join(f"\n    {count}× {line}" for line, count in result.said.most_common(9))
    return (
        f"seed {seed} ({what}): {_listed(result.done)}; {sum(result.faults.values())} failed "
        f"requests; drivers: {_listed(result.ends)}; {same.rows} rows in {same.segments} segments: "
        f"duplicates {same.duplicates}, missing {same.missing}, differing {same.differing} "
        f"({result.seconds:.0f} s){said}"
    )


def _summary(rounds: Sequence[Round]) -> str:
    done: Counter[str] = sum((result.done for result in rounds), Counter())
    faults: Counter[str] = sum((result.faults for result in rounds), Counter())
    compared = [result.comparison for result in rounds]
    return "\n".join(
        [
            f"kills and hangs    {sum(done.values())}: {_listed(done)}",
            f"failed requests    {sum(faults.values())}: {_listed(faults)}",
            f"rows               {sum(c.rows for c in compared)}",
            f"segments           {sum(c.segments for c in compared)}",
            f"duplicates         {sum(c.duplicates for c in compared)}",
            f"missing            {sum(c.missing for c in compared)}",
            f"differing          {sum(c.differing for c in compared)}",
        ]
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


if __name__ == "__main__":
    sys.exit(main())
