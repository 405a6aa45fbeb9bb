"""What `fit` finds, per chip."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rgpipeline.fit.parts import Part


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
    """One step of the decode block, all slots of the worker, on one chip."""

    hbm_bytes_per_step: int
    minimum_hbm_bytes_per_step: int  # weights once, state once
    flops_per_step: int
    compiler_cycles_per_step: int
    collectives: Mapping[str, int]  # operation: how many a step
    tokens_per_second_bound: float
    limited_by: str  # hbm | compute


@dataclass(frozen=True, slots=True)
class PrefillCost:
    """One call of the prefill program with the longest chunk, on one chip."""

    hbm_bytes_per_chunk: int
    flops_per_chunk: int
    compiler_cycles_per_chunk: int
    tokens_per_second_bound: float
    limited_by: str  # hbm | compute


@dataclass(frozen=True, slots=True)
class FitReport:
    """The answer to one request; `decode` and `prefill` are None when it does not fit."""

    model: str
    topology: str
    slots: int  # of the whole worker
    dtype: str
    quantize: str
    fits: bool
    hbm_bytes: HbmBytes
    decode: DecodeCost | None
    prefill: PrefillCost | None
    compile_seconds: float
    chips: int
    mesh: tuple[int, int] = (1, 1)  # data, model
    prefill_tokens: int = 0  # of one call
    decode_apart: float = 0.0  # tokens/s a chip, if kernels hid nothing of each other
    decode_parts: tuple[Part, ...] = ()  # per step
    prefill_parts: tuple[Part, ...] = ()  # per call
    notes: tuple[str, ...] = ()  # what is not in the figures

    def to_json(self) -> dict[str, Any]:
        """What `fit --json` prints: plain values, stable names."""
        told = asdict(self)
        for beside in (
            "chips",
            "mesh",
            "prefill_tokens",
            "decode_apart",
            "decode_parts",
            "prefill_parts",
            "notes",
        ):
            del told[beside]
        return told

    def render(self) -> str:
        """The same for a person, with where the time goes."""
        from rgpipeline.fit.rendering import render

        return render(self)
