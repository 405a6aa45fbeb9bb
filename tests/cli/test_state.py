"""`rgpipeline cat --state`: what a state's file is."""

from pathlib import Path

import numpy as np
import pytest

from rgpipeline.cli.app import call
from rgpipeline.io.state_files import state_bytes
from rgpipeline.read_texts import StateKind, read_text

KIND = StateKind("0123", "bfloat16", "int8", 2048, 256_000, 256)


@pytest.fixture
def path(tmp_path: Path) -> str:
    tokens = np.arange(1, 1301, dtype=np.int32)
    read = read_text(KIND, None, tokens, 1280, {"h": np.zeros((1, 2560), np.float32)})
    path = tmp_path / "state.safetensors"
    path.write_bytes(state_bytes(read))
    return str(path)


def test_it_says_model_position_and_sizes(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["cat", path, "--state"]) == 0
    printed = capsys.readouterr().out
    for fact in ("1,300 tokens", "1,280 tokens, in chunks of 256", "20 tokens, by each row"):
        assert fact in printed
    assert "0.0 MB of state, 32.1 kB beside it" in printed
    assert "fingerprint 0123, bfloat16, quantize int8" in printed


def test_other_options_do_not_go_with_it(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["cat", path, "--state", "--id", "a"]) == 2
    assert "leave out --id and --format" in capsys.readouterr().err
