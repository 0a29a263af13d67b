"""The faster layers of nets/cpu against Flax's: values and gradients, by layer and in a network."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.nets.blocks import Norm, Upsample
from diffusion.nets.cpu import layers
from diffusion.nets.cpu.fused_upsampling import conv_of_repeated
from diffusion.nets.cpu.layers import faster_layers
from diffusion.nets.unet import UNet
from diffusion.training import optimizer, skipped_updates
from tests.training.test_training import tiny

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("unoptimized")

CLOSE = 2e-6
"""Largest difference of a gradient, as a share of the largest element: float32 rounds at 6e-8, sums some times that."""

LAYERS = {
    "1x1": (nn.Dense(6), (3, 5, 4, 8)),
    "3x3": (nn.Conv(6, (3, 3), padding=((1, 1), (1, 1))), (2, 5, 4, 8)),
    "3x3 SAME": (nn.Conv(6, (3, 3)), (2, 5, 4, 8)),
    "3x3 stride 2": (nn.Conv(6, (3, 3), 2, ((0, 1), (0, 1))), (2, 6, 4, 8)),
    "3x3 of repeated pixels": (Upsample(jnp.float32), (2, 3, 5, 8)),
    "3x3 of one repeated pixel": (Upsample(jnp.float32), (3, 1, 1, 4)),
    "norm": (Norm(4, epsilon=1e-5, use_fast_variance=False, dtype=jnp.float32), (3, 5, 4, 8)),
    "norm of one pixel": (Norm(2, epsilon=1e-3, use_fast_variance=False, dtype=jnp.float32), (3, 1, 1, 8)),
    "norm of one group": (Norm(1, epsilon=1e-6, use_fast_variance=False, dtype=jnp.float32), (2, 3, 5, 7)),
}
EVALUATED = {"3x3 of repeated pixels": ("conv_general_dilated[", 4), "norm": ("reduce_window_sum[", 4)}
EVALUATED |= {"3x3 of one repeated pixel": EVALUATED["3x3 of repeated pixels"]}
EVALUATED |= dict.fromkeys(("norm of one pixel", "norm of one group"), EVALUATED["norm"])
"""Layers that are replaced in evaluation too: an operation of the replacement, and how often it occurs."""

OTHERS = {
    "without bias": (nn.Conv(6, (3, 3), use_bias=False), (2, 5, 4, 8)),
    "dilated": (nn.Conv(6, (3, 3), kernel_dilation=2), (2, 5, 4, 8)),
    "in groups": (nn.Conv(6, (3, 3), feature_group_count=2), (2, 5, 4, 8)),
    "of rows": (nn.Dense(6), (5, 8)),
    "fast variance": (Norm(4), (3, 5, 4, 8)),
}


def world(layer, shape):
    """Parameters that are no zeros and ones, an input away from 0, a slope of the output."""
    keys = jax.random.split(jax.random.key(0), 4)
    x = 3.0 + jax.random.normal(keys[0], shape)
    params = layer.init(keys[1], x)["params"]
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(keys[2], p.shape), params)
    return params, x, jax.random.normal(keys[3], layer.apply({"params": params}, x).shape)


def value_and_slopes(layer, params, x, slope):
    value, pull = jax.vjp(lambda params, x: layer.apply({"params": params}, x), params, x)
    return value, pull(slope)


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE * float(jnp.abs(b).max()))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_and_its_gradients_are_those_of_flax(name, monkeypatch):
    layer, shape = LAYERS[name]
    told = world(layer, shape)
    expected = value_and_slopes(layer, *told)
    form, fields = layers.FORMS[type(layer)]
    calls = []
    spy = lambda *args: calls.append(1) or form(*args)  # noqa: E731
    monkeypatch.setitem(layers.FORMS, type(layer), (spy, fields))
    with faster_layers(train=True):
        found = value_and_slopes(layer, *told)
    assert calls, "the layer was not replaced"
    assert_close(found, expected)


@pytest.mark.parametrize("name", [name for name, (layer, _) in LAYERS.items() if type(layer) in layers.EVALUATED])
def test_what_evaluates_has_derivatives_of_both_kinds(name):
    """Values and slopes as in training, and forward-mode derivatives against those of the plain layer."""
    layer, shape = LAYERS[name]
    params, x, slope = world(layer, shape)
    expected = value_and_slopes(layer, params, x, slope)
    along = lambda: jax.jvp(lambda x: layer.apply({"params": params}, x), (x,), (jnp.cos(x),))  # noqa: E731
    forward = along()
    with faster_layers(train=False):
        text = str(jax.make_jaxpr(lambda x: layer.apply({"params": params}, x))(x))
        operation, count = EVALUATED[name]
        assert text.count(operation) == count and "custom_vjp" not in text
        assert_close(value_and_slopes(layer, params, x, slope), expected)
        assert_close(along(), forward)


def test_weights_are_added_up_before_they_are_rounded():
    """In bfloat16 a result is as far from the exact one as the plain layer's, and no farther."""
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 32))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 32, 32))
    exact = conv_of_repeated(x, kernel)
    narrow = conv_of_repeated(x.astype(jnp.bfloat16), kernel)
    layer, params = Upsample(jnp.bfloat16), {"conv": {"kernel": kernel, "bias": jnp.zeros(32)}}
    plain = layer.apply({"params": params}, x)
    assert narrow.dtype == plain.dtype == jnp.bfloat16
    error = lambda found: float(jnp.abs(found.astype(jnp.float32) - exact).mean())  # noqa: E731
    assert 0 < error(narrow) < 1.1 * error(plain)


