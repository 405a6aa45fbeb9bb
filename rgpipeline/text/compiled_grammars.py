"""Grammars that llguidance has compiled for one vocabulary, kept for the next rows."""

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from rgpipeline.errors import RowError
from rgpipeline.spec import StructuredOutputs
from rgpipeline.text.grammar_check import GrammarCheck, refusal
from rgpipeline.text.grammar_source import NO_TOKEN, grammar_source, one_line, parser_limits
from rgpipeline.text.grammar_tokens import GrammarTokens
from rgpipeline.text.tokenizer import Tokenizer

_KEPT = 128  # grammars
# Copies of a compiled grammar share its lexer, which one thread at a time can use. A grammar that
# compiles within this time is compiled for each thread.
_QUICK_S = 0.02

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Compiled:
    """A grammar, compiled once or for each thread."""

    lexers: list[LLMatcher] = field(default_factory=list)
    quick: bool = True
    used: int = 0  # copies made
    start: NDArray[np.int32] | None = None  # the mask at the start of a text, where that is special


class CompiledGrammars:
    """Compiles grammars, each once or for each thread. For one thread at a time."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocab_size: int,
        eos_ids: Sequence[int],
        check: GrammarCheck,
        threads: int,
    ) -> None:
        """`vocab_size` and `eos_ids` are the model's. Takes a second for 256,000 tokens."""
        began = time.monotonic()
        self._check = check
        self._threads = threads
        self._surfaces = tokenizer.surfaces
        tokens = GrammarTokens(tokenizer, vocab_size, eos_ids)
        self.no_text = frozenset(tokens.special_token_ids)
        self.eos = tokens.eos_token_id  # llguidance allows it where a text may end
        self._after = _opened(tokens)
        self._start = None
        if self._surfaces.start_matters:
            self._start = _opened(GrammarTokens(tokenizer, vocab_size, eos_ids, start=True))
        self._found: OrderedDict[StructuredOutputs, _Compiled] = OrderedDict()
        _log.info("grammars: the vocabulary was read in %.1f s", time.monotonic() - began)

    def copy(self, grammar: StructuredOutputs) -> tuple[LLMatcher, LLMatcher]:
        """A matcher at the start of a text, and what it is a copy of. Raises RowError."""
        found = self._entry(grammar)
        at = found.used % (self._threads if found.quick else 1)
        if at == len(found.lexers):
            began = time.monotonic()
            found.lexers.append(self._begun(grammar))
            found.quick = time.monotonic() - began < _QUICK_S
        found.used += 1
        return found.lexers[at].deep_copy(), found.lexers[at]

    def fresh(self, grammar: StructuredOutputs) -> LLMatcher:
        """A matcher with a lexer of its own; later copies come of a new one, too."""
        self._found.pop(grammar, None)
        return _compile(self._after, grammar)

    def mask_at_start(self, grammar: StructuredOutputs) -> NDArray[np.int32] | None:
        """The mask at the start of a text; None where the start is like any other place."""
        if self._start is None:
            return None
        found = self._entry(grammar)
        if found.start is None:
            begun = _compile(self._start, grammar)
            found.start = np.frombuffer(begun.compute_bitmask(), np.int32)
        return found.start

    def read_at_start(self, token: int) -> list[int]:
        """The tokens that always read as this one does at the start of a text."""
        text = self._surfaces.at_start(token)
        if self._start is None or text == self._surfaces.after_text(token):
            return [token]
        return self._after.greedy_tokenize(text)

    def _entry(self, grammar: StructuredOutputs) -> _Compiled:
        found = self._found.get(grammar)
        if found is None:
            if (refused := self._check.refusal(grammar)) is not None:
                raise RowError(refused)
            found = self._found[grammar] = _Compiled()
            if len(self._found) > _KEPT:
                self._found.popitem(last=False)
        self._found.move_to_end(grammar)
        return found

    def _begun(self, grammar: StructuredOutputs) -> LLMatcher:
        """The compiled grammar. Raises RowError if no text begins so, or only the empty one."""
        compiled = _compile(self._after, grammar)
        fault = one_line(compiled.get_error())
        if not fault:
            trial = compiled.deep_copy()
            mask = np.frombuffer(trial.compute_bitmask(), np.int32).copy()
            mask[self.eos // 32] &= ~bit_of(self.eos)
            if not mask.any():
                fault = one_line(trial.get_error()) or "it accepts only the empty text"
            fault = "it accepts no text" if fault == NO_TOKEN else fault
        if fault:
            self._found.pop(grammar, None)
            raise RowError(refusal(grammar, fault))
        return compiled


def bit_of(token: int) -> np.int32:
    """A token's bit in its word of a mask."""
    return np.uint32(1 << token % 32).astype(np.int32)


def _opened(tokens: GrammarTokens) -> LLTokenizer:
    opened = LLTokenizer(cast("Any", tokens), eos_token=[tokens.eos_token_id])
    tokens.fallback = opened.greedy_tokenize
    return opened


def _compile(tokenizer: LLTokenizer, grammar: StructuredOutputs) -> LLMatcher:
    return LLMatcher(tokenizer, grammar_source(grammar), log_level=0, limits=parser_limits())
