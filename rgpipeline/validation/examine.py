"""Everything that can be found wrong with a job without running it, all at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rgpipeline.errors import JobError, RgpipelineError
from rgpipeline.jobfile import load_job
from rgpipeline.plan import Plan, make_plan
from rgpipeline.spec import Job
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.retries import Retry
from rgpipeline.validation.model import model_findings
from rgpipeline.validation.output import output_warnings, slot_warnings
from rgpipeline.validation.repeated_ids import id_warnings
from rgpipeline.validation.rows import row_warnings
from rgpipeline.validation.salvage import salvage

T = TypeVar("T")
_PATIENCE = Retry(deadline_s=15.0)  # a person waits for the answer


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong, and what the person should know besides."""

    faults: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    plan: Plan | None = None  # when the input could be read
    id_was_found: bool = False  # a column called `id` names the rows, and the job doesn't say so

    def to_json(self) -> dict[str, Any]:
        """What `validate --json` prints."""
        plan = self.plan
        return {
            "valid": not self.faults,
            "faults": list(self.faults),
            "warnings": list(self.warnings),
            "rows": plan and plan.rows,
            "files": plan and len(plan.files),
            "shards": plan and len(plan.shards),
        }


def examine(path: str | Path, overrides: Sequence[str] = ()) -> Findings:
    """Looks at a job file and at all that it names; raises nothing that a person can mend.

    What a fault in the job file leaves unknown isn't looked into; the rest is.
    """
    try:
        job, known = load_job(path, overrides), frozenset(Job.model_fields)
    except JobError as error:
        salvaged = salvage(path, overrides)
        if salvaged is None:
            return Findings((str(error),))
        found, told = _examine(*salvaged), str(error).splitlines()
        more = [fault for fault in found.faults if not any(fault in line for line in told)]
        return Findings((*told, *more), found.warnings, found.plan)
    return _examine(job, known, advise=True)


def _examine(job: Job, known: frozenset[str], *, advise: bool = False) -> Findings:
    """`known` are the sections that the job file has right.

    `advise`: look at rows and settings too, for what is right but may not be meant.
    """
    faults: list[str] = []

    def attempt(action: Callable[[], T]) -> T | None:
        try:
            return action()
        except RgpipelineError as error:
            faults.append(str(error))
            return None

    attempt(lambda: check_reachable(_places(job, known), job.storage_options))
    if faults:
        return Findings(tuple(faults))
    plan = attempt(lambda: make_plan(job, _PATIENCE)) if "input" in known else None
    warnings = list(plan.warnings) if plan else []
    if "model" in known:
        told = model_findings(job, plan)
        faults += told[0]
        warnings += told[1]
    if "output" in known:
        warnings += attempt(lambda: output_warnings(job, _PATIENCE)) or ()
    if plan is not None and not faults and advise:
        warnings += attempt(lambda: list(row_warnings(job, plan))) or ()
        warnings += attempt(lambda: slot_warnings(job, plan, _PATIENCE)) or ()
        warnings += attempt(lambda: list(id_warnings(job, plan))) or ()
    found = plan is not None and plan.has_found_id(job)
    return Findings(tuple(faults), tuple(warnings), plan, found)


def _places(job: Job, known: frozenset[str]) -> Iterator[str | None]:
    """All that a job reads from or writes to."""
    if "input" in known:
        yield from job.input.path
    if "output" in known:
        yield job.output.path
    if "model" in known:
        yield from job.model.addresses
