"""A run made of an average that another run did not keep: any width, from its power-function averages."""

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion.commands.import_weights import write_run
from diffusion.experiment import build
from diffusion.training import weight_averages
from diffusion.training.state import TrainState
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints
from diffusion.workdir.run_config import lock, read_run


def reconstruct(folder: Path, out: Path, width: float, step: int | None, report: Callable[[str], None]) -> None:
    """Makes a run's folder whose averaged weights have this width, at a step of the run, by default its newest.

    All intact checkpoints up to that step are used, but for those before the first update. Raises ValueError where
    the run keeps no power-function averages, has no such step or no update up to it, the width is none, or `out` holds
    a run; nothing is written then.
    """
    run = read_run(folder)
    experiment = build.experiment(run.config, run.shape, run.classes)
    weight_averages.gamma_of(width)
    if manifest.newest(out):
        raise ValueError(f"{out} holds a run already: give another --out")
    with closing(RunCheckpoints(folder)) as streams:

        def load(chosen: int | None) -> tuple[TrainState, weight_averages.Averaged]:
            state, _ = streams.load(lambda: experiment.fresh().like, chosen, report)
            return state, weight_averages.find(state.opt_state)

        last, averaged = load(step)
        counts: dict[int, int] = {}
        for each in streams.steps():
            with suppress(ValueError):  # a damaged step, which is reported
                counts[each] = int(load(each)[1].count) if each <= int(last.step) else 0
        steps = [each for each, count in counts.items() if count]  # without an update there is no average
        if not steps:
            raise ValueError(f"{folder}: no update was made up to step {int(last.step)}; give a later --step")
        weights = weight_averages.reconstruction([counts[each] for each in steps], int(averaged.count), width)
        total: Any = jax.tree.map(lambda p: np.zeros(p.shape), last.ema)
        for row, each in zip(weights, steps, strict=True):
            for weight, average in zip(row, load(each)[1].averages, strict=True):
                total = jax.tree.map(lambda t, p, w=weight: t + w * np.asarray(p, np.float64), total, average)
    ema = jax.tree.map(np.float32, total)
    origin = {"from": str(folder), "width": width, "step": int(last.step), "checkpoints": steps}
    with lock(out, "out"):
        write_run(out, experiment, run, int(last.step), ema, jax.device_get(last.params), origin)
    report(
        f"average     width {width:g} at step {int(last.step)}, from {len(steps)} checkpoints with two averages each"
    )
    report(f"folder      {out}")
