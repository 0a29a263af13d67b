"""What a compiled step holds, and one line in place of an allocator's traceback."""

import jax
import jax.numpy as jnp
import pytest

from diffusion.commands import advice_when_out_of_memory
from diffusion.config import default_config
from diffusion.data.toy_points import toy
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.training import loop, memory_of_a_step
from tests.support import runs


def config(**overrides):
    made = default_config()
    made.update_from_flattened_dict({"data.name": "digits", "train.batch_size": 64, **overrides})
    return made


def test_the_line_names_three_settings_and_their_effect():
    assert advice_when_out_of_memory.advice(config(), 8) == (
        "set config.train.accumulate=2 (the same result) or config.net.remat=true (the same result, about a third "
        "slower) or config.train.sharding=fsdp (the same result); scripts/plan.py --fit compiles each of them"
    )


def test_settings_in_use_are_not_proposed_again():
    def changes(devices=8, **overrides):
        return dict(advice_when_out_of_memory.settings(config(**overrides), devices))

    everything = {"train.accumulate": 2, "net.remat": True, "train.sharding": "zero1", "net.dtype": "bfloat16"}
    both = advice_when_out_of_memory.settings(config(), 8)[2:4]
    assert both == [("train.sharding", "fsdp"), ("train.sharding", "zero1")], "the one that divides more comes first"
    assert changes(**{"train.sharding": "zero1"})["train.sharding"] == "fsdp"
    assert changes() == {**everything, "train.batch_size": 32}
    assert list(changes(devices=1))[:3] == ["train.accumulate", "net.remat", "net.dtype"]
    assert changes(**{"train.accumulate": 2})["train.accumulate"] == 4
    assert "train.accumulate" not in changes(**{"train.accumulate": 8})
    assert changes(**{"train.batch_size": 24})["train.accumulate"] == 3, "a divisor of what a device has"
    spent = {"train.accumulate": 8, "net.remat": True, "train.sharding": "fsdp", "net.dtype": "bfloat16"}
    assert changes(**spent) == {"train.batch_size": 32}
    smallest = advice_when_out_of_memory.advice(config(**spent, **{"train.batch_size": 8}), 8)
    assert smallest == "use a smaller network or more devices"
    points = changes(**{"net.name": "mlp", "data.name": "toy:moons"})
    assert list(points) == ["train.accumulate", "train.sharding", "train.batch_size"], "it has neither remat nor dtype"


def test_a_real_exhaustion_becomes_the_line_and_other_errors_stay():
    """The backend's own error, for an array of 2^62 bytes that no machine has."""
    with pytest.raises(ValueError, match=r"^RESOURCE_EXHAUSTED: [^\n]*; do this$"), memory_of_a_step.advised("do this"):
        jax.jit(lambda: jnp.zeros(2**60, jnp.float32))().block_until_ready()
    with pytest.raises(ValueError, match=r"^out of memory; do this$"), memory_of_a_step.advised("do this"):
        raise MemoryError
    with pytest.raises(ZeroDivisionError), memory_of_a_step.advised("do this"):
        raise ZeroDivisionError
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), memory_of_a_step.advised("do this"):
        raise jax.errors.JaxRuntimeError("INTERNAL: out of luck")
    with memory_of_a_step.advised("do this"):
        pass


def test_a_step_that_does_not_fit_ends_training_with_the_line(monkeypatch, tmp_path):
    """A program that fails as an allocator does, in the loop of a real experiment."""
    small = {"data.name": "toy:moons", "net.name": "mlp", "net.channels": 8, "net.blocks": 1}
    ours = build.experiment(config(**small), (1, 2, 1), 0, sharding.make_mesh(jax.devices()[:1]))

    def compiled(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    monkeypatch.setattr(loop, "compile_steps", compiled)
    parts = ours.task(), ours.update(), ours.feed(toy("moons", train=True)), ours.create_state()
    with pytest.raises(ValueError, match=r"^RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes; use a smaller batch"):
        runs.train(tmp_path, *parts, runs.periods(3), lambda line: None)  # noqa: ARG005
