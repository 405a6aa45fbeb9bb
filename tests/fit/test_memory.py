"""What a chip has to hold, and whether it can."""

from rgpipeline.fit.bounds import fits, hbm_bytes
from rgpipeline.fit.compilation import Compiled, CompiledProgram
from rgpipeline.fit.topology import Chip

GIB = 2**30
CHIP = Chip("small", 10 * GIB, 1.0, 1.0, 1.0, 8)
REFUSED = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
    "required for HLO temporaries (12.50G) exceeds available HBM (10.00G)."
)


def compiled(**programs: CompiledProgram) -> Compiled:
    """Six GiB of weights, two of state."""
    return Compiled(
        8,
        2,
        8,
        0,
        0,
        weights_bytes=6 * GIB,
        decode_weights_bytes=6 * GIB,
        state_bytes=2 * GIB,
        prefill_buffer_bytes=0,
        programs=programs,
    )


def program(temporary: int, code: int = 0) -> CompiledProgram:
    return CompiledProgram(1.0, argument_bytes=8 * GIB, temporary_bytes=temporary, code_bytes=code)


def test_the_largest_programs_temporaries_count_and_the_code_of_all() -> None:
    found = hbm_bytes(compiled(decode=program(100, code=5), prefill=program(300, code=7)), CHIP)

    assert (found.weights, found.state, found.temporary) == (6 * GIB, 2 * GIB, 312)
    assert found.total == 8 * GIB + 312


def test_results_that_take_no_arguments_place_are_temporary() -> None:
    one = CompiledProgram(1.0, argument_bytes=8 * GIB, output_bytes=90, alias_bytes=60)

    assert hbm_bytes(compiled(decode=one), CHIP).temporary == 30


def test_padding_belongs_to_the_state() -> None:
    padded = CompiledProgram(1.0, argument_bytes=9 * GIB)

    assert hbm_bytes(compiled(decode=padded), CHIP).state == 3 * GIB


def test_programs_fit_one_by_one_and_yet_not_beside_the_others_code() -> None:
    assert fits(compiled(decode=program(GIB), prefill=program(2 * GIB)), CHIP)
    assert not fits(compiled(decode=program(2 * GIB, code=GIB)), CHIP)


def test_a_refusal_says_how_much_would_be_needed() -> None:
    refused = compiled(decode=CompiledProgram(1.0, out_of_memory=REFUSED))

    assert not fits(refused, CHIP)
    assert hbm_bytes(refused, CHIP).total == 12.5 * GIB
