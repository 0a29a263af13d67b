"""Gradients of weights in float32 under bfloat16: outputs are Flax's, sums over examples lose no digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffusion.config import default_config
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.nets.bfloat16_with_float32_gradients import Compiler, float32_gradients
from diffusion.nets.blocks import ResBlock, Upsample
from diffusion.nets.cpu.layers import faster_layers
from diffusion.nets.network_interface import narrowed

SAME, RIGHT = ((1, 1), (1, 1)), ((0, 1), (0, 1))
LAYERS = {
    "conv": nn.Conv(5, (3, 3), padding=SAME, dtype=jnp.bfloat16),
    "stride": nn.Conv(5, (3, 3), strides=(2, 2), padding=RIGHT, dtype=jnp.bfloat16),
    "stride, both sides": nn.Conv(5, (3, 3), strides=(2, 2), padding=SAME, dtype=jnp.bfloat16),
    "dense": nn.Dense(5, dtype=jnp.bfloat16),
}


def rounded(tree):
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), tree)


def gradients(layer, params, x, weight):
    """(output, gradients of sum(output weight)) of parameters and input."""

    def value(params, x):
        y = layer.apply({"params": params}, x)
        return jnp.sum(y.astype(jnp.float32) * weight), y

    found, y = jax.grad(value, (0, 1), has_aux=True)(params, x)
    return y, *found


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [8, 7])
def test_gradients_are_those_of_float32_sums(rng, name, size):
    """Of inputs, weights and output gradients that bfloat16 holds exactly, so that only sums can round."""
    layer = LAYERS[name]
    x = rounded(jnp.float32(rng.normal(size=(4, size, size, 3))))
    params = rounded(layer.init(jax.random.key(0), x)["params"])
    params["bias"] = rounded(jnp.float32(rng.normal(size=5)))
    y, _, of_x = gradients(layer, params, x, 1.0)
    weight = rounded(jnp.float32(rng.normal(size=y.shape)))
    y, _, of_x = gradients(layer, params, x, weight)
    with float32_gradients():
        wide, found, of_wide = gradients(layer, params, x, weight)
    np.testing.assert_array_equal(np.float32(wide), np.float32(y))
    np.testing.assert_array_equal(of_wide, of_x)
    _, exact, _ = gradients(layer.clone(dtype=jnp.float32), params, x, weight)
    for key in ("kernel", "bias"):
        np.testing.assert_allclose(found[key], exact[key], rtol=1e-5, atol=1e-5)


def test_a_bias_adds_up_a_whole_batch():
    """131,072 ones, of which bfloat16 cannot count more than 256 one by one."""
    layer, x = nn.Dense(2, dtype=jnp.bfloat16), jnp.ones((128, 32, 32, 3))
    params = layer.init(jax.random.key(0), x)["params"]
    with float32_gradients():
        _, found, _ = gradients(layer, params, x, 1.0)
    np.testing.assert_array_equal(found["bias"], [131072.0] * 2)
    np.testing.assert_array_equal(found["kernel"], np.full((3, 2), 131072.0))
    assert found["bias"].dtype == found["kernel"].dtype == jnp.float32


def test_the_faster_layers_of_cpus_keep_them_when_upsampling(rng):
    """Sums over 4 x 10 x 10 pixels, which bfloat16 would round to three digits."""
    x, weight = (rounded(jnp.float32(rng.normal(size=shape))) for shape in ((4, 5, 5, 3), (4, 10, 10, 3)))
    params = rounded(Upsample(jnp.bfloat16).init(jax.random.key(0), x)["params"])
    _, exact, _ = gradients(Upsample(jnp.float32), params, x, weight)
    with float32_gradients(), faster_layers(train=True):
        _, found, _ = gradients(Upsample(jnp.bfloat16), params, x, weight)
    for key in ("kernel", "bias"):
        np.testing.assert_allclose(found["conv"][key], exact["conv"][key], rtol=1e-5, atol=1e-5)


def test_float32_layers_stay_flax():
    layer, x = nn.Dense(2), jnp.ones((2, 3))
    params = layer.init(jax.random.key(0), x)["params"]
    plain = str(jax.make_jaxpr(lambda p: layer.apply({"params": p}, x))(params))
    with float32_gradients():
        assert str(jax.make_jaxpr(lambda p: layer.apply({"params": p}, x))(params)) == plain


def test_the_key_chooses_the_type_of_the_sums():
    """Products of the network's gradient that accumulate in float32, in a training step of a bfloat16 U-Net."""

    def wide_sums(kind):
        config = default_config()
        small = {"data.name": "digits", "net.channels": 8, "net.blocks": 1, "net.dtype": "bfloat16"}
        config.update_from_flattened_dict({**small, "net.gradient_dtype": kind})
        ours = build.experiment(config, (8, 8, 1), 10, sharding.make_mesh(jax.devices()[:1]))
        x, t, labels = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2), jnp.zeros(2, jnp.int32)
        apply = ours.task().apply
        grad = jax.grad(lambda params: jnp.mean(apply(params, x, t, labels, None, jax.random.key(0)) ** 2))
        return str(jax.make_jaxpr(grad)(ours.fresh().like.params)).count("preferred_element_type=float32")

    assert wide_sums("float32") > wide_sums("bfloat16") + 10


def test_a_library_writes_the_type_of_its_inputs(rng):
    """Then a kernel's gradient is rounded once, at the end, and still arrives in float32."""
    layer, x = LAYERS["conv"], rounded(jnp.float32(rng.normal(size=(4, 8, 8, 3))))
    params = rounded(layer.init(jax.random.key(0), x)["params"])
    _, exact, _ = gradients(layer.clone(dtype=jnp.float32), params, x, 1.0)
    with float32_gradients(Compiler(library=True)):
        _, found, _ = gradients(layer, params, x, 1.0)
        text = str(jax.make_jaxpr(lambda params: gradients(layer, params, x, 1.0)[1])(params))
    assert found["kernel"].dtype == jnp.float32 and "preferred_element_type=float32" not in text
    np.testing.assert_allclose(found["kernel"], exact["kernel"], rtol=2**-8, atol=1e-3)
    np.testing.assert_array_equal(found["kernel"], rounded(found["kernel"]))


def test_narrow_weights_change_no_result(rng):
    """Those of layers that compute in bfloat16; norms keep float32, and so does a layer that computes in it."""
    block = ResBlock(16, 0.0, False, jnp.bfloat16)
    x, emb = jnp.bfloat16(rng.normal(size=(2, 6, 6, 8))), jnp.float32(rng.normal(size=(2, 32)))
    params = block.init(jax.random.key(0), x, emb, False)["params"]
    run = lambda params: block.apply({"params": params}, x, emb, False)  # noqa: E731
    narrow = narrowed(lambda key: block.init(key, x, emb, False), params)
    kinds = {name: str(leaf.dtype) for name in narrow for leaf in jax.tree.leaves(narrow[name])}
    wide = dict.fromkeys(("norm_1", "norm_2"), "float32")
    assert kinds == dict.fromkeys(("conv_1", "conv_2", "time", "shortcut"), "bfloat16") | wide
    np.testing.assert_array_equal(np.float32(run(narrow)), np.float32(run(params)))
    wide = block.clone(dtype=jnp.float32)
    kept = narrowed(lambda key: wide.init(key, x, emb, False), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("float32")}
