"""The U-Net against float64 NumPy re-derivations that read its parameters by name, and against the published counts."""

import contextlib
import functools
import math
import re
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.errors import InvalidRngError
from flax.traverse_util import flatten_dict, unflatten_dict

from diffusion.nets.blocks import (
    AttentionBlock,
    Downsample,
    ResBlock,
    Upsample,
    depth_to_space,
    group_norm,
    groups,
    space_to_depth,
)
from diffusion.nets.classifier import Classifier
from diffusion.nets.conventions_of_ddpm_and_improved_unets import IMPROVED, ORIGINAL
from diffusion.nets.cpu.layers import faster_layers
from diffusion.nets.embedding import cosine_first, time_embedding
from diffusion.nets.unet import UNet

TINY = dict(channels=32, multipliers=(1, 2), blocks=1, attention=(4,))
OPTIONS = dict(heads=4, scale_shift=True, classes=10, out_channels=6)
LSUN = dict(multipliers=(1, 1, 2, 2, 4, 4), dropout=0.0)
DEEP = dict(blocks=3, attention=(16, 8), heads=4, scale_shift=True)
IMAGENET = dict(DEEP, multipliers=(1, 2, 3, 4), out_channels=6)


QUICK = {"xla_backend_optimization_level": 0}
"""The networks run once: compiling them dominates, and unoptimised it takes a third of the time."""


