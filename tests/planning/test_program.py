"""What is read from an optimised program, on texts small enough to count by hand."""

import math
from pathlib import Path

import pytest

from diffusion.planning import collectives, hlo, kernel_and_byte_counts
from diffusion.planning.hlo import Memory, Shape

TPU, GPU, BUFFERS = (Path(__file__).with_name(f"{name}.txt").read_text() for name in ("tpu", "gpu", "buffers"))


def padded(*dims):
    return math.prod(dims)


def test_bytes_are_those_of_the_padded_layout():
    """T(8,128) rounds up the two minor dimensions in the order of the layout, whatever their place in the shape."""
    assert Shape("bf16", (2, 8, 8, 4), "{3,0,2,1:T(8,128)(2,1)}").bytes == 2 * padded(8, 8, 8, 128)
    assert Shape("f32", (8, 100), "{1,0:T(8,128)}").bytes == 4 * padded(8, 128)
    assert Shape("f32", (8, 100), "{0,1:T(8,128)}").bytes == 4 * padded(128, 104)
    assert Shape("f32", (300,), "{0:T(512)}").bytes == 4 * 512
    assert Shape("f32", (8, 100), "{1,0}").bytes == Shape("f32", (8, 100)).bytes == 3200
    assert [Shape(kind, (16,)).bytes for kind in ("pred", "u8", "s4", "f8e4m3fn", "u32", "f64")] == [
        16,
        16,
        8,
        16,
        64,
        128,
    ]
    assert Shape("f32", (8,), "{0:T(128)S(1)}").on_chip and not Shape("f32", (8,), "{0:T(128)}").on_chip


def test_kernels_bytes_and_copies_of_a_tpu_program():
    found = kernel_and_byte_counts.of(hlo.parse(TPU))
    tile = 4 * 8 * 128
    image, result, kernel = 2 * 8 * 8 * 8 * 128, 2 * 8 * 8 * 8 * 128, 2 * 9 * 8 * 128
    by_name = {k.name: k for k in kernel_and_byte_counts.kernels(hlo.parse(TPU), "main.1")}
    assert by_name["start"].bytes == kernel and not by_name["start"].launched, "to on-chip memory, beside the kernels"
    assert by_name["row.1"].bytes == 8 * 128 + 4, "a padded row of the data set and the index, not the whole set"
    assert by_name["result"].bytes == image + result, "the kernel is on the chip"
    assert by_name["jit(run)/swap"].bytes == tile + 4 * 104 * 128
    assert by_name["jit(run)/twice (in a loop)"].times == 10 and by_name["jit(run)/twice (in a loop)"].bytes == 2 * tile
    assert found.kernels == 4 + 2 * 10, "two fusions, transpose, pad, and two in each turn of the loop"
    assert [k.name for k in found.copies] == ["jit(run)/swap"] and found.copies[0].shape == "f32[100, 8]"
    total = kernel + 8 * 128 + 4 + image + result + tile + 4 * 104 * 128 + tile + 4 + tile + 40 * tile
    assert found.bytes == total
    assert hlo.parse(TPU).aliased == 2


def test_a_slice_after_elementwise_operations_reads_its_part():
    """Ten of a thousand numbers, converted first; with the converted ones added up beside it, all of them."""
    text = """HloModule m
%fused (p: f32[1000]) -> bf16[10] {
  %p = f32[1000]{0} parameter(0)
  %narrow = bf16[1000]{0} convert(%p)
  %twice = bf16[1000]{0} add(%narrow, %narrow)
  ROOT %part = bf16[10]{0} slice(%twice), slice={[20:30]}
}
ENTRY %main (x: f32[1000]) -> bf16[10] {
  %x = f32[1000]{0} parameter(0)
  ROOT %y = bf16[10]{0} fusion(%x), kind=kLoop, calls=%fused
}
"""
    assert kernel_and_byte_counts.of(hlo.parse(text)).bytes == 10 * 4 + 10 * 2
    summed = text.replace("%twice = bf16[1000]{0} add(%narrow, %narrow)", "%twice = bf16[1000]{0} sort(%narrow)")
    assert kernel_and_byte_counts.of(hlo.parse(summed)).bytes == 1000 * 4 + 10 * 2


def test_an_array_under_two_names_is_read_once():
    """The two that a tuple gives back, as XLA leaves an optimisation barrier."""
    text = """HloModule m
ENTRY %main (x: f32[1000]) -> f32[1000] {
  %x = f32[1000]{0} parameter(0)
  %both = (f32[1000]{0}, f32[1000]{0}) tuple(%x, %x)
  %a = f32[1000]{0} get-tuple-element(%both), index=0
  %b = f32[1000]{0} get-tuple-element(%both), index=1
  ROOT %y = f32[1000]{0} add(%a, %b)
}
"""
    assert kernel_and_byte_counts.of(hlo.parse(text)).bytes == 2 * 4000


def test_operations_leave_out_padding_and_are_counted_by_type():
    pairs = (8 * 3 - 2) ** 2
    assert kernel_and_byte_counts.of(hlo.parse(TPU)).flop == {"bf16": 2 * 2 * 16 * 4 * pairs}
    plain = 2 * (2 * 4 * 4 * 16) * 9 * 4
    assert kernel_and_byte_counts.of(hlo.parse(GPU)).flop == {"bf16": 3 * plain, "f32": 2 * 2 * 32 * 16 * 64}


