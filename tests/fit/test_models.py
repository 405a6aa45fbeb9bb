"""The models we run, compiled for the TPUs we name: minutes each, so `make tpu` alone runs them."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import pytest

from rgpipeline.fit import FitReport, FitRequest, fit
from rgpipeline.spec import ModelSpec

pytestmark = [pytest.mark.tpu, pytest.mark.timeout(1800)]

TWO, NINE = "recurrentgemma-2b", "recurrentgemma-9b"


@pytest.fixture(scope="module")
def report() -> Callable[..., FitReport]:
    """Compiles once for each question."""

    @cache
    def compiled(
        model: str, topology: str, quantize: Literal["none", "int8"] = "none", **asked: Any
    ) -> FitReport:
        return fit(FitRequest(ModelSpec(weights=model, quantize=quantize), topology, **asked))

    return compiled


Reports = Callable[..., FitReport]


@pytest.mark.parametrize("slots", [64, 256, 384])
def test_a_step_moves_little_more_than_weights_and_state(report: Reports, slots: int) -> None:
    decode = report(TWO, "v5e:1x1x1", slots=slots).decode

    assert decode is not None
    assert decode.hbm_bytes_per_step <= 1.05 * decode.minimum_hbm_bytes_per_step


@pytest.mark.parametrize(("slots", "least"), [(256, 17_500), (384, 20_000)])
def test_bfloat16_decodes_at_these_rates(report: Reports, slots: int, least: float) -> None:
    found = report(TWO, "v5e:1x1x1", slots=slots)

    assert found.decode is not None
    assert found.decode.tokens_per_second_bound >= least
    assert found.hbm_bytes.temporary < 0.3e9


def test_int8_decodes_at_this_rate(report: Reports) -> None:
    decode = report(TWO, "v5e:1x1x1", slots=256, quantize="int8").decode

    assert decode is not None
    assert decode.tokens_per_second_bound >= 25_000


def test_int8_fits_at_least_800_slots(report: Reports) -> None:
    most = report(TWO, "v5e:1x1x1", slots="max", quantize="int8")

    assert most.slots >= 800
    assert most.decode is not None
    assert most.decode.tokens_per_second_bound >= 32_000


def test_prompts_are_read_at_this_rate(report: Reports) -> None:
    prefill = report(TWO, "v5e:1x1x1", slots=256).prefill

    assert prefill is not None
    assert prefill.tokens_per_second_bound >= 38_000


@pytest.mark.parametrize(
    ("model", "topology", "mesh", "quantize"),
    [
        (NINE, "v5e:1x1x1", (1, 1), "int8"),
        (NINE, "v5e:2x2", (1, 4), "none"),
        (NINE, "v5e:2x4", (2, 4), "none"),
        (TWO, "v5e:2x2", (4, 1), "none"),
        (TWO, "v6e:2x2", (4, 1), "none"),
        (NINE, "v6e:2x2", (1, 4), "none"),
    ],
)
def test_a_worker_of_these_chips_holds_the_model(
    report: Reports, model: str, topology: str, mesh: tuple[int, int], quantize: str
) -> None:
    assert report(model, topology, mesh=mesh, quantize=quantize).fits
