"""The ways in which cells of published tables are measured."""

from collections.abc import Callable

from diffusion.core import respacing
from diffusion.metrics import rate_distortion
from diffusion.published.cells import Experiment, Measure
from diffusion.workdir.results import Result

ANCESTRAL = {"sampler": "ancestral", "grid": "full"}
TRUNCATED = "uint8 by truncation"
"""As result files spell it."""


def value(key: str) -> Callable[[Result], float | None]:
    """Reads one of a result's values."""
    return lambda result: result.values.get(key)


def frechet(result: Result) -> float | None:
    """The distance in a result: "fid", or "fid_<n>" where it is that of fewer than 50,000 samples."""
    return next((found for key, found in result.values.items() if key.partition("_")[0] == result.name), None)


def rate(reverse_time: int) -> Callable[[Result], float | None]:
    """Bits/dim sent when the chain has come to the step t of which `reverse_time` is T - t + 1. DDPM table 4."""
    return lambda result: _on_curve(result, reverse_time, 0)


def rmse(reverse_time: int) -> Callable[[Result], float | None]:
    """Root mean squared error of x_0_hat in pixel levels at that step. DDPM table 4."""
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
    """FID of samples against a split of the data; chain and clipping are the config's unless told.

    truncated: whether levels of samples are cut instead of rounded, as where the authors say so.
    """
    loose = {"quantisation": TRUNCATED} if truncated else {}
    truncating = ("--truncate",) if truncated else ()
    return _samples(experiment, "fid", frechet, images, chain, clip, loose, exact=True)._replace(
        binding={"weights": "ema", "reference.split": reference},
        flags=("--metrics=fid", f"--n={images}", f"--split={reference}", *_chain_flags(chain), *truncating),
    )


def inception_score(experiment: Experiment, images: int = 50_000) -> Measure:
    """Inception score over 10 splits."""
    return _samples(experiment, "inception_score", value("mean"), images, None, None, {}, exact=False)._replace(
        binding={"weights": "ema"}, error="std", flags=("--metrics=inception_score", f"--n={images}")
    )


def nll(
    experiment: Experiment,
    split: str = "test",
    images: int = 10_000,
    read: Callable[[Result], float | None] | None = None,
) -> Measure:
    """The whole bound in bits/dim, or another number of the same result; over at least so many images of a split."""
    config = experiment.resolve()
    return Measure(
        experiment,
        "nll",
        read or value("bits_per_dim"),
        images,
        exact=False,
        chain={"grid": "full"},
        binding={"weights": "ema", "split": split},
        loose={"clip": config.sample.clip},
        error="" if read else "standard_error",
        evaluations=config.diffusion.T,
        flags=("--metrics=nll", f"--split={split}"),
    )


def _samples(
    experiment: Experiment,
    metric: str,
    read: Callable[[Result], float | None],
    images: int,
    chain: dict | None,
    clip: bool | None,
    loose: dict[str, str],
    exact: bool,
) -> Measure:
    config = experiment.resolve()
    walked = chain or ANCESTRAL
    return Measure(
        experiment,
        metric,
        read,
        images,
        exact,
        chain=walked,
        binding={},
        loose={"clip": config.sample.clip if clip is None else clip, **loose},
        evaluations=len(respacing.parse(walked["grid"])(config.diffusion.T)) - 1,
    )


def _chain_flags(chain: dict | None) -> list[str]:
    return [
        f"--{key}={text:g}" if isinstance(text, float) else f"--{key}={text}" for key, text in (chain or {}).items()
    ]
