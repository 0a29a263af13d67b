"""A batch in parts: the gradient, the draws and the importance sampler of the whole batch, in a part's memory."""

from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffusion.config import default_config
from diffusion.config.validation import validate
from diffusion.core.timesteps import loss_second_moment
from diffusion.data.digits import digits
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.training import accumulation, gradient_noise_scale
from diffusion.training.optimizer import skipping
from diffusion.training.state import step_keys

pytestmark = pytest.mark.usefixtures("unoptimized")

BATCH, PARTS, T = 32, 4, 10


def tiny(**overrides):
    config = default_config()
    small = {"data.name": "digits", "data.flip": True, "diffusion.T": T, "diffusion.beta_T": 0.8, "net.channels": 8}
    net = {"net.multipliers": (1,), "net.blocks": 1, "net.attention": (), "net.dropout": 0.1}
    config.update_from_flattened_dict({**small, **net, "train.batch_size": BATCH, **overrides})
    return config


def test_split_takes_strided_rows_and_merge_undoes_it(rng):
    batch = {"a": rng.normal(size=(12, 3)), "b": np.arange(12)}
    parts = accumulation.split(batch, 4)
    np.testing.assert_array_equal(parts["b"], [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]])
    back = accumulation.merge(parts)
    for name, value in batch.items():
        np.testing.assert_array_equal(back[name], value)


def test_accumulate_is_the_mean_and_the_rows(rng):
    x = jnp.float32(rng.normal(size=(12, 3)))
    mean, rows = jax.jit(lambda x: accumulation.accumulate(lambda p: (p.mean(axis=0), 2 * p), x, 3))(x)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(rows, 2 * x)


class Block(nn.Module):
    """Dropout between two things that a network would do."""

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5)(2 * x, deterministic=False) / 2


