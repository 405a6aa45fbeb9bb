"""What a model has read of a text, from which other texts continue: records, and sums over tokens.

Layer 0. A text is always read in chunks at multiples of the chunk length. So a state is kept at the
end of a whole chunk, with the tokens since, which a continuation reads again. The continuation is
then cut as the whole text is, and gets the same bits.

    0 ................ read | tail ..... position | appended .........
    the arrays stand for it | read again, and cut as in one text
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]

_NAMES = {
    "dtype": "model.dtype",
    "quantize": "model.quantize",
    "window": "the attention's window",
    "vocabulary": "the vocabulary's size",
    "model": "the weights' fingerprint",
}


@dataclass(frozen=True, slots=True)
class StateKind:
    """What a state is of: it fits an engine with the same values, in all but `prefill_chunk`."""

    model: str  # fingerprint of the weights, as they are in the model's dtype
    dtype: str
    quantize: str
    window: int
    vocabulary: int
    prefill_chunk: int  # with another one, continuations round differently

    def misfit(self, engine: "StateKind") -> str | None:
        """Why a state of this kind can't be used by an engine of the other; None if it can."""
        for field, name in _NAMES.items():
            own, wanted = getattr(self, field), getattr(engine, field)
            if own != wanted:
                return f"the state has {own} as {name}, and this model {wanted}"
        return None


@dataclass(frozen=True, slots=True, eq=False)
class ReadText:
    """A text that was read, fully or up to its last tokens."""

    kind: StateKind
    arrays: Mapping[str, NDArray[np.generic]]  # the model's state by name; empty if `read` is 0
    read: int  # tokens that `arrays` stand for
    tail: Tokens  # [t], t >= 1: the tokens since
    seen: NDArray[np.uint8]  # [ceil(v / 8)]: a bit for each token id, 1 if it is among those read
    digest: str  # of the tokens read, chunk by chunk; hexadecimal
    in_turn: bool = False  # it is a chat that ends in the model's turn

    @property
    def position(self) -> int:
        """All tokens of the text."""
        return self.read + len(self.tail)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        arrays = sum(array.nbytes for array in self.arrays.values())
        return arrays + self.tail.nbytes + self.seen.nbytes

    @property
    def address(self) -> str:
        """Hexadecimal digest of model, settings and tokens: equal for equal states."""
        told = (self.kind, self.read, self.digest, self.in_turn)
        digest = hashlib.sha256(repr(told).encode())
        digest.update(np.ascontiguousarray(self.tail, "<i4").tobytes())
        return digest.hexdigest()[:40]

    def seen_ids(self) -> Tokens:
        """The token ids among those read, ascending."""
        bits = np.unpackbits(self.seen, count=self.kind.vocabulary)
        return np.flatnonzero(bits).astype(np.int32)

    def continued(self, tokens: Tokens) -> "ReadText":
        """The text with `tokens` after it, which are not read yet."""
        return replace(self, tail=np.concatenate([self.tail, tokens], dtype=np.int32))


def read_boundary(tokens: int, chunk: int) -> int:
    """Of a prompt of `tokens` >= 1, those that are read at the end of its last whole chunk.

    The last token never counts, because decode reads it.
    """
    return (tokens - 1) // chunk * chunk


def read_text(
    kind: StateKind,
    start: ReadText | None,
    tokens: Tokens,
    done: int,
    arrays: Mapping[str, NDArray[np.generic]],
) -> ReadText:
    """A text of which `done` more tokens are read.

    Args:
      kind: of the engine.
      start: what the text continues; None for a new one.
      tokens: [n], the tail of `start` and all that follows.
      done: how many of `tokens` are read, in whole chunks.
      arrays: the state after them; not used if `done` is 0.
    """
    if start is None:
        nothing = np.zeros((-(-kind.vocabulary // 8),), np.uint8)
        start = ReadText(kind, {}, 0, tokens, nothing, "")
    if not done:
        return replace(start, tail=tokens)
    chunk = kind.prefill_chunk
    digest = start.digest
    for first in range(0, done, chunk):
        digest = _chained(digest, tokens[first : min(done, first + chunk)])
    bits = np.zeros((kind.vocabulary,), np.bool_)
    bits[tokens[:done]] = True
    seen = start.seen | np.packbits(bits)
    return replace(
        start,
        kind=kind,
        arrays=arrays,
        read=start.read + done,
        tail=tokens[done:],
        seen=seen,
        digest=digest,
    )


def _chained(digest: str, tokens: Tokens) -> str:
    joined = digest.encode() + np.ascontiguousarray(tokens, "<i4").tobytes()
    return hashlib.sha256(joined).hexdigest()
