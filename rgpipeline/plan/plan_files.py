"""`_rgp/job.json` and `_rgp/plan.json` in an output folder: made once, then only compared."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rgpipeline import __version__
from rgpipeline.errors import OutputError
from rgpipeline.io.input_files import FoundFile
from rgpipeline.io.log import read_footer
from rgpipeline.io.parts import parse_part_name, part_names
from rgpipeline.io.shard_rows import partition_values
from rgpipeline.plan.plan_record import Plan, identity
from rgpipeline.plan.planner import find_inputs, make_plan
from rgpipeline.records import InputFile
from rgpipeline.spec import Job
from rgpipeline.storage.store import Store

JOB = "_rgp/job.json"
PLAN = "_rgp/plan.json"
_NEW = "choose a new output.path for it"
_MADE_ANEW = (
    "Restore it from a copy; or remove it and run the same job again, which makes a new one"
)
WITHOUT_JOB = f"holds parts of a job without its {JOB} and {PLAN}; copy _rgp, too"
_SHOWN = 5
_NOT_IN_YAML = re.compile(r"[\x7f-\x9f\ufffe\uffff\ud800-\udfff]")


def open_or_create(job: Job, store: Store) -> Plan:
    """The plan in the job's output folder; makes it if there is none.

    If two drivers do this at once, both use the plan that was created first. `Plan.warnings` is for
    the person. Raises OutputError when the folder belongs to another job or the inputs have
    changed, naming the fields or files that differ; InputError and JobError as `make_plan`.
    """
    saved = read_job(store)
    if saved is None:
        _require_free(job, store)
        plan = make_plan(job)
        require_usable(store)
        store.create(JOB, _as_json(job))
        saved = read_job(store) or job
        _require_same_facts(identity(saved), job, store)
        return _create(plan, store)
    _require_same_facts(identity(saved), job, store)
    found = read_plan(store)
    if found is None:  # the first driver died before it made the plan, or someone removed it
        plan = make_plan(job)
        _require_fitting_parts(plan, store)
        return _create(plan, store)
    files = _require_same_inputs(job, found, store)
    return replace(found, files=files, warnings=tuple(_engine_warnings(job, saved)))


def check_folder(job: Job, store: Store) -> tuple[str, ...]:
    """Raises what `open_or_create` would raise about the folder, without changing the folder.

    Returns the warnings that it would give.
    """
    saved = read_job(store)
    if saved is None:
        _require_free(job, store)
        return ()
    _require_same_facts(identity(saved), job, store)
    found = read_plan(store)
    if found is not None:
        _require_same_inputs(job, found, store)
    return tuple(_engine_warnings(job, saved))


def _as_json(job: Job) -> bytes:
    """The job as JSON that is also YAML of the same meaning: it can be run as a job file."""
    text = json.dumps(job.model_dump(mode="json"), indent=1, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def read_job(store: Store) -> Job | None:
    """The job that a folder belongs to; None when it belongs to none."""
    try:
        data = store.read(JOB)
    except FileNotFoundError:
        return None
    try:
        # Not by pydantic's parser: it refuses half surrogates, which file names may have.
        return Job.model_validate(json.loads(data))
    except ValueError as error:
        raise OutputError(
            f"{store.url(JOB)}: not understood by rgpipeline {__version__}: {error}\n{_MADE_ANEW}"
        ) from error


def read_plan(store: Store) -> Plan | None:
    """The plan in a folder; None when there is none yet."""
    try:
        data = store.read(PLAN)
    except FileNotFoundError:
        return None
    try:
        return Plan.from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{store.url(PLAN)}: not understood by rgpipeline {__version__}: {error!r}\n"
            f"{_MADE_ANEW}"
        ) from error


def _create(plan: Plan, store: Store) -> Plan:
    store.create(PLAN, plan.to_json())
    found = read_plan(store) or plan
    # The first driver may have had another `workers:` section, and began at another time.
    plan = replace(plan, shards=found.shards, began=found.began)
    if found.fingerprint != plan.fingerprint:
        raise OutputError(
            f"{store.url(PLAN)}: another driver has just planned other inputs; run again"
        )
    return plan


def _require_free(job: Job, store: Store) -> None:
    """Raises OutputError unless a folder without job.json is empty or has this job's plan."""
    plan = read_plan(store)
    if plan is not None:
        _require_same_facts(plan.job, job, store)
        return
    others = [name for name in store.entries() if name != "_rgp" and not name.startswith(".")]
    if any(map(parse_part_name, others)):
        raise OutputError(f"{store.url()}: {WITHOUT_JOB}; or name another output.path")
    if others:
        raise OutputError(
            f"{store.url()}: not empty, and not a job's output (it holds "
            f"{', '.join(others[:_SHOWN])}); name another output.path"
        )


