"""Where a compiled program's bytes and cycles go, instruction by instruction.

    python -m tools.hlo_costs DIR/decode.hlo [--per 16] [--top 30]

DIR is what `rgpipeline fit --dump-hlo DIR` wrote; `--per` divides by the steps of a block.
"""

import argparse
import json
import re
from pathlib import Path

from rgpipeline.fit.hlo import parse
from rgpipeline.fit.kernel_code import KernelCode
from rgpipeline.fit.program_cost import Run, program_runs, total_cost


def main() -> None:
    """Prints the costliest instructions, by bytes and by cycles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--per", type=int, default=1)
    parser.add_argument("--top", type=int, default=30)
    options = parser.parse_args()
    found = program_runs(parse(options.program.read_text()), _kernels(options.program))
    total = total_cost(found)
    print(
        f"{total.traffic.total / options.per / 1e6:,.1f} MB, "
        f"{total.cycles / options.per / 1e6:,.3f} M cycles\n"
    )
    for key in (_bytes, _cycles):
        print(f"by {key.__name__.strip('_')}")
        for row in sorted(found, key=key, reverse=True)[: options.top]:
            print(_line(row, options.per))
        print()


def _kernels(program: Path) -> dict[str, KernelCode]:
    """What `fit` found out about kernels, beside the program."""
    path = program.with_suffix(".kernels.json")
    if not path.exists():
        return {}
    return {name: KernelCode(**code) for name, code in json.loads(path.read_text()).items()}


def _bytes(run: Run) -> int:
    return run.cost.traffic.total * run.times


def _cycles(run: Run) -> int:
    return run.cost.cycles * run.times


def _line(run: Run, per: int) -> str:
    one, times, cost = run.instruction, run.times, run.cost
    found = re.search(r'op_name="([^"]*)"', one.attributes)
    origin = found[1].split("closed_call/")[-1] if found else ""
    traffic = cost.traffic.times(times)
    return (
        f"{traffic.read / per / 1e6:9.2f} MB read {traffic.written / per / 1e6:9.2f} written "
        f"{cost.cycles * times / per / 1e6:8.3f} Mcycles  x{times:<6} {one.name:40} {origin}"
    )


if __name__ == "__main__":
    main()
