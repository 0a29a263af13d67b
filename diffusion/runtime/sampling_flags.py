"""Flags of scripts that draw samples: the sampler with its steps, and guidance. None is the config's value."""

from collections.abc import Callable
from typing import Any

from absl import flags


def define_sampler() -> Callable[[], dict[str, Any]]:
    """Defines --sampler, --grid, --steps, --eta and --truncate; returns what gives them as arguments of Chain.

    It raises ValueError where both --grid and --steps are given.
    """
    sampler = flags.DEFINE_string(
        "sampler", None, "ancestral, ddim, heun, ... (sample.sampler); by default the config's"
    )
    grid = flags.DEFINE_string(
        "grid", None, "steps visited: 50, 10,15,20, ddim50, quad50 or full; by default the config's"
    )
    steps = flags.DEFINE_integer("steps", None, "--steps=50 is short for --grid=50", lower_bound=1)
    eta = flags.DEFINE_float("eta", None, "noise of ddim, from 0 to 1; by default the config's", 0.0, 1.0)
    truncate = flags.DEFINE_bool(
        "truncate", False, "truncate pixel values of samples instead of rounding, as the original code does"
    )

    def chain() -> dict[str, Any]:
        if steps.value and grid.value is not None:
            raise ValueError(f"--steps={steps.value} and --grid={grid.value} contradict each other; give one of them")
        visited = str(steps.value) if steps.value else grid.value
        return {"sampler": sampler.value, "grid": visited, "eta": eta.value, "truncate": truncate.value}

    return chain


def define_guidance() -> Callable[[], dict[str, Any]]:
    """Defines --guidance, --guidance_from, --guidance_to and --classifier; returns what gives those that were given, as
    keys of the config.
    """
    of_config = "by default the config's"
    defined = (
        flags.DEFINE_float("guidance", None, f"scale of guidance, 0 for none; {of_config}", 0.0),
        flags.DEFINE_float("guidance_from", None, f"no guidance below this share of T; {of_config}", 0.0, 1.0),
        flags.DEFINE_float("guidance_to", None, f"no guidance above this share of T; {of_config}", 0.0, 1.0),
        flags.DEFINE_string("classifier", None, "run of scripts/train_classifier.py that guides; '' for none"),
    )
    return lambda: {f"sample.{flag.name}": flag.value for flag in defined if flag.value is not None}
