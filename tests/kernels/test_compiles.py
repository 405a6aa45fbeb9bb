"""Mosaic compiles every kernel, and XLA gives it its operands without copying a state."""

import pytest

from tests.processes import output_of

KERNELS = {
    *("decode_attention", "decode_attention_int8", "recurrence", "recurrence_scan"),
    *("prefill_attention", "head", "head_int8", "quantize_rows"),
}
LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
}
LARGEST_COPY = 8 << 20  # bytes; a ring of 64 slots has 64 MiB


@pytest.mark.parametrize("topology", ["v5e:1x1x1", "v6e:1x1"])
def test_kernels_compile_and_copy_no_state(topology: str) -> None:
    told = output_of("tests.kernels.compiling", topology, environment=LIBTPU)

    copied = {name: int(number) for name, number in map(str.split, told.splitlines())}
    assert copied.keys() == KERNELS
    assert all(number < LARGEST_COPY for number in copied.values()), copied
