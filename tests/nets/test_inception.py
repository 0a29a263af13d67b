"""The FID's Inception network against numbers of the PyTorch port, and its weights from valid and damaged files."""

import functools
import hashlib
import importlib.util
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.convert import inception_weights as files
from diffusion.convert.inception_weights import TORCH, fingerprint, from_torch, load, offered, read
from diffusion.data.download import DownloadError, Remote
from diffusion.metrics.inception_features import extractor, inception
from diffusion.nets import inception as net
from diffusion.nets.inception import LAYERS, SMALLEST, WIDTHS, Inception, preprocess, resize, shapes, variables
from tests.support.torch_files import write_legacy, write_zip

UP_TO_MIXED_7 = LAYERS[:1]


@functools.cache
def random_weights(layers=LAYERS):
    """Weights under which activations stay of order 1 in every layer, by a stream of numbers that NumPy has frozen."""
    stream, weights = np.random.RandomState(0), {}
    for name, shape in sorted(shapes(layers).items()):
        spread = (6 / np.prod(shape[:-1])) ** 0.5 if len(shape) > 1 else 0.1
        weights[name] = stream.uniform(-spread, spread, shape).astype(np.float32)
    return weights


def test_the_network_has_the_published_size():
    """Below the classifier 21,785,568 parameters with batch norm, which has twice a folded bias: 23,834,568 with 1000
    classes, as other libraries count Inception v3 without its auxiliary head."""
    counts = {name: int(np.prod(shape)) for name, shape in shapes().items() if "softmax" not in name}
    biases = sum(n for name, n in counts.items() if name.endswith("/b"))
    assert len(counts) == 2 * 94 and sum(counts.values()) + biases == 23_834_568 - 2048 * 1000 - 1000
    assert shapes()["softmax/w"] == (2048, 1008) and shapes()["softmax/b"] == (1008,)


@pytest.mark.slow
def test_layers_have_their_widths_and_need_the_weights_of_those_before():
    for size in (SMALLEST, 299):
        x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
        out = jax.eval_shape(Inception().apply, variables(random_weights()), x)
        assert {layer: a.shape for layer, a in out.items()} == {layer: (2, n) for layer, n in WIDTHS.items()}
    needs = [shapes((layer,)).keys() for layer in LAYERS]
    assert needs[0] < needs[1] < needs[2] < needs[3] == needs[4] == shapes().keys()
    assert len(needs[0]) == 2 * (94 - 6 - 18) and len(needs[1]) == 2 * (94 - 18)
    for name, shape in shapes(LAYERS[1:2]).items():
        assert shapes()[name] == shape
    with pytest.raises(ValueError, match="no layer 64: choose from 768"):
        jax.eval_shape(Inception(("64",)).init, jax.random.key(0), x)


RECORDED = {
    "768": (0.357107, 0.453681, 13.932054, 3.154981, 0.697076, 0.000000),
    "1280": (0.501477, 0.574359, -22.670349, 14.494775, 0.064561, 0.000000),
    "2048": (0.305599, 0.399000, -5.624817, 9.074776, 0.169069, 0.952434),
    "logits": (-0.014852, 0.724557, 16.195928, 15.503061, -0.854222, -1.080240),
    "logits_unbiased": (-0.015247, 0.722619, 16.056937, 14.398244, -0.939764, -1.097398),
}
"""Of the PyTorch port with `random_weights`: what `summary` makes of the features of the image below."""


def summary(values):
    """Mean, deviation, two numbers that change with the order of the values, the first and the last value."""
    i = np.arange(len(values))
    return [values.mean(), values.std(), values @ np.cos(i), values @ np.sin(i), values[0], values[-1]]


def test_features_are_those_of_the_pytorch_port():
    """The numbers were written down from torch-fidelity's network; an image that is not square tells 1x7 from 7x1, and
    at 2x3 pixels in the last block its pools differ."""
    x = np.random.RandomState(1).uniform(-1, 1, (1, 107, 139, 3)).astype(np.float32)
    features = jax.jit(Inception().apply)(variables(random_weights()), x)
    assert features.keys() == RECORDED.keys()
    for layer, expected in RECORDED.items():
        found = summary(np.asarray(features[layer][0], np.float64))
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=layer)
    difference = features["logits"] - features["logits_unbiased"]
    np.testing.assert_allclose(difference[0], random_weights()["softmax/b"], atol=1e-5)