@pytest.mark.parametrize("name", OTHERS)
def test_layers_of_other_kinds_are_left_alone(name):
    layer, shape = OTHERS[name]
    told = world(layer, shape)
    with faster_layers(train=True):
        found = value_and_slopes(layer, *told)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(value_and_slopes(layer, *told)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_gradients_of_a_network_are_those_of_the_plain_one():
    """Residual and attention blocks with dropout; they are traced a second time for remat."""
    plain = UNet(channels=8, multipliers=(1, 1), blocks=1, attention=(), dropout=0.2)
    x, t = jax.random.normal(jax.random.key(1), (3, 6, 6, 3)), jnp.array([1.0, 5.0, 9.0])
    params = plain.init(jax.random.key(2), x, t)["params"]
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(3), p.shape), params)

    def loss(params, net=plain):
        out = net.apply({"params": params}, x, t, train=True, rngs={"dropout": jax.random.key(4)})
        return jnp.mean((out - x) ** 2)

    expected = jax.jit(jax.value_and_grad(loss))(params)

    def fast_loss(params):
        with faster_layers(train=True):
            return loss(params, plain.clone(remat=True))

    found = jax.jit(jax.value_and_grad(fast_loss))(params)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(expected[1]))
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(expected[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * largest)


def test_the_key_and_training_decide_which_layers_are_used():
    """Forward-mode derivatives, of which the likelihood by flow makes use, go through the network that evaluates."""
    ours = build.experiment(tiny(), (8, 8, 1), 10, sharding.make_mesh(jax.devices()[:1]))
    params = jax.eval_shape(ours.init, jax.random.key(0))
    x, t, labels = jnp.zeros((2, *ours.shape)), jnp.array([1, 2]), jnp.zeros(2, jnp.int32)
    train = jax.make_jaxpr(lambda p: ours.task().apply(p, x, 1.0 * t, labels, None, jax.random.key(1)))
    sample = jax.make_jaxpr(lambda p: jax.jvp(lambda x: ours.denoise(p, labels)(x, t).x_0, (x,), (x,)))
    assert "custom_vjp" in str(train(params)) and "custom_vjp" not in str(sample(params))
    plain = ours._replace(config=tiny(**{"net.cpu_layers": False}))
    train = jax.make_jaxpr(lambda p: plain.task().apply(p, x, 1.0 * t, labels, None, jax.random.key(1)))
    assert "custom_vjp" not in str(train(params))


WITHOUT_THE_FOLDER = """
import sys
sys.modules["diffusion.nets.cpu"] = None
import jax
import jax.numpy as jnp
from diffusion.nets.classifier import Classifier
from diffusion.nets.mlp import MLP
from diffusion.nets.unet import UNet
small = dict(channels=8, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.5)
for net in (UNet(**small), Classifier(10, **small), MLP(channels=8, dropout=0.5)):
    x, t = jnp.ones((2, 8, 8, 3)), jnp.ones(2)
    params = jax.eval_shape(net.init, jax.random.key(0), x, t)
    rngs = {"dropout": jax.random.key(1)}
    print(jax.eval_shape(lambda p: net.apply(p, x, t, train=True, rngs=rngs), params).shape)
"""


def test_the_networks_do_not_import_the_folder():
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_FOLDER], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["(2, 8, 8, 3)", "(2, 10)"]


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_adam_is_that_of_optax_with_its_state(clip, decay, rng):
    """Five updates in pinned stages against optax's in one expression; checkpoints of either fit the other."""
    params = {"a": jnp.float32(rng.normal(size=(3, 2))), "b": jnp.float32(rng.normal(size=4))}
    ours = optimizer.adam(0.1, warmup_steps=3, clip=clip, weight_decay=decay)
    rate = optimizer.learning_rate(0.1, 3)
    plain = optax.adamw(rate, weight_decay=decay) if decay else optax.adam(rate)
    plain = optax.chain(optax.clip_by_global_norm(clip), plain) if clip else plain
    state, expected = ours.init(params), plain.init(params)
    found, wanted = params, params
    for size in (5.0, 0.01, 2.0, 0.1, 30.0):
        grads = jax.tree.map(lambda p: jnp.float32(size * rng.normal(size=p.shape)), params)  # noqa: B023
        updates, state = ours.update(grads, state, found)
        found = optax.apply_updates(found, updates)
        updates, expected = plain.update(grads, expected, wanted)
        wanted = optax.apply_updates(wanted, updates)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves((found, state)), jax.tree.leaves((wanted, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_an_update_that_is_not_fit_leaves_the_state_of_adam(rng):
    params = {"a": jnp.float32(rng.normal(size=(3, 2)))}
    for tx in (optimizer.adam(0.1, warmup_steps=2, clip=1.0), optimizer.skipping(optax.lion(0.1))):
        _, state = tx.update(params, tx.init(params), params)
        grads = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), params)
        _, after = tx.update(grads, state, params, fit=jnp.bool_(False))
        for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
            np.testing.assert_array_equal(a, b)
        _, moved = tx.update(params, state, params, fit=jnp.bool_(True))
        assert any((a != b).any() for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(state), strict=True))


@pytest.mark.parametrize("square", [skipped_updates.product_of_squares, skipped_updates.sum_of_squares])
def test_sum_of_squares_is_the_sum(rng, square):
    for shape in ((), (7,), (3, 3, 5, 4)):
        x = rng.normal(size=shape)
        np.testing.assert_allclose(square(jnp.float32(x)), (x**2).sum(), rtol=1e-6)
