"""Masks over the vocabulary by llguidance: which tokens may continue a text that has a grammar.

A mask says which tokens keep the text within its grammar. Where the grammar leaves only one text,
llguidance allows only the token that the tokenizer itself would make of it.
"""

import logging
import os
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, cast

import numpy as np
from llguidance import LLExecutor, LLMatcher, LLTokenizer
from llguidance.numpy import fill_next_token_bitmask_par
from numpy.typing import NDArray

from rgpipeline.errors import RowError
from rgpipeline.spec import StructuredOutputs
from rgpipeline.text.grammar_check import GrammarCheck, refusal
from rgpipeline.text.grammar_source import NO_TOKEN, grammar_source, one_line, parser_limits
from rgpipeline.text.grammar_tokens import GrammarTokens
from rgpipeline.text.tokenizer import Tokenizer

_COMPILED = 128  # grammars kept
_MAX_THREADS = 32
# Copies of a compiled grammar share its lexer, which one thread at a time can use. A grammar that
# compiles within this time is compiled for each thread.
_QUICK_S = 0.02

_log = logging.getLogger(__name__)


class TextMatcher:
    """The position of one text in its grammar; the engine's `Matcher`."""

    __slots__ = ("ends", "finished", "grammar", "inner", "lexer", "same", "tokens")

    def __init__(
        self,
        grammar: StructuredOutputs,
        inner: LLMatcher,
        lexer: int,
        same: Callable[[int], list[int]],
        ends: frozenset[int],
    ) -> None:
        """At the start of a text. Those with the same number `lexer` share one.

        `same`: tokens that read as its argument does at the start of a text. `ends`: tokens that
        may end the text where the grammar accepts it.
        """
        self.grammar = grammar
        self.inner = inner
        self.lexer = lexer
        self.same = same
        self.ends = ends
        self.tokens = array("i")  # consumed, as llguidance was given them
        self.finished = False  # nothing may follow but end-of-sequence

    def consume(self, token: int) -> None:
        """Goes on by a token that the mask allowed. Raises RowError."""
        same = [token] if self.tokens else self.same(token)
        if not self.inner.consume_tokens(same):
            reason = one_line(self.inner.get_error())
            raise RowError(refusal(self.grammar, f"token {token}: {reason}"))
        self.tokens.extend(same)
        self.finished = self.inner.is_stopped()


@dataclass(slots=True)
class _Compiled:
    """A grammar, compiled once or for each thread."""

    lexers: list[LLMatcher] = field(default_factory=list)
    start: NDArray[np.int32] | None = None  # the mask at the start of a text, where that is special
    quick: bool = True
    used: int = 0  # matchers made


