"""What `workers:` means on made-up clusters."""

import subprocess
import sys

import pytest

from rgpipeline.errors import UserError
from rgpipeline.runtime.cluster import Cluster, Node
from rgpipeline.runtime.placement import Placement, WorkerDemand, choose
from rgpipeline.runtime.process_setup import core_shares, environment
from rgpipeline.spec import WorkersSpec

SLICE_HOST = {"ray.io/tpu-topology": "4x4", "ray.io/tpu-pod-type": "v6e-16"}


def node(labels: dict[str, str] | None = None, **resources: float) -> Node:
    return Node("n", "host", {k.replace("__", ":"): v for k, v in resources.items()}, labels or {})


def v5e(chips: int = 8) -> Node:
    return Node("n", "host", {"CPU": 100, "TPU": chips, "accelerator_type:TPU-V5LITEPOD": 1})


def v6e(chips: int = 4) -> Node:
    resources = {"CPU": 100, "TPU": chips, "accelerator_type:TPU-V6E": 1}
    return Node("n", "host", resources, SLICE_HOST)


def cluster(*nodes: Node) -> Cluster:
    return Cluster(nodes)


GROWING = Cluster((Node("head", "head", {"CPU": 0}, {"ray.io/node-group": "head"}),))


HEAD = node(CPU=4)
GPUS = node(CPU=48, GPU=8, accelerator_type__A100=1)


def spec(**fields: object) -> WorkersSpec:
    return WorkersSpec(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([HEAD, v5e(), v5e()], Placement("tpu", 8)),
        ([HEAD, GPUS], Placement("gpu", 1)),
        ([HEAD], Placement("cpu", 4)),
        ([node(CPU=2), node(CPU=64)], Placement("cpu", 8)),
    ],
)
def test_auto_takes_the_best_that_is_there(nodes: list[Node], expected: Placement) -> None:
    assert choose(spec(), cluster(*nodes)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TPU-V6E", Placement("tpu", 4, "TPU-V6E")),
        ("tpu-v5e", Placement("tpu", 8, "TPU-V5LITEPOD")),
        ("a100", Placement("gpu", 1, "A100")),
    ],
)
def test_a_type_may_be_named_in_any_case(name: str, expected: Placement) -> None:
    assert choose(spec(accelerator=name), cluster(v5e(), v6e(), GPUS)) == expected


def test_two_workers_on_two_cores_have_one_each() -> None:
    assert choose(spec(accelerator="cpu", count=2), cluster(node(CPU=2))).units == 1


def test_cores_are_shared_so_that_all_workers_fit() -> None:
    placement = choose(spec(accelerator="cpu", count=3), cluster(node(CPU=4), node(CPU=2)))
    assert placement.room([node(CPU=4), node(CPU=2)]) >= 3


def test_the_tpu_hosts_with_most_chips_in_all_are_taken() -> None:
    assert choose(spec(), cluster(v6e(4), v6e(4), v6e(4), v5e(8))).units == 4


def test_one_worker_a_host_and_none_where_hosts_are_too_small() -> None:
    assert Placement("tpu", 8).room([HEAD, v5e(8), v5e(8), v6e(4)]) == 2