def noise(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def inputs(net, batch=2, size=(8, 8), channels=3):
    """Arguments of a call: x, t, and labels where the network has classes."""
    label = (jnp.arange(batch) % net.classes,) if net.classes else ()
    return noise((batch, *size, channels), 1), jnp.arange(batch) * 300 + 7, *label


def structure(module, *args, **kwargs):
    return jax.eval_shape(lambda key: module.init(key, *args, **kwargs), jax.random.key(0))["params"]


def made_up(module, *args, **kwargs):
    """Parameters as after training, for all we know: no last layer near 0, no bias 0, no scale 1."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        z = rng.standard_normal(leaf.shape, np.float32)
        match path[-1]:
            case "kernel":
                return jnp.asarray(z / math.sqrt(math.prod(leaf.shape[:-1])))
            case "scale":
                return jnp.asarray(1 + 0.3 * z)
            case _:
                return jnp.asarray(0.3 * z)

    leaves = flatten_dict(structure(module, *args, **kwargs))
    return unflatten_dict({path: draw(path, leaf) for path, leaf in leaves.items()})


def rngs(seed):
    return {"dropout": jax.random.key(seed)}


@functools.cache
def compiled(module, **kwargs):
    def run(params, rngs, *args):
        return module.apply({"params": params}, *args, rngs=rngs, **kwargs)

    return jax.jit(run, compiler_options=QUICK)


def apply(module, params, *args, rngs=None, **kwargs):
    return np.asarray(compiled(module, **kwargs)(params, rngs, *args))


@pytest.fixture(params=[contextlib.nullcontext, faster_layers], ids=["flax", "faster"])
def layers(request):
    """With Flax's layers and with those of nets/cpu, as experiments on a CPU train."""
    compiled.cache_clear()
    with request.param() if request.param is contextlib.nullcontext else request.param(train=True):
        yield
    compiled.cache_clear()


@functools.cache
def initialised(net, size, channels):
    """Output and parameters as initialised."""
    run = jax.jit(net.init_with_output, compiler_options=QUICK)
    out, variables = run(jax.random.key(3), *inputs(net, 2, size, channels))
    return np.asarray(out), variables["params"]


# ---------------------------------------------------------------------------------------------------- blocks of pixels


def test_blocks_are_squares_of_pixels_by_rows():
    x = np.arange(2 * 6 * 4 * 3, dtype=np.float32).reshape(2, 6, 4, 3)
    out = np.asarray(space_to_depth(jnp.asarray(x), 2))
    assert out.shape == (2, 3, 2, 12)
    for row, column in np.ndindex(6, 4):
        channels = 3 * (2 * (row % 2) + column % 2)
        np.testing.assert_array_equal(out[:, row // 2, column // 2, channels : channels + 3], x[:, row, column])
    np.testing.assert_array_equal(depth_to_space(jnp.asarray(out), 2), x)
    np.testing.assert_array_equal(space_to_depth(jnp.asarray(x), 1), x)


def test_a_network_of_blocks_is_one_of_smaller_images_with_more_channels():
    options = dict(channels=4, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0)
    net, inner = UNet(out_channels=3, block_size=2, **options), UNet(out_channels=12, **options)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    t = jnp.array([3.0, 700.0])
    params = made_up(net, x, t)
    out = apply(net, params, x, t)
    assert out.shape == x.shape
    blocks = np.asarray(x).reshape(2, 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 4, 12)
    expected = apply(inner, params, jnp.asarray(blocks), t).reshape(2, 4, 4, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    np.testing.assert_allclose(out, expected.reshape(2, 8, 8, 3), atol=1e-6)
    with pytest.raises(ValueError, match="blocks of 2"):
        net.init(jax.random.key(0), x[:, :6], t)


def test_a_classifier_of_blocks_is_one_of_smaller_images_with_more_channels():
    """The levels, and with them the heights of attention, begin at H / b as in the U-Net that it guides."""
    options = dict(channels=4, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0)
    net, inner = Classifier(3, block_size=2, **options), Classifier(3, **options)
    x, t = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.array([3.0, 700.0])
    params = made_up(net, x, t)
    assert "down_1_attention_0" in params
    np.testing.assert_allclose(apply(net, params, x, t), apply(inner, params, space_to_depth(x, 2), t), atol=1e-6)


# ---------------------------------------------------------------------------------------------- parameter counts


def counts(net, size):
    """Number of parameters under each submodule of the network, without computing any."""
    x, t = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    label = (t,) if net.classes else ()
    params = jax.eval_shape(net.init, jax.random.key(0), x, t, *label)["params"]
    return {name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for name, tree in params.items()}


@pytest.mark.parametrize(
    ("options", "size", "published"),
    [
        (dict(out_channels=6), 32, 35_749_766),
        (dict(LSUN, channels=192), 256, 255_677_955),
        (dict(DEEP, dropout=0.3, out_channels=6), 32, 52_546_438),
        (dict(DEEP, dropout=0.3), 32, 52_542_979),
        (IMAGENET, 64, 121_063_942),
        (dict(IMAGENET, channels=64), 64, 30_303_494),
        (dict(IMAGENET, channels=192, classes=1000), 64, 273_049_350),
    ],
)
def test_published_parameter_counts(options, size, published):
    assert sum(counts(UNet(**options), size).values()) == published


CIFAR_GROUPS = {
    "time": 328_704,
    "conv_in": 3_584,
    "down_block": [722_688, 2_362_880, 2_625_024, 2_625_024],
    "down_attention": {1: 527_360},
    "down_downsample": [147_584, 590_080, 590_080],
    "middle": 2_625_024 + 263_680,
    "up_block": [1_789_952, 5_774_592, 6_102_528, 6_102_528],
    "up_attention": {1: 791_040},
    "up_upsample": {1: 590_080, 2: 590_080, 3: 590_080},
    "out": 3_715,
}
LSUN_GROUPS = {
    "time": 328_704,
    "conv_in": 3_584,
    "down_block": [722_688, 722_688, 2_362_880, 2_625_024, 8_920_064, 9_968_640],
    "down_attention": {4: 2_103_296},
    "down_downsample": [147_584, 147_584, 590_080, 590_080, 2_359_808],
    "middle": 9_968_640 + 1_051_648,
    "up_block": [1_625_856, 1_789_952, 5_774_592, 6_758_400, 22_297_088, 23_608_320],
    "up_attention": {4: 3_154_944},
    "up_upsample": {1: 147_584, 2: 590_080, 3: 590_080, 4: 2_359_808, 5: 2_359_808},
    "out": 3_715,
}


@pytest.mark.parametrize(
    ("options", "size", "published", "total"),
    [({}, 32, CIFAR_GROUPS, 35_746_307), (LSUN, 256, LSUN_GROUPS, 113_673_219)],
    ids=["cifar10", "lsun"],
)
def test_parameter_counts_of_every_part(options, size, published, total):
    found = defaultdict(int)
    for name, n in counts(UNet(**options), size).items():
        level = re.match(r"(down|up)_(\d+)_(block|attention|downsample|upsample)", name)
        group = "out" if name.endswith("_out") else name if name == "conv_in" else name.split("_")[0]
        found[(f"{level[1]}_{level[3]}", int(level[2])) if level else group] += n

    expected = {}
    for group, value in published.items():
        if isinstance(value, int):
            expected[group] = value
        else:
            levels = value.items() if isinstance(value, dict) else enumerate(value)
            expected |= {(group, level): n for level, n in levels}
    assert dict(found) == expected
    assert sum(found.values()) == total


def test_attention_follows_every_block_at_the_chosen_heights_and_stands_in_the_middle():
    names = set(counts(UNet(), 32))
    assert {name for name in names if "attention" in name} == {
        "down_1_attention_0", "down_1_attention_1", "middle_attention",
        "up_1_attention_0", "up_1_attention_1", "up_1_attention_2",
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------- embedding of time


@pytest.mark.parametrize("dim", [4, 33, 128])
def test_time_embedding_is_sines_then_cosines(dim):
    t = np.array([0, 1, 2, 500, 999])
    out = np.asarray(time_embedding(jnp.asarray(t), dim))
    half = dim // 2
    expected = np.zeros((len(t), dim))
    for row, time in enumerate(t):
        for i in range(half):
            freq = 10_000.0 ** (-i / (half - 1))
            expected[row, i], expected[row, half + i] = math.sin(time * freq), math.cos(time * freq)
    assert out.shape == expected.shape and out.dtype == np.float32
    # frequency and product are rounded to float32, 6e-8 relative each, and the sine's own rounding comes on top
    assert np.all(np.abs(out - expected) <= 1.2e-7 * t[:, None] + 2e-7)
    assert dim % 2 == 0 or np.all(out[:, -1] == 0)


def test_time_embedding_frequencies():
    # fractional times, small enough for the sine to be all but its argument, show the frequencies
    freq = np.asarray(time_embedding(jnp.array([1e-3]), 128))[0, :64] / 1e-3
    assert freq[0] == pytest.approx(1, rel=1e-6)
    assert freq[1] == pytest.approx(0.86398845, rel=1e-6)
    assert freq[63] == pytest.approx(1e-4, rel=1e-6)


@pytest.mark.parametrize("dim", [4, 33, 128])
def test_cosine_first_is_cosines_then_sines_of_lower_frequencies(dim):
    t, half = np.array([0, 1, 2, 500, 999]), dim // 2
    out = np.asarray(cosine_first(jnp.asarray(t), dim))
    expected = np.zeros((len(t), dim))
    for i in range(half):
        angle = t * 10_000.0 ** (-i / half)
        expected[:, i], expected[:, half + i] = np.cos(angle), np.sin(angle)
    assert out.shape == expected.shape and out.dtype == np.float32
    assert np.all(np.abs(out - expected) <= 1.2e-7 * t[:, None] + 2e-7)


def test_cosine_first_of_fewer_than_four_channels():
    t = jnp.array([0, 3])
    assert np.allclose(cosine_first(t, 3), [[1, 0, 0], [math.cos(3), math.sin(3), 0]], atol=1e-6)
    with pytest.raises(ValueError, match=r"width 1: .*at least 2"):
        cosine_first(t, 1)


def test_time_embedding_of_fewer_than_four_channels():
    t = jnp.array([0, 3])
    assert np.allclose(time_embedding(t, 2), [[0, 1], [math.sin(3), math.cos(3)]], atol=1e-6)
    assert np.allclose(time_embedding(t, 3), [[0, 1, 0], [math.sin(3), math.cos(3), 0]], atol=1e-6)
    with pytest.raises(ValueError, match=r"width 1: .*at least 2"):
        time_embedding(t, 1)


# ---------------------------------------------------------------------------------------------- NumPy re-derivation


def f64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def np_swish(x):
    return x / (1 + np.exp(-x))


def np_dense(p, x):
    return np.tensordot(x, p["kernel"], axes=(-1, 0)) + p["bias"]


def np_conv(p, x, stride=1, pad=((1, 1), (1, 1))):
    x = np.pad(x, ((0, 0), *pad, (0, 0)))
    height, width = ((n - 3) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((x.shape[0], height, width, p["kernel"].shape[-1])) + p["bias"]
    for row in range(height):
        for column in range(width):
            window = x[:, row * stride : row * stride + 3, column * stride : column * stride + 3]
            out[:, row, column] += np.einsum("bhwi,hwio->bo", window, p["kernel"])
    return out


def np_norm(p, x, eps=1e-6):
    out = np.empty_like(x)
    size = x.shape[-1] // groups(x.shape[-1])
    for image in range(x.shape[0]):
        for first in range(0, x.shape[-1], size):
            group = x[image, :, :, first : first + size]
            out[image, :, :, first : first + size] = (group - group.mean()) / np.sqrt(group.var() + eps)
    return out * p["scale"] + p["bias"]


def np_res_block(p, x, emb, scale_shift=False, eps=1e-6):
    h = np_conv(p["conv_1"], np_swish(np_norm(p["norm_1"], x, eps)))
    time = np_dense(p["time"], np_swish(emb))[:, None, None, :]
    if scale_shift:
        width = h.shape[-1]
        h = np_norm(p["norm_2"], h, eps) * (1 + time[..., :width]) + time[..., width:]
    else:
        h = np_norm(p["norm_2"], h + time, eps)
    h = np_conv(p["conv_2"], np_swish(h))
    return h + (np_dense(p["shortcut"], x) if "shortcut" in p else x)


def np_attention(p, x, heads=1, eps=1e-6):
    """One head, one image and one query at a time."""
    h = np_norm(p["norm"], x, eps)
    q, k, v = (np_dense(p[name], h) for name in ("q", "k", "v"))
    size = x.shape[-1] // heads
    out = np.zeros_like(x)
    for image in range(x.shape[0]):
        for first in range(0, x.shape[-1], size):
            part = slice(first, first + size)
            keys, values = k[image, ..., part].reshape(-1, size), v[image, ..., part].reshape(-1, size)
            for row, column in np.ndindex(x.shape[1:3]):
                weights = np.exp(keys @ q[image, row, column, part] / math.sqrt(size))
                out[image, row, column, part] = (weights / weights.sum()) @ values
    return x + np_dense(p["proj"], out)


def np_upsample(p, x):
    big = np.empty((x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]))
    for row, column in np.ndindex(big.shape[1:3]):
        big[:, row, column] = x[:, row // 2, column // 2]
    return np_conv(p["conv"], big)


def np_unet(net, p, x, t, label=None):
    """The network with two levels and one block a level, written out, attention at the lower level."""
    assert (len(net.multipliers), net.blocks, net.attention) == (2, 1, (x.shape[1] // 2,))
    improved = net.convention == IMPROVED
    eps = 1e-5 if improved else 1e-6

    def block(name, h):
        return np_res_block(p[name], h, emb, net.scale_shift, eps)

    def attention(name, h):
        return np_attention(p[name], h, net.heads, eps)

    half = net.channels // 2
    angle = t[:, None] * np.exp(-np.log(10_000) * np.arange(half) / (half if improved else half - 1))
    waves = [np.cos(angle), np.sin(angle)] if improved else [np.sin(angle), np.cos(angle)]
    emb = np_dense(p["time_1"], np.concatenate(waves, axis=1))
    emb = np_dense(p["time_2"], np_swish(emb))
    if label is not None:
        emb = emb + p["label"]["embedding"][label]

    skip_1 = np_conv(p["conv_in"], x)
    skip_2 = block("down_0_block_0", skip_1)
    pad = ((1, 1), (1, 1)) if improved else ((0, 1), (0, 1))
    skip_3 = np_conv(p["down_0_downsample"]["conv"], skip_2, stride=2, pad=pad)
    skip_4 = attention("down_1_attention_0", block("down_1_block_0", skip_3))

    h = attention("middle_attention", block("middle_block_1", skip_4))
    h = block("middle_block_2", h)

    h = attention("up_1_attention_0", block("up_1_block_0", np.concatenate([h, skip_4], axis=-1)))
    h = attention("up_1_attention_1", block("up_1_block_1", np.concatenate([h, skip_3], axis=-1)))
    h = np_upsample(p["up_1_upsample"], h)
    h = block("up_0_block_0", np.concatenate([h, skip_2], axis=-1))
    h = block("up_0_block_1", np.concatenate([h, skip_1], axis=-1))
    return np_conv(p["conv_out"], np_swish(np_norm(p["norm_out"], h, eps)))


def assert_close(out, expected, tolerance=1e-5):
    """Largest error relative to the largest value."""
    assert out.shape == expected.shape
    assert np.abs(np.asarray(out) - expected).max() <= tolerance * np.abs(expected).max()


def quiet(params):
    """Parameters under which every norm sees deviations of about 3e-3, so that its epsilon decides."""
    scaled = {"conv_in": 2, "conv_1": 2, "conv_2": 2, "time": 2, "proj": 2, "conv": 1, "shortcut": 1}

    def scale(path, leaf):
        return leaf * 3e-3 if scaled.get(path[-2], 0) > (path[-1] == "kernel") else leaf

    return unflatten_dict({path: scale(path, leaf) for path, leaf in flatten_dict(params).items()})


@pytest.mark.usefixtures("layers")
@pytest.mark.parametrize(
    "options", [{}, OPTIONS, dict(OPTIONS, convention=IMPROVED)], ids=["ddpm", "options", "improved"]
)
def test_network_equals_its_numpy_derivation(options):
    net = UNet(**TINY, **options)
    args = inputs(net)
    params = quiet(made_up(net, *args))
    out = apply(net, params, *args)
    assert out.dtype == jnp.float32 and np.std(out) > 0.1
    expected = np_unet(net, f64(params), np.float64(args[0]), *(np.asarray(a) for a in args[1:]))
    assert_close(out, expected)


@pytest.mark.parametrize("detail", ORIGINAL._fields)
def test_every_detail_of_a_convention_shows_in_the_output_and_in_no_parameter(detail):
    net = UNet(**TINY)
    other = UNet(**TINY, convention=ORIGINAL._replace(**{detail: getattr(IMPROVED, detail)}))
    args = inputs(net)
    assert structure(net, *args) == structure(other, *args)
    params = quiet(made_up(net, *args))
    out, changed = (apply(n, params, *args) for n in (net, other))
    assert np.abs(out - changed).max() > 0.02 * np.abs(out).max()


@pytest.mark.usefixtures("layers")
@pytest.mark.parametrize("width", [32, 48], ids=["same-width", "wider"])
@pytest.mark.parametrize("scale_shift", [False, True])
def test_res_block_equals_its_numpy_derivation(width, scale_shift):
    block, x, emb = ResBlock(width, 0.1, scale_shift, jnp.float32), noise((2, 4, 6, 32)), noise((2, 20), 1)
    params = made_up(block, x, emb, train=False)
    assert ("shortcut" in params) == (width != 32)
    out = apply(block, params, x, emb, train=False)
    assert_close(out, np_res_block(f64(params), np.float64(x), np.float64(emb), scale_shift))


@pytest.mark.usefixtures("layers")
@pytest.mark.parametrize("heads", [1, 4])
def test_attention_equals_its_numpy_derivation_head_by_head(heads):
    block, x = AttentionBlock(heads, jnp.float32), noise((2, 3, 4, 32))
    params = made_up(block, x)
    assert_close(apply(block, params, x), np_attention(f64(params), np.float64(x), heads))


def test_attention_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="3 attention heads do not divide 32 channels"):
        AttentionBlock(3, jnp.float32).init(jax.random.key(0), noise((1, 2, 2, 32)))


@pytest.mark.usefixtures("layers")
def test_downsample_pads_the_bottom_and_the_right_only():
    x = noise((1, 6, 8, 3))
    params = made_up(Downsample(jnp.float32), x)
    out = apply(Downsample(jnp.float32), params, x)
    p, x = f64(params)["conv"], np.float64(x)
    assert_close(out, np_conv(p, x, stride=2, pad=((0, 1), (0, 1))))
    for other in (((1, 1), (1, 1)), ((1, 0), (1, 0))):
        wrong = np_conv(p, x, stride=2, pad=other)
        assert wrong.shape == out.shape and np.abs(out - wrong).max() > 0.1


@pytest.mark.usefixtures("layers")
def test_upsample_repeats_and_convolves():
    x = noise((2, 3, 5, 4))
    params = made_up(Upsample(jnp.float32), x)
    assert_close(apply(Upsample(jnp.float32), params, x), np_upsample(f64(params), np.float64(x)))


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return group_norm(x.shape[-1], "norm")(x)


@pytest.mark.usefixtures("layers")
@pytest.mark.parametrize("channels", [3, 32, 48, 128])
def test_group_norm(channels):
    # groups with means and deviations of their own, and one so flat that eps decides
    x = noise((2, 4, 5, channels)) * jnp.linspace(0.5, 2, channels)[None, None, None] + noise((2, 1, 1, channels), 1)
    x = x.at[1].multiply(1e-3)
    params = made_up(Norm(), x)
    assert_close(apply(Norm(), params, x), np_norm(f64(params)["norm"], np.float64(x)))
    wrong_eps = np_norm(f64(params)["norm"], np.float64(x), eps=1e-5)
    assert np.abs(apply(Norm(), params, x) - wrong_eps).max() > 1e-2


def test_group_norm_survives_a_mean_of_many_deviations():
    x = noise((1, 8, 8, 64)) + 1e4
    params = made_up(Norm(), x)
    expected = np_norm(f64(params)["norm"], np.float64(x))
    # float32 knows a mean of 1e4 to 5e-4, and a group sum of 128 values adds a few roundings
    assert np.abs(apply(Norm(), params, x) - expected).max() < 5e-3
    fast = nn.GroupNorm(32).apply({"params": params["norm"]}, x)
    assert np.abs(fast - expected).max() > 0.1


def test_number_of_groups():
    widths = {1: 1, 3: 1, 8: 4, 16: 8, 32: 16, 33: 11, 37: 1, 48: 24, 62: 31}
    assert {width: groups(width) for width in widths} == widths
    published = [multiple * channels for channels in (64, 128, 192) for multiple in (1, 2, 3, 4, 5, 6, 7, 8)]
    assert {groups(width) for width in published} == {32}


@pytest.mark.parametrize("scale_shift", [False, True])
def test_time_reaches_the_output_of_every_res_block(scale_shift):
    """With one channel a group the norm would take the added embedding out again."""
    for width in (8, 32, 33, 64):
        block, x = ResBlock(width, 0.0, scale_shift, jnp.float32), noise((1, 4, 4, 8))
        params = made_up(block, x, noise((1, 16)), train=False)
        one, two = (apply(block, params, x, noise((1, 16), seed), train=False) for seed in (1, 2))
        assert np.abs(one - two).max() > 0.05


# ---------------------------------------------------------------------------------------------- initialisation


@pytest.mark.parametrize(
    ("options", "size", "channels"),
    [
        pytest.param(dict(TINY, **OPTIONS), (8, 8), 3, marks=pytest.mark.slow),
        (dict(channels=5, multipliers=(1, 3), blocks=1, attention=(8,), out_channels=1), (8, 12), 1),
        (dict(channels=2, multipliers=(1,), blocks=1, attention=()), (7, 5), 3),
    ],
    ids=["improved", "grey-wide-odd-channels", "one-level-odd-size"],
)
def test_output_is_all_but_zero_at_the_start(options, size, channels):
    net = UNet(**options)
    out, _ = initialised(net, size, channels)
    assert out.shape == (2, *size, net.out_channels)
    assert 0 < np.abs(out).max() < 1e-3


def test_initialisers():
    net = UNet(**TINY, **OPTIONS)
    params = flatten_dict(initialised(net, (8, 8), 3)[1])
    for path, value in params.items():
        value = np.asarray(value)
        assert value.dtype == np.float32
        match path[-1]:
            case "bias":
                assert np.all(value == 0)
            case "scale":
                assert np.all(value == 1)
            case "embedding":
                assert path == ("label", "embedding") and value.shape == (10, 128)
                assert value.std() == pytest.approx(1, abs=5 / math.sqrt(2 * value.size))
            case "kernel":
                window = math.prod(value.shape[:-2])
                last = path[-2] in {"conv_2", "proj", "conv_out"}
                bound = math.sqrt(6 / (window * (value.shape[-2] + value.shape[-1]))) * (1e-5 if last else 1)
                assert np.abs(value).max() <= bound * (1 + 1e-6)
                # uniform: E x^2 = bound^2 / 3, and x^2 has standard deviation bound^2 sqrt(4/45)
                assert np.mean(value**2) == pytest.approx(
                    bound**2 / 3, abs=5 * bound**2 * math.sqrt(4 / 45 / value.size)
                )


# ---------------------------------------------------------------------------------------------- dropout, gradients


def test_dropout_is_elementwise_inverted_and_before_the_last_convolution():
    rate, width = 0.3, 8
    block, x, emb = ResBlock(width, rate, False, jnp.float32), noise((16, 8, 8, width)), noise((16, 4), 1)
    params = made_up(block, x, emb, train=False)
    # conv_2 that copies its input shows what comes out of dropout
    params["conv_2"] = {
        "kernel": jnp.zeros((3, 3, width, width)).at[1, 1].set(jnp.eye(width)),
        "bias": jnp.zeros(width),
    }
    clean = apply(block, params, x, emb, train=False) - x
    dropped = apply(block, params, x, emb, train=True, rngs=rngs(1)) - x

    kept = np.abs(dropped) > 1e-6
    assert_close(dropped, np.where(kept, clean / (1 - rate), 0), 1e-5)
    # as often in every image, in every channel, at every pixel, and at every pixel of every channel
    for axes in ((1, 2, 3), (0, 1, 2), (0, 3), (0,)):
        fraction = kept.mean(axes)
        assert np.abs(fraction - (1 - rate)).max() < 5 * math.sqrt(rate * (1 - rate) * fraction.size / kept.size)


def test_dropout_acts_in_training_only():
    """That evaluation drops nothing is in the NumPy derivation, which knows no dropout."""
    net = UNet(**TINY)
    args = inputs(net)
    params = made_up(net, *args)
    run = functools.partial(apply, net, params, *args, train=True)
    assert np.array_equal(run(rngs=rngs(0)), run(rngs=rngs(0)))
    assert np.abs(run(rngs=rngs(0)) - run(rngs=rngs(1))).max() > 0.1

    with pytest.raises(InvalidRngError):
        jax.eval_shape(lambda: net.apply({"params": params}, *args, train=True))
    jax.eval_shape(lambda: UNet(**TINY, dropout=0.0).apply({"params": params}, *args, train=True))


def loss_and_gradient(net, params, *args):
    def loss(params):
        out = net.apply({"params": params}, *args, train=True, rngs=rngs(5))
        return jnp.mean(out * noise(out.shape, 9))

    loss, gradient = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)(params)
    return float(loss), flatten_dict(jax.tree.map(np.asarray, gradient))


def assert_reaches_every_parameter(gradient):
    for path, value in gradient.items():
        if path[-2:] == ("k", "bias"):  # moves all logits of a query alike, which the softmax does not see
            assert np.abs(value).max() < 1e-4 * np.abs(gradient[*path[:-1], "kernel"]).max(), path
        else:
            assert np.abs(value).max() > 1e-5, path


def test_gradient_reaches_every_parameter():
    net = UNet(**TINY)
    args = inputs(net)
    assert_reaches_every_parameter(loss_and_gradient(net, made_up(net, *args), *args)[1])


@pytest.mark.slow
def test_remat_changes_neither_parameters_nor_loss_nor_gradient():
    options = dict(OPTIONS, channels=32, multipliers=(1,), blocks=1, attention=(8,))
    net, again = UNet(**options), UNet(**options, remat=True)
    args = inputs(net, batch=10)
    params = made_up(net, *args)
    assert structure(net, *args) == structure(again, *args)

    (loss, gradient), (loss_again, gradient_again) = (loss_and_gradient(n, params, *args) for n in (net, again))
    assert loss_again == pytest.approx(loss, rel=1e-5)
    assert_reaches_every_parameter(gradient)
    largest = max(np.abs(value).max() for value in gradient.values())
    for path, value in gradient.items():
        assert np.abs(gradient_again[path] - value).max() < 1e-5 * largest, path


def test_remat_recomputes():
    """Fewer numbers are kept for the backward pass."""

    def kept(net):
        args = inputs(net)
        backward = jax.eval_shape(
            lambda params: jax.vjp(lambda params: net.apply({"params": params}, *args), params)[1],
            structure(net, *args),
        )
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    assert kept(UNet(**TINY, remat=True)) < 0.7 * kept(UNet(**TINY))


# ---------------------------------------------------------------------------------------------- precision


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from equations(value.jaxpr)


def test_bfloat16_stays_close_and_keeps_parameters_norms_and_softmax_in_float32():
    net, half = UNet(**TINY, **OPTIONS), UNet(**TINY, **OPTIONS, compute_dtype=jnp.bfloat16)
    args = inputs(net)
    params = made_up(half, *args)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    out, exact = apply(half, params, *args), apply(net, params, *args)
    assert out.dtype == jnp.float32
    error = np.sqrt(np.mean((out - exact) ** 2) / np.mean(exact**2))
    assert 1e-4 < error < 0.03  # bfloat16 rounds by 2e-3; the body is some forty roundings deep

    inner = defaultdict(list)
    for equation in equations(jax.make_jaxpr(lambda *args: half.apply({"params": params}, *args))(*args).jaxpr):
        inner[equation.primitive.name].append((equation.invars[0].aval.dtype.name, equation.outvars[0].aval.dtype.name))
    assert set(inner["exp"]) == set(inner["rsqrt"]) == {("float32", "float32")}
    assert inner["conv_general_dilated"].count(("float32", "float32")) == 1  # the last one
    assert inner["conv_general_dilated"].count(("bfloat16", "bfloat16")) == len(inner["conv_general_dilated"]) - 1
    assert inner["dot_general"].count(("float32", "float32")) == 2  # time_1, time_2
    assert inner["dot_general"].count(("bfloat16", "float32")) == 4  # the logits of four attention blocks
    assert ("float32", "bfloat16") not in inner["dot_general"]


# ---------------------------------------------------------------------------------------------- input


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize("size", [(10, 8), (8, 10), (7, 7)])
def test_size_that_cannot_be_halved_is_refused(size):
    net = UNet(channels=32, multipliers=(1, 1, 2), blocks=1)
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} cannot be halved 2 times: .* multiples of 4") as error:
        jax.eval_shape(net.init, jax.random.key(0), *inputs(net, 1, size))
    assert one_line(error)


def test_labels_must_be_given_exactly_where_there_are_classes():
    x, t, label = inputs(UNet(classes=10))
    with pytest.raises(ValueError, match="10 classes, so it needs a label") as error:
        UNet(**TINY, classes=10).init(jax.random.key(0), x, t)
    assert one_line(error)
    with pytest.raises(ValueError, match="without classes") as error:
        UNet(**TINY).init(jax.random.key(0), x, t, label)
    assert one_line(error)


def test_label_outside_the_classes_is_loud():
    net = UNet(**TINY, **OPTIONS)
    x, t, label = inputs(net)
    out = apply(net, made_up(net, x, t, label), x, t, jnp.array([3, 10]))
    assert np.all(np.isfinite(out[0])) and np.all(np.isnan(out[1]))


def test_time_may_be_fractional():
    net = UNet(**TINY)
    x, t = inputs(net)
    params = made_up(net, x, t)
    whole, same, between = (apply(net, params, x, time) for time in (t, t.astype(jnp.float32), t + 0.5))
    assert_close(same, whole, 1e-6)
    assert np.abs(between - whole).max() > 1e-3
