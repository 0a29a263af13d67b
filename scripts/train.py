"""Trains a diffusion model, or goes on with a run that stopped.

    python scripts/train.py                                        # handwritten digits, minutes on a CPU
    python scripts/train.py --config=configs/cifar10.py            # the paper's CIFAR-10 experiment
    python scripts/train.py --config=configs/cifar10.py --config.optim.lr=1e-4 --workdir=runs/slow
"""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion import cli, runtime

CONFIG = cli.define_config("configs/digits.py")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; by default runs/<config name>")


def main() -> None:
    config = CONFIG.value
    warnings.showwarning = lambda message, *_, **__: say(f"WARNING     {message}")
    cache = runtime.configure(config.compilation_cache)

    from diffusion import build, experiment, workdir
    from diffusion.paper import deviations
    from diffusion.training import loop, report
    from diffusion.training.checkpoint import Checkpoints
    from diffusion.training.metrics import Writer
    from diffusion.training.sharding import make_mesh
    from diffusion.validation import validate

    folder = Path(WORKDIR.value or Path("runs") / CONFIG.name)
    mesh = make_mesh()
    devices = report.describe_devices(list(mesh.devices.flat))
    source, held_out = build.source(config, train=True), build.source(config, train=False)
    validate(config, size=source.shape[0])
    ours = build.experiment(config, source.shape, source.classes, mesh)
    known = workdir.open_run(folder, workdir.Run(config, source.shape, source.classes), devices)
    say(f"folder      {folder}" + (" (taken up again)" if known else ""))
    say(f"device      {devices}, compiled programs kept in {cache or 'memory only'}")
    checkpoints = Checkpoints(folder / "checkpoints", config.train.keep)
    state = ours.create_state()
    newest = checkpoints.latest()
    if newest is not None:
        state = checkpoints.restore(newest, state)
        say(f"checkpoint  goes on from step {newest}")

    feed = ours.feed(source)
    for line in experiment.describe(ours, source, held_out, state, feed):
        say(line)
    for line in deviations(config):
        say(f"not paper's {line}")

    writer = Writer(folder, int(state.step))
    try:
        state = loop.train(
            ours.task(),
            ours.update(),
            feed,
            state,
            experiment.plan(config),
            experiment.hooks(ours, held_out),
            writer,
            checkpoints,
            say,
            compiled=lambda program: say(experiment.describe_memory(program, state)),
        )
        experiment.finish(ours, source, held_out, state, folder, writer, say)
    finally:
        writer.close()
        checkpoints.close()


def say(line: str) -> None:
    """The console report goes to stderr, so that it appears at once and does not mix with results."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
