"""Weights of the FID's Inception network: the published file, checked, renamed and its batch norms folded.

This project's names of weights are those of the TensorFlow graph with "_" for "/". Batch norm, y = gamma (c - mean) /
sqrt(var + 0.001) + beta of a convolution c = w x, is folded into it: with s = gamma / sqrt(var + 0.001), the weights
are w s and the bias beta - mean s, computed in float64 and rounded once.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from diffusion.convert import torch_file
from diffusion.convert.name_mapping import Tensors, first, mismatches
from diffusion.data.download import DownloadError, Remote, fetch
from diffusion.nets.inception import LAYERS, shapes
from diffusion.runtime import npz_reader
from diffusion.runtime.paths import cache_folder

NETWORK = "inception-2015-12-05"
"""The network of published FIDs and inception scores."""

FILE = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED = Remote(
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}",
    95_628_359,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
"""The PyTorch port of the TensorFlow graph of 2015-12-05, with its size and SHA-256."""

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
"""First bytes of a file."""

EPSILON = 0.001
FLOAT = "f"
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


def load(path: Path | None = None, cache: Path | None = None) -> tuple[Tensors, str]:
    """The weights in a file, by default the published one, and the name that metrics quote for them.

    The published file is read from the folder `cache`, into which it is downloaded if it is missing there. The name is
    `NETWORK` for that file, recognised by its SHA-256; for others "inception-" and eight digits of the fingerprint,
    since their distances are not comparable with published ones. Raises ValueError, in one line, for a file that
    `read` refuses, and where the download fails: the message names what to fetch and where to put it.
    """
    if path is None:
        folder = cache or cache_folder("inception")
        path = folder / FILE if (folder / FILE).is_file() else _download(folder)
    weights = read(path)
    return weights, NETWORK if _sha256(path) == PUBLISHED.sha256 else f"inception-{fingerprint(weights)[:8]}"


def read(path: Path) -> Tensors:
    """Weights from the published file, or from an .npz of NAME/w and NAME/b; recognised by its content.

    The latter may lack weights; every other name and shape must be that of the network. Raises ValueError, in one line,
    for a file that is broken or holds another network (what does not match is listed, nothing is loaded), or that has
    the published file's name and another SHA-256.
    """
    if not path.is_file():
        raise ValueError(f"no Inception weights at {path}: there is no such file")
    if path.name == FILE and (digest := _sha256(path)) != PUBLISHED.sha256:
        raise ValueError(f"{path} has SHA-256 {digest}, not {PUBLISHED.sha256}: it is not the official file")
    with path.open("rb") as file:
        start = file.read(len(ZIP))
    if not start.startswith((ZIP, PICKLE)):
        raise ValueError(f"{path} is no file of Inception weights: give {FILE}, or an .npz")
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if all(name.endswith(".npy") for name in archive.namelist()):
            return _from_npz(path)
    return from_torch(torch_file.read(path), path)


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
        with np.errstate(all="ignore"):  # a variance below -0.001 gives weights that are not finite
            scale = gamma / np.sqrt(var + EPSILON)
        weights[f"{name}/w"] = arrays[f"{torch}.conv.weight"].transpose(2, 3, 1, 0) * scale
        weights[f"{name}/b"] = beta - mean * scale
    return partial(path, weights)


def partial(path: Path, arrays: Mapping[str, np.ndarray]) -> Tensors:
    """Weights, float32, of which those after the first layer of features may be missing; ValueError for others."""
    with np.errstate(over="ignore"):
        weights = {n: np.ascontiguousarray(a, np.float32) if a.dtype.kind == FLOAT else a for n, a in arrays.items()}
    least = shapes(LAYERS[:1])
    _check(path, weights, {name: shape for name, shape in shapes().items() if name in arrays or name in least})
    return weights


def _check(path: Path, arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    if found := mismatches(arrays, expected):
        raise ValueError(f"{path} does not hold the Inception network of 2015-12-05: {', '.join(found)}")


def _from_npz(path: Path) -> Tensors:
    """Pickled entries are refused by NumPy; entries larger than their weights are not even read."""
    expected = {name: 8 * int(np.prod(shape)) + 4096 for name, shape in shapes().items()}
    with npz_reader.one_line(f"{path} holds no Inception weights"), zipfile.ZipFile(path) as archive:
        members = npz_reader.members(archive)
        odd = [name for name, info in members.items() if npz_reader.size(archive, info) > expected.get(name, 0)]
        if odd:
            raise ValueError(f"{first(odd)} {'is' if len(odd) == 1 else 'are'} unknown or too large")
        arrays = {name: npz_reader.load(archive, info) for name, info in members.items()}
    return partial(path, arrays)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(folder: Path) -> Path:
    """The published file, downloaded."""
    try:
        return fetch(PUBLISHED, folder / FILE)
    except DownloadError as error:
        reason = str(error).removeprefix(f"{PUBLISHED.url} ")
        raise ValueError(
            f"no Inception weights: fetch {PUBLISHED.url} and put the file into {folder} (it {reason})"
        ) from error
