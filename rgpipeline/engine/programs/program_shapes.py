"""The fixed shapes of a worker's programs: rows of decode, rows and tokens of prefill, buffers."""

from collections.abc import Sequence

from rgpipeline.engine.sizing import MAX_PREFILL_ROWS, MIN_PREFILL_ROWS
from rgpipeline.records import ResolvedSettings

# Rows of logits that a scoring call makes at most. A CPU's products of 64 rows are transposed, and
# take half the time of larger ones for each row in bfloat16 (see `cpu_primitives`). On a GPU or TPU
# it is memory: 256 MB for a vocabulary of 256,000.
_CPU_LOGITS, _ACCELERATOR_LOGITS = 64, 256


def rows_per_slot(settings: ResolvedSettings, platform: str | None, groups: int = 1) -> int:
    """Rows of the decode program for each slot: one, or two of which the second stays idle.

    XLA's CPU backend keeps a second copy of all matrices for products of one bfloat16 row, and
    takes more than twice as long for them as for two rows. int8 and float32 do well with one row.

    `groups`: of chips, among which the slots are divided.
    """
    one_row = settings.slots // groups == 1
    return 2 if platform == "cpu" and one_row and _multiplies_in_bfloat16(settings) else 1


def pack_tokens(settings: ResolvedSettings, platform: str, groups: int = 1) -> int:
    """Tokens in one prefill call: enough for the matrix multiplies to be at their best rate.

    A CPU that multiplies in bfloat16 has less to do for each matrix that it reads, so it wants
    more rows. (183 million parameters, 2 cores of a Xeon with AMX, CPU time for a token: 0.94 ms in
    calls of 128 tokens, 0.74 in calls of 256. Larger calls gain no more, and are harder to fill.)
    """
    least = 1024
    if platform == "cpu":
        least = 256 if _multiplies_in_bfloat16(settings) else 128
    return max(settings.prefill_chunk, least) * groups


def pack_shapes_of(chunk: int, pack_tokens: int, parts: int) -> list[tuple[int, int]]:
    """(rows, tokens) of the prefill programs: the chunk, and shorter ones for what is left.

    Each of the `parts` has the same number of rows.
    """
    sizes = [chunk]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= 16 and len(sizes) < 4:
        sizes.append(sizes[-1] // 2)
    return [(max(1, pack_tokens // size // parts) * parts, size) for size in sizes]


def prefill_rows_of(slots: int, pack_shapes: Sequence[tuple[int, int]], parts: int) -> int:
    """Rows of the prefill buffer: as of that for texts, but no more than slots."""
    return min(slots, text_rows_of(pack_shapes, parts))


def text_rows_of(pack_shapes: Sequence[tuple[int, int]], parts: int) -> int:
    """Rows of the buffer for texts: enough to fill packs from, twice as many as a pack has.

    But no more in a part than `auto` leaves memory for, even if chunks are short and packs have
    many rows.
    """
    rows = max(rows for rows, _ in pack_shapes)
    enough = max(2 * rows, -(-MIN_PREFILL_ROWS // parts) * parts)
    return min(enough, MAX_PREFILL_ROWS * parts)


def score_block_of(pack_shapes: Sequence[tuple[int, int]], groups: int, platform: str) -> int:
    """Positions for which the head computes logits at once, in each of the groups of chips.

    Half a pack: a block of short texts' last tokens is seldom full, and logits take memory.
    """
    rows, size = pack_shapes[0]
    most = _CPU_LOGITS if platform == "cpu" else _ACCELERATOR_LOGITS
    return max(1, min(rows * size // groups // 2, most))


def _multiplies_in_bfloat16(settings: ResolvedSettings) -> bool:
    return settings.dtype == "bfloat16" and settings.quantize == "none"
