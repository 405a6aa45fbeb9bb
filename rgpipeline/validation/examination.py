"""`examine`: all that can be found wrong with a job without running it."""

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
from rgpipeline.plan.resolved_settings import few_rows_warnings
from rgpipeline.spec import Job
from rgpipeline.storage.reachable import check_reachable
from rgpipeline.storage.retries import Retry
from rgpipeline.storage.store import open_store
from rgpipeline.validation.job_checks import model_findings, output_warnings, row_warnings
from rgpipeline.validation.repeated_ids import id_warnings

T = TypeVar("T")
_PATIENCE = Retry(deadline_s=15.0)  # the person waits
_ROUNDS = 5  # removing one fault may uncover another
_STAND_INS: dict[tuple[str, ...], Any] = {
    ("model", "weights"): "demo",
    ("input", "path"): "demo",
    ("output", "path"): "out",
}


@dataclass(frozen=True, slots=True)
class Findings:
    """Faults, and warnings about what is valid but may not be meant."""

    faults: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    plan: Plan | None = None  # if the input could be read
    id_was_found: bool = False  # a column names the rows only because it is called `id`

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
    """Checks a job file and everything it names; raises nothing that a person can mend.

    With faults in the job file, the sections without faults are checked all the same.
    """
    try:
        job, known = load_job(path, overrides), frozenset(Job.model_fields)
    except JobError as error:
        salvaged = salvage(path, overrides)
        if salvaged is None:
            return Findings((str(error),))
        found, faults = _examine(*salvaged), str(error).splitlines()
        more = [fault for fault in found.faults if not any(fault in line for line in faults)]
        return Findings((*faults, *more), found.warnings, found.plan)
    return _examine(job, known, advise=True)


def _examine(job: Job, known: frozenset[str], *, advise: bool = False) -> Findings:
    """`known`: the sections of the job file without faults.

    `advise`: warn about rows and settings that are valid but may not be meant.
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
    prompts = None
    if "model" in known:
        model = model_findings(job, plan)
        faults += model.faults
        warnings += model.warnings
        prompts = model.prompts
    options, store = job.storage_options, None
    if "output" in known:
        store = attempt(lambda: open_store(job.output.path, options, _PATIENCE))
    if store is not None:
        warnings += attempt(lambda: output_warnings(job, store)) or ()
    if plan is not None and store is not None and not faults and advise:
        if prompts is not None:
            warnings += attempt(lambda: list(row_warnings(job, plan, prompts))) or ()
        warnings += attempt(lambda: few_rows_warnings(job, plan.rows, store)) or ()
        warnings += attempt(lambda: list(id_warnings(job, plan))) or ()
    found = plan is not None and plan.has_found_id(job)
    return Findings(tuple(faults), tuple(warnings), plan, found)


def salvage(path: str | Path, overrides: Sequence[str]) -> tuple[Job, frozenset[str]] | None:
    """The job without its faulty keys, and its sections without faults; None if that is no job."""
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
                keys = tuple(map(str, fault["loc"]))
                bad.add(keys[0] if keys else "")
                _remove(mapping, keys)
    return None


def _remove(mapping: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Removes the value at `keys`, or replaces it by a stand-in where the job needs one."""
    section: Any = mapping
    for depth, name in enumerate(keys):
        stand_in = _STAND_INS.get(keys[: depth + 1])
        last = depth == len(keys) - 1 or not isinstance(section.get(name), dict)
        if stand_in is not None:
            section[name] = stand_in
            return
        if last:
            section.pop(name, None)
            _fill(section, keys[:depth], name)
            return
        section = section[name]


def _fill(section: dict[str, Any], above: tuple[str, ...], name: str) -> None:
    """Puts the stand-ins into a section that was removed as a whole."""
    for keys, value in _STAND_INS.items():
        if keys[0] == name and not above:
            section.setdefault(name, {})[keys[1]] = value
