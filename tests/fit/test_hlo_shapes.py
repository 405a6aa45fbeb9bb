"""Sizes of arrays as they lie in a TPU's memory."""

import pytest

from rgpipeline.fit.hlo_shapes import read_shape


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("bf16[256,2048]{1,0:T(8,128)(2,1)}", 256 * 2048 * 2),
        ("f32[]", 4),
        ("s8[32,128]{1,0:T(8,128)(4,1)}", 32 * 128),
        ("s4[8,128]{1,0:T(8,128)(8,1)}", 8 * 128 // 2),
        ("pred[1024]{0:T(1024)(128)(4,1)}", 1024),
        ("f32[16,256,0]{2,1,0}", 0),
    ],
)
def test_an_array_takes_its_elements_bytes(text: str, size: int) -> None:
    assert read_shape(text)[0].bytes == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("f32[2560]{0:T(1024)}", 3072 * 4),
        ("f32[10,100]{1,0:T(8,128)}", 16 * 128 * 4),
        ("bf16[256,3,2560]{2,1,0:T(8,128)(2,1)}", 256 * 8 * 2560 * 2),
        ("bf16[256,3,2560]{2,0,1:T(8,128)(2,1)}", 3 * 256 * 2560 * 2),
        ("s32[]{:T(128)}", 128 * 4),
    ],
)
def test_what_a_tile_is_not_filled_with_is_padding(text: str, size: int) -> None:
    assert read_shape(text)[0].bytes == size


def test_only_what_has_no_memory_space_lies_in_hbm() -> None:
    shape, _ = read_shape("(f32[1024]{0:T(1024)}, f32[1024]{0:T(1024)S(1)}, u32[]{:S(2)})")

    assert [leaf.space for leaf in shape.leaves] == [0, 1, 2]
    assert shape.hbm_bytes == 4096


def test_a_shape_ends_where_the_opcode_begins() -> None:
    text = "((bf16[2,4]{1,0}), s32[]{:S(2)}) slice-start(%x)"

    assert text[read_shape(text)[1] :] == " slice-start(%x)"
