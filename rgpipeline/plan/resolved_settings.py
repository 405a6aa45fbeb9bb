"""What `auto` in the `engine:` section resolved to, recorded in the output folder.

The first worker records it, so that every worker and every later run have the same settings. The
record is of one `engine:` section and one division of a worker's chips. Both may change when a job
is resumed; then a new record is made beside the old one.
"""

import hashlib
import json
import re
from dataclasses import asdict

from rgpipeline.engine.sizing import ACCELERATOR_SLOTS, CPU_SLOTS
from rgpipeline.errors import OutputError
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec, Job, MeshSpec
from rgpipeline.storage.store import Store
from rgpipeline.tasks import task_of
from rgpipeline.wording import counted

ONE_CHIP = MeshSpec(data=1, model=1)
MeshShape = tuple[int, int]  # (data, model): parts of the slots and of the weights


def record_settings(
    store: Store, engine: EngineSpec, settings: ResolvedSettings, mesh: MeshSpec = ONE_CHIP
) -> ResolvedSettings:
    """Records the settings unless there are some; returns the recorded ones, for every worker.

    `mesh`: how a worker's chips are divided, in numbers.
    """
    store.create(_name(engine, mesh_shape(mesh)), json.dumps(asdict(settings)).encode())
    return recorded_settings(store, engine, mesh) or settings


def recorded_settings(
    store: Store, engine: EngineSpec, mesh: MeshSpec = ONE_CHIP
) -> ResolvedSettings | None:
    """The settings recorded for an `engine:` section and a mesh; None without a record."""
    return _read(store, _name(engine, mesh_shape(mesh)))


def mesh_shapes(store: Store, engine: EngineSpec) -> dict[MeshShape, ResolvedSettings]:
    """All settings recorded for an `engine:` section, by the shape of the mesh."""
    found: dict[MeshShape, ResolvedSettings] = {}
    for name in store.list(_stem(engine)):
        sides = re.fullmatch(re.escape(_stem(engine)) + r"(?:-(\d+)x(\d+))?\.json", name)
        settings = _read(store, name) if sides else None
        if sides and settings:
            found[int(sides[1] or 1), int(sides[2] or 1)] = settings
    return found


def mesh_shape(mesh: MeshSpec) -> MeshShape:
    """A mesh in numbers; `data: auto` counts as 1 where the chips aren't counted yet."""
    return (1 if mesh.data == "auto" else mesh.data), mesh.model


def _read(store: Store, name: str) -> ResolvedSettings | None:
    try:
        return ResolvedSettings(**json.loads(store.read(name)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise OutputError(
            f"{store.url(name)}: not understood ({error}); remove it and run the same job again, "
            f"which records new settings"
        ) from error


def _name(engine: EngineSpec, shape: MeshShape) -> str:
    return _stem(engine) + ("" if shape == (1, 1) else f"-{shape[0]}x{shape[1]}") + ".json"


def _stem(engine: EngineSpec) -> str:
    digest = hashlib.sha256(json.dumps(engine.model_dump(), sort_keys=True).encode()).hexdigest()
    return f"_rgp/engine-{digest[:8]}"


def few_rows_warning(job: Job, rows: int, slots: int) -> str | None:
    """A warning where a worker has more slots than the job has sequences; else None.

    `auto` doesn't depend on the number of rows, for a row's last bits depend on the number of
    slots, and would then depend on the other rows.
    """
    if not task_of(job).uses_slots or slots <= _sequences(job, rows):
        return None
    return _warning(job, rows, f"a worker has {slots:,}")


def few_rows_warnings(job: Job, rows: int, store: Store) -> list[str]:
    """As `few_rows_warning`, before any worker has reported its slots; empty without a warning."""
    recorded = recorded_settings(store, job.engine, job.workers.mesh)
    slots = job.engine.slots if recorded is None else recorded.slots
    if slots != "auto":
        warning = few_rows_warning(job, rows, slots)
    elif not task_of(job).uses_slots or _sequences(job, rows) >= CPU_SLOTS:
        warning = None
    else:
        usual = f"{CPU_SLOTS} on a CPU, {ACCELERATOR_SLOTS} or more on an accelerator"
        warning = _warning(job, rows, f"auto gives a worker {usual}")
    return [] if warning is None else [warning]


def _sequences(job: Job, rows: int) -> int:
    """How many sequences can be in slots at once."""
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