@pytest.mark.parametrize(
    ("workers", "nodes", "message"),
    [
        (
            spec(accelerator="tpu", chips=8),
            [HEAD, v6e(4), v6e(4)],
            "workers: asked for TPU hosts with 8 chips; the cluster has 2 × TPU host with 4 chips "
            "(TPU-V6E), host with 4 CPU cores",
        ),
        (
            spec(accelerator="gpu"),
            [HEAD],
            "workers: asked for hosts with GPUs; the cluster has host with 4 CPU cores",
        ),
        (
            spec(accelerator="H100"),
            [GPUS],
            "workers: asked for hosts with GPUs (H100); the cluster has host with 8 GPUs (A100)",
        ),
    ],
)
def test_what_the_cluster_cannot_give_is_told(
    workers: WorkersSpec, nodes: list[Node], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        choose(workers, cluster(*nodes))
    assert str(caught.value) == message


def test_what_an_autoscaler_may_add_is_waited_for() -> None:
    workers = spec(accelerator="tpu", chips=8)
    placement = choose(workers, GROWING)
    assert placement == Placement("tpu", 8)
    assert WorkerDemand(workers, placement).missing(GROWING) == (
        "room for 1 more worker (TPU host with 8 chips): the cluster has room for 0; "
        "its autoscaler is asked for more"
    )


@pytest.mark.parametrize(
    ("workers", "missing"), [(spec(), "workers.accelerator"), (spec(accelerator="tpu"), "chips")]
)
def test_an_autoscaler_must_be_told_what_to_add(workers: WorkersSpec, missing: str) -> None:
    with pytest.raises(UserError, match=missing):
        choose(workers, GROWING)


@pytest.mark.parametrize(
    ("workers", "expected"), [(spec(), 2), (spec(min=5), 5), (spec(count=7), 7)]
)
def test_as_many_workers_as_fit_but_for_what_is_asked(workers: WorkersSpec, expected: int) -> None:
    assert (
        WorkerDemand(workers, Placement("tpu", 8)).wanted(cluster(HEAD, v5e(), v5e())) == expected
    )


def test_an_autoscaler_is_asked_for_as_many_again() -> None:
    hosts = Cluster((*GROWING.nodes, v5e(), v5e(), v5e()))
    assert WorkerDemand(spec(), Placement("tpu", 8)).wanted(hosts) == 6
    assert WorkerDemand(spec(), Placement("tpu", 8)).missing(hosts) == ""


def test_a_draining_host_has_no_room() -> None:
    leaving = Node("n", "host", {"TPU": 8}, leaving=True)
    assert WorkerDemand(spec(), Placement("tpu", 8)).wanted(cluster(v5e(), leaving)) == 1


def test_a_host_of_a_larger_slice_works_by_itself() -> None:
    chosen = environment(Placement("tpu", 4), v6e(4), ["0", "1", "2", "3"], {})
    assert chosen == {
        "JAX_PLATFORMS": "tpu,cpu",
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "2,2,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
        "TPU_VISIBLE_CHIPS": "0,1,2,3",
        "CLOUD_TPU_TASK_ID": "0",
    }


def test_a_whole_slice_of_one_host_needs_no_bounds() -> None:
    whole = Node("n", "host", {"TPU": 8}, {"ray.io/tpu-topology": "2x4"})
    assert environment(Placement("tpu", 8), whole, [], {}) == {"JAX_PLATFORMS": "tpu,cpu"}


def test_half_a_host_sees_its_own_chips_only() -> None:
    chosen = environment(Placement("tpu", 4), v5e(8), ["4", "5", "6", "7"], {})
    assert chosen["TPU_VISIBLE_CHIPS"] == "4,5,6,7"


def test_a_platform_that_the_host_names_is_kept() -> None:
    assert environment(Placement("tpu", 8), v5e(), [], {"JAX_PLATFORMS": "cpu"}) == {}


def test_a_cpu_worker_has_as_many_threads_as_cores() -> None:
    assert environment(Placement("cpu", 3), HEAD, [], {})["PJRT_NPROC"] == "3"


def test_cores_are_divided_among_workers() -> None:
    shares = core_shares(Placement("cpu", 2), node(CPU=5), [0, 1, 2, 3, 4])
    assert shares == [[0, 1], [2, 3]]


def test_cores_of_a_container_with_a_part_of_them_are_left_alone() -> None:
    assert core_shares(Placement("cpu", 2), node(CPU=4), list(range(64))) == []


def test_a_workers_process_imports_jax_after_its_environment_is_set() -> None:
    code = "import sys, rgpipeline.runtime.ray_workers; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
