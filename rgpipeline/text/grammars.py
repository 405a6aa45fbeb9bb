"""Masks over the vocabulary by llguidance: which tokens may continue a text that has a grammar.

A mask says which tokens keep the text within its grammar. Where the grammar leaves only one text,
llguidance allows only the token that the tokenizer itself would make of it.
"""

import os
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from threading import Lock

import numpy as np
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import fill_next_token_bitmask_par
from numpy.typing import NDArray

from rgpipeline.errors import RowError
from rgpipeline.spec import StructuredOutputs
from rgpipeline.text.compiled_grammars import CompiledGrammars, bit_of
from rgpipeline.text.grammar_check import GrammarCheck, refusal
from rgpipeline.text.grammar_source import one_line
from rgpipeline.text.tokenizer import Tokenizer

_MAX_THREADS = 32
_COMPARED = 32  # tokens of a text, at most, that may be another's, too


class TextMatcher:
    """The position of one text in its grammar; the engine's `Matcher`."""

    __slots__ = ("ends", "finished", "grammar", "inner", "lexer", "read_at_start", "tokens")

    def __init__(
        self,
        grammar: StructuredOutputs,
        inner: LLMatcher,
        lexer: LLMatcher,
        ends: frozenset[int],
        read_at_start: Callable[[int], list[int]],
    ) -> None:
        """At the start of a text.

        Args:
          grammar: what the text must follow.
          inner: llguidance's matcher.
          lexer: what `inner` is a copy of; copies of one share its lexer.
          ends: tokens that may end the text where the grammar accepts it.
          read_at_start: see `CompiledGrammars`.
        """
        self.grammar = grammar
        self.inner = inner
        self.lexer = lexer
        self.ends = ends
        self.read_at_start = read_at_start
        self.tokens = array("i")  # consumed, as llguidance was given them
        self.finished = False  # nothing may follow but end-of-sequence

    def consume(self, token: int) -> None:
        """Goes on by a token that the mask allowed. Raises RowError."""
        same = [token] if self.tokens else self.read_at_start(token)
        if not self.inner.consume_tokens(same):
            reason = one_line(self.inner.get_error())
            raise RowError(refusal(self.grammar, f"token {token}: {reason}"))
        self.tokens.extend(same)
        self.finished = self.inner.is_stopped()


class TextGrammars:
    """Grammars for one tokenizer and model; the engine's `Grammars`. For any thread.

    Tokens without text of their own (control tokens, ids beyond the tokenizer's) are allowed only
    if they end the sequence, and only where the grammar accepts the text. It costs nothing until
    the first matcher is made.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocab_size: int,
        eos_ids: Sequence[int],
        check: GrammarCheck | None = None,
    ) -> None:
        """`vocab_size` and `eos_ids` are the model's.

        `check`: has looked at grammars before; each is looked at once.
        """
        self._given = tokenizer, vocab_size, eos_ids, check or GrammarCheck()
        self._eos_ids = frozenset(eos_ids)
        self._threads = min(_MAX_THREADS, _cores())
        self._lock = Lock()  # guards `_compiled`

    @cached_property
    def _compiled(self) -> CompiledGrammars:
        return CompiledGrammars(*self._given, self._threads)

    @cached_property
    def _executor(self) -> LLExecutor:
        return LLExecutor(self._threads)

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
        with self._lock:
            compiled = self._compiled
            inner, lexer = compiled.copy(grammar)
        own = self._eos_ids if ends is None else compiled.no_text.intersection(ends)
        matcher = TextMatcher(grammar, inner, lexer, own, compiled.read_at_start)
        for token in tokens:
            matcher.consume(int(token))
        return matcher

    def fill(
        self, matchers: Sequence[TextMatcher | None], rows: NDArray[np.int32]
    ) -> list[str | None]:
        """Writes the mask of each matcher into its row, in parallel: int32 [n, words of 32 bits].

        Rows without a matcher stay as they are. Returns for each row None, or why it failed.
        """
        found = {row: one for row, one in enumerate(matchers) if one is not None}
        first = _first_alike(found)
        # Threads take neighbours, and those that share a lexer should be neighbours.
        order = sorted(set(first.values()), key=lambda row: id(found[row].lexer))
        self._fill(found, rows, order)
        failed = {row for row in order if found[row].inner.is_error()}
        copies = [(row, like) for row, like in first.items() if row != like]
        self._fill(found, rows, [row for row, like in copies if like in failed])
        for row, like in copies:
            if like not in failed:
                rows[row] = rows[like]
        reasons: list[str | None] = [None] * len(matchers)
        for row, matcher in found.items():
            reasons[row] = self._finished(matcher, rows, row)
        return reasons

    def _fill(
        self, matchers: Mapping[int, TextMatcher], rows: NDArray[np.int32], order: Sequence[int]
    ) -> None:
        if order:
            work = [(matchers[row].inner, row) for row in order]
            fill_next_token_bitmask_par(self._executor, work, rows)

    def _finished(self, matcher: TextMatcher, rows: NDArray[np.int32], row: int) -> str | None:
        """Puts what llguidance doesn't know into a matcher's row; why the matcher failed."""
        if matcher.inner.is_error():
            fault = self._again(matcher, rows, row)
            if fault is not None:
                return fault
        if not matcher.tokens:
            with self._lock:
                start = self._compiled.mask_at_start(matcher.grammar)
            if start is not None:
                rows[row] = start
        if matcher.ends != {self._compiled.eos}:
            self._set_ends(rows[row], matcher.ends)
        return None

    def _again(self, matcher: TextMatcher, rows: NDArray[np.int32], row: int) -> str | None:
        """Makes a mask again with a lexer of its own: a shared one may be full of other rows'."""
        with self._lock:
            fresh = self._compiled.fresh(matcher.grammar)
        fresh.consume_tokens(matcher.tokens.tolist())
        fill_next_token_bitmask_par(self._executor, [(fresh, row)], rows)
        if fresh.is_error():
            return refusal(matcher.grammar, one_line(fresh.get_error()))
        matcher.inner, matcher.lexer = fresh, fresh
        return None

    def _set_ends(self, row: NDArray[np.int32], ends: Collection[int]) -> None:
        """Allows `ends` in place of llguidance's own end of sequence, where that is allowed."""
        eos = self._compiled.eos
        accepts = row[eos // 32] & bit_of(eos)
        row[eos // 32] &= ~bit_of(eos)
        if accepts:
            for token in ends:
                row[token // 32] |= bit_of(token)


def _first_alike(matchers: Mapping[int, TextMatcher]) -> dict[int, int]:
    """For each row the first one with the same grammar and tokens: their masks are the same.

    Long texts are not compared: they are hardly ever the same.
    """
    found: dict[tuple[int, bytes], int] = {}
    return {
        row: row
        if len(one.tokens) > _COMPARED
        else found.setdefault((id(one.lexer), one.tokens.tobytes()), row)
        for row, one in matchers.items()
    }


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
