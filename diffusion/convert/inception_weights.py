"""Weights of the FID's Inception network: the published file, checked, renamed and its batch norms folded.

This project's names of weights are those of the TensorFlow graph with "_" for "/". Batch norm, y = gamma (c - mean) /
sqrt(var + 0.001) + beta of a convolution c = w x, is folded into it: with s = gamma / sqrt(var + 0.001), the weights
are w s and the bias beta - mean s, computed in float64 and rounded once.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffusion.convert import torch_file
from diffusion.convert.name_mapping import Tensors, mismatches
from diffusion.data.download import DownloadError, Remote, fetch
from diffusion.nets.inception import LAYERS, shapes
from diffusion.runtime import npz_reader
from diffusion.runtime.paths import cache_folder

NETWORK = "inception-2015-12-05"
"""The network of published FIDs and inception scores."""

FILE = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED = Remote(
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
"""The PyTorch port of the TensorFlow graph of 2015-12-05, with its SHA-256."""

NPZ = ".npz"
EPSILON = 0.001
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
"""PyTorch's names of gamma, beta, mean and var."""

LONG = {f"tower_1_conv{end}": f"branch3x3dbl_{i}" for i, end in enumerate(("", "_1", "_2"), 1)}

BLOCK_35 = {"conv": "branch1x1", "tower_conv": "branch5x5_1", "tower_conv_1": "branch5x5_2", **LONG}
TO_17 = {"conv": "branch3x3", **{name.replace("tower_1", "tower"): torch for name, torch in LONG.items()}}
BLOCK_17 = {
    "conv": "branch1x1",
    **{f"tower_conv{end}": f"branch7x7_{i}" for i, end in enumerate(("", "_1", "_2"), 1)},
    **{f"tower_1_conv{end}": f"branch7x7dbl_{i}" for i, end in enumerate(("", "_1", "_2", "_3", "_4"), 1)},
}
TO_8 = {
    **{f"tower_conv{end}": f"branch3x3_{i}" for i, end in enumerate(("", "_1"), 1)},
    **{f"tower_1_conv{end}": f"branch7x7x3_{i}" for i, end in enumerate(("", "_1", "_2", "_3"), 1)},
}
BLOCK_8 = {
    **{"conv": "branch1x1", "tower_conv": "branch3x3_1"},
    **{"tower_mixed_conv": "branch3x3_2a", "tower_mixed_conv_1": "branch3x3_2b"},
    **{"tower_1_conv": "branch3x3dbl_1", "tower_1_conv_1": "branch3x3dbl_2"},
    **{"tower_1_mixed_conv": "branch3x3dbl_3a", "tower_1_mixed_conv_1": "branch3x3dbl_3b"},
}
POOL = {"tower_2_conv": "branch_pool"}

STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
BLOCKS = (
    *(("Mixed_5b", BLOCK_35 | POOL), ("Mixed_5c", BLOCK_35 | POOL), ("Mixed_5d", BLOCK_35 | POOL)),
    ("Mixed_6a", TO_17),
    *((f"Mixed_6{letter}", BLOCK_17 | POOL) for letter in "bcde"),
    ("Mixed_7a", TO_8),
    *(("Mixed_7b", BLOCK_8 | POOL), ("Mixed_7c", BLOCK_8 | POOL)),
)
"""Blocks mixed, mixed_1, ..., mixed_10."""

TORCH = {
    **{f"conv_{i}" if i else "conv": torch for i, torch in enumerate(STEM)},
    **{
        f"mixed_{i}_{name}" if i else f"mixed_{name}": f"{block}.{branch}"
        for i, (block, branches) in enumerate(BLOCKS)
        for name, branch in branches.items()
    },
}
"""Our names of all 94 convolutions -> the PyTorch port's."""


def load(path: Path | None = None) -> tuple[Tensors, str]:
    """The weights in a file, by default the published one, and the name that metrics quote for them.

    The published file is read from the user's cache, into which it is downloaded if it is missing there. The name is
    `NETWORK` for that file, recognised by its SHA-256; for others "inception-" and eight digits of the fingerprint,
    since their distances are not comparable with published ones. Raises ValueError for a file that `read` refuses, and
    where the download fails: the message names what to fetch and where to put it.
    """
    if path is None:
        folder = cache_folder("inception")
        try:
            path = fetch(PUBLISHED, folder / FILE)
        except DownloadError as error:
            raise ValueError(f"no Inception weights: {error}; put that file into {folder}") from error
    weights = read(path)
    with path.open("rb") as file:
        published = hashlib.file_digest(file, "sha256").hexdigest() == PUBLISHED.sha256
    return weights, NETWORK if published else f"inception-{fingerprint(weights)[:8]}"


def read(path: Path) -> Tensors:
    """Weights from an .npz of NAME/w and NAME/b, else from a PyTorch file such as the published one.

    The former may lack weights after the first layer of features; every other name and shape must be that of the
    network. Raises ValueError for a file that is broken or holds another network: what does not match is listed.
    """
    if not path.is_file():
        raise ValueError(f"no Inception weights at {path}: there is no such file")
    if path.suffix != NPZ:
        return from_torch(torch_file.read(path), path)
    arrays, least = npz_reader.read(path), shapes(LAYERS[:1])
    _check(path, arrays, {name: shape for name, shape in shapes().items() if name in arrays or name in least})
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def offered(weights: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The layers for which there are all weights."""
    return tuple(layer for layer in LAYERS if shapes((layer,)).keys() <= weights.keys())


def fingerprint(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256, in hexadecimal, of all names, shapes and float32 values in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name], "<f4")
        digest.update(f"{name} {list(values.shape)}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()


def from_torch(arrays: Mapping[str, np.ndarray], path: Path) -> Tensors:
    """Folded weights from the PyTorch port's state dict; `path` is for the message of the ValueError."""
    expected: dict[str, tuple[int, ...]] = {"fc.weight": shapes()["softmax/w"][::-1], "fc.bias": shapes()["softmax/b"]}
    for name, torch in TORCH.items():
        height, width, inputs, outputs = shapes()[f"{name}/w"]
        expected[f"{torch}.conv.weight"] = (outputs, inputs, height, width)
        expected |= {f"{torch}.bn.{vector}": (outputs,) for vector in BATCH_NORM}
    counters = {f"{torch}.bn.num_batches_tracked" for torch in TORCH.values()}
    _check(path, {name: array for name, array in arrays.items() if name not in counters}, expected)
    weights = {"softmax/w": arrays["fc.weight"].T, "softmax/b": arrays["fc.bias"]}
    for name, torch in TORCH.items():
        gamma, beta, mean, var = (arrays[f"{torch}.bn.{vector}"].astype(np.float64) for vector in BATCH_NORM)
        scale = gamma / np.sqrt(var + EPSILON)
        weights[f"{name}/w"] = arrays[f"{torch}.conv.weight"].transpose(2, 3, 1, 0) * scale
        weights[f"{name}/b"] = beta - mean * scale
    return {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}


def _check(path: Path, arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    if found := mismatches(arrays, expected):
        raise ValueError(f"{path} does not hold the Inception network of 2015-12-05: {', '.join(found)}")
