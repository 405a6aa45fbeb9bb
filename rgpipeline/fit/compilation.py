"""Compiles a worker's programs in a process of its own and reads the files that it writes."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rgpipeline.errors import RgpipelineError, UserError
from rgpipeline.fit.hlo import parse
from rgpipeline.fit.kernel_code import KernelCode, kernel_files, read_kernel
from rgpipeline.fit.program_cost import Cost, Run, program_runs, total_cost, without_estimate
from rgpipeline.spec import ModelSpec

# Lets libtpu compile on a machine without a TPU, in several processes at the same time.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# Makes libtpu write the final code of each kernel and nothing else: 50 MB instead of gigabytes.
_WRITE_CODE = (
    "--xla_jf_dump_llo_text=true "
    "--xla_jf_dump_llo_pass_label_regex=^final_bundles$|^deduplication-map$"
)
_CODE_TO = "--xla_jf_dump_to"
# libtpu prints these on every machine that has no TPU.
_NOISE = re.compile(r"WARNING|^E0000|Source Location|^learning/")
_NO_COMPILER = (
    "libtpu, which holds the TPU compiler, is not installed: pip install libtpu "
    "(Linux on x86-64; no TPU is needed)"
)


PROGRAMS = ("decode", "prefill", "insert", "assign")
STRUCTURED = ("forward", "draw")  # a step while a slot has a grammar


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """What to compile."""

    model: ModelSpec  # weights: a built-in model's name, or a folder; dtype: not auto
    topology: str
    slots: int | Literal["auto"]
    mesh: tuple[int, int] | None  # data, model; None: as few parts of the weights as it takes
    hbm_bytes: int  # of one chip
    engine: Mapping[str, Any]  # prefill_chunk and steps_per_dispatch, as in a job file
    storage_options: Mapping[str, Mapping[str, Any]]  # for the folder; secrets as ${NAME}
    # decode and prefill decide the costs; the others must compile too, and add their code.
    programs: Sequence[str] = PROGRAMS


@dataclass(frozen=True)
class CompiledProgram:
    """One program, per chip."""

    seconds: float
    argument_bytes: int = 0
    output_bytes: int = 0
    alias_bytes: int = 0
    temporary_bytes: int = 0
    code_bytes: int = 0
    out_of_memory: str | None = None  # the compiler's message if the program does not fit
    text: str = ""  # scheduled HLO
    kernels: Mapping[str, KernelCode] = field(default_factory=dict)

    @cached_property
    def runs(self) -> list[Run]:
        """Every instruction that runs, with its cost."""
        return program_runs(parse(self.text), self.kernels)

    @cached_property
    def cost(self) -> Cost:
        """The cost of one run of the program."""
        return total_cost(self.runs)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled request; bytes are those of one chip."""

    slots: int
    steps: int  # of one decode block
    prefill_tokens: int  # of one call
    decode_flops: int  # of one step, all chips
    prefill_flops: int  # of one call, all chips
    weights_bytes: int
    decode_weights_bytes: int  # of these, what a decode step reads
    state_bytes: int
    prefill_buffer_bytes: int
    programs: Mapping[str, CompiledProgram]
    mesh: tuple[int, int] = (1, 1)  # data, model
    decode_int8_flops: int = 0  # of `decode_flops`
    prefill_int8_flops: int = 0  # of `prefill_flops`
    mask_bytes: int = 0  # of all slots' grammars, for one step

    @property
    def chips(self) -> int:
        return self.mesh[0] * self.mesh[1]

    @property
    def out_of_memory(self) -> bool:
        """Whether the compiler refused a program because it does not fit."""
        return any(program.out_of_memory for program in self.programs.values())


def compile_programs(request: CompileRequest) -> Compiled:
    """Compiles the programs, which takes from ten seconds to minutes.

    Raises:
      UserError: the request can't be met, or there is no compiler; the message says why.
      RgpipelineError: the compiler failed.
    """
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise UserError(_NO_COMPILER)
    with tempfile.TemporaryDirectory(prefix="rgpipeline-fit-") as name:
        folder = Path(name)
        fields = {**asdict(request), "model": request.model.model_dump(mode="json")}
        (folder / "request.json").write_text(json.dumps(fields))
        arguments = [str(folder / "request.json"), name]
        done = subprocess.run(
            [sys.executable, "-m", "rgpipeline.engine.programs.compiling", *arguments],
            env=compiler_environment(folder),
            capture_output=True,
            text=True,
            check=False,
        )
        if (folder / "error.json").exists():
            raise UserError(json.loads((folder / "error.json").read_text())["message"])
        if done.returncode or not (folder / "compiled.json").exists():
            raise RgpipelineError(_failure(done))
        return _read(folder)


def compiler_environment(folder: Path) -> dict[str, str]:
    """The environment of a process that compiles; the kernels' code goes to `code` in `folder`."""
    flags = f"{os.environ.get('LIBTPU_INIT_ARGS', '')} {_WRITE_CODE} {_CODE_TO}={folder / 'code'}"
    return {**os.environ, **_ENVIRONMENT, "LIBTPU_INIT_ARGS": flags.strip()}


def _read(folder: Path) -> Compiled:
    answer = json.loads((folder / "compiled.json").read_text())
    programs = {name: _program(folder, name, **rest) for name, rest in answer["programs"].items()}
    return Compiled(**(answer | {"programs": programs, "mesh": tuple(answer["mesh"])}))


def _program(folder: Path, program: str, **fields: Any) -> CompiledProgram:
    if fields.get("out_of_memory"):
        return CompiledProgram(**fields)
    text = (folder / f"{program}.hlo").read_text()
    code = folder / f"{program}.code"
    files = kernel_files(code) if code.is_dir() else {}
    wanted = {files[name] for name in without_estimate(parse(text)) if name in files}
    read = {path: read_kernel(path.read_text()) for path in wanted}
    kernels = {name: read[path] for name, path in files.items() if path in read}
    return CompiledProgram(**fields, text=text, kernels=kernels)


def _failure(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == -signal.SIGKILL:
        return (
            "the TPU compiler was killed, most likely because memory ran out; it takes one or two "
            "GB for a model of 2B: try again with fewer other programs running"
        )
    lines = [line for line in done.stderr.splitlines() if line.strip() and not _NOISE.search(line)]
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
    return f"the TPU compiler failed ({how}):\n  " + "\n  ".join(lines[-8:])
