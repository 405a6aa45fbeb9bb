"""Products of few rows on CPUs with AVX2 and without AVX-512."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rgpipeline.model.ops import cpu_primitives
from rgpipeline.model.platforms import has_avx2_only

INNER, OUTER = 64, 24


@pytest.fixture(params=[True, False], ids=["avx2", "other"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    avx2: bool = request.param
    monkeypatch.setattr(cpu_primitives, "has_avx2_only", lambda: avx2)
    return avx2


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t: sse2 avx avx2 fma", True),
        ("flags\t: sse2 avx avx2 avx512f avx512_bf16", False),
        ("Features\t: fp asimd", False),  # arm64
    ],
)
def test_the_processors_flags_say_what_it_has(tmp_path: Path, flags: str, expected: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{flags}\n")
    assert has_avx2_only(file) is expected


def test_without_the_file_nothing_is_assumed(tmp_path: Path) -> None:
    assert not has_avx2_only(tmp_path / "absent")


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 16, 17])
def test_an_int8_product_is_exact_on_every_machine(machine: bool, rows: int) -> None:
    rng = np.random.default_rng(rows)
    left, right = (rng.integers(-127, 128, (n, INNER), np.int8) for n in (rows, OUTER))
    product = jax.jit(cpu_primitives.int8_matmul)(left, right)
    assert np.array_equal(product, left.astype(np.int32) @ right.astype(np.int32).T)


def test_few_rows_of_bfloat16_are_multiplied_the_usual_way_on_avx2_alone(machine: bool) -> None:
    transposed = [cpu_primitives.is_faster(rows, jnp.bfloat16) for rows in (2, 7, 8, 64)]
    assert transposed == [not machine, not machine, True, True]
    assert cpu_primitives.is_faster(2, jnp.float32)
