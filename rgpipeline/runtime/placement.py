"""Where workers go, and how the chips of each are divided.

There is one worker for each TPU host, for each GPU, or for each share of a host's cores.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rgpipeline.errors import UserError
from rgpipeline.plan.resolved_settings import mesh_shape, mesh_shapes
from rgpipeline.runtime.cluster import Cluster, Node
from rgpipeline.spec import Job, WorkersSpec
from rgpipeline.storage.store import Store

Kind = Literal["tpu", "gpu", "cpu"]

_RESOURCE: dict[Kind, str] = {"tpu": "TPU", "gpu": "GPU", "cpu": "CPU"}
_NOUN: dict[Kind, tuple[str, str]] = {
    "tpu": ("TPU host", "chip"),
    "gpu": ("host", "GPU"),
    "cpu": ("host", "CPU core"),
}
_SPELLINGS = {"TPU-V5E": "TPU-V5LITEPOD", "TPU-V5LITE": "TPU-V5LITEPOD"}
# Cores of one worker by default. XLA's matrix multiplies of 64 rows gain little from more; and
# fewer cores would mean more workers, each with its own copy of the weights.
_CORES = 8


@dataclass(frozen=True, slots=True)
class Placement:
    """The resources that each worker of a job takes."""

    kind: Kind
    units: int  # chips, GPUs or cores of one worker
    accelerator_type: str | None = None  # as Ray spells it: TPU-V5LITEPOD, A100

    def options(self) -> dict[str, Any]:
        """The actor options by which Ray places a worker, and its autoscaler adds nodes."""
        resources: dict[str, float] = {}
        if self.accelerator_type:
            resources[f"accelerator_type:{self.accelerator_type}"] = 0.001
        if self.kind == "cpu":
            return {"num_cpus": self.units, "resources": resources}
        if self.kind == "gpu":
            return {"num_cpus": 0, "num_gpus": self.units, "resources": resources}
        return {"num_cpus": 0, "resources": {**resources, "TPU": self.units}}

    def fit(self, node: Node) -> int:
        """How many workers the node has room for."""
        if self.accelerator_type and self.accelerator_type not in node.accelerator_types:
            return 0
        return node.amount(_RESOURCE[self.kind]) // self.units

    def room(self, nodes: Iterable[Node]) -> int:
        """How many workers the nodes have room for."""
        return sum(self.fit(node) for node in nodes)

    @property
    def devices(self) -> int | None:
        """Accelerators that jax must see in a worker's process; None where it runs on its CPU."""
        return None if self.kind == "cpu" else self.units

    def __str__(self) -> str:
        return _described(self.kind, self.units, self.accelerator_type)


def choose(spec: WorkersSpec, cluster: Cluster) -> Placement:
    """What the job's `workers:` means on this cluster.

    TPU hosts are taken whole unless `chips` says otherwise; where hosts differ in size, those of
    the size that has most chips in all. Where nothing fits yet, but an autoscaler may add nodes,
    the job must say what it needs. Raises UserError that names what the cluster has.
    """
    placement = _choose(spec, cluster.staying)
    if placement is not None and placement.room(cluster.staying) > 0:
        return placement
    if not cluster.grows:
        raise UserError(_refusal(spec, cluster))
    return _explicit(spec, cluster)


@dataclass(frozen=True, slots=True)
class WorkerDemand:
    """The workers that a job asks for."""

    spec: WorkersSpec
    placement: Placement

    def wanted(self, cluster: Cluster) -> int:
        """How many workers the job wants now: its `count`, or all that fit (`min` at least).

        Workers that don't fit wait for room, which makes an autoscaler add some. So where there
        is one, up to twice as many are wanted as fit, for as long as it gives more.
        """
        if self.spec.count != "auto":
            return self.spec.count
        room = self.placement.room(cluster.staying)
        return max(self.spec.min, 2 * room if cluster.grows else room)

    def missing(self, cluster: Cluster) -> str:
        """The room that the job still waits for, in words; empty when there is enough."""
        room = self.placement.room(cluster.staying)
        missing = (self.spec.min if self.spec.count == "auto" else self.spec.count) - room
        if missing <= 0:
            return ""
        workers = "1 more worker" if missing == 1 else f"{missing} more workers"
        when = "its autoscaler is asked for more" if cluster.grows else "they join when hosts do"
        return f"room for {workers} ({self.placement}): the cluster has room for {room}; {when}"


def inventory(nodes: Sequence[Node]) -> str:
    """The nodes in words: `2 × TPU host with 4 chips (TPU-V6E)`."""
    kinds = Counter(_summary(node) for node in nodes)
    words = [f"{n} × {what}" if n > 1 else what for what, n in sorted(kinds.items())]
    return ", ".join(words) or "no hosts"


