"""What the real TPU compiler makes of the training step: needs libtpu, no TPU. `make plan-test` runs these.

A small network on CIFAR-10's shapes: the properties do not depend on the width, and a program takes seconds.
"""

from functools import cache
from importlib.util import find_spec

import jax
import pytest

from diffusion.config.config_dict import flatten
from diffusion.config.config_files import load
from diffusion.experiment import build
from diffusion.planning import compile_for_target, kernel_and_byte_counts
from diffusion.planning.compile_for_target import Data, Job
from diffusion.runtime.format_numbers import size

pytestmark = [
    pytest.mark.plan,
    pytest.mark.skipif(find_spec("libtpu") is None, reason="libtpu is missing: pip install -r requirements-plan.txt"),
]
DATA = Data((32, 32, 3), 50_000, 0, True)


def config(**overrides):
    made = load("configs/cifar10.py")
    small = {"net.channels": 64, "net.multipliers": (1, 2), "net.blocks": 1, "net.dtype": "bfloat16"}
    made.update_from_flattened_dict({**small, **overrides})
    return made


@cache
def compiled(target, **overrides):
    job = Job(flatten(config(**overrides)), DATA, target, "train")
    return compile_for_target.compile_in_child(job, 280.0, lambda seconds: None)  # noqa: ARG005


@pytest.mark.parametrize("target", ["tpu:v5e", "tpu:v5e:2x2"])
def test_the_data_set_is_not_copied_and_the_state_is_donated(target):
    found = compiled(target)
    scopes = found.program.computations.values()
    sets = [op.opcode for scope in scopes for op in scope.values() if holds_the_set(op)]
    assert sets and set(sets) == {"parameter"}
    state = build.experiment(config(), DATA.shape, 0).fresh().like
    assert found.program.aliased == len(jax.tree.leaves(state))


def test_convolutions_are_in_bfloat16():
    """But for the last one, whose output is the network's. The rest of float32 is sums that XLA writes as products."""
    program = compiled("tpu:v5e").program
    flop = kernel_and_byte_counts.of(program).flop
    assert flop["f32"] < 0.1 * flop["bf16"]
    windows = [(scope, op) for scope in program.computations.values() for op in scope.values() if is_window(op)]
    wide = [op for scope, op in windows if scope[op.operands[0]].shapes[0].dtype == "f32"]
    assert 0 < len(wide) < len(windows) / 2 and all("/conv_out/" in op.rest for op in wide)


def holds_the_set(op):
    return any(shape.size == DATA.size * 32 * 32 * 3 for shape in op.shapes)


def is_window(op):
    return op.opcode == "convolution" and "size=3x3" in op.attribute("window") + op.rest


def test_replicated_weights_need_all_reduces_alone():
    found = kernel_and_byte_counts.of(compiled("tpu:v5e:2x2").program).collectives
    assert {kind.split()[0] for kind in found} == {"all-reduce"} and not any(c.looped for c in found.values())
    assert sum(c.count for c in found.values()) <= 4


@pytest.mark.parametrize("rules", ["fsdp", "zero1"])
def test_split_state_is_gathered_and_gradients_are_scattered(rules):
    """Every weight is gathered once, under fsdp in bfloat16; gradients go to their owners in float32; biases and the
    scales of norms, of which every device holds all, are added up. No exchange, nothing in a loop."""
    found, whole = (compiled("tpu:v5e:2x2", **{"train.sharding": name}) for name in (rules, "replicated"))
    collectives = kernel_and_byte_counts.of(found.program).collectives
    assert not any(c.looped for c in collectives.values())
    params = build.experiment(config(), DATA.shape, 0).fresh().like.params
    split = sum(x.size for x in jax.tree.leaves(params) if x.ndim > 1)
    gathered = [c.bytes for kind, c in collectives.items() if kind.startswith("all-gather")]
    assert sum(gathered) < 1.1 * split * (2 if rules == "fsdp" else 4)
    assert collectives["reduce-scatter f32"].bytes > 0.9 * 4 * split
    assert set(collectives) <= {"all-gather bf16", "all-gather f32", "reduce-scatter f32", "all-reduce f32"}
    assert collectives["all-reduce f32"].bytes < 0.1 * size(params)
    assert found.memory.arguments < whole.memory.arguments


@pytest.mark.parametrize("rules", ["replicated", "fsdp", "zero1"])
def test_on_16_chips_nothing_is_exchanged_or_in_a_loop(rules):
    """Weights are gathered once; gradients libtpu adds up by all-reduces here, whatever the rule."""
    found = compiled("tpu:v5e:4x4", **{"train.sharding": rules})
    collectives = kernel_and_byte_counts.of(found.program).collectives
    assert not any(c.looped for c in collectives.values())
    assert {kind.split()[0] for kind in collectives} <= {"all-reduce", "reduce-scatter", "all-gather"}
    params = build.experiment(config(), DATA.shape, 0).fresh().like.params
    gathered = sum(c.bytes for kind, c in collectives.items() if kind.startswith("all-gather"))
    assert (gathered == 0) is (rules == "replicated")
    assert gathered <= 1.1 * size(params) * {"replicated": 0, "fsdp": 0.5, "zero1": 1}[rules]


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_the_key_chooses_the_type_in_which_devices_add_up_gradients(kind):
    collectives = kernel_and_byte_counts.of(compiled("tpu:v5e:2x2", **{"net.gradient_dtype": kind}).program).collectives
    assert ("all-reduce bf16" in collectives) is (kind == "bfloat16")


KERNELS = 650
"""Of the small network's step on an H100, of which jax 0.10.2 makes 599."""


@pytest.mark.skipif(find_spec("jax_cuda12_plugin") is None, reason="the CUDA plugin is missing")
def test_a_step_on_a_gpu_is_few_kernels():
    """Its convolutions read bfloat16, but for the last; optimiser, guard and average are few of the kernels."""
    program = compiled("gpu:h100").program
    found = kernel_and_byte_counts.of(program)
    assert found.kernels <= KERNELS and found.flop["f32"] < 0.1 * found.flop["bf16"]