class TextGrammars:
    """Grammars for one tokenizer and model; the engine's `Grammars`. For any thread.

    Tokens without text of their own (control tokens, ids beyond the tokenizer's) are allowed only
    if they end the sequence, and only where the grammar accepts the text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocab_size: int,
        eos_ids: Sequence[int],
        check: GrammarCheck | None = None,
    ) -> None:
        """`vocab_size` and `eos_ids` are the model's. Takes a second for 256,000 tokens.

        `check`: has looked at grammars before; each is looked at once.
        """
        began = time.monotonic()
        self._check = check or GrammarCheck()
        tokens = GrammarTokens(tokenizer, vocab_size, eos_ids)
        self._no_text = frozenset(tokens.special_token_ids)
        self._eos_ids = frozenset(eos_ids)
        self._eos = tokens.eos_token_id  # what llguidance allows where a text may end
        self._tokenizer = LLTokenizer(cast("Any", tokens), eos_token=[self._eos])
        tokens.fallback = self._tokenizer.greedy_tokenize
        self._head: LLTokenizer | None = None
        if tokenizer.surfaces.start_matters:
            head = GrammarTokens(tokenizer, vocab_size, eos_ids, start=True)
            self._head = LLTokenizer(cast("Any", head), eos_token=[self._eos])
            head.fallback = self._head.greedy_tokenize
        self._surfaces = tokenizer.surfaces
        self._threads = min(_MAX_THREADS, _cores())
        self._executor = LLExecutor(self._threads)
        self._lock = Lock()  # guards the next
        self._compiled: OrderedDict[StructuredOutputs, _Compiled] = OrderedDict()
        _log.info("grammars: the vocabulary was read in %.1f s", time.monotonic() - began)

    def matcher(
        self,
        grammar: StructuredOutputs,
        tokens: Sequence[int],
        ends: Collection[int] | None = None,
    ) -> TextMatcher:
        """The position after `tokens` of a new text.

        `ends`: the tokens that end the sequence, by default the model's. Those with a text of their
        own are texts to the grammar.

        Raises RowError when the grammar can't be compiled, or does not accept the tokens.
        """
        own = self._eos_ids if ends is None else self._no_text.intersection(ends)
        with self._lock:
            number, compiled = self._lexer(grammar)
            matcher = TextMatcher(grammar, compiled.deep_copy(), number, self._same, own)
        for token in tokens:
            matcher.consume(int(token))
        return matcher

    def fill(self, matchers: Sequence[TextMatcher], rows: NDArray[np.int32]) -> list[str | None]:
        """Writes the mask of each matcher into a row of `rows` [n, words of 32 bits], in parallel.

        Returns for each matcher None, or why it failed.
        """
        # Threads take neighbours, and those that share a lexer should be neighbours.
        order = sorted(range(len(matchers)), key=lambda row: matchers[row].lexer)
        if order:
            work = [(matchers[row].inner, row) for row in order]
            fill_next_token_bitmask_par(self._executor, work, rows)
        faults = [self._fault(matcher, rows, row) for row, matcher in enumerate(matchers)]
        for row, matcher in enumerate(matchers):
            if self._head is not None and not matcher.tokens:
                rows[row] = self._at_start(self._head, matcher.grammar)
            if matcher.ends != {self._eos}:
                self._set_ends(rows[row], matcher.ends)
        return faults

    def _same(self, token: int) -> list[int]:
        """Tokens that always read as this one does at the start of a text."""
        text = self._surfaces.at_start(token)
        if self._head is None or text == self._surfaces.after_text(token):
            return [token]
        return self._tokenizer.greedy_tokenize(text)

    def _at_start(self, head: LLTokenizer, grammar: StructuredOutputs) -> NDArray[np.int32]:
        """The mask at the start of a text."""
        with self._lock:
            self._lexer(grammar)
            compiled = self._compiled[grammar]
            if compiled.start is None:
                begun = self._compile(grammar, head)
                compiled.start = np.frombuffer(begun.compute_bitmask(), np.int32)
            return compiled.start

    def _set_ends(self, row: NDArray[np.int32], ends: Collection[int]) -> None:
        """Allows `ends` in place of llguidance's own end of sequence, where that is allowed."""
        word, bit = self._eos // 32, _bit(self._eos)
        accepts = row[word] & bit
        row[word] &= ~bit
        if accepts:
            for token in ends:
                row[token // 32] |= _bit(token)

    def _fault(self, matcher: TextMatcher, rows: NDArray[np.int32], row: int) -> str | None:
        """Why a matcher failed; its mask is made again with a lexer of its own first.

        A lexer that many rows share may be full because of the others.
        """
        if not matcher.inner.is_error():
            return None
        with self._lock:
            self._compiled.pop(matcher.grammar, None)
        again = self._compile(matcher.grammar)
        again.consume_tokens(matcher.tokens.tolist())
        fill_next_token_bitmask_par(self._executor, [(again, row)], rows)
        if again.is_error():
            return refusal(matcher.grammar, one_line(again.get_error()))
        matcher.inner, matcher.lexer = again, id(again)
        return None

    def _lexer(self, grammar: StructuredOutputs) -> tuple[int, LLMatcher]:
        """A compiled grammar, and the number of its lexer."""
        found = self._compiled.get(grammar)
        if found is None:
            if (fault := self._check.fault(grammar)) is not None:
                raise RowError(refusal(grammar, fault))
            found = self._compiled[grammar] = _Compiled()
            if len(self._compiled) > _COMPILED:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(grammar)
        at = found.used % (self._threads if found.quick else 1)
        if at == len(found.lexers):
            began = time.monotonic()
            found.lexers.append(self._begun(grammar))
            found.quick = time.monotonic() - began < _QUICK_S
        found.used += 1
        return id(found.lexers[at]), found.lexers[at]

    def _begun(self, grammar: StructuredOutputs) -> LLMatcher:
        """The compiled grammar. Raises RowError if no text begins so, or only the empty one."""
        compiled = self._compile(grammar)
        fault = one_line(compiled.get_error())
        if not fault:
            trial = compiled.deep_copy()
            mask = np.frombuffer(trial.compute_bitmask(), np.int32).copy()
            mask[self._eos // 32] &= ~_bit(self._eos)
            if not mask.any():
                fault = one_line(trial.get_error()) or "it accepts only the empty text"
            fault = "it accepts no text" if fault == NO_TOKEN else fault
        if fault:
            self._compiled.pop(grammar, None)
            raise RowError(refusal(grammar, fault))
        return compiled

    def _compile(
        self, grammar: StructuredOutputs, tokenizer: LLTokenizer | None = None
    ) -> LLMatcher:
        source, limits = grammar_source(grammar), parser_limits()
        return LLMatcher(tokenizer or self._tokenizer, source, log_level=0, limits=limits)


def _bit(token: int) -> np.int32:
    return np.uint32(1 << token % 32).astype(np.int32)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
