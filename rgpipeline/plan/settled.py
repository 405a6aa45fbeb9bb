"""What `auto` came to: settled once for a job, for every worker and every later run of it.

It depends on the `engine:` section and on how a worker's chips are divided: both may change when a
job is resumed, and then it is settled anew, once, beside what held before.
"""

import hashlib
import json
import re
from dataclasses import asdict

from rgpipeline.errors import OutputError
from rgpipeline.records import EngineSettings
from rgpipeline.spec import EngineSpec, MeshSpec
from rgpipeline.storage.store import Store

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