def test_loops_repeat_operations():
    """A product in a loop of ten turns."""
    product = "%twice = f32[8,128]{1,0:T(8,128)} dot(%x, %x), lhs_contracting_dims={0}, rhs_contracting_dims={0}"
    looped = TPU.replace("%twice = f32[8,128]{1,0:T(8,128)} add(%x, %x)", product)
    assert kernel_and_byte_counts.of(hlo.parse(looped)).flop["f32"] == 10 * 2 * 8 * 128 * 8


def test_dilated_inputs_count_their_pixels_alone():
    """The gradient of a convolution with stride 2 has as many operations as the convolution."""
    window = "window={size=3x3 pad=2_1x2_1 lhs_dilate=2x2 rhs_reversal=1x1}, dim_labels=b01f_01oi->b01f"
    text = f"""HloModule m
ENTRY %main (g: f32[1,4,4,5], w: f32[3,3,6,5]) -> f32[1,8,8,6] {{
  %g = f32[1,4,4,5]{{3,2,1,0}} parameter(0)
  %w = f32[3,3,6,5]{{3,2,1,0}} parameter(1)
  ROOT %dx = f32[1,8,8,6]{{3,2,1,0}} convolution(%g, %w), {window}
}}
"""
    used = sum(0 <= 2 * o + k < 8 for o in range(4) for k in range(3))
    assert kernel_and_byte_counts.of(hlo.parse(text)).flop == {"f32": 2 * 5 * 6 * used**2}


def test_a_gradient_of_a_library_convolution_has_its_operations():
    """2 (outputs of the convolution) (taps and input channels of one), where the input is twice the output's size."""
    labels = 'dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"'
    text = f"""HloModule m
ENTRY %main (g: bf16[2,4,4,16], w: bf16[16,3,3,8]) -> bf16[2,8,8,8] {{
  %g = bf16[2,4,4,16]{{3,2,1,0}} parameter(0)
  %w = bf16[16,3,3,8]{{3,2,1,0}} parameter(1)
  %call = (bf16[2,8,8,8]{{3,2,1,0}}, u8[0]{{0}}) custom-call(%g, %w), window={{size=3x3 stride=2x2}}, {labels}
  ROOT %dx = bf16[2,8,8,8]{{3,2,1,0}} get-tuple-element(%call), index=0
}}
"""
    assert kernel_and_byte_counts.of(hlo.parse(text)).flop == {"bf16": 2 * (2 * 4 * 4 * 16) * 9 * 8}


def test_one_step_is_the_loop_that_computes_most():
    found = kernel_and_byte_counts.of(hlo.parse(TPU), per_step=True)
    assert found.kernels == 2 and found.bytes == 4 * 4 * 8 * 128 and found.flop == {}
    assert kernel_and_byte_counts.of(hlo.parse(GPU), per_step=True).kernels == 7, "without a loop the whole program"


def test_collectives_by_kind_and_type():
    found = collectives.of(hlo.parse(TPU), "main.1")
    assert found == {"all-reduce f32": collectives.Collective(10, 40960, 2 * 40960 * 3 / 4, True)}
    found = collectives.of(hlo.parse(GPU), "main")
    assert found["all-gather f32"] == collectives.Collective(1, 256 * 16 * 4, 256 * 16 * 4 * 7 / 8, False)
    assert found["all-reduce f32"].sent == 2 * 2048 * 7 / 8 and len(found) == 2


def test_a_collective_beside_kernels_counts_once():
    """Two gathers over four of eight devices, one of which three fusions name; the other has the same channel."""
    gather = "bf16[8,128]{1,0} all-gather(%part), channel_id=5, replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}"
    head, part = "(part: bf16[2,128]) -> bf16[8,128] {\n", "  %part = bf16[2,128]{1,0} parameter(0)\n"
    fusions = "".join(f"%f{i} {head}{part}  ROOT %g{i} = {gather}\n}}\n" for i in range(3))
    calls = "".join(f"  %y{i} = bf16[8,128]{{1,0}} fusion(%part), kind=kCustom, calls=%f{i}\n" for i in range(3))
    text = f"""HloModule m
{fusions}
ENTRY %main {head}{part}{calls}  ROOT %z = {gather}
}}
"""
    whole = 8 * 128 * 2
    assert collectives.of(hlo.parse(text), "main") == {
        "all-gather bf16": collectives.Collective(2, 2 * whole, 2 * whole * 3 / 4, False)
    }


def test_trips_noted_by_the_compiler_come_first():
    noted = TPU.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"4"}}')
    assert collectives.of(hlo.parse(noted), "main.1")["all-reduce f32"].count == 4


def test_memory_is_split_and_leaves_out_other_memories():
    assert hlo.memory(BUFFERS) == Memory(4096 + 256, 1000 + 24 + 12)
    assert hlo.memory(BUFFERS).total == 5388


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        hlo.parse("HloModule m\n")
    with pytest.raises(ValueError, match="not a line of HLO"):
        hlo.parse("ENTRY %m (a: f32[]) -> f32[] {\n  %a = (f32[] parameter(0)\n}\n")
