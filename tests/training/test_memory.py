"""Estimates of memory against what arrays take, and one line in place of an allocator's traceback."""

import jax
import jax.numpy as jnp
import pytest

from diffusion.commands import memory_advice
from diffusion.config import default_config
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.training import memory
from diffusion.training.memory import Footprint

NOW = Footprint(
    state=1_800_000_000,
    split_state=230_000_000,
    image=3_000_000_000,
    remat_image=900_000_000,
    batch_size=64,
    devices=8,
    parts=1,
    split=False,
    full_precision=True,
)


def experiment(devices=1, **overrides):
    config = default_config()
    small = {"data.name": "digits", "net.channels": 8, "net.multipliers": (1,), "net.blocks": 1, "net.attention": ()}
    config.update_from_flattened_dict({**small, "train.batch_size": 16, **overrides})
    return build.experiment(config, (8, 8, 1), 10, sharding.make_mesh(jax.devices()[:devices]))


def test_bytes_on_a_device_are_those_of_its_shards():
    state = experiment(8, **{"train.sharding": "fsdp"}).create_state()
    held = sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(state._replace(key=()))
        for shard in leaf.addressable_shards
        if shard.device == jax.devices()[0]
    )
    assert memory.on_device(state, jax.tree.map(lambda x: x.sharding, state)) == held > 0


def test_what_is_kept_of_an_image():
    """A network of known residuals: sin keeps cos(w x) or its argument, product and square theirs; nothing else."""
    ours = experiment(**{"net.dropout": 0.0})
    plain = ours.task()._replace(apply=lambda params, x, time, labels, key: params["w"] * x)  # noqa: ARG005
    deep = plain._replace(apply=lambda params, x, time, labels, key: params["v"] * jnp.sin(params["w"] * x))  # noqa: ARG005
    params = {"w": jnp.ones((1, 8, 8, 1)), "v": jnp.ones((1, 8, 8, 1))}
    few, more = (memory.residuals(task, params, (8, 8, 1)) for task in (plain, deep))
    assert 4 * 64 <= few <= 4 * 64 * 4 and 4 * 64 <= more - few <= 4 * 64 * 3
    shapes = jax.eval_shape(ours.init, jax.random.key(0))
    image = memory.residuals(ours.task(), shapes, (8, 8, 1))
    large = memory.residuals(ours.task(), shapes, (16, 16, 1))
    assert 4 * image < large < 8 * image, "activations grow with the pixels, the middle's attention with their square"
    assert image > 4 * 64 * 8 * 10, "more than ten layers of 8 channels"


def test_the_line_names_three_settings_and_their_effect():
    assert memory.advise(NOW) == (
        "out of memory: a step of 64 images holds about 1.8 GB of state and 24 GB of activations on each of 8 devices; "
        "set config.train.accumulate=2 (activations about 12 GB, the same result) or "
        "config.net.remat=true (activations about 7.2 GB, the same result, about a third slower) or "
        "config.train.sharding=fsdp (state about 230 MB, the same result)"
    )


def test_settings_in_use_are_not_proposed_again():
    def changes(**now):
        return [setting.change for setting in memory.settings(NOW._replace(**now))]

    everything = [
        "train.accumulate=2",
        "net.remat=true",
        "train.sharding=fsdp",
        "net.dtype=bfloat16",
        "train.batch_size=32",
    ]
    assert changes() == everything
    assert changes(devices=1)[:3] == ["train.accumulate=2", "net.remat=true", "net.dtype=bfloat16"]
    assert changes(parts=2)[0] == "train.accumulate=4" and changes(parts=8)[0] == "net.remat=true"
    assert changes(batch_size=24)[0] == "train.accumulate=3", "a divisor of what a device has"
    spent = dict(parts=8, remat_image=NOW.image, split=True, full_precision=False)
    assert changes(**spent) == ["train.batch_size=32"]
    last = memory.advise(NOW._replace(**spent, batch_size=8, devices=8))
    assert last.endswith("on each of 8 devices; use a smaller network or more devices")


def test_a_real_exhaustion_becomes_the_line_and_other_errors_stay():
    """The backend's own error, for an array of 2^62 bytes that no machine has."""
    with pytest.raises(ValueError, match=r"^what to do$"), memory.advised(lambda: "what to do"):
        jax.jit(lambda: jnp.zeros(2**60, jnp.float32))().block_until_ready()
    with pytest.raises(ValueError, match=r"^what to do$"), memory.advised(lambda: "what to do"):
        raise MemoryError
    with pytest.raises(ZeroDivisionError), memory.advised(lambda: "what to do"):
        raise ZeroDivisionError
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), memory.advised(lambda: "what to do"):
        raise jax.errors.JaxRuntimeError("INTERNAL: out of luck")
    with memory.advised(lambda: "what to do"):
        pass


def test_the_line_of_an_experiment():
    """From a state that a step has taken and deleted, as it is when a dispatch fails."""
    ours = experiment(8, **{"train.accumulate": 2, "train.batch_size": 32})
    state = ours.create_state()
    jax.tree.map(lambda x: x.delete(), state)
    now = memory_advice.footprint(ours, state)
    assert 0 < now.remat_image < now.image and now.state > 2 * now.split_state
    assert (now.batch_size, now.devices, now.parts, now.split) == (32, 8, 2, False)
    line = memory.advise(now)
    assert line.startswith("out of memory: a step of 32 images holds about ") and "\n" not in line
    assert all(word in line for word in ("train.accumulate=4", "net.remat=true", "train.sharding=fsdp"))


def test_the_line_of_a_network_without_remat_and_dtype():
    """The MLP has neither: they are not proposed."""
    config = default_config()
    config.update_from_flattened_dict({"data.name": "toy:moons", "net.name": "mlp", "train.batch_size": 16})
    experiment = build.experiment(config, (1, 2, 1), 0, sharding.make_mesh(jax.devices()[:1]))
    line = memory_advice.out_of_memory(experiment, experiment.fresh().like)
    assert line.startswith("out of memory: a step of 16 images holds about ") and "train.accumulate=2" in line
    assert "remat" not in line and "dtype" not in line
