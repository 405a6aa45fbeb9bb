"""`structured_outputs` as llguidance takes it, its limits, and its reasons in one line."""

import json
import re
from typing import Any

from llguidance import LLMatcher, LLParserLimits

from rgpipeline.spec import StructuredOutputs

# Bytes of a schema or grammar. llguidance itself gives up at some 4 MB.
MAX_BYTES = 4 << 20

# Fuel is spent at some 50,000 a millisecond when a grammar is compiled, and at 14,000 when a mask
# is made; a state of the lexer takes 1 to 2 kB, and all rows with one grammar share them.
LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_items_in_row": 2_000,
    "max_lexer_states": 100_000,
    "max_grammar_size": 500_000,
}

_MAX_REASON = 300  # characters
_QUOTED = re.compile(r"\s*(\d+ \|.*|\^*)")  # lines of the grammar, and marks below them
NO_TOKEN = "the grammar allows no token here"


def parser_limits() -> LLParserLimits:
    """The limits of time and memory for compiling a grammar, and for each mask."""
    return LLParserLimits(verbose_errors=False, **LIMITS)


def grammar_source(structured: StructuredOutputs) -> str:
    """The grammar in llguidance's own format, JSON."""
    if structured.json_object:
        return '{"grammars":[{"json_schema":{"type":"object"}}]}'
    if structured.json is not None:
        return f'{{"grammars":[{{"json_schema":{structured.json}}}]}}'
    if structured.choice is not None:
        # As alternatives of a grammar, thousands would take seconds for each mask.
        return LLMatcher.grammar_from_regex("|".join(map(_escaped, structured.choice)))
    if structured.regex is not None:
        return LLMatcher.grammar_from_regex(structured.regex)
    return json.dumps({"grammars": [{"lark_grammar": structured.grammar}]})


def one_line(reason: str) -> str:
    """llguidance's reason on one line, without its states and backtraces."""
    if "NoExtension" in reason:
        return NO_TOKEN
    reason = reason.partition("<non-verbose/>")[0].partition("<backtrace>")[0]
    lines = (line for line in reason.splitlines() if not _QUOTED.fullmatch(line))
    reason = " ".join(" ".join(lines).split())
    half = _MAX_REASON // 2
    return reason if len(reason) <= _MAX_REASON else f"{reason[:half]} … {reason[-half:]}"


def _escaped(text: str) -> str:
    """A text as a regular expression that matches it alone."""
    return re.sub(r"[^\w ]", lambda found: f"\\x{{{ord(found[0]):x}}}", text)
