"""Dropout, and its masks on CPUs, against Flax and jax.random, bit for bit."""

from contextlib import nullcontext
from functools import partial

import jax
import numpy as np
import pytest
from flax import linen as nn

from diffusion.nets import dropout
from diffusion.nets.cpu import dropout_bits
from diffusion.nets.cpu.layers import faster_layers


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 5, 4), (128, 64)])
def test_random_bits_are_those_of_jax(shape):
    pair = jax.jit(lambda key: (dropout_bits.random_bits(key, shape), jax.random.bits(key, shape)))
    for seed in (0, 7, 2**31):
        for key in (jax.random.key(seed), jax.random.split(jax.random.key(seed))[1]):
            np.testing.assert_array_equal(*pair(key))


def test_masks_are_those_of_bernoulli():
    shares = [0.0, 1e-7, 0.1, 0.5, 0.7, 0.9, 1.0 - 2**-24, 1.0]
    masks = jax.jit(
        lambda key: [(dropout_bits.bernoulli(key, p, (64, 8)), jax.random.bernoulli(key, p, (64, 8))) for p in shares]
    )
    for key in (jax.random.key(3), jax.random.key(3, impl="rbg")):
        for fast, plain in masks(key):
            np.testing.assert_array_equal(fast, plain)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, h, train):
        return nn.Dropout(0.1)(h, deterministic=not train)


class Package(nn.Module):
    @nn.compact
    def __call__(self, h, train):
        return dropout.Dropout(0.1)(h, deterministic=not train)


@pytest.mark.parametrize("layers", [nullcontext, partial(faster_layers, True), partial(faster_layers, False)])
@pytest.mark.parametrize("train", [False, True])
def test_dropout_and_its_gradient_are_those_of_flax(train, layers, key, monkeypatch):
    h = jax.random.normal(key, (4, 6, 6, 8))
    masks = []
    drawn = dropout_bits.bernoulli
    monkeypatch.setattr("diffusion.nets.cpu.layers.bernoulli", lambda *args: masks.append(1) or drawn(*args))

    def outputs(module):
        def loss(h):
            out = module.apply({}, h, train, rngs={"dropout": key})
            return (out**3).sum(), out

        return jax.jit(jax.grad(loss, has_aux=True))(h)

    expected = outputs(Plain())
    with layers():
        results = outputs(Package())
    assert bool(masks) == (train and layers is not nullcontext)
    for value, plain in zip(results, expected, strict=True):
        np.testing.assert_array_equal(value, plain)