def windows(x):
    """Pixels of each 3x3 window that lie in the image, in float64."""
    height, width = x.shape[:2]
    for i in range(height):
        for j in range(width):
            yield i, j, x[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].reshape(-1, x.shape[-1]).astype(np.float64)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_pools_leave_out_the_padding(rng, size):
    x = rng.standard_normal((2, *size, 3)).astype(np.float32) - 3  # far from 0, which padding must not bring in
    averages, maxima = net.average(jnp.asarray(x)), net.maximum(jnp.asarray(x))
    for k in range(2):
        for i, j, window in windows(x[k]):
            np.testing.assert_allclose(averages[k, i, j], window.mean(axis=0), rtol=1e-6)
            np.testing.assert_allclose(maxima[k, i, j], window.max(axis=0), rtol=1e-6)


def test_the_last_block_pools_by_the_maximum(rng):
    """Of blocks mixed_9 and mixed_10 the last 192 channels come from the pool."""
    x = jnp.asarray(rng.standard_normal((1, 4, 4, 1280)), jnp.float32)

    def conv(h, *arguments):
        return jnp.broadcast_to(h[..., :1], (*h.shape[:3], arguments[1]))

    blocks = []
    for block, pool in ((net.average, net.average), (net.maximum, net.maximum)):
        out = net.block_8(conv, x, "mixed_9", block)
        assert out.shape[-1] == 2048
        np.testing.assert_array_equal(out[..., -192:], jnp.broadcast_to(pool(x)[..., :1], (1, 4, 4, 192)))
        blocks.append(net.block_8(conv, x, "mixed_10", block))
    whole = net.to_mixed_10(conv, x)
    np.testing.assert_array_equal(whole[..., -192:], net.maximum(net.block_8(conv, x, "b", net.average))[..., :192])


@pytest.mark.parametrize("old", [(1, 1), (3, 5), (8, 8), (32, 32), (37, 20), (64, 48)])
@pytest.mark.parametrize("new", [7, 37])
def test_resizing_is_tensorflows(rng, old, new):
    x = rng.uniform(0, 255, (2, *old, 2)).astype(np.float32)
    expected = np.empty((2, new, new, 2))
    for i in range(new):
        for j in range(new):
            y, z = i * old[0] / new, j * old[1] / new
            a, b = int(y), int(z)
            c, d = min(a + 1, old[0] - 1), min(b + 1, old[1] - 1)
            top = x[:, a, b] * (1 - (z - b)) + x[:, a, d] * (z - b)
            bottom = x[:, c, b] * (1 - (z - b)) + x[:, c, d] * (z - b)
            expected[:, i, j] = top * (1 - (y - a)) + bottom * (y - a)
    np.testing.assert_allclose(resize(jnp.asarray(x), new), expected, atol=2e-3)


def test_preprocessing(rng):
    pixels = rng.integers(0, 256, (2, 9, 9, 3), np.uint8)
    same = preprocess(jnp.asarray(pixels), 9)
    np.testing.assert_array_equal(same, (pixels.astype(np.float32) - 128) / 128)
    grey = preprocess(jnp.asarray(pixels[..., :1]), 20)
    assert grey.shape == (2, 20, 20, 3)
    np.testing.assert_array_equal(grey, preprocess(jnp.asarray(pixels[..., :1].repeat(3, axis=-1)), 20))
    assert jax.eval_shape(preprocess, pixels).shape == (2, 299, 299, 3)


# Weights


PORT = """
Conv2d_1a_3x3 32 3 3, Conv2d_2a_3x3 32 3 3, Conv2d_2b_3x3 64 3 3, Conv2d_3b_1x1 80 1 1, Conv2d_4a_3x3 192 3 3
Mixed_5b Mixed_5c Mixed_5d: branch1x1 64 1 1, branch5x5_1 48 1 1, branch5x5_2 64 5 5, branch3x3dbl_1 64 1 1,
  branch3x3dbl_2 96 3 3, branch3x3dbl_3 96 3 3
Mixed_6a: branch3x3 384 3 3, branch3x3dbl_1 64 1 1, branch3x3dbl_2 96 3 3, branch3x3dbl_3 96 3 3
Mixed_6b Mixed_6c Mixed_6d Mixed_6e: branch1x1 192 1 1, branch7x7_1 N 1 1, branch7x7_2 N 1 7, branch7x7_3 192 7 1,
  branch7x7dbl_1 N 1 1, branch7x7dbl_2 N 7 1, branch7x7dbl_3 N 1 7, branch7x7dbl_4 N 7 1, branch7x7dbl_5 192 1 7,
  branch_pool 192 1 1
Mixed_7a: branch3x3_1 192 1 1, branch3x3_2 320 3 3, branch7x7x3_1 192 1 1, branch7x7x3_2 192 1 7,
  branch7x7x3_3 192 7 1, branch7x7x3_4 192 3 3
Mixed_7b Mixed_7c: branch1x1 320 1 1, branch3x3_1 384 1 1, branch3x3_2a 384 1 3, branch3x3_2b 384 3 1,
  branch3x3dbl_1 448 1 1, branch3x3dbl_2 384 3 3, branch3x3dbl_3a 384 1 3, branch3x3dbl_3b 384 3 1, branch_pool 192 1 1
"""
"""Outputs, height and width of the kernels in torchvision's inception_v3, whose names the port has; N: 128, 160, 160,
192 in the four blocks. The blocks 5b, 5c and 5d also have branch_pool 32, 64 and 64."""


