"""A job's mesh and the chips of its workers: what doesn't go together is told at once."""

import pytest

from rgpipeline.errors import UserError
from rgpipeline.runtime.meshes import check_mesh, devices_of
from rgpipeline.runtime.nodes import Cluster, Node
from rgpipeline.runtime.placement import Placement, choose
from rgpipeline.spec import WorkersSpec

V5E = Placement("tpu", 8, "TPU-V5LITEPOD")


def spec(**mesh: object) -> WorkersSpec:
    return WorkersSpec.model_validate({"mesh": mesh})


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
    assert devices_of(V5E) == 8
    assert devices_of(Placement("cpu", 8)) is None
