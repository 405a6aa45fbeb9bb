"""What `auto` came to holds for every worker, until the engine or the chips are others."""

from pathlib import Path

import pytest

from rgpipeline.errors import OutputError
from rgpipeline.plan import record_settings, recorded_settings
from rgpipeline.plan.resolved_settings import mesh_shapes
from rgpipeline.records import ResolvedSettings
from rgpipeline.spec import EngineSpec, MeshSpec
from rgpipeline.storage.store import RetryingStore, open_store

AUTO, FIRST = EngineSpec(), ResolvedSettings("float32", 8, 64, 4)
OTHER = ResolvedSettings("float32", 16, 64, 4)
EIGHT = MeshSpec(data=8, model=1)


@pytest.fixture
def store(tmp_path: Path) -> RetryingStore:
    return open_store(str(tmp_path))


def test_it_is_settled_once(store: RetryingStore) -> None:
    assert recorded_settings(store, AUTO) is None
    assert record_settings(store, AUTO, FIRST) == FIRST
    assert record_settings(store, AUTO, OTHER) == FIRST
    assert recorded_settings(store, AUTO) == FIRST


def test_damaged_settings_are_named_and_settled_anew_once_removed(store: RetryingStore) -> None:
    record_settings(store, AUTO, FIRST)
    (name,) = store.list("_rgp/engine-")
    store.replace(name, b"")
    with pytest.raises(OutputError, match=rf"{name}: not understood .* remove it"):
        recorded_settings(store, AUTO)
    store.delete(name)
    assert record_settings(store, AUTO, OTHER) == OTHER


def test_another_engine_section_settles_anew(store: RetryingStore) -> None:
    record_settings(store, AUTO, FIRST)
    assert record_settings(store, EngineSpec(slots=16), OTHER) == OTHER


def test_chips_divided_otherwise_settle_anew(store: RetryingStore) -> None:
    record_settings(store, AUTO, FIRST)
    assert recorded_settings(store, AUTO, EIGHT) is None
    assert record_settings(store, AUTO, OTHER, EIGHT) == OTHER
    assert recorded_settings(store, AUTO) == FIRST


def test_every_division_that_the_job_has_seen_is_known(store: RetryingStore) -> None:
    record_settings(store, AUTO, FIRST)
    record_settings(store, AUTO, OTHER, EIGHT)
    record_settings(store, EngineSpec(slots=16), OTHER, MeshSpec(data=2, model=2))
    assert mesh_shapes(store, AUTO) == {(1, 1): FIRST, (8, 1): OTHER}
