"""What `auto` came to: settled once for a job, for every worker and every later run of it.

It depends on the `engine:` section and on how a worker's chips are divided: both may change when a
job is resumed, and then it is settled anew, once, beside what held before.
"""

import hashlib
import json
import re
from dataclasses import asdict

from rgpipeline.engine.sizing import ACCELERATOR_SLOTS, CPU_SLOTS
from rgpipeline.errors import OutputError
from rgpipeline.records import EngineSettings
from rgpipeline.spec import EngineSpec, Job, MeshSpec
from rgpipeline.storage.store import Store
from rgpipeline.tasks import task_of
from rgpipeline.wording import counted

ALONE = MeshSpec(data=1, model=1)
Division = tuple[int, int]  # (data, model): parts of the slots and of the weights


def settle(
    store: Store, engine: EngineSpec, settings: EngineSettings, mesh: MeshSpec = ALONE
) -> EngineSettings:
    """Records what `auto` came to, if nobody has; returns what holds for every worker.

    `mesh`: of the workers' chips, in numbers.
    """
    store.create(_name(engine, division(mesh)), json.dumps(asdict(settings)).encode())
    return settled(store, engine, mesh) or settings


def settled(store: Store, engine: EngineSpec, mesh: MeshSpec = ALONE) -> EngineSettings | None:
    """What was settled for an `engine:` section and a mesh; None when nothing was."""
    return _read(store, _name(engine, division(mesh)))


def divisions(store: Store, engine: EngineSpec) -> dict[Division, EngineSettings]:
    """What was settled for an `engine:` section, by how the chips were divided."""
    found: dict[Division, EngineSettings] = {}
    for name in store.list(_stem(engine)):
        parts = re.fullmatch(re.escape(_stem(engine)) + r"(?:-(\d+)x(\d+))?\.json", name)
        settings = _read(store, name) if parts else None
        if parts and settings:
            found[int(parts[1] or 1), int(parts[2] or 1)] = settings
    return found


def division(mesh: MeshSpec) -> Division:
    """A mesh in numbers; one chip where nobody has counted them."""
    return (1 if mesh.data == "auto" else mesh.data), mesh.model


def _read(store: Store, name: str) -> EngineSettings | None:
    try:
        return EngineSettings(**json.loads(store.read(name)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise OutputError(
            f"{store.url(name)}: not understood ({error}); remove it and run the same job again, "
            f"which settles it anew"
        ) from error


def _name(engine: EngineSpec, parts: Division) -> str:
    return _stem(engine) + ("" if parts == (1, 1) else f"-{parts[0]}x{parts[1]}") + ".json"


def _stem(engine: EngineSpec) -> str:
    digest = hashlib.sha256(json.dumps(engine.model_dump(), sort_keys=True).encode()).hexdigest()
    return f"_rgp/engine-{digest[:8]}"


def few_rows_warning(job: Job, rows: int, slots: int) -> str | None:
    """One line, where a worker's `slots` are more than the job's sequences; else None."""
    if not task_of(job).uses_slots or slots <= _sequences(job, rows):
        return None
    return _warning(job, rows, f"a worker has {slots:,}")


def few_rows_expected(job: Job, rows: int, store: Store) -> str | None:
    """As `few_rows_warning`, before a worker has said how many slots it has."""
    known = settled(store, job.engine, job.workers.mesh)
    slots = job.engine.slots if known is None else known.slots
    if slots != "auto":
        return few_rows_warning(job, rows, slots)
    if not task_of(job).uses_slots or _sequences(job, rows) >= CPU_SLOTS:
        return None
    usual = f"{CPU_SLOTS} on a CPU, {ACCELERATOR_SLOTS} or more on an accelerator"
    return _warning(job, rows, f"auto gives a worker {usual}")


def _sequences(job: Job, rows: int) -> int:
    """Those that can be in slots at once."""
    return rows * job.sampling.n


def _warning(job: Job, rows: int, slots: str) -> str:
    sequences, data = _sequences(job, rows), job.workers.mesh.data
    parts = 1 if data == "auto" else data
    fitting = -(-sequences // parts) * parts
    return (
        f"few rows for the slots: the job has {counted(sequences, 'sequence')}, {slots}, and empty "
        f"slots cost as much time as full ones; engine.slots: {fitting} is faster (another number "
        f"of slots may round rows differently)"
    )
