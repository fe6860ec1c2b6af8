"""Fusion: what becomes one kernel, what may not, and why."""

import numpy as np
import pytest

import minicomp
from minicomp.ir.text import parse
from minicomp.kernels import LoopKernel, MatmulKernel
from minicomp.kernels.program import build_program
from minicomp.passes.fuse import _Fusion, _Group, fuse
from minicomp.passes.materialize import materialize


def clusters_of(text: str, **options) -> list[list[str]]:
    """Per kernel, the ops that it computes."""
    graph = materialize(parse(text))
    return [[value.op for value in cluster.members] for cluster in fuse(graph, **options)]


def kernels_of(text: str):
    graph = materialize(parse(text))
    return [call.kernel for call in build_program(graph, fuse(graph)).calls]


SOFTMAX = """graph softmax(%x: f32[64,1000]) {
  %0 = max(%x) {axes=[1], keepdims=true} : f32[64,1]
  %1 = broadcast(%0) {shape=[64,1000]} : f32[64,1000]
  %2 = sub(%x, %1) : f32[64,1000]
  %3 = exp(%2) : f32[64,1000]
  %4 = sum(%3) {axes=[1], keepdims=true} : f32[64,1]
  %5 = broadcast(%4) {shape=[64,1000]} : f32[64,1000]
  %6 = div(%3, %5) : f32[64,1000]
  return %6
}"""


def test_softmax_is_one_kernel_of_three_sweeps():
    (kernel,) = kernels_of(SOFTMAX)
    assert isinstance(kernel, LoopKernel)
    assert (kernel.rows, kernel.row_size) == (64, 1000)
    assert [[r.op for r in sweep.reductions] for sweep in kernel.sweeps] == [["max"], ["sum"], []]
    assert [len(sweep.stores) for sweep in kernel.sweeps] == [0, 0, 1]


def test_log_sum_exp_is_one_kernel_that_stores_a_row():
    (kernel,) = kernels_of(
        """graph logsumexp(%x: f32[64,1000]) {
          %0 = max(%x) {axes=[1], keepdims=true} : f32[64,1]
          %1 = broadcast(%0) {shape=[64,1000]} : f32[64,1000]
          %2 = sub(%x, %1) : f32[64,1000]
          %3 = exp(%2) : f32[64,1000]
          %4 = sum(%3) {axes=[1], keepdims=false} : f32[64]
          %5 = log(%4) : f32[64]
          %6 = reshape(%0) {shape=[64]} : f32[64]
          %7 = add(%5, %6) : f32[64]
          return %7
        }"""
    )
    assert isinstance(kernel, LoopKernel)
    assert len(kernel.sweeps) == 2
    assert len(kernel.row_stores) == 1


def test_a_pointwise_chain_collapses_into_one_loop():
    (kernel,) = kernels_of(
        """graph chain(%x: f32[8,16]) {
          %0 = exp(%x) : f32[8,16]
          %1 = mul(%0, %x) : f32[8,16]
          return %1
        }"""
    )
    assert [variable.extent for variable in kernel.outer] == [128]
    assert not kernel.inner


def test_a_bias_and_an_activation_become_the_epilogue_of_a_matmul():
    (kernel,) = kernels_of(
        """graph linear(%x: f32[8,16], %w: f32[4,16] parameter, %b: f32[4] parameter) {
          %0 = transpose(%w) {permutation=[1,0]} : f32[16,4]
          %1 = matmul(%x, %0) : f32[8,4]
          %2 = broadcast(%b) {shape=[8,4]} : f32[8,4]
          %3 = add(%1, %2) : f32[8,4]
          %4 = full() {shape=[8,4], value=0.0, dtype=f32} : f32[8,4]
          %5 = maximum(%3, %4) : f32[8,4]
          return %5
        }"""
    )
    assert isinstance(kernel, MatmulKernel)
    assert kernel.has_epilogue
    # The transposed weight is read in place, as strides.
    assert (kernel.b.row_stride, kernel.b.column_stride) == (1, 16)


def test_epilogues_can_be_left_out():
    text = """graph f(%x: f32[8,16], %w: f32[16,4] parameter) {
      %0 = matmul(%x, %w) : f32[8,4]
      %1 = exp(%0) : f32[8,4]
      return %1
    }"""
    assert clusters_of(text) == [["matmul", "exp"]]
    assert clusters_of(text, epilogues=False) == [["matmul"], ["exp"]]


def test_a_value_that_somebody_else_reads_is_stored_as_well():
    (kernel,) = kernels_of(
        """graph f(%x: f32[8,16], %y: f32[8,16]) {
          %0 = add(%x, %y) : f32[8,16]
          %1 = sum(%0) {axes=[1], keepdims=false} : f32[8]
          return %0, %1
        }"""
    )
    assert [len(sweep.stores) for sweep in kernel.sweeps] == [1]
    assert len(kernel.row_stores) == 1


