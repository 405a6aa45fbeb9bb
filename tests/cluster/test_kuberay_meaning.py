"""What the schemas can't say of the KubeRay manifests."""

import math
import shlex
from pathlib import Path

import pytest

from rgpipeline.spec import Job
from tests.cluster.files import JOBS, RAY_CLUSTERS, RAY_JOBS, cluster_spec, locked, pods, read

CHIPS = "google.com/tpu"
ACCELERATOR = "cloud.google.com/gke-tpu-accelerator"
TOPOLOGY = "cloud.google.com/gke-tpu-topology"

MANIFESTS = [pytest.param(path, id=path.stem) for path in RAY_JOBS + RAY_CLUSTERS]
TPU_GROUPS = [
    pytest.param(group, id=f"{path.stem}/{group['groupName']}")
    for path in RAY_JOBS + RAY_CLUSTERS
    for group in cluster_spec(path)["workerGroupSpecs"]
    if CHIPS in group["template"]["spec"]["containers"][0]["resources"]["limits"]
]


def resources(pod: dict) -> dict:
    return pod["containers"][0]["resources"]


def chips_of(group: dict) -> int:
    return int(resources(group["template"]["spec"])["limits"][CHIPS])


def test_every_kind_of_cluster_is_there():
    wanted = {"v5e", "v6e", "v6e-16", "gpu", "kind"}
    assert {path.stem.removeprefix("rayjob-") for path in RAY_JOBS} == wanted
    assert {path.stem.removeprefix("raycluster-") for path in RAY_CLUSTERS} == wanted


@pytest.mark.parametrize(("job", "cluster"), zip(RAY_JOBS, RAY_CLUSTERS, strict=True))
def test_a_jobs_own_cluster_is_the_standing_one(job: Path, cluster: Path):
    assert cluster_spec(job) == cluster_spec(cluster)


@pytest.mark.parametrize("path", MANIFESTS)
def test_requests_are_limits(path: Path):
    for name, pod in pods(path):
        assert resources(pod)["requests"] == resources(pod)["limits"], name


@pytest.mark.parametrize("path", MANIFESTS)
def test_dead_pod_is_replaced_and_not_restarted(path: Path):
    assert {pod["restartPolicy"] for _, pod in pods(path)} == {"Never"}


@pytest.mark.parametrize("path", MANIFESTS)
def test_no_worker_lands_on_the_head(path: Path):
    assert cluster_spec(path)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("path", MANIFESTS)
def test_ray_is_the_locked_one(path: Path):
    assert cluster_spec(path)["rayVersion"] == locked("ray")


@pytest.mark.parametrize("path", MANIFESTS)
def test_only_pods_with_chips_run_as_root(path: Path):
    for name, pod in pods(path):
        root = pod["securityContext"]["runAsUser"] == 0
        assert root == (CHIPS in resources(pod)["limits"]), name


@pytest.mark.parametrize("path", MANIFESTS)
def test_workers_leave_before_they_are_stopped(path: Path):
    for name, pod in list(pods(path))[1:]:
        hook = pod["containers"][0]["lifecycle"]["preStop"]
        assert hook == {"exec": {"command": ["rgpipeline-leave"]}}, name


@pytest.mark.parametrize("path", MANIFESTS)
def test_pods_prove_who_they_are_by_their_service_account(path: Path):
    assert {pod["serviceAccountName"] for _, pod in pods(path)} == {"rgpipeline"}


@pytest.mark.parametrize("group", TPU_GROUPS)
def test_hosts_times_chips_are_the_topology(group: dict):
    topology = group["template"]["spec"]["nodeSelector"][TOPOLOGY]
    assert group["numOfHosts"] * chips_of(group) == math.prod(map(int, topology.split("x")))


@pytest.mark.parametrize("group", TPU_GROUPS)
def test_a_host_has_as_many_chips_as_google_gives_it(group: dict):
    """ct5lp-hightpu-8t and ct6e-standard-8t alone have 8; hosts of a larger slice have 4."""
    assert chips_of(group) == (8 if group["numOfHosts"] == 1 else 4)


@pytest.mark.parametrize("group", TPU_GROUPS)
def test_tpu_pods_select_a_generation(group: dict):
    selected = group["template"]["spec"]["nodeSelector"][ACCELERATOR]
    assert selected in {"tpu-v5-lite-podslice", "tpu-v6e-slice"}


@pytest.mark.parametrize("group", TPU_GROUPS)
def test_jax_may_use_the_tpu(group: dict):
    env = group["template"]["spec"]["containers"][0]["env"]
    assert {"name": "JAX_PLATFORMS", "value": "tpu,cpu"} in env


@pytest.mark.parametrize("path", RAY_JOBS, ids=lambda path: path.stem)
def test_entrypoint_runs_a_job_file_that_exists_for_that_accelerator(path: Path):
    spec = read(path)["spec"]
    program, command, job_file, *options = shlex.split(spec["entrypoint"])
    assert (program, command, options) == ("rgpipeline", "run", ["--address", "auto"])
    job = Job.model_validate(read(JOBS / Path(job_file).relative_to("/jobs")))
    worker = spec["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]
    assert job.workers.accelerator == worker.split("-")[0]


@pytest.mark.parametrize("path", RAY_JOBS, ids=lambda path: path.stem)
def test_the_job_files_are_mounted_where_the_entrypoint_looks(path: Path):
    _, head = next(pods(path))
    mount = next(m for m in head["containers"][0]["volumeMounts"] if m["mountPath"] == "/jobs")
    volume = next(v for v in head["volumes"] if v["name"] == mount["name"])
    assert volume["configMap"] == {"name": "rgpipeline-jobs"}


@pytest.mark.parametrize("path", RAY_JOBS, ids=lambda path: path.stem)
def test_a_jobs_cluster_costs_nothing_when_the_job_is_done(path: Path):
    assert read(path)["spec"]["shutdownAfterJobFinishes"] is True
