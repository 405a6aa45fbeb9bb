"""Memory of one chip: what the programs say they hold, or what the compiler says is missing."""

import re

from rgpipeline.fit.chips import Chip
from rgpipeline.fit.compiled import Compiled, CompiledProgram
from rgpipeline.fit.report import HbmBytes

_REQUIRED = re.compile(r"\((\d+(?:\.\d+)?)([KMGT])\) exceeds available HBM")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def hbm_bytes(compiled: Compiled, chip: Chip) -> HbmBytes:
    """What a chip has to hold: weights and state always, temporaries of one program at a time."""
    programs = compiled.programs.values()
    weights, state = compiled.weights_bytes, _state(compiled)
    temporary = max(_temporary(program, weights + state) for program in programs)
    temporary += sum(program.code_bytes for program in programs)
    return HbmBytes(
        weights=weights,
        state=state,
        temporary=temporary,
        total=weights + state + temporary,
        capacity=chip.hbm_bytes,
    )


def fits(compiled: Compiled, chip: Chip) -> bool:
    """Whether every program compiles, and all that a worker holds at once is within the chip."""
    refused = any(program.out_of_memory for program in compiled.programs.values())
    return not refused and hbm_bytes(compiled, chip).total <= chip.hbm_bytes


def _state(compiled: Compiled) -> int:
    """Bytes of slots and stage; of slots as they lie in memory, padding of their tiles included.

    The decode program's arguments are weights and the slots' state, and nothing else.
    """
    decode = compiled.programs.get("decode")
    held = 0 if decode is None else decode.argument_bytes - compiled.weights_bytes
    return max(compiled.state_bytes, held) + compiled.stage_bytes


def _temporary(program: CompiledProgram, held: int) -> int:
    if program.out_of_memory is None:
        return program.temporary_bytes + program.output_bytes - program.alias_bytes
    required = _REQUIRED.search(program.out_of_memory)
    if required is None:
        return 0
    return max(0, round(float(required[1]) * _UNITS[required[2]]) - held)
