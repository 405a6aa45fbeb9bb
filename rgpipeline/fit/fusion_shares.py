"""How much of each operand a fusion reads, and how much of its result it writes.

A fusion computes only what its root needs: a parameter that is read through a slice costs the
slice, a table that is read through a gather costs the rows, and a buffer that a root updates in
place costs the update. Everything is counted in elements, as shares of the whole.
"""

from fractions import Fraction

from rgpipeline.fit.hlo import Computation, Instruction, Module

_WHOLE, _NONE = Fraction(1), Fraction(0)

# Results with the elements of their operand, in its memory or in another order.
_SAME_ELEMENTS = {"bitcast", "reshape", "copy", "transpose", "convert", "bitcast-convert"}
_SLICES = {"slice", "dynamic-slice"}
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # opcode: which operand is the update
# Operations on each element alone.
_ELEMENTWISE = {
    "abs", "add", "and", "atan2", "cbrt", "ceil", "clamp", "compare", "cosine", "divide", "erf",
    "exponential", "exponential-minus-one", "floor", "is-finite", "log", "log-plus-one",
    "logistic", "maximum", "minimum", "multiply", "negate", "not", "or", "popcnt", "power",
    "remainder", "round-nearest-afz", "round-nearest-even", "rsqrt", "select",
    "shift-left", "shift-right-arithmetic", "shift-right-logical", "sign", "sine", "sqrt",
    "subtract", "tan", "tanh", "xor", "optimization-barrier", "reduce-precision",
}  # fmt: skip


# Pairs (operand, result) of a fusion that share memory; None if the compiler does not say.
Aliases = set[tuple[int, int]] | None


def operand_shares(module: Module, fused: Computation, aliases: Aliases = None) -> list[Fraction]:
    """The share of each parameter's elements that the computation reads, parameters in order."""
    needed = dict.fromkeys(fused.by_name, _NONE)
    for index, result in enumerate(_results(fused)):
        found = _updated_buffer(fused, index, aliases)
        if found is None:
            needed[result.name] = _WHOLE
        else:  # the buffer stays where it is; only the update and its index are read
            needed |= dict.fromkeys(found[1].operands[1:], _WHOLE)
    for one in reversed(fused.instructions):
        if needed[one.name] and one.opcode != "tuple":
            shares = _needed_of_operands(module, fused, one, needed[one.name])
            for name, share in zip(one.operands, shares, strict=True):
                needed[name] = min(_WHOLE, needed[name] + share)
    return [needed[parameter.name] for parameter in fused.parameters]


def result_shares(module: Module, fused: Computation, aliases: Aliases = None) -> list[Fraction]:
    """The share of each part of the result that is written; one share if it is no tuple."""
    nested = _nested(module, fused.root)
    if nested is not None:
        return result_shares(module, nested)
    if fused.root.opcode != "tuple":
        count = len(fused.root.shape.parts) or 1  # a reduction may have several results
        return [_written(module, fused, 0, aliases)] * count
    return [_written(module, fused, index, aliases) for index in range(len(_results(fused)))]


def update_share(computation: Computation, update: Instruction) -> Fraction:
    """An in-place update's size as a share of the buffer it changes."""
    operands = computation.operands(update)
    part = operands[_UPDATES[update.opcode]]
    return Fraction(part.shape.elements, max(1, update.shape.elements))


def _updated_buffer(
    fused: Computation, index: int, aliases: Aliases
) -> tuple[Instruction, Instruction] | None:
    """The parameter that a result updates in place, with the update; or None.

    In place means that the two share memory, as far as the compiler says, and that only renaming
    lies between parameter and update, and between update and result. Other instructions of the
    fusion that read the buffer or the result are counted apart.
    """
    update = _through_renaming(fused, _results(fused)[index])
    if update.opcode not in _UPDATES or len(update.operands) <= _UPDATES[update.opcode]:
        return None
    buffer = _through_renaming(fused, fused.operands(update)[0])
    if buffer.opcode != "parameter":
        return None
    shared = aliases is None or (int(buffer.literal), index) in aliases
    return (buffer, update) if shared else None


def _results(fused: Computation) -> list[Instruction]:
    return fused.operands(fused.root) if fused.root.opcode == "tuple" else [fused.root]


def _through_renaming(fused: Computation, value: Instruction) -> Instruction:
    while value.opcode in ("bitcast", "reshape", "copy") and _same_size(fused, value):
        value = fused.operands(value)[0]
    return value


def _same_size(fused: Computation, value: Instruction) -> bool:
    return fused.operands(value)[0].shape.elements == value.shape.elements


def _written(module: Module, fused: Computation, index: int, aliases: Aliases) -> Fraction:
    result = _results(fused)[index]
    nested = _nested(module, result)
    if nested is not None and len(result.shape.leaves) == 1:
        return result_shares(module, nested)[0]
    found = _updated_buffer(fused, index, aliases)
    return _WHOLE if found is None else update_share(fused, found[1])


def _nested(module: Module, instruction: Instruction) -> Computation | None:
    if instruction.opcode != "fusion":
        return None
    return module.computations[instruction.called("calls") or ""]


def _needed_of_operands(
    module: Module, fused: Computation, one: Instruction, share: Fraction
) -> list[Fraction]:
    operands = fused.operands(one)
    whole = [_WHOLE] * len(operands)
    if one.opcode in _SAME_ELEMENTS or one.opcode in _ELEMENTWISE:
        return [share] * len(operands)
    if one.opcode in _SLICES or one.opcode == "gather":
        part = Fraction(one.shape.elements, max(1, operands[0].shape.elements)) * share
        return [min(_WHOLE, part), *whole[1:]]
    if one.opcode in _UPDATES:
        return [share, *whole[1:]]
    if one.opcode in ("concatenate", "pad", "get-tuple-element"):
        return [share] * len(operands)
    nested = _nested(module, one)
    if nested is not None:
        return [share * inner for inner in operand_shares(module, nested)]
    return whole
