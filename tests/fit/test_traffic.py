"""HBM bytes of programs written by hand, against what a person counts."""

from rgpipeline.fit.hlo import parse
from rgpipeline.fit.program_cost import program_cost
from rgpipeline.fit.traffic import Traffic
from tests.fit.programs import ADD, entry
from tests.fit.test_hlo import LOOP, TEST, TURN

KB = 1024


def traffic(body: str, *computations: str) -> Traffic:
    return program_cost(parse(entry(body, *computations))).traffic


def test_an_operation_reads_its_operands_and_writes_its_result() -> None:
    assert traffic("""
        %a = f32[8,128]{1,0:T(8,128)} parameter(0)
        %b = f32[8,128]{1,0:T(8,128)} parameter(1)
        ROOT %c = f32[8,128]{1,0:T(8,128)} add(%a, %b)
    """) == Traffic(8 * KB, 4 * KB)


def test_what_lies_in_vmem_costs_nothing() -> None:
    assert traffic("""
        %a = f32[8,128]{1,0:T(8,128)S(1)} parameter(0)
        %b = f32[8,128]{1,0:T(8,128)} parameter(1)
        ROOT %c = f32[8,128]{1,0:T(8,128)S(1)} add(%a, %b)
    """) == Traffic(4 * KB, 0)


def test_a_prefetched_weight_is_read_once() -> None:
    assert traffic(
        """
        %w = bf16[128,128]{1,0:T(8,128)(2,1)} parameter(0)
        %s = (bf16[128,128]{1,0:T(8,128)(2,1)S(1)}, bf16[128,128]{1,0:T(8,128)(2,1)}, \
u32[]{:S(2)}) copy-start(%w)
        %v = bf16[128,128]{1,0:T(8,128)(2,1)S(1)} copy-done(%s)
        ROOT %r = f32[128]{0:T(128)S(1)} fusion(%v), kind=kLoop, calls=%f
        """,
        """
        %f (p: bf16[128,128]) -> f32[128] {
          %p = bf16[128,128]{1,0:T(8,128)(2,1)S(1)} parameter(0)
          %z = f32[]{:T(128)} constant(0)
          ROOT %d = f32[128]{0:T(128)S(1)} reduce(%p, %z), dimensions={0}, to_apply=%add
        }
        """,
        ADD,
    ) == Traffic(32 * KB, 0)


def test_a_copy_back_to_hbm_is_a_write_alone() -> None:
    assert traffic("""
        %v = f32[1024]{0:T(1024)S(1)} parameter(0)
        %s = (f32[1024]{0:T(1024)}, f32[1024]{0:T(1024)S(1)}, u32[]{:S(2)}) copy-start(%v)
        ROOT %h = f32[1024]{0:T(1024)} copy-done(%s)
    """) == Traffic(0, 4 * KB)


def test_an_asynchronous_slice_moves_the_slice() -> None:
    assert traffic("""
        %w = bf16[4,128,128]{2,1,0:T(8,128)(2,1)} parameter(0)
        %s = ((bf16[4,128,128]{2,1,0:T(8,128)(2,1)}), \
bf16[1,128,128]{2,1,0:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%w), slice={[0:1], [0:128]}
        ROOT %v = bf16[1,128,128]{2,1,0:T(8,128)(2,1)S(1)} slice-done(%s)
    """) == Traffic(32 * KB, 0)


def test_pieces_joined_by_their_names_cost_nothing() -> None:
    assert (
        traffic("""
        %a = bf16[1,128]{1,0:T(8,128)(2,1)S(1)} parameter(0)
        %b = bf16[1,128]{1,0:T(8,128)(2,1)S(1)} parameter(1)
        ROOT %c = bf16[2,128]{1,0:T(8,128)(2,1)} custom-call(%a, %b), \
custom_call_target="ConcatBitcast"
    """)
        == Traffic()
    )


