"""What the reader makes of programs that the TPU compiler itself has written."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rgpipeline.fit.compilation import compiler_environment
from rgpipeline.fit.hlo import parse
from rgpipeline.fit.kernel_code import kernel_files, read_kernel
from rgpipeline.fit.program_cost import Cost, program_cost
from tests.fit.compile_functions import BLOCK, GRID, RING, ROWS, STEPS, TABLE

ROOT = Path(__file__).parents[2]
Read = Callable[[str], Cost]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    folder = tmp_path_factory.mktemp("compiled")
    command = [sys.executable, "-m", "tests.fit.compile_functions", str(folder)]
    subprocess.run(command, cwd=ROOT, env=compiler_environment(folder), check=True)

    def cost(name: str) -> Cost:
        files = kernel_files(folder / f"{name}.code")
        kernels = {one: read_kernel(path.read_text()) for one, path in files.items()}
        return program_cost(parse((folder / f"{name}.hlo").read_text()), kernels)

    return cost


def test_a_matrix_product_reads_its_weights_once(read: Read) -> None:
    result = 8 * TABLE[0] * 4
    wanted = 2 * math.prod(TABLE) + result

    assert read("product").traffic.total == pytest.approx(wanted, rel=0.01)


def test_a_lookup_reads_its_rows(read: Read) -> None:
    wanted = ROWS * TABLE[1] * 2

    assert wanted <= read("rows").traffic.total < 4 * wanted < 2 * math.prod(TABLE) / 100


def test_a_donated_ring_is_read_once_a_step_and_not_copied(read: Read) -> None:
    wanted = STEPS * 2 * math.prod(RING)

    assert read("updates").traffic.total == pytest.approx(wanted, rel=0.01)


def test_a_kernel_takes_a_cycle_for_each_register_it_stores(read: Read) -> None:
    """v5e stores one register of 8 x 128 a cycle, so blocks of these sizes take this at least."""
    stores = GRID * math.prod(BLOCK) // 1024

    assert stores <= read("doubled").cycles < 2 * stores


def test_a_kernel_moves_its_blocks(read: Read) -> None:
    size = GRID * math.prod(BLOCK) * 4

    assert read("doubled").traffic.total == 2 * size
