"""The variational bound over a data set."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.elbo import Bound, bits_per_dim
from diffusion.core.types import Array, Image, Keys, Labels, PerExample
from diffusion.data.source import Source
from diffusion.data.transforms import to_image
from diffusion.metrics.partial_results import Kept
from diffusion.sampling.loop import image_keys


class Likelihood(NamedTuple):
    """The bound of a data set, averaged over images; bits/dim but for x_0_rmse. Errors are standard errors."""

    images: int
    total: float
    """prior + the sum of `terms`."""
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
    prior_error: float = float("nan")
    steps_error: float = float("nan")
    decoder_error: float = float("nan")
    terms_error: np.ndarray = np.zeros(0)
    """[T], like `terms`."""

    @property
    def rate(self) -> float:
        """Bits/dim that are sent before the last step: L_1 + ... + L_T. DDPM section 4.3: 1.78 on CIFAR-10."""
        return self.prior + self.steps

    @property
    def distortion(self) -> float:
        """Bits/dim of the last step, L_0. DDPM section 4.3: 1.97 on CIFAR-10."""
        return self.decoder

    def report(self) -> dict[str, float]:
        """The scalars, for a JSON file or a log line."""
        return {
            "bits_per_dim": self.total,
            "standard_error": self.standard_error,
            "L_T": self.prior,
            "L_steps": self.steps,
            "L_0": self.decoder,
            "L_T_standard_error": self.prior_error,
            "L_steps_standard_error": self.steps_error,
            "L_0_standard_error": self.decoder_error,
            "rate": self.rate,
            "distortion": self.distortion,
            "rmse": float(self.x_0_rmse[0]),
            "images": self.images,
        }

    def series(self) -> dict[str, list[float]]:
        """The values of each step t = entry + 1, for a JSON file."""
        found = {"terms": self.terms, "terms_standard_error": self.terms_error, "x_0_rmse": self.x_0_rmse}
        return {name: [float(value) for value in values] for name, values in found.items()}


class Sums(NamedTuple):
    """Mean and sum of squared deviations over images of L_T, sum of L_{t-1}, the total, every term, every error of x_0.

    float64 [2 T + 3], in nats and in the units of x; memory does not grow with the number of images.
    """

    images: int
    mean: np.ndarray
    square: np.ndarray

    def merged(self, other: "Sums") -> "Sums":
        """Those of both sets of images together. Chan, Golub and LeVeque 1983: no squares of large numbers cancel."""
        n = self.images + other.images
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.images / n)
        return Sums(n, mean, self.square + other.square + shift**2 * (self.images * other.images / n))

    def likelihood(self, dims: int) -> Likelihood:
        """In bits/dim, for examples of so many dimensions."""
        T = (len(self.mean) - 3) // 2
        mean = bits_per_dim(self.mean[: T + 3], dims)
        spread = self.square[: T + 3] / max(self.images - 1, 1) / self.images
        error = bits_per_dim(np.sqrt(spread if self.images > 1 else np.full_like(spread, np.nan)), dims)
        terms = mean[3:]
        return Likelihood(
            images=self.images,
            total=float(mean[0] + terms.sum()),
            standard_error=float(error[2]),
            prior=float(mean[0]),
            steps=float(terms[1:].sum()),
            decoder=float(terms[0]),
            terms=terms,
            x_0_rmse=127.5 * np.sqrt(self.mean[T + 3 :]),
            prior_error=float(error[0]),
            steps_error=float(error[1]),
            decoder_error=float(error[3]),
            terms_error=error[3:],
        )


@jax.jit
def _reduced(found: Bound, known: Array) -> tuple[Array, Array]:
    """Mean and sum of squared deviations over the rows of a batch that are known, the others being its padding.

    On the device, so that per step one number leaves it and not one per image.
    """
    steps = found.terms[:, 1:].sum(axis=1)
    head = jnp.stack([found.prior, steps, found.total], axis=1)
    columns = jnp.concatenate([head, found.terms, found.x_0_mse], axis=1)
    rows = known[:, None]
    mean = jnp.where(rows, columns, 0).sum(axis=0) / known.sum()
    return mean, jnp.where(rows, (columns - mean[None]) ** 2, 0).sum(axis=0)


def padded(indices: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """`indices` cut into batches of one size, the last filled up by repeating its last entry."""
    batches = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    return [np.pad(b, (0, batch_size - len(b)), mode="edge") for b in batches]


def sums(
    bound: Callable[[Keys, Image, Labels], Bound],
    source: Source,
    indices: np.ndarray,
    batch_size: int,
    seed: int,
    start: Sums | None = None,
) -> Iterator[Sums]:
    """The sums after each batch; `start` holds those of the first `start.images` of the indices, done before."""
    done = start
    first = start.images if start else 0
    for i, part in enumerate(padded(indices[first:], batch_size)):
        known = np.arange(batch_size) < len(indices) - first - i * batch_size
        pixels, labels = source.read(part)
        found = bound(image_keys(seed, jnp.asarray(part)), to_image(jnp.asarray(pixels)), jnp.asarray(labels))
        mean, square = jax.device_get(_reduced(found, jnp.asarray(known)))
        new = Sums(int(known.sum()), mean.astype(np.float64), square.astype(np.float64))
        done = done.merged(new) if done else new
        yield done


def likelihood(
    bound: Callable[[Keys, Image, Labels], Bound],
    source: Source,
    indices: Sequence[int] | np.ndarray,
    batch_size: int,
    seed: int,
    kept: Kept | None = None,
    progress: Callable[[int], object] = lambda done: None,  # noqa: ARG005
) -> Likelihood:
    """The bound over the images at `indices`, one noise draw per image and step, without augmentation.

    Image i uses fold_in(seed, i), so neither the batch size nor the number of devices changes the result but for the
    rounding of sums. `bound` is jitted by the caller; every batch has one shape. With `kept`, whose key must name
    bound, images, indices and seed, an interrupted call goes on where it stopped, and ends in the same bits if the
    batch size is the same. `progress` is told how many images are done. Raises ValueError if there are no images.
    """
    index = np.asarray(indices, np.int64)
    if len(index) == 0:
        raise ValueError("the bound needs at least one image")
    saved = kept.load() if kept else {}
    done = Sums(int(saved["images"]), saved["mean"], saved["square"]) if saved else None
    progress(done.images if done else 0)
    try:
        for new in sums(bound, source, index, batch_size, seed, done):
            done = new
            progress(done.images)
            if kept:
                kept.offer(_arrays(done))
    finally:
        if kept and done:
            kept.save(_arrays(done))
    assert done is not None
    return done.likelihood(int(np.prod(source.shape)))


def _arrays(done: Sums) -> dict[str, np.ndarray]:
    return {"images": np.array(done.images), "mean": done.mean, "square": done.square}


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
