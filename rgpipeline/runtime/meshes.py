"""How the chips of a job's workers are divided: whether it goes, in numbers, and as before."""

from rgpipeline.errors import UserError
from rgpipeline.plan.settled import division, divisions
from rgpipeline.runtime.placement import Placement
from rgpipeline.spec import Job, WorkersSpec
from rgpipeline.storage.store import Store


def check_mesh(spec: WorkersSpec, placement: Placement) -> None:
    """Raises UserError where workers lack the chips for it: before any worker is started."""
    mesh, chips = spec.mesh, devices_of(placement) or 1
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
    """The job with its mesh in numbers, as `check_mesh` has found it possible."""
    mesh = job.workers.mesh
    if mesh.data == "auto":
        mesh = mesh.model_copy(update={"data": (devices_of(placement) or 1) // mesh.model})
    return job.model_copy(update={"workers": job.workers.model_copy(update={"mesh": mesh})})


def other_meshes(store: Store, job: Job) -> list[str]:
    """A warning where the job has been worked at with chips divided otherwise.

    `job`: with its mesh in numbers.
    """
    now = division(job.workers.mesh)
    others = [parts for parts in sorted(divisions(store, job.engine)) if parts != now]
    if not others:
        return []
    then = " and ".join(map(_described, others))
    return [
        f"a worker's chips are divided as {_described(now)} now, and were as {then} earlier in "
        f"this job; rows still to come may round differently"
    ]


def devices_of(placement: Placement) -> int | None:
    """Accelerators that jax must see in a worker's process; None where it runs on its CPU."""
    return None if placement.kind == "cpu" else placement.units


def _described(parts: tuple[int, int]) -> str:
    return f"data {parts[0]} × model {parts[1]}"
