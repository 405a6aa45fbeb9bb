"""Everything that can be found wrong with a job without running it, all at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from rgpipeline.errors import JobError, RgpipelineError
from rgpipeline.jobfile import load_job
from rgpipeline.jobfile.loader import override
from rgpipeline.plan import Plan, make_plan
from rgpipeline.spec import Job
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.retries import Retry
from rgpipeline.validation.job_checks import (
    model_findings,
    output_warnings,
    row_warnings,
    slot_warnings,
)
from rgpipeline.validation.repeated_ids import id_warnings

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

    urls = [url for key, url in job.urls() if key.partition(".")[0] in known]
    attempt(lambda: check_reachable(urls, job.storage_options))
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


_ROUNDS = 5  # a fault that is taken out may uncover another
_STAND_INS: dict[tuple[str, ...], Any] = {
    ("model", "weights"): "demo",
    ("input", "path"): "demo",
    ("output", "path"): "out",
}


def salvage(path: str | Path, overrides: Sequence[str]) -> tuple[Job, frozenset[str]] | None:
    """The job without its faulty keys, and the sections that had none; None if nothing is left."""
    try:
        mapping = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(mapping, dict):
        return None
    for text in overrides:
        override(mapping, text)
    bad: set[str] = set()
    for _ in range(_ROUNDS):
        try:
            return Job.model_validate(mapping), frozenset(Job.model_fields) - bad
        except ValidationError as error:
            for fault in error.errors():
                place = tuple(map(str, fault["loc"]))
                bad.add(place[0] if place else "")
                _take_out(mapping, place)
    return None


def _take_out(mapping: dict[str, Any], place: tuple[str, ...]) -> None:
    """Removes what stands at `place`, or puts what must stand there."""
    section: Any = mapping
    for depth, name in enumerate(place):
        stand_in = _STAND_INS.get(place[: depth + 1])
        last = depth == len(place) - 1 or not isinstance(section.get(name), dict)
        if stand_in is not None:
            section[name] = stand_in
            return
        if last:
            section.pop(name, None)
            _fill(section, place[:depth], name)
            return
        section = section[name]


def _fill(section: dict[str, Any], above: tuple[str, ...], name: str) -> None:
    """A section that is gone whole leaves what a job can't do without."""
    for place, value in _STAND_INS.items():
        if place[0] == name and not above:
            section.setdefault(name, {})[place[1]] = value
