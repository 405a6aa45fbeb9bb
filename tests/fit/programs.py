"""Scheduled HLO written by hand, in the compiler's own notation, with traffic that can be counted.

`entry` wraps instructions into a module; names of what they call are given as further computations.
"""

from textwrap import dedent, indent


def entry(body: str, *computations: str) -> str:
    """A module whose entry computation has these instructions."""
    others = "\n".join(dedent(one).strip() + "\n" for one in computations)
    return f"HloModule hand, is_scheduled=true\n\n{others}\nENTRY %main {{\n{lines(body)}\n}}\n"


def lines(body: str) -> str:
    """Instructions, as they stand in a computation."""
    return indent(dedent(body).strip(), "  ")


# Sums two numbers: what reductions and scatters call.
ADD = """
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}
"""
