"""The TPU chips that `fit` knows, and the topologies they come in, such as `v5e:2x4`."""

import math
from dataclasses import dataclass

from rgpipeline.errors import UserError


@dataclass(frozen=True, slots=True)
class Chip:
    """One TPU chip."""

    name: str
    hbm_bytes: int  # what a program may use: the compiler's own limit
    hbm_bytes_per_s: float
    clock_hz: float
    flops_per_s: float  # of bfloat16 products; twice as many of int8
    chips_per_host: int  # the most


# Bandwidth and FLOP/s: Google's pages on TPU v5e, v5p and v6e (cloud.google.com/tpu/docs). HBM:
# what libtpu 0.0.52 says is available when a program is too large (16, 32 and 95 GB are sold).
# Clock: FLOP/s over what the matrix units do in a cycle: 4 units of 128 x 128 on v5e, 8 on v5p,
# and on v6e the 524,288 FLOP that the compiler's own estimates imply for a large product.
_CHIPS = {
    "v5e": Chip("v5e", int(15.75 * 2**30), 819e9, 1.5e9, 197e12, 8),
    "v6e": Chip("v6e", int(31.24 * 2**30), 1640e9, 1.75e9, 918e12, 8),
    "v5p": Chip("v5p", int(95.73 * 2**30), 2765e9, 1.75e9, 459e12, 4),
}


def chip_of(topology: str) -> Chip:
    """The chip of a topology such as `v5e:2x4`.

    Raises:
      UserError: the chip is unknown, or the name has another form.
    """
    name, colon, shape = topology.partition(":")
    if name not in _CHIPS or not colon or not all(part.isdigit() for part in shape.split("x")):
        raise UserError(
            f"--topology {topology}: expected a chip ({', '.join(_CHIPS)}) and a shape, "
            f"such as v5e:1x1x1, v5e:2x4 or v6e:2x2"
        )
    return _CHIPS[name]


def chips_in(topology: str) -> int:
    """How many chips a topology has: the product of its sides.

    Raises:
      UserError: it has more chips than one host; a worker has one host.
    """
    total = math.prod(int(side) for side in topology.partition(":")[2].split("x"))
    most = chip_of(topology).chips_per_host
    if total > most:
        raise UserError(
            f"--topology {topology}: {total} chips are several hosts', but a worker runs on one, "
            f"which has {most} at most; give one host's topology: more hosts share the job's rows"
        )
    return total
