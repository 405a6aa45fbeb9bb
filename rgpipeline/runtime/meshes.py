"""Whether a worker has the chips that the job's mesh divides."""

from rgpipeline.errors import UserError
from rgpipeline.runtime.placement import Placement
from rgpipeline.spec import WorkersSpec


def check_mesh(spec: WorkersSpec, placement: Placement) -> None:
    """Raises UserError where it has not: before any worker is started."""
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


def devices_of(placement: Placement) -> int | None:
    """Accelerators that jax must see in a worker's process; None where it runs on its CPU."""
    return None if placement.kind == "cpu" else placement.units
