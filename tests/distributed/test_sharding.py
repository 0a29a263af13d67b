"""Parameters and moments divided over devices: what each holds, that losses do not change, and that work is divided."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.config import default_config
from diffusion.config.config_files import load
from diffusion.data.digits import digits
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.runtime import format_numbers
from diffusion.training import loop
from diffusion.training.state import create
from diffusion.training.step import train_step

ROOT = Path(__file__).resolve().parents[2]

STEPS = 50


def tiny(**overrides):
    config = default_config()
    small = {"data.name": "digits", "data.flip": True, "diffusion.T": 50, "diffusion.beta_T": 0.3, "net.channels": 8}
    net = {"net.multipliers": (1,), "net.blocks": 1, "net.attention": (8,), "optim.lr": 1e-3, "optim.warmup_steps": 2}
    config.update_from_flattened_dict({**small, **net, "train.batch_size": 16, **overrides})
    return config


def mesh_of(n):
    return sharding.make_mesh(jax.devices()[:n])


def names(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def on_device(tree, places):
    """Bytes on one device of a tree of abstract arrays with these shardings; random keys do not count."""
    leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(places), strict=True)
    held = [(x, place) for x, place in leaves if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(int(np.prod(place.shard_shape(x.shape))) * x.dtype.itemsize for x, place in held)


@pytest.mark.parametrize(("config", "shape"), [("celebahq256", (256, 256, 3)), ("imagenet64", (64, 64, 3))])
def test_a_share_of_the_state_is_all_that_a_device_holds(config, shape):
    """By shapes alone: 113.7 million parameters, their average and two moments, 1 / n of them and a hundredth."""
    c = load(ROOT / "configs" / f"{config}.py")
    c.net.class_conditional = config == "imagenet64"
    ours = build.experiment(c, shape, 1000, mesh_of(1))
    make = lambda key: create(ours.init(key), ours.update().optimizer, ours.task().timesteps, key)  # noqa: E731
    state = jax.eval_shape(make, jax.random.key(0))
    whole = on_device(state, sharding.by_rules(state, mesh_of(8), sharding.REPLICATED))
    assert whole == pytest.approx(16 * format_numbers.count(state.params), rel=1e-3)
    for n in (2, 4, 8):
        places = sharding.by_rules(state, mesh_of(n), sharding.FSDP)
        assert whole / n <= on_device(state, places) < 1.01 * whole / n
        for name, place in names(places).items():
            last = name.split("/")[-1]
            if last in ("kernel", "embedding") and "conv_out" not in name:
                assert place.spec[-1] == sharding.AXIS, f"{name} is held whole"
    if config == "imagenet64":
        assert tuple(places.params["label"]["embedding"].spec) == (None, sharding.AXIS)


def test_zero1_divides_all_but_the_weights():
    """Moments and averages by the number of devices, weights whole."""
    ours = build.experiment(tiny(**{"train.sharding": "zero1", "net.channels": 32}), (8, 8, 1), 10, mesh_of(4))
    like = ours.fresh().like
    split = {name: not leaf.sharding.is_fully_replicated for name, leaf in names(like).items()}
    kernels = [name for name in split if name.endswith("conv_1/kernel")]
    assert {name.split("/")[0] for name in kernels} == {"params", "ema", "opt_state"}
    assert all(split[name] == (not name.startswith("params/")) for name in kernels)


@pytest.mark.parametrize(("rules", "places"), [("replicated", 0), ("zero1", 3), ("fsdp", 3)])
def test_a_step_places_weights_as_they_are_used(rules, places):
    """Whole for the network and split for the optimiser, as gradients are: each tree is placed once a step."""
    ours = build.experiment(tiny(**{"train.sharding": rules}), (8, 8, 1), 10, mesh_of(4))
    task, update, state = ours.task(), ours.update(), ours.fresh().like
    pixels, labels = jnp.zeros((16, 8, 8, 1), jnp.uint8), jnp.zeros(16, jnp.int32)
    step = jax.make_jaxpr(lambda state: train_step(task, update, state, pixels, labels))(state)
    assert str(step).count(" sharding_constraint[") == places * len(jax.tree.leaves(state.params))
    if places:
        split = jax.jit(update.scatter)({"kernel": jnp.zeros((4, 8))})
        assert tuple(split["kernel"].sharding.spec) == (None, sharding.AXIS)
        assert jax.jit(update.gather)(split)["kernel"].sharding.is_fully_replicated


def test_what_does_not_divide_is_held_whole():
    tree = {"a": {"kernel": jnp.zeros((3, 3, 8, 3))}, "b": {"kernel": jnp.zeros((6, 4)), "bias": jnp.zeros(4)}}
    places = names(sharding.by_rules(tree, mesh_of(4), sharding.FSDP))
    split = {name: not place.is_fully_replicated for name, place in places.items()}
    assert split == {"a/kernel": False, "b/bias": False, "b/kernel": True}


def run(devices, rules, **overrides):
    """(batches, losses, counts of t by quartile) of each step, last state, the compiled program."""
    ours = build.experiment(tiny(**{"train.sharding": rules, **overrides}), (8, 8, 1), 10, mesh_of(devices))
    feed, state = ours.feed(digits(train=True)), ours.create_state()
    stream, found, program = feed.batches(0), [], None
    for _ in range(STEPS):
        batch = feed.stack([next(stream)])
        seen = np.asarray(batch)
        program = program or loop.compile_steps(ours.task(), ours.update(), feed, state, batch)
        state, metrics = program(state, feed.data, batch)
        counts = [float(metrics[f"mse_t_quartile_{q}"][1]) for q in (1, 2, 3, 4)]
        found.append((seen, float(metrics["loss"][0]), counts))
    return list(zip(*found, strict=True)), state, program


def assert_same(found, expected, who):
    """Batches and draws exactly, losses to 1e-5; says by how much losses differ (`pytest -s` shows it)."""
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[2], expected[2])
    apart = np.max(np.abs(np.array(found[1]) / np.array(expected[1]) - 1))
    print(f"\n{who}: losses of {len(found[1])} steps differ by {apart:.1e} at most", flush=True)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


@pytest.fixture(scope="module")
def one():
    return run(1, "replicated")


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["replicated", "fsdp", "zero1"])
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_devices_and_rules_change_neither_draws_nor_losses(one, devices, rules):
    """50 steps with dropout and flips. Counts of t by quartile are exact: the same numbers are drawn everywhere.

    Work is divided as the batch is, whatever the rules: no device computes more than its share and an eighth.
    """
    found, state, program = run(devices, rules)
    assert_same(found, one[0], f"devices {devices}, {rules}")
    assert program.cost_analysis()["flops"] < 1.125 * one[2].cost_analysis()["flops"] / devices
    kernels = [leaf for name, leaf in names(state.opt_state).items() if name.endswith("conv_1/kernel")]
    whole = rules == "replicated" or devices == 1
    assert kernels and all(leaf.sharding.is_fully_replicated == whole for leaf in kernels)


@pytest.mark.slow
def test_parts_and_rules_together(one):
    found, _, _ = run(4, "fsdp", **{"train.accumulate": 2, "net.remat": True})
    assert_same(found, one[0], "devices 4, fsdp, accumulate 2, remat")


@pytest.mark.parametrize(("scattered", "width"), [(False, 8), (True, 8), (True, 6)])
def test_a_sum_over_rows_is_that_of_the_devices(scattered, width):
    """Whole everywhere, or a share of its last axis on each of four devices where it divides by them."""
    mesh, rng = mesh_of(4), np.random.default_rng(0)
    x, g = (jnp.float32(rng.normal(size=(16, n))) for n in (3, width))
    rows = [jax.device_put(a, sharding.split_axis(mesh)) for a in (x, g)]
    product = sharding.by_device(mesh, scattered)(lambda x, g: x.T @ g)
    found = jax.jit(product)(*rows)
    np.testing.assert_allclose(found, x.T @ g, rtol=1e-5, atol=1e-6)
    split = scattered and width % 4 == 0
    expected = sharding.split_axis(mesh, 1) if split else sharding.replicated(mesh)
    assert found.sharding.is_equivalent_to(expected, 2)
    kinds = str(jax.make_jaxpr(product)(*rows))
    assert ("reduce_scatter" in kinds) is split


def test_an_array_is_gathered_once():
    mesh = mesh_of(4)
    x = jax.device_put(jnp.arange(32.0).reshape(4, 8), sharding.split_axis(mesh, 1))
    text = jax.jit(lambda x: (y := sharding.once_whole(mesh)(x)) @ y.T).lower(x).compile().as_text()
    assert text.count("all-gather(") == 1