class Net(nn.Module):
    """Dropout twice, once in a block that is rematerialised; and twice switched off."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.3, deterministic=False, name="first")(x)
        x = nn.remat(Block)(name="second")(x)
        x = nn.Dropout(0.0)(x, deterministic=False)
        return nn.Dropout(0.9)(x, deterministic=True)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_masks_of_parts_are_rows_of_the_masks_of_the_batch(dtype, key, rng):
    """Bit for bit, though the generator knows nothing of rows."""
    x = jnp.asarray(rng.normal(size=(12, 5, 2)), dtype)
    apply = lambda x: Net().apply({}, x, rngs={"dropout": key})  # noqa: E731
    _, rows = jax.jit(lambda x: accumulation.accumulate(lambda part: (jnp.zeros(()), apply(part)), x, 3))(x)
    np.testing.assert_array_equal(rows, jax.jit(apply)(x))
    assert 0.2 < np.mean(np.asarray(rows, np.float32) == 0) < 0.95


def network(devices, **overrides):
    """(experiment, gradient of a batch under jit, made-up parameters, a history that all steps are in)."""
    mesh = sharding.make_mesh(jax.devices()[:devices])
    ours = build.experiment(tiny(**overrides), (8, 8, 1), 10, mesh)
    task = ours.task()._replace(timesteps=loss_second_moment(T, history=2))
    noise = iter(jax.random.split(jax.random.key(7), 200))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(noise), p.shape), ours.init(jax.random.key(0)))
    history = task.timesteps.update(
        task.timesteps.init(), jnp.tile(jnp.arange(1, T + 1), 2), jnp.arange(1.0, 2 * T + 1)
    )
    place = sharding.split_axis(mesh)
    batch = [jax.device_put(x, place) for x in digits(train=True).read(np.arange(BATCH))]
    params, history = jax.device_put((params, history), sharding.replicated(mesh))
    keys = step_keys(jax.random.key(1), jnp.int32(5))
    run = jax.jit(lambda p, h, x, y: task.gradient(p, h, keys, x, y))
    return task, run.lower(params, history, *batch).compile(), (params, history, *batch)


@pytest.fixture(scope="module")
def whole():
    task, run, args = network(1)
    return task, run, run(*args), args


def distance(a, b):
    """|a - b| / |b| of two trees."""
    square = [
        (np.sum((np.asarray(x) - y) ** 2), np.sum(np.asarray(y) ** 2))
        for x, y in zip(leaves(a), leaves(b), strict=True)
    ]
    return float(np.sqrt(sum(s for s, _ in square) / sum(s for _, s in square)))


def leaves(tree):
    return jax.tree.leaves(jax.device_get(tree))


@pytest.mark.parametrize(
    ("devices", "overrides"),
    [(1, {}), (8, {}), pytest.param(1, {"net.remat": True}, marks=pytest.mark.slow)],
    ids=["1", "8", "remat"],
)
def test_parts_have_the_gradient_of_the_batch(whole, devices, overrides):
    """With dropout, flips and importance-sampled t, on one device and on eight, to 1e-6."""
    task, run, expected, _ = whole
    task_parts, run_parts, args = network(devices, **{"train.accumulate": PARTS, **overrides})
    found = run_parts(*args)
    assert (task.parts, task_parts.parts) == (1, PARTS)
    assert distance(found.grads, expected.grads) < 1e-6
    assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-6)
    counts = np.array([expected.metrics[f"mse_t_quartile_{q}"][1] for q in (1, 2, 3, 4)])
    assert np.ptp(counts % 1) > 0.01, "t is importance-sampled"
    for name, value in expected.metrics.items():
        np.testing.assert_allclose(found.metrics[name], value, rtol=2e-6)
    for a, b in zip(leaves(found.timesteps), leaves(expected.timesteps), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6)
    assert not np.array_equal(leaves(found.timesteps)[0], leaves(args[1])[0]), "the losses are in the history"
    if devices == 1 and not overrides:
        memory = [program.memory_analysis().temp_size_in_bytes for program in (run_parts, run)]
        assert memory[0] < 0.5 * memory[1], "a quarter of the activations, and one tree of gradients more"


@pytest.mark.slow
def test_ordinary_dropout_would_give_another_gradient(whole, monkeypatch):
    """What the test above can see."""
    monkeypatch.setattr(accumulation, "dropout_rows", lambda part, parts: nullcontext())  # noqa: ARG005
    _, run, args = network(1, **{"train.accumulate": PARTS})
    assert distance(run(*args).grads, whole[2].grads) > 1e-2


def test_the_noise_scale_is_measured_in_the_same_parts(key):
    """It takes its gradients by the same function: the parts change nothing."""
    from diffusion.training.state import create
    from diffusion.training.step import Update, optax

    def found(parts):
        ours = build.experiment(tiny(), (8, 8, 1), 10, sharding.make_mesh(jax.devices()[:1]))
        apply = lambda params, x, time, labels, condition, key: params["w"] * x  # noqa: ARG005, E731
        task = ours.task()._replace(apply=apply, parts=parts)
        update = Update(skipping(optax.sgd(0.1)), 0.5)
        state = create({"w": jnp.ones((1, 8, 8, 1))}, update.optimizer, task.timesteps, key)
        batches = tuple(jnp.stack([x[:BATCH], x[BATCH : 2 * BATCH]]) for x in digits(train=True).arrays)
        gather = lambda data, batch: batch  # noqa: ARG005, E731
        return jax.jit(lambda: gradient_noise_scale.measure(task, gather, state, key, None, batches))()

    for a, b in zip(found(1), found(PARTS), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_parts_must_divide_the_batch_and_its_share_of_each_device():
    validate(tiny(**{"train.accumulate": PARTS}))
    with pytest.raises(
        ValueError, match=r"config.train.accumulate: 5 parts do not divide train.batch_size = 32; use a"
    ):
        validate(tiny(**{"train.accumulate": 5}))
    mesh = sharding.make_mesh(jax.devices()[:4])
    sharding.check_batch(32, mesh, 8)
    with pytest.raises(
        ValueError, match=r"= 40 does not divide over 4 devices in train.accumulate = 4 parts; use 32 or 48$"
    ):
        sharding.check_batch(40, mesh, 4)
