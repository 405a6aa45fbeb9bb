"""How many tokens a prefill call has, and its rows for each length of a chunk."""

from dataclasses import replace

import pytest

from rgpipeline.engine.programs.program_shapes import pack_shapes_of, pack_tokens, prefill_rows_of
from rgpipeline.records import ResolvedSettings

BFLOAT16 = ResolvedSettings("bfloat16", slots=64, prefill_chunk=128, steps_per_dispatch=None)
FLOAT32 = replace(BFLOAT16, dtype="float32")


@pytest.mark.parametrize(
    ("settings", "platform", "tokens"),
    [
        (BFLOAT16, "cpu", 256),
        (FLOAT32, "cpu", 128),
        (replace(BFLOAT16, quantize="int8"), "cpu", 128),
        (replace(FLOAT32, prefill_chunk=512), "cpu", 512),
        (BFLOAT16, "tpu", 1024),
        (FLOAT32, "gpu", 1024),
    ],
)
def test_a_cpus_calls_are_short_and_twice_as_long_in_bfloat16(settings, platform, tokens) -> None:
    assert pack_tokens(settings, platform) == tokens


@pytest.mark.parametrize(("settings", "rows_of_buffer"), [(BFLOAT16, 32), (FLOAT32, 16)])
def test_a_cpus_buffer_has_two_rows_for_each_of_a_call(settings, rows_of_buffer) -> None:
    shapes = pack_shapes_of(settings.prefill_chunk, pack_tokens(settings, "cpu"), 1)
    assert {rows * size for rows, size in shapes} == {pack_tokens(settings, "cpu")}
    assert prefill_rows_of(settings.slots, shapes, 1) == rows_of_buffer