def test_a_gather_reads_its_rows_not_the_table() -> None:
    assert traffic(
        """
        %t = bf16[256000,128]{1,0:T(8,128)(2,1)} parameter(0)
        %i = s32[16]{0:T(128)S(1)} parameter(1)
        ROOT %r = bf16[16,128]{1,0:T(8,128)(2,1)} fusion(%t, %i), kind=kCustom, calls=%f
        """,
        """
        %f (t: bf16[256000,128], i: s32[16]) -> bf16[16,128] {
          %t.1 = bf16[256000,128]{1,0:T(8,128)(2,1)} parameter(0)
          %i.1 = s32[16]{0:T(128)S(1)} parameter(1)
          %g = bf16[16,128]{1,0:T(8,128)(2,1)} gather(%t.1, %i.1), offset_dims={1}
          ROOT %b = bf16[16,128]{1,0:T(8,128)(2,1)} reshape(%g)
        }
        """,
    ) == Traffic(4 * KB, 4 * KB)


def test_an_update_in_place_writes_the_update() -> None:
    assert traffic("""
        %ring = bf16[4,2048,128]{2,1,0:T(8,128)(2,1)} parameter(0)
        %new = bf16[4,8,128]{2,1,0:T(8,128)(2,1)S(1)} parameter(1)
        %z = s32[]{:T(128)S(6)} constant(0)
        ROOT %after = bf16[4,2048,128]{2,1,0:T(8,128)(2,1)} \
dynamic-update-slice(%ring, %new, %z, %z, %z)
    """) == Traffic(0, 8 * KB)


SCATTER = """
    %ring = bf16[4096,128]{1,0:T(8,128)(2,1)} parameter(0)
    %slot = s32[16]{0:T(128)S(1)} parameter(1)
    %new = bf16[16,128]{1,0:T(8,128)(2,1)} parameter(2)
    ROOT %after = bf16[4096,128]{1,0:T(8,128)(2,1)} fusion(%ring, %slot, %new), \
calls=%f, backend_config={"aliasing_operands":{"lists":[LISTS]}}
"""
SCATTERED = """
    %f (r: bf16[4096,128], s: s32[16], n: bf16[16,128]) -> bf16[4096,128] {
      %r = bf16[4096,128]{1,0:T(8,128)(2,1)} parameter(0)
      %s = s32[16]{0:T(128)S(1)} parameter(1)
      %n = bf16[16,128]{1,0:T(8,128)(2,1)} parameter(2)
      ROOT %u = bf16[4096,128]{1,0:T(8,128)(2,1)} scatter(%r, %s, %n), to_apply=%add
    }
"""


def test_a_scatter_into_memory_of_its_own_writes_its_rows() -> None:
    in_place = SCATTER.replace("LISTS", '{"indices":["0","3"]}')

    assert traffic(in_place, SCATTERED, ADD) == Traffic(4 * KB, 4 * KB)


def test_a_scatter_into_other_memory_copies_all() -> None:
    apart = SCATTER.replace("LISTS", "")

    assert traffic(apart, SCATTERED, ADD) == Traffic(1024 * KB + 4 * KB, 1024 * KB)


def test_a_buffer_that_is_updated_and_read_is_read() -> None:
    """The sum needs all of the ring, whether or not the update is in place."""
    assert traffic(
        """
        %ring = f32[4096,128]{1,0:T(8,128)} parameter(0)
        %new = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)
        ROOT %both = (f32[4096,128]{1,0:T(8,128)}, f32[128]{0:T(128)S(1)}) \
fusion(%ring, %new), kind=kLoop, calls=%f
        """,
        """
        %f (r: f32[4096,128], n: f32[8,128]) -> (f32[4096,128], f32[128]) {
          %r = f32[4096,128]{1,0:T(8,128)} parameter(0)
          %n = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)
          %z = s32[]{:T(128)} constant(0)
          %u = f32[4096,128]{1,0:T(8,128)} dynamic-update-slice(%r, %n, %z, %z)
          %o = f32[]{:T(128)} constant(0)
          %d = f32[128]{0:T(128)S(1)} reduce(%u, %o), dimensions={0}, to_apply=%add
          ROOT %t = (f32[4096,128]{1,0:T(8,128)}, f32[128]{0:T(128)S(1)}) tuple(%u, %d)
        }
        """,
        ADD,
    ) == Traffic(2048 * KB, 4 * KB)


