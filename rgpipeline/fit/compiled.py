"""Has the programs compiled in a process of their own, and reads what it leaves."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rgpipeline.errors import RgpipelineError, UserError
from rgpipeline.fit.hlo import Module, parse

# What lets libtpu compile on a machine without a TPU, and two of them at the same time.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """What is to be compiled."""

    model: str  # a built-in model's name, or a checkpoint's folder
    topology: str
    slots: int | Literal["auto"]
    dtype: Literal["float32", "bfloat16"]
    quantize: Literal["none", "int8"]
    mesh: tuple[int, int]  # data, model
    hbm_bytes: int  # of one chip
    engine: Mapping[str, Any]  # prefill_chunk and steps_per_dispatch, as in a job file
    programs: Sequence[str] = ("decode", "prefill", "insert", "assign")


@dataclass(frozen=True, slots=True)
class CompiledProgram:
    """One program, per chip."""

    seconds: float
    argument_bytes: int = 0
    output_bytes: int = 0
    alias_bytes: int = 0
    temporary_bytes: int = 0
    code_bytes: int = 0
    flops: float = 0.0
    out_of_memory: str | None = None  # the compiler's message, when it does not fit
    text: str = ""

    @property
    def module(self) -> Module:
        return parse(self.text)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came of a request."""

    slots: int
    steps: int  # of one decode block
    prefill_tokens: int
    weights_bytes: int
    state_bytes: int
    programs: Mapping[str, CompiledProgram]


def compile_programs(request: CompileRequest) -> Compiled:
    """Compiles them; takes from ten seconds to minutes.

    Raises:
      UserError: the request can't be met; the message says why.
      RgpipelineError: the compiler failed.
    """
    with tempfile.TemporaryDirectory(prefix="rgpipeline-fit-") as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(_fields(request)))
        command = [sys.executable, "-m", "rgpipeline.engine.compiling", "request.json", "."]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **_ENVIRONMENT},
            capture_output=True,
            text=True,
            check=False,
        )
        if (folder / "error.json").exists():
            raise UserError(json.loads((folder / "error.json").read_text())["message"])
        if done.returncode or not (folder / "compiled.json").exists():
            raise RgpipelineError(_failure(done))
        return _read(folder)


def _fields(request: CompileRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__slots__}


def _read(folder: Path) -> Compiled:
    answer = json.loads((folder / "compiled.json").read_text())
    programs = {}
    for name, fields in answer.pop("programs").items():
        path = folder / f"{name}.hlo"
        programs[name] = CompiledProgram(**fields, text=path.read_text() if path.exists() else "")
    return Compiled(**answer, programs=programs)


def _failure(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
    return f"the TPU compiler failed ({how}):\n  " + "\n  ".join(lines[-8:])
