"""What several sections of the bench say of their runs."""

from typing import Any

from bench.peers.exchange import Run
from bench.planning import Plan
from bench.workloads import Workload

Result = dict[str, Any]
Line = tuple[str, str]  # label, value


def run_result(work: Workload, plan: Plan, run: Run) -> Result:
    """A workload's run, for JSON."""
    return {
        "measured": True,
        **_planned(plan),
        "seconds": run.seconds,
        "compile_s": run.compile_s,
        "tokens_per_s": work.new_tokens / run.seconds,
    }


def expected_result(work: Workload, plan: Plan) -> Result:
    """What a workload that was not run would take by the peer's rates, for JSON."""
    return {
        "measured": False,
        **_planned(plan),
        "seconds": plan.seconds,
        "compile_s": 0.0,
        "tokens_per_s": work.new_tokens / plan.seconds,
    }


def _planned(plan: Plan) -> Result:
    return {
        "dtype": plan.setup.dtype,
        "batch": plan.setup.batch,
        "way": plan.setup.way,
        "padding": plan.padding,
    }


def run_line(run: Result) -> str:
    """What `run_result` or `expected_result` returned, as a value of a line."""
    compiled = f", {run['compile_s']:.0f} s of compilation not included" if run["compile_s"] else ""
    padded = f", {run['padding']:.1%} of it to compile less" if run["padding"] else ""
    expected = "" if run["measured"] else " by its rates, not run"
    return (
        f"{run['tokens_per_s']:,.0f} tok/s ({run['way']}{' ' if run['way'] else ''}{run['dtype']}, "
        f"{run['batch']} at once, {run['seconds']:.1f} s{expected}{compiled}{padded})"
    )


def unless_same(result: Result) -> str:
    """A remark if two runs should have made the same tokens and did not."""
    return "" if result["same_tokens"] else " (NOT THE SAME TOKENS)"
