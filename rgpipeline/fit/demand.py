"""How much of each operand a fusion touches, and how much of its result it writes.

A fusion computes only what its root asks for: a parameter that is read through a slice costs the
slice, a table that is read through a gather costs the rows, and a buffer that a root updates in
place costs the update. Everything is counted in elements, as shares of the whole.
"""

from fractions import Fraction

from rgpipeline.fit.hlo import Computation, Instruction, Module

_WHOLE, _NONE = Fraction(1), Fraction(0)

# Results that share their operand's memory, or its elements one by one in another order.
_SAME_ELEMENTS = {"bitcast", "reshape", "copy", "transpose", "convert", "bitcast-convert"}
_SLICES = {"slice", "dynamic-slice"}
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # opcode: which operand is the update
# Operations that turn each element into one of the same place.
_ELEMENTWISE = {
    "abs", "add", "and", "atan2", "cbrt", "ceil", "clamp", "compare", "cosine", "divide", "erf",
    "exponential", "exponential-minus-one", "floor", "is-finite", "log", "log-plus-one",
    "logistic", "maximum", "minimum", "multiply", "negate", "not", "or", "popcnt", "power",
    "remainder", "round-nearest-afz", "round-nearest-even", "rsqrt", "select",
    "shift-left", "shift-right-arithmetic", "shift-right-logical", "sign", "sine", "sqrt",
    "subtract", "tan", "tanh", "xor", "optimization-barrier", "reduce-precision",
}  # fmt: skip


def operand_shares(module: Module, fused: Computation) -> list[Fraction]:
    """The share of each parameter's elements that the computation reads, parameters in order."""
    demand = _demand(module, fused, {fused.root.name: _WHOLE})
    return [demand[parameter.name] for parameter in fused.parameters]


def result_shares(module: Module, fused: Computation) -> list[Fraction]:
    """The share of each result (the root, or a tuple root's parts) that is written."""
    root = fused.root
    parts = fused.operands(root) if root.opcode == "tuple" else [root]
    return [_written(module, fused, part) for part in parts]


def update_share(computation: Computation, update: Instruction) -> Fraction:
    """An in-place update's size as a share of the buffer it changes."""
    operands = computation.operands(update)
    part = operands[_UPDATES[update.opcode]]
    return Fraction(part.shape.elements, max(1, update.shape.elements))


def updated_buffer(
    fused: Computation, result: Instruction
) -> tuple[Instruction, Instruction] | None:
    """The parameter that `result` is an in-place update of, with the update; or None.

    In place means: nothing but renaming lies between parameter and update and between update and
    result, and nobody else in the fusion reads the parameter.
    """
    update = _through_renaming(fused, result)
    if update.opcode not in _UPDATES:
        return None
    if update.opcode == "scatter" and len(update.operands) != 3:
        return None
    buffer = _through_renaming(fused, fused.operands(update)[0])
    return (buffer, update) if buffer.opcode == "parameter" else None


def _through_renaming(fused: Computation, value: Instruction) -> Instruction:
    while value.opcode in ("bitcast", "reshape", "copy") and _same_size(fused, value):
        value = fused.operands(value)[0]
    return value


def _same_size(fused: Computation, value: Instruction) -> bool:
    return fused.operands(value)[0].shape.elements == value.shape.elements


def _written(module: Module, fused: Computation, result: Instruction) -> Fraction:
    nested = _nested(module, result)
    if nested is not None and len(result.shape.leaves) == 1:
        return result_shares(module, nested)[0]
    found = updated_buffer(fused, result)
    return _WHOLE if found is None else update_share(fused, found[1])


def _nested(module: Module, instruction: Instruction) -> Computation | None:
    if instruction.opcode != "fusion":
        return None
    return module.computations[instruction.called("calls") or ""]


def _demand(module: Module, fused: Computation, wanted: dict[str, Fraction]) -> dict[str, Fraction]:
    """Shares of every instruction's elements that are computed, from the root up."""
    demand = dict.fromkeys(fused.by_name, _NONE) | wanted
    in_place = _in_place_updates(fused)
    for one in reversed(fused.instructions):
        if not demand[one.name]:
            continue
        shares = _asked_of_operands(module, fused, one, demand[one.name], one.name in in_place)
        for name, share in zip(one.operands, shares, strict=True):
            demand[name] = min(_WHOLE, demand[name] + share)
    return demand


def _in_place_updates(fused: Computation) -> set[str]:
    root = fused.root
    parts = fused.operands(root) if root.opcode == "tuple" else [root]
    found = (updated_buffer(fused, part) for part in parts)
    return {pair[1].name for pair in found if pair is not None}


def _asked_of_operands(
    module: Module, fused: Computation, one: Instruction, share: Fraction, in_place: bool
) -> list[Fraction]:
    operands = fused.operands(one)
    whole = [_WHOLE] * len(operands)
    if one.opcode in _SAME_ELEMENTS or one.opcode in _ELEMENTWISE:
        return [share] * len(operands)
    if one.opcode in _SLICES or one.opcode == "gather":
        part = Fraction(one.shape.elements, max(1, operands[0].shape.elements)) * share
        return [min(_WHOLE, part), *whole[1:]]
    if one.opcode in _UPDATES:
        return [_NONE if in_place else share, *whole[1:]]
    if one.opcode in ("concatenate", "pad", "tuple", "get-tuple-element"):
        return [share] * len(operands)
    nested = _nested(module, one)
    if nested is not None:
        return [share * asked for asked in operand_shares(module, nested)]
    return whole
