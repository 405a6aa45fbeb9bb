"""Reads scheduled HLO text: computations, and their instructions in order of execution."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rgpipeline.fit.hlo_shapes import Shape, read_shape

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_COMMENT = re.compile(r"/\*.*?\*/")
_OPERAND = re.compile(r"%([\w.\-]+)")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class Instruction:
    """One line: `name = shape opcode(operands), attributes`."""

    name: str
    shape: Shape
    opcode: str
    operands: tuple[str, ...]
    literal: str  # the text in the parentheses: a parameter's number, a constant's value
    attributes: str
    root: bool

    def attribute(self, name: str) -> str | None:
        """An attribute's value up to the next comma outside braces, without quotes."""
        match = re.search(rf"(?:^|, ){name}=", self.attributes)
        return None if match is None else _value(self.attributes, match.end())

    def called(self, name: str) -> str | None:
        """The computation that an attribute such as `calls` names."""
        value = self.attribute(name)
        return None if value is None else value.lstrip("%")

    @cached_property
    def backend_config(self) -> dict[str, Any]:
        """The compiler's notes on the instruction; empty if there are none."""
        text = self.attribute("backend_config")
        if text is None or not text.startswith("{"):
            return {}
        try:
            config: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError:
            return {}
        return config


@dataclass(frozen=True)
class Computation:
    """Instructions in order; the root's value is the result."""

    name: str
    instructions: tuple[Instruction, ...]

    @cached_property
    def by_name(self) -> dict[str, Instruction]:
        return {one.name: one for one in self.instructions}

    @cached_property
    def root(self) -> Instruction:
        return next((one for one in self.instructions if one.root), self.instructions[-1])

    @cached_property
    def parameters(self) -> tuple[Instruction, ...]:
        """In the order in which a caller gives its operands."""
        found = [one for one in self.instructions if one.opcode == "parameter"]
        return tuple(sorted(found, key=lambda one: int(one.literal)))

    def operands(self, instruction: Instruction) -> list[Instruction]:
        return [self.by_name[name] for name in instruction.operands]


@dataclass(frozen=True)
class Module:
    """A compiled program."""

    entry: Computation
    computations: dict[str, Computation] = field(repr=False)

    def trip_count(self, loop: Instruction) -> int:
        """How often a while loop's body runs.

        Raises:
          ValueError: neither the compiler's note nor the condition says so.
        """
        known = loop.backend_config.get("known_trip_count", {}).get("n")
        if known is not None:
            return int(known)
        count = _counted(self, loop)
        if count is None:
            raise ValueError(f"while loop {loop.name}: its number of turns is not in the program")
        return count


def parse(text: str) -> Module:
    """The module that `compiled.as_text()` prints.

    Raises:
      ValueError: it has no entry computation.
    """
    entry, computations = None, {}
    for is_entry, computation in _computations(text):
        computations[computation.name] = computation
        if is_entry:
            entry = computation
    if entry is None:
        raise ValueError("not a scheduled HLO module: no ENTRY computation in it")
    return Module(entry, computations)


def _computations(text: str) -> Iterator[tuple[bool, Computation]]:
    header: re.Match[str] | None = None
    instructions: list[Instruction] = []
    for line in text.splitlines():
        if header is None:
            header = _HEADER.match(line)
            instructions = []
        elif line.startswith("}"):
            yield bool(header[1]), Computation(header[2], tuple(instructions))
            header = None
        elif match := _INSTRUCTION.match(line):
            instructions.append(_instruction(match, line))


def _instruction(match: re.Match[str], line: str) -> Instruction:
    line = _COMMENT.sub("", line) if "/*" in line else line
    shape, at = read_shape(line, match.end())
    opening = line.index("(", at)
    closing = _closing(line, opening)
    inside = line[opening + 1 : closing]
    return Instruction(
        name=match[2],
        shape=shape,
        opcode=line[at:opening].strip(),
        operands=tuple(_OPERAND.findall(inside)),
        literal=inside,
        attributes=line[closing + 1 :].lstrip(", "),
        root=match[1] is not None,
    )


def _closing(line: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(line)):
        if line[at] == "(":
            depth += 1
        elif line[at] == ")":
            depth -= 1
            if not depth:
                return at
    raise ValueError(f"unbalanced parentheses: {line[:80]!r}")


def _value(text: str, start: int) -> str:
    if match := _STRING.match(text, start):
        return match[0][1:-1]
    depth, at = 0, start
    while at < len(text) and (depth or text[at] != ","):
        if text[at] == '"':
            string = _STRING.match(text, at)
            at = string.end() if string else at + 1
            continue
        depth += (text[at] in "{([") - (text[at] in "})]")
        at += 1
    return text[start:at]


def _counted(module: Module, loop: Instruction) -> int | None:
    """Turns of `for i = start; i < limit; i += step`, which scans and fori_loops compile to."""
    condition = module.computations[loop.called("condition") or ""]
    body = module.computations[loop.called("body") or ""]
    test = condition.root
    if test.opcode != "compare" or test.attribute("direction") != "LT":
        return None
    counter, limit = condition.operands(test)
    index = _tuple_index(condition, counter)
    end = _constant(condition, limit, lambda at: _initial(module, loop, at))
    start = None if index is None else _initial(module, loop, index)
    step = None if index is None else _step(body, index)
    if start is None or end is None or not step:
        return None
    return max(0, -(-(end - start) // step))


def _tuple_index(computation: Computation, value: Instruction) -> int | None:
    if value.opcode == "copy":
        return _tuple_index(computation, computation.operands(value)[0])
    if value.opcode != "get-tuple-element":
        return None
    return int(value.attribute("index") or 0)


def _constant(computation: Computation, value: Instruction, initial: Any) -> int | None:
    if value.opcode == "constant":
        return int(value.literal)
    index = _tuple_index(computation, value)
    found: int | None = None if index is None else initial(index)
    return found


def _initial(module: Module, loop: Instruction, index: int) -> int | None:
    """The constant with which the loop's tuple starts at `index`."""
    for computation in module.computations.values():
        if computation.by_name.get(loop.name) is not loop:
            continue
        start = computation.operands(loop)[0]
        value = computation.by_name[start.operands[index]] if start.opcode == "tuple" else start
        while value.opcode == "copy":
            value = computation.operands(value)[0]
        return int(value.literal) if value.opcode == "constant" else None
    return None


def _step(body: Computation, index: int) -> int | None:
    if body.root.opcode != "tuple":
        return None
    value = body.by_name[body.root.operands[index]]
    while value.opcode in ("copy", "bitcast"):
        value = body.operands(value)[0]
    if value.opcode != "add":
        return None
    steps = [one for one in body.operands(value) if one.opcode == "constant"]
    return int(steps[0].literal) if len(steps) == 1 else None