def test_reductions_over_different_axes_are_two_kernels():
    assert clusters_of(
        """graph f(%x: f32[8,16]) {
          %0 = sum(%x) {axes=[0], keepdims=false} : f32[16]
          %1 = sum(%x) {axes=[1], keepdims=false} : f32[8]
          return %0, %1
        }"""
    ) == [["sum"], ["sum"]]


def test_something_expensive_is_not_computed_again_for_every_row():
    text = """graph f(%x: f32[64,16], %v: f32[16]) {{
      %0 = {op}(%v) : f32[16]
      %1 = broadcast(%0) {{shape=[64,16]}} : f32[64,16]
      %2 = add(%x, %1) : f32[64,16]
      return %2
    }}"""
    assert clusters_of(text.format(op="exp")) == [["exp"], ["add"]]
    assert clusters_of(text.format(op="neg")) == [["neg", "add"]]


def test_clusters_never_depend_on_each_other_in_a_circle():
    # %0 feeds the matmul and the sum after it: joining %0 with %2 would need the matmul between.
    clusters = clusters_of(
        """graph f(%x: f32[8,8]) {
          %0 = exp(%x) : f32[8,8]
          %1 = matmul(%0, %x) : f32[8,8]
          %2 = add(%0, %1) : f32[8,8]
          return %2
        }"""
    )
    assert clusters == [["exp"], ["matmul", "add"]]


def test_the_transpose_of_a_row_sum_is_not_read_while_it_is_computed():
    # Row i of the result needs the sums of all rows.
    assert clusters_of(
        """graph f(%x: f32[8,8]) {
          %0 = sum(%x) {axes=[1], keepdims=false} : f32[8]
          %1 = broadcast(%0) {shape=[8,8]} : f32[8,8]
          %2 = sub(%x, %1) : f32[8,8]
          return %2
        }"""
    ) == [["sum"], ["sub"]]


def test_parts_of_a_concatenation_are_computed_in_place():
    graph = materialize(
        parse(
            """graph f(%x: f32[2,3], %y: f32[2,5]) {
              %0 = exp(%x) : f32[2,3]
              %1 = concatenate(%0, %y) {axis=1} : f32[2,8]
              return %1
            }"""
        )
    )
    program = build_program(graph, fuse(graph))
    assert [buffer.role for buffer in program.buffers] == ["input", "input", "output"]
    assert [call.buffers for call in program.calls] == [(0, 2), (1, 2)]


@pytest.mark.parametrize("count", [50, 300])
def test_long_chains_are_cut_so_that_a_kernel_stays_bounded(count):
    lines = [f"%{n + 1} = neg(%{n}) : f32[4]" for n in range(count)]
    text = "graph f(%x: f32[4]) {\n%0 = neg(%x) : f32[4]\n" + "\n".join(lines)
    clusters = clusters_of(text + f"\nreturn %{count}\n}}")
    assert sum(map(len, clusters)) == count + 1
    assert max(map(len, clusters)) <= 96


def test_a_path_is_found_that_goes_beyond_the_consumer_and_comes_back():
    graph = parse("""graph f(%x: f32[4]) {
      %producer = exp(%x) : f32[4]
      %early = neg(%x) : f32[4]
      %consumer = add(%producer, %early) : f32[4]
      %between = tanh(%producer) : f32[4]
      %beyond = sin(%between) : f32[4]
      %late = mul(%beyond, %early) : f32[4]
      return %consumer, %late
    }""")
    values = {value.op: value for value in graph}
    fusion = _Fusion(graph, epilogues=True)
    groups = fusion.group_of
    # Were late one group with early, then producer, between, beyond, late and early, consumer.
    assert not fusion._path_between(groups[values["exp"]], groups[values["add"]])
    both = _Group({values["neg"]: None, values["mul"]: None})
    groups[values["neg"]] = groups[values["mul"]] = both
    assert fusion._path_between(groups[values["exp"]], groups[values["add"]])


def test_kernels_print_as_loops():
    (kernel,) = kernels_of(SOFTMAX)
    assert str(kernel) == (
        "kernel max_sub_exp_sum_div(x: f32[64000], div: f32[64000] written)\n"
        "  for o0 in 64:  # parallel\n"
        "    sweep i0 in 1000:\n"
        "      r0 = max x[1000*o0 + i0]\n"
        "    sweep i0 in 1000:\n"
        "      r1 = sum exp(sub(x[1000*o0 + i0], r0))\n"
        "    sweep i0 in 1000:\n"
        "      div[1000*o0 + i0] = div(exp(sub(x[1000*o0 + i0], r0)), r1)"
    )


def test_sums_of_neighbours_are_cut_before_work_is_done_again_and_again():
    def scan(x):
        for n in range(12):
            x = x[: -(2**n)] + x[2**n :]
        return x

    x = np.arange(5000, dtype=np.float64)
    clusters = fuse(materialize(minicomp.trace(scan, x)))
    assert 2 <= len(clusters) <= 6
    np.testing.assert_array_equal(minicomp.compile(scan)(x), scan(x))