def test_a_fusion_reads_the_slice_it_uses() -> None:
    assert traffic(
        """
        %w = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
        ROOT %r = f32[8,128]{1,0:T(8,128)S(1)} fusion(%w), kind=kLoop, calls=%f
        """,
        """
        %f (p: f32[4,8,128]) -> f32[8,128] {
          %p = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
          %e = f32[4,8,128]{2,1,0:T(8,128)} exponential(%p)
          %s = f32[1,8,128]{2,1,0:T(8,128)} slice(%e), slice={[2:3], [0:8], [0:128]}
          ROOT %b = f32[8,128]{1,0:T(8,128)S(1)} bitcast(%s)
        }
        """,
    ) == Traffic(4 * KB, 0)


def test_a_loop_costs_its_body_at_every_turn() -> None:
    copying = TURN.replace("%two =", "%w = f32[1024]{0:T(1024)} negate(%v)\n      %two =").replace(
        "tuple(%next, %v)", "tuple(%next, %w)"
    )

    plain = traffic(LOOP, TURN, TEST)
    body = traffic(LOOP, copying, TEST)

    assert (body.read - plain.read, body.written - plain.written) == (8 * 4 * KB, 8 * 4 * KB)


def test_a_conditional_costs_its_costliest_branch() -> None:
    branch = """
        %{name} ({name}p: f32[1024]) -> f32[1024] {{
          %{name}p = f32[1024]{{0:T(1024)}} parameter(0)
          {line}
        }}
    """
    cheap = branch.format(name="no", line="ROOT %same = f32[1024]{0:T(1024)} bitcast(%nop)")
    costly = branch.format(name="yes", line="ROOT %other = f32[1024]{0:T(1024)} negate(%yesp)")

    assert traffic(
        """
        %which = pred[]{:T(512)S(6)} parameter(0)
        %x = f32[1024]{0:T(1024)} parameter(1)
        ROOT %r = f32[1024]{0:T(1024)} conditional(%which, %x, %x), \
true_computation=%no, false_computation=%yes
        """,
        cheap,
        costly,
    ) == Traffic(4 * KB, 4 * KB)


def test_a_kernel_reads_its_operands_and_writes_results_that_are_not_theirs() -> None:
    assert traffic("""
        %q = f32[8,128]{1,0:T(8,128)} parameter(0)
        %ring = bf16[4096,128]{1,0:T(8,128)(2,1)} parameter(1)
        ROOT %r = (f32[8,128]{1,0:T(8,128)}, bf16[4096,128]{1,0:T(8,128)(2,1)}) \
custom-call(%q, %ring), custom_call_target="tpu_custom_call", \
output_to_operand_aliasing={{1}: (1, {})}
    """) == Traffic(4 * KB + 1024 * KB, 4 * KB)


def test_a_reduction_with_two_results_writes_both() -> None:
    assert traffic(
        """
        %x = f32[8,1024]{1,0:T(8,128)} parameter(0)
        %i = s32[8,1024]{1,0:T(8,128)S(1)} parameter(1)
        ROOT %r = (f32[1024]{0:T(1024)}, s32[1024]{0:T(1024)}) fusion(%x, %i), calls=%f
        """,
        """
        %f (x: f32[8,1024], i: s32[8,1024]) -> (f32[1024], s32[1024]) {
          %x.1 = f32[8,1024]{1,0:T(8,128)} parameter(0)
          %i.1 = s32[8,1024]{1,0:T(8,128)S(1)} parameter(1)
          %z = f32[]{:T(128)} constant(0)
          %n = s32[]{:T(128)} constant(0)
          ROOT %m = (f32[1024]{0:T(1024)}, s32[1024]{0:T(1024)}) \
reduce(%x.1, %i.1, %z, %n), dimensions={0}, to_apply=%add
        }
        """,
        ADD,
    ) == Traffic(32 * KB, 8 * KB)
