"""How the cells of published tables are measured: FID, inception score, bits/dim, rate and distortion."""

from collections.abc import Callable, Mapping
from typing import Any

from diffusion.convert.inception_weights import NETWORK
from diffusion.metrics import rate_distortion
from diffusion.published.table_types import Experiment, Measure
from diffusion.workdir.result_files import Result

ANCESTRAL = {"sampler": "ancestral", "grid": "full"}
TRUNCATED = "uint8 by truncation"
"""As result files spell it."""

Read = Callable[[Result], float | None]
"""Reads a number of a result; None where it has none."""


def value(key: str) -> Read:
    """Reads one value."""
    return lambda result: result.values.get(key)


def frechet(result: Result) -> float | None:
    """The distance in a result: "fid", or "fid_<n>" from n < 50,000 samples."""
    return next((number for key, number in result.values.items() if key.partition("_")[0] == result.name), None)


def on_curve(result: Result, reverse_time: int, axis: int) -> float | None:
    """Bits/dim sent until reverse step `reverse_time` = T - t + 1 (axis 0), or the root mean squared error of x_0_hat
    there in pixel levels (1); None where the result has no such step. DDPM table 4."""
    terms, errors = (result.series.get(name, []) for name in ("terms", "x_0_rmse"))
    prior = result.values.get("L_T")
    if prior is None or len(terms) != len(errors) or not 1 <= reverse_time <= len(terms):
        return None
    return float(rate_distortion.curve(prior, terms, errors)[axis][len(terms) - reverse_time])


def fid(
    experiment: Experiment,
    reference: str = "train",
    images: int = 50_000,
    chain: Mapping[str, Any] | None = None,
    clip: bool | None = None,
    truncated: bool = False,
) -> Measure:
    """FID of samples against a split of the data; chain and clipping default to the config's.

    truncated: the authors cut pixel levels instead of rounding them.
    """
    texts = {key: f"{x:g}" if isinstance(x, float) else x for key, x in (chain or {}).items()}
    flags = ["--metrics=fid", f"--n={images}", f"--split={reference}", *(f"--{key}={x}" for key, x in texts.items())]
    return Measure(
        experiment,
        "fid",
        frechet,
        images,
        chain={**(chain or ANCESTRAL), "reference.split": reference},
        binding={"weights": "ema", "features": NETWORK},
        loose=_clip(experiment, clip) | ({"quantisation": TRUNCATED} if truncated else {}),
        flags=(*flags, "--truncate") if truncated else tuple(flags),
        exact=True,
    )


def inception_score(experiment: Experiment, images: int = 50_000) -> Measure:
    """Inception score over 10 splits."""
    binding = {"weights": "ema", "features": NETWORK}
    flags = ("--metrics=inception_score", f"--n={images}")
    protocol = (ANCESTRAL, binding, _clip(experiment), flags)
    return Measure(experiment, "inception_score", value("mean"), images, *protocol, error="std")


def nll(experiment: Experiment, split: str = "test", images: int = 10_000, read: Read | None = None) -> Measure:
    """The bound in bits/dim, or another number of the same result, over at least `images` images of a split."""
    flags = ("--metrics=nll", f"--split={split}")
    protocol = ({"grid": "full", "split": split}, {"weights": "ema"}, _clip(experiment), flags)
    error = "" if read else "standard_error"
    return Measure(experiment, "nll", read or value("bits_per_dim"), images, *protocol, error=error)


def _clip(experiment: Experiment, clip: bool | None = None) -> dict[str, Any]:
    return {"clip": experiment.values()["sample.clip"] if clip is None else clip}
