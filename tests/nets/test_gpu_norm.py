"""The norms for GPUs on a CPU: values and gradients are those of Flax's norm and swish."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffusion.nets.blocks import Norm, ResBlock, group_norm
from diffusion.nets.gpu_norm import gpu_norms

CLOSE = 5e-6
"""Largest difference as a share of the largest element."""


class Norms(nn.Module):
    """A sum with a number for each image and channel, swish in a type, and a norm alone."""

    @nn.compact
    def __call__(self, h, plus):
        h = group_norm(8, "with_sum").swish(h, jnp.float32, plus=plus)
        h = group_norm(8, "with_swish").swish(h, jnp.float32)
        return group_norm(8, "alone")(h)


def world(layer, rng, *shapes):
    inputs = [2.0 + jnp.float32(rng.normal(size=shape)) for shape in shapes]
    params = layer.init(jax.random.key(0), *inputs)["params"]
    params = jax.tree.map(lambda p: p + 0.3 * jnp.float32(rng.normal(size=p.shape)), params)
    return (params, *inputs), jnp.float32(rng.normal(size=shapes[0]))


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE * float(jnp.abs(b).max()))


@pytest.mark.parametrize("train", [True, False])
def test_values_and_gradients_are_those_of_flax(rng, train):
    told, weight = world(Norms(), rng, (3, 5, 4, 8), (3, 1, 1, 8))
    pull = lambda *told: jax.vjp(lambda params, *x: Norms().apply({"params": params}, *x), *told)  # noqa: E731
    plain, slopes = pull(*told)
    with gpu_norms(train):
        text = str(jax.make_jaxpr(lambda *told: Norms().apply({"params": told[0]}, *told[1:]))(*told))
        found, own = pull(*told)
    assert text.count("optimization_barrier") == 1 and ("custom_vjp" in text) is train
    assert_close((found, own(weight)), (plain, slopes(weight)))


def test_evaluation_has_derivatives_of_both_kinds(rng):
    (params, x, plus), _ = world(Norms(), rng, (2, 4, 4, 8), (2, 1, 1, 8))
    along = lambda: jax.jvp(lambda x: Norms().apply({"params": params}, x, plus), (x,), (jnp.cos(x),))  # noqa: E731
    expected = along()
    with gpu_norms(train=False):
        assert_close(along(), expected)


def test_a_mean_of_many_deviations_costs_no_digits(rng):
    """Ten thousand deviations, where mean(h^2) - mean(h)^2 has no digit left."""
    x = jnp.float32(rng.normal(size=(2, 8, 8, 64))) + 1e4
    norm = group_norm(64, "norm")
    params = norm.init(jax.random.key(0), x)["params"]
    grouped = np.float64(x).reshape(2, 64, 32, 2)
    expected = (grouped - grouped.mean((1, 3), keepdims=True)) / grouped.std((1, 3), keepdims=True)
    with gpu_norms(train=True):
        found = norm.apply({"params": params}, x)
    assert np.abs(found - expected.reshape(x.shape)).max() < 5e-3
    fast = Norm(32).apply({"params": params}, x)
    assert np.abs(fast - expected.reshape(x.shape)).max() > 0.1


@pytest.mark.parametrize("scale_shift", [False, True])
def test_a_residual_block_in_bfloat16_is_the_plain_one_up_to_rounding(rng, scale_shift):
    block = ResBlock(16, 0.0, scale_shift, jnp.bfloat16)
    x, emb = (jnp.float32(rng.normal(size=shape)) for shape in [(2, 6, 6, 8), (2, 32)])
    params = block.init(jax.random.key(0), x, emb, True)["params"]
    params = jax.tree.map(lambda p: p + 0.2 * jnp.float32(rng.normal(size=p.shape)), params)

    def run(dtype):
        net = block.clone(dtype=dtype)
        loss = lambda params, x, emb: jnp.sum(jnp.sin(net.apply({"params": params}, x, emb, True)))  # noqa: E731
        return jax.grad(lambda *told: loss(*told).astype(jnp.float32), (0, 1, 2))(params, x.astype(dtype), emb)

    exact, plain = run(jnp.float32), run(jnp.bfloat16)
    with gpu_norms(train=True):
        found = run(jnp.bfloat16)
    for a, b, c in zip(*map(jax.tree.leaves, (found, plain, exact)), strict=True):
        size = float(jnp.abs(c).max())
        off = float(jnp.abs(jnp.float32(b) - c).max())
        assert float(jnp.abs(jnp.float32(a) - c).max()) < 2 * off + 0.01 * size
