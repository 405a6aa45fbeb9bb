"""Several chips say in int8, or with several heads of keys, what one says; on eight CPU devices."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.processes import output_of
from tests.sharding.test_layouts import CLOSE, EIGHT

Told = Mapping[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("int8") / "told.npz"
    output_of("tests.sharding.int8_on_eight", str(path), environment=EIGHT)
    return dict(np.load(path))


def off(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(found - expected).mean()))


@pytest.mark.parametrize("what", ["logits", "rings"])
def test_parts_of_the_slots_have_the_numbers_of_the_whole(told: Told, what: str) -> None:
    """All but those few where a float's last digit decides which integer it is rounded to."""
    found, alone = told[f"8x1 {what}"], told[f"1x1 {what}"]

    assert np.median(np.abs(found - alone)) < CLOSE


@pytest.mark.parametrize("what", ["logits", "rings"])
def test_parts_of_the_weights_are_as_near_to_floats_as_the_whole(told: Told, what: str) -> None:
    """Their numbers are others: a chip scales its own part of what it multiplies."""
    floats, alone, found = (told[f"{of} {what}"] for of in ("floats", "1x1", "2x4"))

    assert off(found, floats) < 1.25 * off(alone, floats)
    assert off(alone, floats) < 0.1 * floats.std()


@pytest.mark.parametrize("what", ["logits", "rings"])
def test_several_heads_of_keys_on_several_chips_have_the_numbers_of_one(
    told: Told, what: str
) -> None:
    np.testing.assert_allclose(
        told[f"two heads on 2x4 {what}"], told[f"two heads on 1x1 {what}"], atol=CLOSE
    )
