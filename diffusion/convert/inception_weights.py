"""Weights of the FID's Inception network: from arrays by foreign names to ours, checked and folded.

Batch norm, y = gamma (c - mean) / sqrt(var + 0.001) + beta of a convolution c = w x, is folded into it: with
s = gamma / sqrt(var + 0.001), the weights are w s and the bias beta - mean s, computed in float64 and rounded once.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffusion.convert.inception_names import TORCH
from diffusion.nets.inception import LAYERS, shapes

Weights = dict[str, np.ndarray]
"""Weights by the names of nets.inception.shapes, float32."""

Shapes = Mapping[str, tuple[int, ...]]

EPSILON = 0.001
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
"""PyTorch's names of gamma, beta, mean and var."""

FLOATS = frozenset({"f"})


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


def from_torch(arrays: Mapping[str, np.ndarray], path: Path) -> Weights:
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
        kernel = arrays[f"{torch}.conv.weight"].transpose(2, 3, 1, 0)
        weights |= _folded(name, kernel, [arrays[f"{torch}.bn.{vector}"] for vector in BATCH_NORM])
    return _finite(path, weights)


def _folded(name: str, kernel: np.ndarray, batch_norm: list[np.ndarray]) -> Weights:
    gamma, beta, mean, var = (vector.astype(np.float64) for vector in batch_norm)
    with np.errstate(all="ignore"):  # a variance below 0 is found as a weight that is not finite
        scale = gamma / np.sqrt(var + EPSILON)
    return {f"{name}/w": kernel * scale, f"{name}/b": beta - mean * scale}


def partial(path: Path, arrays: Mapping[str, np.ndarray]) -> Weights:
    """Weights of which some may be missing, checked."""
    least = shapes(LAYERS[:1])
    _check(path, arrays, {name: shape for name, shape in shapes().items() if name in arrays or name in least})
    return _finite(path, arrays)


def _check(path: Path, arrays: Mapping[str, np.ndarray], expected: Shapes) -> None:
    """Raises ValueError unless names and shapes are those expected."""
    lists = {
        "missing": [name for name in expected if name not in arrays],
        "unknown": [name for name in arrays if name not in expected],
        "of another shape or type": [
            f"{name} {list(array.shape)}"
            for name, array in arrays.items()
            if name in expected and (array.shape != expected[name] or array.dtype.kind not in FLOATS)
        ],
    }
    if faults := [f"{len(names)} {kind} ({some(names)})" for kind, names in lists.items() if names]:
        raise ValueError(f"{path} does not hold the Inception network of 2015-12-05: {', '.join(faults)}")


def _finite(path: Path, weights: Mapping[str, np.ndarray]) -> Weights:
    """Float32 weights; ValueError if some are not finite."""
    with np.errstate(over="ignore"):
        result = {name: np.ascontiguousarray(values, np.float32) for name, values in weights.items()}
    if bad := [name for name, values in result.items() if not np.isfinite(values).all()]:
        raise ValueError(f"{path} has weights that are not finite: {some(bad)}")
    return result


def some(names: list[str]) -> str:
    """The first few names."""
    return ", ".join(name[:80] for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
