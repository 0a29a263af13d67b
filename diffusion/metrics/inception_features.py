"""Features of the FID's Inception network, in which distances between sets of images are measured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffusion.convert.inception_weights import fingerprint, load, offered
from diffusion.nets.inception import SIZE, Inception, preprocess, shapes, variables


class Extractor(NamedTuple):
    """A network with fixed weights that turns images into features."""

    name: str
    """Of the network; one that computes in another type than float32 has that type in its name."""
    weights: str
    """SHA-256 of its weights, as float32 by this project's names: the same for every file format."""
    layers: tuple[str, ...]
    """Of "768", "1280", "2048", "logits" (with bias) and "logits_unbiased"."""
    extract: Callable[[np.ndarray], dict[str, np.ndarray]]
    """uint8 [n, H, W, 1 or 3], n > 0 -> layer -> float32 [n, D]. What an image gives does not depend on the others nor,
    but for rounding, on batch size and devices; the same call gives the same bits."""


def inception(weights: Path | None = None, batch_size: int = 64, layers: Sequence[str] | None = None) -> Extractor:
    """The FID's network with the weights in a file, by default the published ones (`convert.inception_weights.load`).

    layers: those to compute, by default all that the weights allow. Raises ValueError, in one line, where there are no
    weights (it names what to fetch and where to put it), and where a file is damaged or lacks those of a layer.
    """
    values, name = load(weights)
    return extractor(values, batch_size, layers=layers, name=name)


def extractor(
    weights: Mapping[str, np.ndarray],
    batch_size: int = 64,
    dtype: Any = jnp.float32,
    layers: Sequence[str] | None = None,
    size: int = SIZE,
    name: str = "",
) -> Extractor:
    """An Extractor of weights by this project's names. size: of the network's input; the published one is 299.

    name: of the network, by default "inception-" and eight digits of the fingerprint. dtype: bfloat16 is faster on
    accelerators and gives other features, whose distances are not comparable with the published ones. Raises
    ValueError where the weights of a layer are missing.
    """
    available = offered(weights)
    chosen = available if layers is None else tuple(layers)
    for layer in chosen:
        if lacking := sorted(shapes((layer,)).keys() - weights.keys()):
            raise ValueError(
                f"layer {layer} needs {len(lacking)} weights that the file lacks ({', '.join(lacking[:4])} ...): "
                f"choose from {', '.join(available)}"
            )
    devices = jax.local_devices()
    mesh = Mesh(np.array(devices), ("data",))
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    rows = -(-batch_size // len(devices)) * len(devices)
    network = Inception(chosen, dtype)
    params = jax.device_put(variables(weights, chosen), whole)
    compute = jax.jit(lambda params, pixels: network.apply(params, preprocess(pixels, size)), out_shardings=split)

    def extract(images: np.ndarray) -> dict[str, np.ndarray]:
        parts: list[dict[str, np.ndarray]] = []
        for i in range(0, len(images), rows):
            part = images[i : i + rows]
            filled = np.concatenate([part, np.zeros((rows - len(part), *part.shape[1:]), np.uint8)])
            out: Any = compute(params, jax.device_put(filled, split))
            parts.append({layer: values[: len(part)] for layer, values in jax.device_get(out).items()})
        return {layer: np.concatenate([part[layer] for part in parts]) for layer in chosen}

    kind = jnp.dtype(dtype)
    suffix = "" if kind == jnp.float32 else f"-{kind.name}"
    digest = fingerprint(weights)
    return Extractor(f"{name or f'inception-{digest[:8]}'}{suffix}", digest, chosen, extract)
