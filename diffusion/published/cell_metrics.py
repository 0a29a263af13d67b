"""How the cells of published tables are measured: FID, inception score, bits/dim, rate and distortion."""

from collections.abc import Callable

from diffusion.convert.inception_weights import NETWORK
from diffusion.metrics import rate_distortion
from diffusion.published.cells import Experiment, Measure
from diffusion.workdir.results import Result

ANCESTRAL = {"sampler": "ancestral", "grid": "full"}
TRUNCATED = "uint8 by truncation"
"""As result files spell it."""


def value(key: str) -> Callable[[Result], float | None]:
    """Reads one value of a result."""
    return lambda result: result.values.get(key)


def frechet(result: Result) -> float | None:
    """The distance in a result: "fid", or "fid_<n>" from n < 50,000 samples."""
    return next((number for key, number in result.values.items() if key.partition("_")[0] == result.name), None)


def rate(reverse_time: int) -> Callable[[Result], float | None]:
    """Bits/dim sent until reverse step `reverse_time` = T - t + 1. DDPM table 4."""
    return lambda result: _on_curve(result, reverse_time, 0)


def rmse(reverse_time: int) -> Callable[[Result], float | None]:
    """Root mean squared error of x_0_hat in pixel levels at that reverse step. DDPM table 4."""
    return lambda result: _on_curve(result, reverse_time, 1)


def _on_curve(result: Result, reverse_time: int, axis: int) -> float | None:
    """Rate (axis 0) or distortion (1); None where the result has no such step."""
    terms, errors = (result.series.get(name, []) for name in ("terms", "x_0_rmse"))
    prior = result.values.get("L_T")
    if prior is None or len(terms) != len(errors) or not 1 <= reverse_time <= len(terms):
        return None
    return float(rate_distortion.curve(prior, terms, errors)[axis][len(terms) - reverse_time])


def fid(
    experiment: Experiment,
    reference: str = "train",
    images: int = 50_000,
    chain: dict | None = None,
    clip: bool | None = None,
    truncated: bool = False,
) -> Measure:
    """FID of samples against a split of the data; chain and clipping default to the config's.

    truncated: the authors cut pixel levels instead of rounding them.
    """
    flags = [
        f"--{key}={text:g}" if isinstance(text, float) else f"--{key}={text}" for key, text in (chain or {}).items()
    ]
    return Measure(
        experiment,
        "fid",
        frechet,
        images,
        exact=True,
        chain=chain or ANCESTRAL,
        binding={"weights": "ema", "reference.split": reference, "features": NETWORK},
        loose={
            "clip": experiment.resolve().sample.clip if clip is None else clip,
            **({"quantisation": TRUNCATED} if truncated else {}),
        },
        flags=(
            *("--metrics=fid", f"--n={images}", f"--split={reference}", *flags),
            *(["--truncate"] if truncated else []),
        ),
    )


def inception_score(experiment: Experiment, images: int = 50_000) -> Measure:
    """Inception score over 10 splits."""
    return Measure(
        experiment,
        "inception_score",
        value("mean"),
        images,
        exact=False,
        chain=ANCESTRAL,
        binding={"weights": "ema", "features": NETWORK},
        loose={"clip": experiment.resolve().sample.clip},
        error="std",
        flags=("--metrics=inception_score", f"--n={images}"),
    )


def nll(
    experiment: Experiment,
    split: str = "test",
    images: int = 10_000,
    read: Callable[[Result], float | None] | None = None,
) -> Measure:
    """The bound in bits/dim, or another number of the same result, over at least `images` images of a split."""
    return Measure(
        experiment,
        "nll",
        read or value("bits_per_dim"),
        images,
        exact=False,
        chain={"grid": "full"},
        binding={"weights": "ema", "split": split},
        loose={"clip": experiment.resolve().sample.clip},
        error="" if read else "standard_error",
        flags=("--metrics=nll", f"--split={split}"),
    )
