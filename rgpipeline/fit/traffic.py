"""HBM bytes that one instruction of a scheduled program moves.

The compiler's own `bytes accessed` is not that: it counts a weight once when it is copied into
VMEM and again when it is read there, and counts the whole of a table whose rows are gathered.
"""

import re
from dataclasses import dataclass

from rgpipeline.fit.fusion_shares import Aliases, operand_shares, result_shares, update_share
from rgpipeline.fit.hlo import Computation, Instruction, Module
from rgpipeline.fit.hlo_shapes import HBM, Shape

# Names, views and bookkeeping: no bytes move.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency",
    "opt-barrier", "optimization-barrier", "partition-id", "replica-id", "domain",
}  # fmt: skip
_FREE_TARGETS = {"ConcatBitcast", "AllocateBuffer", "AssumeGatherIndicesInBound", "Sharding"}
# Control flow: the instructions inside move bytes, not the instruction itself.
CONTROL = {"while", "conditional", "call"}
_STARTS = {"copy-start", "slice-start", "dynamic-slice-start", "async-start"}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes to and from HBM."""

    read: int = 0
    written: int = 0

    @property
    def total(self) -> int:
        return self.read + self.written

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.read + other.read, self.written + other.written)

    def times(self, count: int) -> "Traffic":
        return Traffic(self.read * count, self.written * count)


def instruction_traffic(module: Module, inside: Computation, one: Instruction) -> Traffic:
    """The bytes that `one`, an instruction of `inside`, moves when it runs once.

    Operands in HBM are read and results in HBM are written. An asynchronous copy or slice costs
    what it moves, at its start; its end costs nothing. A slice costs the slice, a gather its rows,
    an update in place the update, in a fusion too (see `fusion_shares`).
    """
    if one.opcode in _FREE or one.opcode in CONTROL or one.opcode.endswith("-done"):
        return Traffic()
    if one.opcode == "custom-call" and one.attribute("custom_call_target") in _FREE_TARGETS:
        return Traffic()
    operands = inside.operands(one)
    if one.opcode in _STARTS:
        return _moved(one, operands)
    if one.opcode == "fusion":
        return _fusion(module, one, operands)
    if one.opcode == "custom-call":
        return _custom_call(one, operands)
    if one.opcode in ("dynamic-update-slice", "scatter"):
        return _update(inside, one, operands)
    if one.opcode in ("slice", "dynamic-slice", "gather"):
        return _selection(one, operands)
    return _plain(one, operands)


def _plain(one: Instruction, operands: list[Instruction]) -> Traffic:
    return Traffic(sum(operand.shape.hbm_bytes for operand in operands), one.shape.hbm_bytes)


def _selection(one: Instruction, operands: list[Instruction]) -> Traffic:
    indices = sum(operand.shape.hbm_bytes for operand in operands[1:])
    source = operands[0].shape
    rows = one.shape.bytes if source.hbm_bytes else 0
    return Traffic(min(rows, source.hbm_bytes) + indices, one.shape.hbm_bytes)


def _update(inside: Computation, one: Instruction, operands: list[Instruction]) -> Traffic:
    rest = sum(operand.shape.hbm_bytes for operand in operands[1:])
    return Traffic(rest, round(one.shape.hbm_bytes * update_share(inside, one)))


def _moved(one: Instruction, operands: list[Instruction]) -> Traffic:
    """The traffic of a start, whose result is a tuple.

    copy-start gives (to, from, flag); slice-start and the others give ((from, ...), to, flag).
    """
    source = operands[0].shape.leaves[0]
    parts = one.shape.parts
    moved = parts[0] if one.opcode == "copy-start" else parts[1]
    size = moved.bytes
    return Traffic(size if source.space == HBM else 0, moved.hbm_bytes)


def _fusion(module: Module, one: Instruction, operands: list[Instruction]) -> Traffic:
    fused = module.computations[one.called("calls") or ""]
    aliases = _aliases(one)
    read_shares = operand_shares(module, fused, aliases)
    written_shares = result_shares(module, fused, aliases)
    read = sum(
        round(operand.shape.hbm_bytes * share)
        for operand, share in zip(operands, read_shares, strict=True)
    )
    written = sum(
        round(result.hbm_bytes * share)
        for result, share in zip(_results(one.shape), written_shares, strict=True)
    )
    return Traffic(read, written)


def _aliases(fusion: Instruction) -> Aliases:
    """From the compiler's note: lists of what shares memory, operands first, then the results."""
    note = fusion.backend_config.get("aliasing_operands")
    if note is None:
        return None
    count = len(fusion.operands)
    groups = [[int(index) for index in group["indices"]] for group in note["lists"]]
    return {
        (operand, result - count)
        for group in groups
        for operand in group
        for result in group
        if operand < count <= result
    }


def _results(shape: Shape) -> tuple[Shape, ...]:
    return shape.parts if shape.array is None else (shape,)


def _custom_call(one: Instruction, operands: list[Instruction]) -> Traffic:
    """A kernel's operands are read; results are written unless they share an operand's memory."""
    aliased = _aliased_results(one)
    written = sum(
        result.hbm_bytes for index, result in enumerate(_results(one.shape)) if index not in aliased
    )
    return Traffic(sum(operand.shape.hbm_bytes for operand in operands), written)


def _aliased_results(one: Instruction) -> set[int]:
    """Results that share an operand's memory: of `{{0}: (3, {}), {}: (1, {})}`, 0 and the whole."""
    text = one.attribute("output_to_operand_aliasing") or ""
    return {int(index or 0) for index in re.findall(r"\{(\d*)\}: \(", text)}