def check_mesh(spec: WorkersSpec, placement: Placement) -> None:
    """Raises UserError where the mesh does not fit the chips of a worker."""
    mesh, chips = spec.mesh, placement.devices or 1
    least = mesh.model * (1 if mesh.data == "auto" else mesh.data)
    if least > chips or (mesh.data == "auto" and chips % mesh.model):
        asked = f"data {mesh.data} × model {mesh.model}"
        if placement.kind == "cpu":
            raise UserError(
                f"workers.mesh: {asked}; the CPU of a worker is one device: leave it out"
            )
        raise UserError(
            f"workers.mesh: {asked} does not go with workers that have {chips} each ({placement}); "
            f"change it, or workers.chips"
        )


def with_counted_mesh(job: Job, placement: Placement) -> Job:
    """The job with its mesh in numbers; `check_mesh` must have passed."""
    mesh = job.workers.mesh
    if mesh.data == "auto":
        mesh = mesh.model_copy(update={"data": (placement.devices or 1) // mesh.model})
    return job.model_copy(update={"workers": job.workers.model_copy(update={"mesh": mesh})})


def other_meshes(store: Store, job: Job) -> list[str]:
    """A warning where earlier workers of the job divided their chips otherwise.

    `job`: with its mesh in numbers.
    """
    now = mesh_shape(job.workers.mesh)
    others = [parts for parts in sorted(mesh_shapes(store, job.engine)) if parts != now]
    if not others:
        return []
    then = " and ".join(map(_mesh_text, others))
    return [
        f"a worker's chips are divided as {_mesh_text(now)} now, and were as {then} earlier in "
        f"this job; rows still to come may round differently"
    ]


def _choose(spec: WorkersSpec, nodes: Sequence[Node]) -> Placement | None:
    kind, accelerator_type = _kind(spec.accelerator, nodes)
    if accelerator_type:
        nodes = [node for node in nodes if accelerator_type in node.accelerator_types]
    sizes = [size for node in nodes if (size := node.amount(_RESOURCE[kind]))]
    if not sizes:
        return None
    return Placement(kind, _units(spec, kind, sizes), accelerator_type)


def _explicit(spec: WorkersSpec, cluster: Cluster) -> Placement:
    """The placement that the job asks for, on a cluster that has no such host yet."""
    name = spec.accelerator.lower()
    kind, accelerator_type = _kind(spec.accelerator, ())
    if name == "auto":
        missing = "workers.accelerator: cpu, gpu, tpu, or a type"
    elif spec.chips == "auto" and kind != "gpu":
        missing = f"workers.chips: how many {_NOUN[kind][1]}s a worker takes"
    else:
        return Placement(kind, _units(spec, kind, ()), accelerator_type)
    raise UserError(
        f"{_refusal(spec, cluster)}. Its autoscaler may add what is missing, once it is told what; "
        f"say {missing}"
    )


def _kind(accelerator: str, nodes: Sequence[Node]) -> tuple[Kind, str | None]:
    """The kind of worker, and the accelerator's type where one is named."""
    name = accelerator.lower()
    if name == "auto":
        kinds: tuple[Kind, ...] = ("tpu", "gpu")
        return next((k for k in kinds if any(n.amount(_RESOURCE[k]) for n in nodes)), "cpu"), None
    if name in ("tpu", "gpu", "cpu"):
        return name, None  # type: ignore[return-value]
    upper = accelerator.upper()
    known = {one.upper(): one for node in nodes for one in node.accelerator_types}
    ray_name = _SPELLINGS.get(upper, upper)
    return ("tpu" if upper.startswith("TPU") else "gpu"), known.get(ray_name, ray_name)


def _units(spec: WorkersSpec, kind: Kind, sizes: Sequence[int]) -> int:
    if spec.chips != "auto":
        return spec.chips
    if kind == "gpu":
        return spec.mesh.model * (1 if spec.mesh.data == "auto" else spec.mesh.data)
    if kind == "tpu":
        chips = Counter(sizes)
        return max(chips, key=lambda size: (chips[size] * size, size))
    if spec.count == "auto":
        return min(max(sizes), _CORES)
    units = max(1, min(max(sizes), sum(sizes) // spec.count))
    while units > 1 and sum(size // units for size in sizes) < spec.count:
        units -= 1
    return units


def _summary(node: Node) -> str:
    kind: Kind = "tpu" if node.amount("TPU") else "gpu" if node.amount("GPU") else "cpu"
    types = ", ".join(node.accelerator_types) or None
    return _described(kind, node.amount(_RESOURCE[kind]), types)


def _described(kind: Kind, units: int, accelerator_type: str | None) -> str:
    host, unit = _NOUN[kind]
    text = f"{host} with {units} {unit}{'' if units == 1 else 's'}"
    return f"{text} ({accelerator_type})" if accelerator_type else text


def _refusal(spec: WorkersSpec, cluster: Cluster) -> str:
    kind, accelerator_type = _kind(spec.accelerator, cluster.nodes)
    host, unit = _NOUN[kind]
    asked = f"{host}s" + (
        f" with {spec.chips} {unit}s" if spec.chips != "auto" else f" with {unit}s"
    )
    if accelerator_type:
        asked += f" ({accelerator_type})"
    return f"workers: asked for {asked}; the cluster has {inventory(cluster.nodes)}"


def _mesh_text(parts: tuple[int, int]) -> str:
    return f"data {parts[0]} × model {parts[1]}"
