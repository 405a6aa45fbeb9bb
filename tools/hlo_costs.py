"""Where a compiled program's bytes and cycles go, instruction by instruction.

    python -m tools.hlo_costs DIR/decode.hlo [--per 16] [--top 30]

DIR is what `rgpipeline fit --dump-hlo DIR` wrote; `--per` divides by the steps of a block.
"""

import argparse
import re
from pathlib import Path

from rgpipeline.fit.hlo import Instruction, parse
from rgpipeline.fit.program import Cost, costs


def main() -> None:
    """Prints the dearest instructions, by bytes and by cycles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--per", type=int, default=1)
    parser.add_argument("--top", type=int, default=30)
    options = parser.parse_args()
    found = costs(parse(options.program.read_text()))
    total = sum((cost.times(times) for _, times, cost in found), Cost())
    print(
        f"{total.traffic.total / options.per / 1e6:,.1f} MB, "
        f"{total.cycles / options.per / 1e6:,.3f} M cycles\n"
    )
    for key in (_bytes, _cycles):
        print(f"by {key.__name__.strip('_')}")
        for row in sorted(found, key=key, reverse=True)[: options.top]:
            print(_line(row, options.per))
        print()


Row = tuple[Instruction, int, Cost]


def _bytes(row: Row) -> int:
    return row[2].traffic.total * row[1]


def _cycles(row: Row) -> int:
    return row[2].cycles * row[1]


def _line(row: Row, per: int) -> str:
    one, times, cost = row
    found = re.search(r'op_name="([^"]*)"', one.attributes)
    origin = found[1].split("closed_call/")[-1] if found else ""
    traffic = cost.traffic.times(times)
    return (
        f"{traffic.read / per / 1e6:9.2f} MB read {traffic.written / per / 1e6:9.2f} written "
        f"{cost.cycles * times / per / 1e6:8.3f} Mcycles  x{times:<6} {one.name:40} {origin}"
    )


if __name__ == "__main__":
    main()
