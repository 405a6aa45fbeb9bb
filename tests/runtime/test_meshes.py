"""A job's mesh and the chips of its workers: what doesn't go together is told at once."""

from pathlib import Path

import pytest

from rgpipeline.errors import UserError
from rgpipeline.jobfile import parse_job
from rgpipeline.plan import record_settings
from rgpipeline.records import ResolvedSettings
from rgpipeline.runtime.cluster import Cluster, Node
from rgpipeline.runtime.placement import (
    Placement,
    check_mesh,
    choose,
    other_meshes,
    with_counted_mesh,
)
from rgpipeline.spec import Job, MeshSpec, WorkersSpec
from rgpipeline.storage.store import open_store

V5E = Placement("tpu", 8, "TPU-V5LITEPOD")
SETTINGS = ResolvedSettings("bfloat16", 512, 256, 16)


def spec(**mesh: object) -> WorkersSpec:
    return WorkersSpec.model_validate({"mesh": mesh})


def job_with(**mesh: object) -> Job:
    paths = {"model": {"weights": "demo"}, "input": {"path": "in"}, "output": {"path": "out"}}
    return parse_job({**paths, "workers": {"mesh": mesh}}, "job")


@pytest.mark.parametrize("mesh", [{}, {"model": 4}, {"data": 2, "model": 4}, {"data": 1}])
def test_a_mesh_of_the_chips_there_are(mesh: dict[str, object]) -> None:
    check_mesh(spec(**mesh), V5E)


@pytest.mark.parametrize(
    ("placement", "mesh", "told"),
    [
        (V5E, {"data": 4, "model": 4}, r"data 4 × model 4 does not go with workers that have 8"),
        (V5E, {"model": 3}, r"data auto × model 3 does not go with .*8 chips"),
        (Placement("cpu", 8), {"model": 2}, r"the CPU of a worker is one device: leave it out"),
    ],
)
def test_a_mesh_of_other_chips(placement: Placement, mesh: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=r"workers\.mesh: .*" + told):
        check_mesh(spec(**mesh), placement)


def test_a_worker_takes_as_many_gpus_as_its_mesh_divides() -> None:
    host = Node("n", "host", {"CPU": 16, "GPU": 8})

    placement = choose(spec(data=2, model=2), Cluster((host,)))

    assert (placement.units, placement.room([host])) == (4, 2)


def test_jax_must_see_the_accelerators_and_on_a_cpu_nothing() -> None:
    assert V5E.devices == 8
    assert Placement("cpu", 8).devices is None


@pytest.mark.parametrize(
    ("placement", "mesh", "counted"),
    [
        (V5E, {}, MeshSpec(data=8, model=1)),
        (V5E, {"model": 4}, MeshSpec(data=2, model=4)),
        (V5E, {"data": 1, "model": 2}, MeshSpec(data=1, model=2)),
        (Placement("cpu", 8), {}, MeshSpec(data=1, model=1)),
    ],
)
def test_workers_get_their_mesh_in_numbers(
    placement: Placement, mesh: dict[str, object], counted: MeshSpec
) -> None:
    assert with_counted_mesh(job_with(**mesh), placement).workers.mesh == counted


def test_a_job_that_goes_on_with_chips_divided_otherwise_is_told(tmp_path: Path) -> None:
    store, on_eight = open_store(str(tmp_path)), with_counted_mesh(job_with(), V5E)
    record_settings(store, on_eight.engine, SETTINGS, on_eight.workers.mesh)

    (warning,) = other_meshes(store, with_counted_mesh(job_with(model=4), V5E))

    assert "divided as data 2 × model 4 now, and were as data 8 × model 1" in warning
    assert other_meshes(store, on_eight) == []
