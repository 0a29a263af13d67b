"""The variational bound over a data set."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.data.source import Source
from diffusion.data.transforms import to_image
from diffusion.elbo import Bound, bits_per_dim
from diffusion.sampling.loop import image_keys
from diffusion.types import Image, Keys, Labels, PerExample


class Likelihood(NamedTuple):
    """The bound of a data set, averaged over images; bits/dim but for x_0_rmse."""

    images: int
    total: float
    standard_error: float
    """Of `total`, over images."""
    prior: float
    """L_T."""
    steps: float
    """sum of L_{t-1} over t > 1."""
    decoder: float
    """L_0."""
    terms: np.ndarray
    """[T]: entry t - 1 is the term of step t."""
    x_0_rmse: np.ndarray
    """[T]: root mean squared error of x_0_hat at step t = entry + 1, in pixel levels 0..255."""

    def report(self) -> dict[str, float]:
        """The scalars, for a JSON file or a log line."""
        return {
            "bits_per_dim": self.total,
            "standard_error": self.standard_error,
            "L_T": self.prior,
            "L_steps": self.steps,
            "L_0": self.decoder,
            "images": self.images,
        }


def padded(indices: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """`indices` cut into batches of one size, the last filled up by repeating its last entry."""
    batches = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    return [np.pad(b, (0, batch_size - len(b)), mode="edge") for b in batches]


def likelihood(
    bound: Callable[[Keys, Image, Labels], Bound],
    source: Source,
    indices: Sequence[int] | np.ndarray,
    batch_size: int,
    seed: int,
) -> Likelihood:
    """The bound over the images at `indices`, one noise draw per image and step, without augmentation.

    Image i uses fold_in(seed, i), so neither the batch size nor the number of devices changes the result. `bound` is
    jitted by the caller. Raises ValueError if there are no images.
    """
    index = np.asarray(indices, np.int64)
    if len(index) == 0:
        raise ValueError("the bound needs at least one image")
    priors, terms, errors = [], [], []
    for part in padded(index, batch_size):
        pixels, labels = source.read(part)
        found = bound(image_keys(seed, jnp.asarray(part)), to_image(jnp.asarray(pixels)), jnp.asarray(labels))
        result = jax.device_get(found)
        priors.append(result.prior)
        terms.append(result.terms)
        errors.append(result.x_0_mse)
    n, dims = len(index), int(np.prod(source.shape))

    def joined(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts)[:n].astype(np.float64)

    total = bits_per_dim(joined(priors) + joined(terms).sum(axis=1), dims)
    per_t = bits_per_dim(joined(terms).mean(axis=0), dims)
    return Likelihood(
        images=n,
        total=float(total.mean()),
        standard_error=float(total.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"),
        prior=float(bits_per_dim(joined(priors).mean(), dims)),
        steps=float(per_t[1:].sum()),
        decoder=float(per_t[0]),
        terms=per_t,
        x_0_rmse=127.5 * np.sqrt(joined(errors).mean(axis=0)),
    )


def quick(
    estimate: Callable[[Keys, Image, Labels], PerExample],
    source: Source,
    indices: Sequence[int] | np.ndarray,
    batch_size: int,
    seed: int,
) -> tuple[float, float]:
    """Mean and standard error, in bits/dim, of an unbiased estimate of the bound that visits only some steps."""
    index = np.asarray(indices, np.int64)
    parts = []
    for part in padded(index, batch_size):
        pixels, labels = source.read(part)
        parts.append(
            jax.device_get(
                estimate(image_keys(seed, jnp.asarray(part)), to_image(jnp.asarray(pixels)), jnp.asarray(labels))
            )
        )
    values = bits_per_dim(np.concatenate(parts)[: len(index)].astype(np.float64), int(np.prod(source.shape)))
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(values.mean()), error