def require_usable(store: Store) -> None:
    """Raises OutputError when nothing can be created there, or not exactly once.

    Some servers ignore the condition of a conditional put, so this tries one.
    """
    name = f"_rgp/probe-{uuid.uuid4().hex}"
    created = store.create(name, b"first"), store.create(name, b"second")
    store.delete(name)
    if created != (True, False):
        raise OutputError(
            f"{store.url()}: this store overwrites objects that it should only create, so rows "
            f"could be lost; use a local path, S3 or Google Cloud Storage"
        )


def _require_fitting_parts(plan: Plan, store: Store) -> None:
    """Raises OutputError where there are parts of another plan, which is gone."""
    for name in part_names(store)[:1]:
        if read_footer(store, name).fingerprint != plan.fingerprint:
            raise OutputError(
                f"{store.url(PLAN)}: is not there, and the parts belong to another plan; "
                f"restore it from a copy, or {_NEW}"
            )


def _require_same_facts(saved: Mapping[str, Any], job: Job, store: Store) -> None:
    differing = list(_differences(saved, identity(job)))
    if differing:
        raise OutputError(
            f"{store.url()}: belongs to a job that differs from this one in\n  "
            + "\n  ".join(differing)
            + f"\nRestore that to resume the job; for another job, {_NEW}"
        )


def _differences(
    there: Mapping[str, Any], now: Mapping[str, Any], where: str = ""
) -> Iterator[str]:
    for key in sorted({*there, *now}):
        old, new = there.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{where}{key}.")
        elif old != new:
            yield f"{where}{key}: {json.dumps(old)} there, {json.dumps(new)} now"


def _engine_warnings(job: Job, saved: Job) -> Iterator[str]:
    if job.engine != saved.engine:
        yield "engine has changed since this job began; rows still to come may round differently"


def _require_same_inputs(job: Job, plan: Plan, store: Store) -> tuple[InputFile, ...]:
    """The plan's files at their present paths: the job may name the same input by another path."""
    found = {file.name: file for file in find_inputs(job).files}
    changes = [_change(file, found.get(file.name), plan.partitions) for file in plan.files]
    if job.input.limit is None:
        known = {file.name for file in plan.files}
        changes += [f"{name} is new" for name in found if name not in known]
    changed = [change for change in changes if change]
    if changed:
        more = [f"… and {len(changed) - _SHOWN} more"] if len(changed) > _SHOWN else []
        raise OutputError(
            f"{store.url()}: the inputs have changed since this job began:\n  "
            + "\n  ".join(changed[:_SHOWN] + more)
            + f"\nRestore them to resume the job; for the inputs as they are now, {_NEW}"
        )
    return tuple(replace(file, path=found[file.name].path) for file in plan.files)


def _change(file: InputFile, found: FoundFile | None, partitions: Sequence[str]) -> str | None:
    """How a file of the plan has changed; None if it has not."""
    if found is None:
        return f"{file.name} is gone"
    if found.size != file.size:
        return f"{file.name} had {file.size} bytes and has {found.size}"
    if found.version != file.version:
        return f"{file.name} was written again (version {file.version}, now {found.version})"
    if file.below is None:  # an older plan takes partition columns from the whole path
        then, now = (partition_values(path) for path in (file.path, found.path))
        renamed = [name for name in partitions if then.get(name) != now.get(name)]
        if renamed:
            return f"{file.name}: its folders {', '.join(f'{name}=…' for name in renamed)} differ"
    return None