def test_convolutions_of_the_port_are_those_of_its_definition():
    expected = {f"Mixed_5{letter}.branch_pool": (n, 1, 1) for letter, n in zip("bcd", (32, 64, 64), strict=True)}
    inner = {"Mixed_6b": 128, "Mixed_6c": 160, "Mixed_6d": 160, "Mixed_6e": 192}
    for line in PORT.strip().replace("\n  ", " ").splitlines():
        blocks, _, layers = line.rpartition(": ")
        for block in blocks.split() or [""]:
            for name, *numbers in (layer.split() for layer in layers.split(", ")):
                shape = tuple(inner[block] if n == "N" else int(n) for n in numbers)
                expected[f"{block}.{name}".removeprefix(".")] = shape
    found = {theirs: shapes()[f"{ours}/w"] for ours, theirs in TORCH.items()}
    assert {name: (shape[3], *shape[:2]) for name, shape in found.items()} == expected


@functools.cache
def port():
    """A state dict as the PyTorch port has it, with batch norms that change everything."""
    stream, torch = np.random.default_rng(0), {}
    for name, other in TORCH.items():
        kernel, n = random_weights()[f"{name}/w"], shapes()[f"{name}/b"][0]
        vectors = {
            "weight": stream.uniform(0.5, 1.5, n),
            "bias": stream.normal(0, 0.2, n),
            "running_mean": stream.normal(0, 0.2, n),
            "running_var": stream.uniform(0.5, 2, n),
        }
        torch[f"{other}.conv.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        torch |= {f"{other}.bn.{vector}": np.float32(values) for vector, values in vectors.items()}
        torch[f"{other}.bn.num_batches_tracked"] = np.array(7)
    torch["fc.weight"] = np.ascontiguousarray(random_weights()["softmax/w"].T)
    torch["fc.bias"] = random_weights()["softmax/b"]
    return torch


def test_the_published_file_gives_every_weight_and_any_change_another_fingerprint(tmp_path):
    a = from_torch(port(), tmp_path)
    assert {name: array.shape for name, array in a.items()} == shapes()
    assert {array.dtype for array in a.values()} == {np.dtype(np.float32)}
    changed = a | {"conv/b": a["conv/b"] + np.float32(1e-6)}
    assert fingerprint(changed) != fingerprint(a) == fingerprint(dict(reversed(a.items())))


def test_folding_is_batch_norm_after_convolution(tmp_path, rng):
    torch = port()
    weights = from_torch(torch, tmp_path)
    x = rng.standard_normal((50, 64))
    c = x @ torch["Conv2d_3b_1x1.conv.weight"][:, :, 0, 0].T.astype(np.float64)
    bn = {vector: torch[f"Conv2d_3b_1x1.bn.{vector}"] for vector in ("weight", "bias", "running_mean", "running_var")}
    expected = bn["weight"] * (c - bn["running_mean"]) / np.sqrt(bn["running_var"] + 0.001) + bn["bias"]
    np.testing.assert_allclose(x @ weights["conv_3/w"][0, 0] + weights["conv_3/b"], expected, atol=1e-5)


def refusal(call, *arguments) -> str:
    with pytest.raises(ValueError) as error:
        call(*arguments)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1500
    return str(error.value)


def test_names_and_shapes_that_do_not_match_are_listed(tmp_path):
    torch = port()
    path = tmp_path / "a.pth"
    wrong = {name: array for name, array in torch.items() if name not in ("fc.bias", "Mixed_5b.branch1x1.bn.bias")}
    wrong |= {"AuxLogits.fc.weight": np.ones(3), "fc.weight": torch["fc.weight"][:1000]}
    message = refusal(from_torch, wrong, path)
    assert str(path) in message
    assert all(
        n in message for n in ("2 missing", "fc.bias", "Mixed_5b.branch1x1.bn.bias", "1 unexpected (AuxLogits.fc")
    )
    assert "1 of another shape (fc.weight of shape (1000, 2048) instead of (1008, 2048))" in message
    message = refusal(from_torch, {name: a for name, a in torch.items() if "Mixed_7c" not in name}, path)
    assert "45 missing (Mixed_7c." in message and "and 42 more" in message
    integer = torch | {"fc.bias": np.arange(1008)}
    assert "1 not of floating point (fc.bias)" in refusal(from_torch, integer, path)
    for value, where in ((np.nan, "running_var"), (np.inf, "running_var")):
        broken = torch["Conv2d_1a_3x3.bn.running_var"].copy()
        broken[3] = value
        message = refusal(from_torch, torch | {"Conv2d_1a_3x3.bn.running_var": broken}, path)
        assert "not finite (" in message and where in message


def test_weights_come_from_every_kind_of_file(tmp_path):
    """A small file of each kind arrives at its own reader, which finds weights missing; whole ones are read."""
    tensors = {"fc.bias": np.ones(1008, np.float32), "x": np.ones(3, np.float32)}
    for write in (write_legacy, write_zip):
        message = refusal(read, write(tmp_path / "a", tensors))
        assert "471 missing" in message and "1 unexpected (x)" in message
    weights = random_weights(UP_TO_MIXED_7)
    np.savez(tmp_path / "d.npz", **weights)
    half = {name: a.astype(np.float16) if name.endswith("/w") else a for name, a in weights.items()}
    np.savez(tmp_path / "e.npz", **half)
    assert fingerprint(read(tmp_path / "d.npz")) == fingerprint(weights)
    found = read(tmp_path / "e.npz")
    assert found["conv/w"].dtype == np.float32
    np.testing.assert_array_equal(found["conv/w"], half["conv/w"].astype(np.float32))
    assert offered(found) == ("768",) and offered(random_weights()) == LAYERS


def test_broken_files_are_refused_in_one_line(tmp_path):
    weights = random_weights(UP_TO_MIXED_7)
    path = tmp_path / "w.npz"
    np.savez(path, **weights)
    content = path.read_bytes()
    for damaged in (content[:-9], content[:2000], content[:100] + b"abcd" + content[104:]):
        path.write_bytes(damaged)
        refusal(read, path)
    small = {name: weights[name] for name in ("conv/w", "conv/b")}
    for change, words in (
        ({}, "missing (conv_1"),
        ({"conv/w": np.ones((3, 3, 3, 31))}, "conv/w of shape (3, 3, 3, 31)"),
        ({"conv/w": np.full((3, 3, 3, 32), "x")}, "conv/w"),
        ({"other/w": np.ones(3)}, "1 unexpected (other/w)"),
        ({"conv/b": np.array([print] * 32, object)}, "allow_pickle=False"),
    ):
        np.savez(path, **small | change)
        assert words in refusal(read, path)
    np.savez(path, **weights | {"conv/b": np.full(32, np.nan)})
    assert "1 not finite (conv/b)" in refusal(read, path)
    for data in (b"", b"x", b"PK\x03\x04", b"\x80\x02\x8a\x0a", b"\x0a\x02", bytes(40), b"\x1f\x8b" * 20):
        path.write_bytes(data)
        refusal(read, path)
    assert "no such file" in refusal(read, tmp_path / "nowhere")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_published_file_is_pinned():
    remote = files.PUBLISHED
    assert remote.sha256.startswith(re.search(r"-([0-9a-f]{8})\.pth$", files.FILE)[1])  # part of its name
    assert remote.url.startswith("https://") and remote.url.endswith(files.FILE)
    assert re.fullmatch("[0-9a-f]{64}", remote.sha256)


def test_weights_are_fetched_into_the_cache(tmp_path, monkeypatch):
    """The published file, and no other, has the published name."""
    weights = random_weights(UP_TO_MIXED_7)
    np.savez(tmp_path / "w.npz", **weights)
    remote = Remote("https://example.org/w.npz", sha256(tmp_path / "w.npz"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "FILE", "w.npz")
    monkeypatch.setattr(files, "PUBLISHED", remote)
    calls = []

    def fetch(remote, path):
        calls.append((remote, path))
        return tmp_path / "w.npz"

    monkeypatch.setattr(files, "fetch", fetch)
    found, name = load()
    assert fingerprint(found) == fingerprint(weights) and name == files.NETWORK == "inception-2015-12-05"
    assert calls == [(remote, tmp_path / "cache" / "diffusion" / "inception" / "w.npz")]


def test_only_the_published_weights_have_the_published_name(tmp_path, monkeypatch):
    weights = random_weights(UP_TO_MIXED_7)
    path = tmp_path / "w.npz"
    np.savez(path, **weights)
    other = f"inception-{fingerprint(weights)[:8]}"
    assert inception(path).name == load(path)[1] == other
    monkeypatch.setattr(files, "PUBLISHED", files.PUBLISHED._replace(sha256=sha256(path)))
    assert inception(path).name == load(path)[1] == files.NETWORK


def test_one_line_says_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch):
    def fetch(remote, _):
        raise DownloadError(f"{remote.url} could not be downloaded: no network")

    monkeypatch.setattr(files, "fetch", fetch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    message = refusal(inception)
    assert files.PUBLISHED.url in message
    assert str(tmp_path / "diffusion" / "inception") in message and "no network" in message


# Features


@functools.cache
def extract(batch_size=8):
    return extractor(random_weights(UP_TO_MIXED_7), batch_size, size=SMALLEST)


def test_features_of_an_image_depend_on_it_alone(rng):
    images = (rng.integers(0, 256, (11, 20, 30, 3)) * np.linspace(0, 1, 11)[:, None, None, None]).astype(np.uint8)
    one, other = extract(), extract(16)
    assert one.layers == ("768",) and one.weights == fingerprint(random_weights(UP_TO_MIXED_7)) == other.weights
    features = one.extract(images)["768"]
    assert features.shape == (11, 768) and features.dtype == np.float32
    assert 0.005 < features.std(axis=0).mean() < 10  # they tell images apart
    np.testing.assert_array_equal(features, one.extract(images)["768"])
    np.testing.assert_array_equal(features[3:5], one.extract(images[3:5])["768"][:2])
    np.testing.assert_allclose(features, other.extract(images)["768"], atol=1e-5)
    weights = variables(random_weights(UP_TO_MIXED_7), UP_TO_MIXED_7)
    direct = jax.jit(Inception(UP_TO_MIXED_7).apply)(weights, preprocess(jnp.asarray(images[:1]), SMALLEST))
    np.testing.assert_allclose(features[:1], direct["768"], atol=1e-5)


def test_layers_without_weights_are_not_offered(tmp_path):
    weights = random_weights(UP_TO_MIXED_7)
    np.savez(tmp_path / "w.npz", **weights)
    assert inception(tmp_path / "w.npz").layers == ("768",)
    message = refusal(inception, tmp_path / "w.npz", 8, ("768", "2048"))
    assert "layer 2048 needs 48 weights" in message and message.endswith("choose from 768")


def test_the_type_of_the_computation_is_in_the_name():
    half = extractor(random_weights(UP_TO_MIXED_7), 8, jnp.bfloat16, size=SMALLEST)
    name = f"inception-{fingerprint(random_weights(UP_TO_MIXED_7))[:8]}"
    assert (extract().name, half.name) == (name, f"{name}-bfloat16")


# The reference


def reference(path, layers):
    """torch-fidelity's network with the weights in a file, without the rest of the package, which needs torchvision."""
    pytest.importorskip("torch")
    found = importlib.util.find_spec("torch_fidelity")
    if found is None:
        pytest.skip("torch-fidelity is not installed")
    package = types.ModuleType("torch_fidelity")
    package.__path__ = list(found.submodule_search_locations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_fidelity", package)
        name = "torch_fidelity.feature_extractor_inceptionv3"
        patch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name).FeatureExtractorInceptionV3("x", layers, str(path))


@pytest.mark.parametrize("size", [(32, 32), (100, 80), (320, 299)])
def test_all_layers_agree_with_the_pytorch_port(tmp_path_factory, rng, size):
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.getbasetemp() / "port.pth"
    if not path.exists():
        arrays = {name: torch.tensor(array) for name, array in port().items()}
        torch.save(arrays, path, _use_new_zipfile_serialization=False)
    names = [layer for layer in LAYERS if layer != "1280"]
    network, mixed_8 = reference(path, names), []
    network.Mixed_7a.register_forward_hook(lambda *arguments: mixed_8.append(arguments[2].mean(dim=(2, 3))))
    images = rng.integers(0, 256, (2, *size, 3), np.uint8)
    with torch.no_grad():
        out = network(torch.tensor(images.transpose(0, 3, 1, 2).copy()))
    expected = {name: a.numpy() for name, a in zip(names, out, strict=True)} | {"1280": mixed_8[0].numpy()}
    found = both(path).extract(images)
    assert found.keys() == expected.keys()
    for name in LAYERS:
        assert 0.1 < expected[name].std() < 10  # of order 1, so that the tolerance means something
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)


@functools.cache
def both(path):
    return extractor(read(path), 8)
