"""Counting the code of a kernel, in libtpu's notation."""

from pathlib import Path

from rgpipeline.fit.kernel_code import KernelCode, kernel_files, read_kernel

# Two bundles, a loop of 16 turns with five (one, the branch's, and four until it takes effect go
# with it), and in it one of 3 turns with six; then one bundle.
NESTED = """
= control target key start
LB: loop body
= control target key end

     0   :  { %s1 = smov.u32 0 }
   0x1   :  { %s2 = smov.u32 0 } /* Start region 7 :: End region 7 */
   0x2 LB: > { %p1 = scmp.gt.s32.totalorder %s2, 99 } /* Start region 12 :: Start region 5 */
   0x3 LB: >> { %p3 = scmp.ge.s32.totalorder %s4, 3 } /* note of
several lines :: Start region 20 */
   0x4   : >> { %9 = sbr.rel (!%p3) target = $region20 }
   0x5   : >> {}
   0x6   : >> {}
   0x7   : >> {}
   0x8   : >> {} /* End region 20 */
   0x9   : > { %5 = dma.vmem_to_hbm [thread:$0]  (%p1), /*vmem=*/%s1, /*size_in_granules=*/128, \
/*hbm=*/%s2 ;;  %p2 = scmp.ge.s32.totalorder %s2, 16 /* loop exit test */ }
   0xa   : > { %10 = sbr.rel (!%p2) target = $region12 }
   0xb   :  {}
   0xc   :  {}
   0xd   :  {}
   0xe   :  {} /* End region 12 */
   0xf   :  { %11 = dma.vmem_to_hbm /*vmem=*/%s1, /*size_in_granules=*/1, /*hbm=*/%s2 }
"""


# A grid of 8 in a loop of 10 turns: a copy of one bundle in turns 0 to 7, and in turns 1 to 8 what
# is computed, two bundles and in between a loop of 3 turns with six.
GRID = """
   0x3 LB: > { %s1 = sadd.s32 4294967295, %s7 /* iteration index, stage = 1 */  ;;  \
%s7 = sphi %s8, %s9 /* phi copy :: iteration index, stage = 0 */ } /* Start region 97 */
   0x4   : > { %p1 = scmp.ge.s32.totalorder %s7, 8 }
   0x5   : > { %5 = sbr.rel (%p1) target = $region22 }
   0x6   : > {}
   0x7   : > {}
   0x8   : > {}
   0x9   : > {}
   0xa   : > { %3 = dma.hbm_to_vmem /*hbm=*/%s2, /*size_in_granules=*/64, /*vmem=*/%s3 }
   0xb PF: > { %p2 = scmp.ge.s32.totalorder %s1, 0  ;;  %p3 = scmp.lt.s32.totalorder %s7, 9 } \
/* Start/End empty region 22 :: Start region 23 */
   0xc   : > { %p4 = pnand %p2, %p3 }
   0xd   : > { %6 = sbr.rel (%p4) target = $region24 }
   0xe   : > {}
   0xf   : > {}
  0x10   : > {}
  0x11   : > {}
  0x12   : > { %s4 = smov.u32 0 }
  0x13 LB: >> { %p5 = scmp.ge.s32.totalorder %s5, 3 /* loop exit test */ } /* Start region 86 */
  0x14   : >> { %7 = sbr.rel (!%p5) target = $region86 }
  0x15   : >> {}
  0x16   : >> {}
  0x17   : >> {}
  0x18   : >> {} /* End region 86 */
  0x19   : > { %8 = dma.vmem_to_hbm /*vmem=*/%s4, /*size_in_granules=*/16, /*hbm=*/%s2 }
  0x1a PF: > { %p6 = scmp.ge.s32.totalorder %s9, 10 /* loop exit test */ } \
/* Start/End empty region 24 */
  0x1b   : > { %9 = sbr.rel (!%p6) target = $region97 }
  0x1c   : > {}
  0x1d   : > {}
  0x1e   : > {}
  0x1f   : > {} /* End region 97 */
"""


def test_a_bundle_counts_as_often_as_the_loops_around_it_turn() -> None:
    assert read_kernel(NESTED).cycles == 2 + 16 * (1 + 3 * 6 + 6) + 1


def test_bytes_written_to_hbm_are_those_of_its_copies() -> None:
    assert read_kernel(NESTED).hbm_written == 16 * 128 * 32 + 32


def test_a_grids_steps_count_although_its_loop_is_two_turns_longer() -> None:
    always = 7 + 7 + 6  # before the copy, before what is computed, and after

    assert read_kernel(GRID) == KernelCode(10 * always + 8 * 1 + 8 * (2 + 3 * 6), 8 * 16 * 32)


def test_what_jumps_over_a_step_for_a_reason_of_its_own_is_counted() -> None:
    unknown = GRID.replace("pnand %p2, %p3", "pnand %p2, %p9")

    assert read_kernel(unknown).hbm_written == 10 * 16 * 32


def test_a_jump_forwards_is_no_loop() -> None:
    code = """
     0   :  { %2 = sbr.rel (%p1) target = $region9 }
   0x1   :  { %p1 = scmp.ge.s32.totalorder %s4, 50 }
   0x2 CT:  {} /* Start region 9 */
    """

    assert read_kernel(code) == KernelCode(cycles=3, hbm_written=0)


def test_a_loop_that_data_decides_counts_as_one_turn_and_is_told() -> None:
    unknown = NESTED.replace("scmp.ge.s32.totalorder %s4, 3", "scmp.ge.s32.totalorder %s4, %s8")

    code = read_kernel(unknown)

    assert (code.cycles, code.unknown_loops) == (2 + 16 * (1 + 6 + 6) + 1, 1)


def test_instructions_that_do_the_same_share_one_kernel(tmp_path: Path) -> None:
    (tmp_path / "17-fusion.3-01-final_bundles.txt").touch()
    (tmp_path / "17-TLP-00-deduplication-map.txt").write_text(
        "key:fusion.3\nordinal:1\nequivalent_hlos[size=2]:\n  fusion.3\n  fusion.9\n"
        "key:copy.1\nordinal:2\nequivalent_hlos[size=1]:\n  copy.1\n"
    )

    files = kernel_files(tmp_path)

    assert files["fusion.9"] == files["fusion.3"]
    assert "copy.1" not in files
