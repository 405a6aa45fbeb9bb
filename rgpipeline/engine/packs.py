"""In what shapes prompts are read: the prefill programs' rows and tokens, and places to read in."""

from collections.abc import Sequence

from rgpipeline.engine.auto import ACCELERATOR_STAGED, CPU_STAGED

# Rows of logits that a scoring call holds at once: 256 MB for a vocabulary of 256,000.
_MOST_LOGITS = 256


def pack_shapes_of(chunk: int, pack_tokens: int, parts: int) -> list[tuple[int, int]]:
    """(rows, tokens) of the prefill programs: the chunk, and shorter ones for what is left.

    All `parts` have as many rows as the others.
    """
    sizes = [chunk]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= 16 and len(sizes) < 4:
        sizes.append(sizes[-1] // 2)
    return [(max(1, pack_tokens // size // parts) * parts, size) for size in sizes]


def staging_of(slots: int, pack_shapes: Sequence[tuple[int, int]], parts: int) -> int:
    """Places to read prompts in: as for scores, but no more than slots."""
    return min(slots, score_staging_of(pack_shapes, parts))


def score_staging_of(pack_shapes: Sequence[tuple[int, int]], parts: int) -> int:
    """Places to score texts in: enough to fill packs from.

    But no more in a part than `auto` leaves memory for, even if chunks are short and packs have
    many rows.
    """
    rows = max(rows for rows, _ in pack_shapes)
    enough = max(rows, -(-CPU_STAGED // parts) * parts)
    return min(enough, ACCELERATOR_STAGED * parts)


def score_block_of(pack_shapes: Sequence[tuple[int, int]], groups: int) -> int:
    """Positions for which the head computes logits at once, in each of the groups of chips.

    Half a pack: a block of short texts' last tokens is seldom full, and logits take memory.
    """
    rows, size = pack_shapes[0]
    return max(1, min(rows * size // groups // 2, _MOST_LOGITS))
