"""What `fit` finds, per chip; as JSON and for people."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class HbmBytes:
    """Memory of one chip."""

    weights: int
    state: int
    temporary: int  # the largest program's temporaries and results, and the code of all
    total: int
    capacity: int


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """One step of all slots of one chip; the bound is the whole topology's."""

    hbm_bytes_per_step: int
    minimum_hbm_bytes_per_step: int
    flops_per_step: int
    compiler_cycles_per_step: int
    collectives: Mapping[str, int]
    tokens_per_second_bound: float
    limited_by: str


@dataclass(frozen=True, slots=True)
class PrefillCost:
    """One call of the longest prefill program."""

    hbm_bytes_per_chunk: int
    flops_per_chunk: int
    compiler_cycles_per_chunk: int
    tokens_per_second_bound: float
    limited_by: str


@dataclass(frozen=True, slots=True)
class FitReport:
    """The answer to one request."""

    model: str
    topology: str
    slots: int
    dtype: str
    quantize: str
    fits: bool
    hbm_bytes: HbmBytes
    decode: DecodeCost | None
    prefill: PrefillCost | None
    compile_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `fit --json` prints them."""
        return asdict(self)

    def render(self) -> str:
        """For a terminal."""
        return "\n".join(f"{k}: {v}" for k, v in self.to_json().items())
