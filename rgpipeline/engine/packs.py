"""In what shapes prompts are read: the prefill programs' rows and tokens, and places to read in."""

from collections.abc import Sequence

from rgpipeline.engine.auto import ACCELERATOR_STAGED, CPU_STAGED


def pack_shapes_of(chunk: int, pack_tokens: int, parts: int) -> list[tuple[int, int]]:
    """(rows, tokens) of the prefill programs: the chunk, and shorter ones for what is left.

    All `parts` have as many rows as the others.
    """
    sizes = [chunk]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= 16 and len(sizes) < 4:
        sizes.append(sizes[-1] // 2)
    return [(max(1, pack_tokens // size // parts) * parts, size) for size in sizes]


def staging_of(slots: int, pack_shapes: Sequence[tuple[int, int]], parts: int) -> int:
    """Places to read prompts in: enough to fill packs from, but no more than slots.

    Nor more in a part than `auto` leaves memory for, even if chunks are short and packs have many
    rows.
    """
    rows = max(rows for rows, _ in pack_shapes)
    enough = max(rows, -(-CPU_STAGED // parts) * parts)
    return min(slots, enough, ACCELERATOR_STAGED * parts)
