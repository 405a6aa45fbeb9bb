"""`rgpipeline fit` as a whole: a small model of large parts, compiled for v5e and v6e."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rgpipeline.fit import FitReport, FitRequest, fit
from rgpipeline.fit.hlo import parse
from rgpipeline.fit.program_cost import program_cost
from rgpipeline.spec import ModelSpec

ROOT = Path(__file__).parents[2]
# Heads as wide as the real models' and widths that fill tiles, so that every kernel is in it.
CONFIG = {
    "model_type": "recurrent_gemma",
    "vocab_size": 4096,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "lru_width": 512,
    "attention_window_size": 1024,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.fixture(scope="module")
def dumped(model: Path) -> tuple[dict[str, Any], Path]:
    """What the command prints for v5e, and the folder with its HLO."""
    folder = model / "hlo"
    options = ["--slots", "64", "--dump-hlo", str(folder), "--json"]
    done = command(model, *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


@pytest.fixture(scope="module")
def on_v6e(model: Path) -> FitReport:
    return fit(FitRequest(ModelSpec(weights=str(model)), "v6e:1x1", slots=64))


def command(model: Path, *options: str) -> subprocess.CompletedProcess[str]:
    code = "from rgpipeline.cli import main; main()"
    asked = ["fit", "--model", str(model), "--topology", "v5e:1x1x1", *options]
    return subprocess.run(
        [sys.executable, "-c", code, *asked], capture_output=True, text=True, check=False
    )


def test_a_small_model_fits_v5e(dumped: tuple[dict[str, Any], Path]) -> None:
    told, _ = dumped
    memory = told["hbm_bytes"]

    assert told["fits"]
    assert memory["total"] == memory["weights"] + memory["state"] + memory["temporary"]


def test_the_dumped_programs_are_those_that_were_read(
    dumped: tuple[dict[str, Any], Path],
) -> None:
    told, folder = dumped
    prefill = program_cost(parse((folder / "prefill.hlo").read_text()))
    decode = (folder / "decode.hlo").read_text()

    assert prefill.traffic.read <= told["prefill"]["hbm_bytes_per_chunk"]
    assert prefill.traffic.total == pytest.approx(told["prefill"]["hbm_bytes_per_chunk"], rel=0.1)
    assert "HloModule jit_decode, is_scheduled=true" in decode


def test_a_small_model_fits_v6e_with_its_kernels(on_v6e: FitReport) -> None:
    assert on_v6e.fits
    assert "temporal/decode_attention" in [part.name for part in on_v6e.decode_components]


def test_no_kernel_goes_uncounted(on_v6e: FitReport) -> None:
    assert on_v6e.notes == ()


def test_what_does_not_fit_is_told_in_bytes_and_by_the_exit_code(model: Path) -> None:
    done = command(model, "--slots", "100000")

    assert done.returncode == 1
    assert "100000 slots do not fit: " in done.stdout
    assert "GiB more than the chip has" in done.stdout


def test_the_list_of_costliest_instructions_adds_up_to_the_report(
    dumped: tuple[dict[str, Any], Path],
) -> None:
    told, folder = dumped
    listing = [sys.executable, "-m", "tools.hlo_costs", str(folder / "prefill.hlo"), "--top", "1"]

    done = subprocess.run(listing, capture_output=True, text=True, check=True, cwd=ROOT)

    megabytes = told["prefill"]["hbm_bytes_per_chunk"] / 1e6
    cycles = told["prefill"]["compiler_cycles_per_chunk"] / 1e6
    assert done.stdout.splitlines()[0] == f"{megabytes:,.1f} MB, {cycles:,.3f} M cycles"
