"""Reading scheduled HLO text."""

import pytest

from rgpipeline.fit.hlo import parse
from tests.fit.programs import entry

LOOP = """
    %zero = s32[]{:T(128)} constant(0)
    %x = f32[1024]{0:T(1024)} parameter(0)
    %start = (s32[]{:T(128)}, f32[1024]{0:T(1024)}) tuple(%zero, %x)
    ROOT %loop = (s32[]{:T(128)}, f32[1024]{0:T(1024)}) while(%start), condition=%test, body=%turn
"""
TURN = """
    %turn (p: (s32[], f32[1024])) -> (s32[], f32[1024]) {
      %p = (s32[]{:T(128)}, /*index=1*/f32[1024]{0:T(1024)}) parameter(0)
      %i = s32[]{:T(128)} get-tuple-element(%p), index=0
      %v = f32[1024]{0:T(1024)} get-tuple-element(%p), index=1
      %two = s32[]{:T(128)} constant(2)
      %next = s32[]{:T(128)} add(%i, %two)
      ROOT %both = (s32[]{:T(128)}, f32[1024]{0:T(1024)}) tuple(%next, %v)
    }
"""
TEST = """
    %test (q: (s32[], f32[1024])) -> pred[] {
      %limit = s32[]{:T(128)} constant(15)
      %q = (s32[]{:T(128)}, f32[1024]{0:T(1024)}) parameter(0)
      %j = s32[]{:T(128)} get-tuple-element(%q), index=0
      ROOT %lt = pred[]{:T(512)} compare(%j, %limit), direction=LT
    }
"""


def test_instructions_keep_their_order_and_their_operands() -> None:
    module = parse(
        entry("""
            %b = f32[8,128]{1,0:T(8,128)} parameter(1)
            %a = f32[8,128]{1,0:T(8,128)} parameter(0)
            ROOT %c = f32[8,128]{1,0:T(8,128)} add(%a, %b), metadata={op_name="f(a, b)/add"}
        """)
    )

    assert [one.opcode for one in module.entry.instructions] == ["parameter", "parameter", "add"]
    assert module.entry.root.operands == ("a", "b")
    assert [one.name for one in module.entry.parameters] == ["a", "b"]


def test_the_compilers_notes_are_json() -> None:
    module = parse(
        entry("""
            %a = f32[8,128]{1,0:T(8,128)} parameter(0)
            ROOT %c = f32[8,128]{1,0} copy(%a), metadata={op_name="a, b={"}, \
backend_config={"window_config":{"estimated_cycles":"12"},"lists":[]}
        """)
    )

    assert module.entry.root.backend_config["window_config"] == {"estimated_cycles": "12"}


def test_a_loops_turns_are_counted_from_its_start_its_test_and_its_step() -> None:
    module = parse(entry(LOOP, TURN, TEST))

    assert module.trip_count(module.entry.root) == 8  # 0, 2, ..., 14


def test_a_loops_turns_are_taken_from_the_compilers_note() -> None:
    noted = LOOP.rstrip() + ', backend_config={"known_trip_count":{"n":"16"}}\n'
    module = parse(entry(noted, TURN, TEST))

    assert module.trip_count(module.entry.root) == 16


def test_a_loop_that_data_decides_is_refused_by_name() -> None:
    module = parse(entry(LOOP, TURN, TEST.replace("direction=LT", "direction=NE")))

    with pytest.raises(ValueError, match="while loop loop: "):
        module.trip_count(module.entry.root)


def test_other_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no ENTRY"):
        parse("HloModule empty\n")
