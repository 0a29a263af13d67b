"""What scripts/train.py and scripts/ablate.py run: a training run, from its folder to its closing report."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from diffusion.commands import advice_when_out_of_memory, export_weights, previews_during_training
from diffusion.config.validation import doubts, remarks, validate
from diffusion.convert import name_mapping
from diffusion.data.dataset_identity import Identity, identity, listed, of_copies
from diffusion.data.dataset_interface import Source, require_labels
from diffusion.distributed import agreement_between_processes
from diffusion.distributed.sharding import make_mesh
from diffusion.evaluation.evaluation_after_training import Summary, measure, write
from diffusion.evaluation.fewer_images_on_cpu import Budget, forward_flops
from diffusion.evaluation.measurement_protocol import Subject
from diffusion.experiment import build
from diffusion.experiment.build import Experiment
from diffusion.nets.unet import UNet
from diffusion.published.differences_of_config_from_paper import deviations
from diffusion.runtime import format_numbers
from diffusion.runtime.signals import Stop
from diffusion.training import loop, profiling
from diffusion.training.batch_feed import Feed
from diffusion.training.compare_with_recorded_curve import Watch, recorded
from diffusion.training.periodic_actions import Action, Estimate, Report, draw, keep, save
from diffusion.training.progress_lines_and_metrics import Log, Progress
from diffusion.training.state import Params, TrainState
from diffusion.workdir.check_same_data import absolute, require_same_data
from diffusion.workdir.jsonl_and_tensorboard_writer import NullWriter, Writer
from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints
from diffusion.workdir.run_config import Run, exists, lock, read_run, write_config


def run(
    config: ConfigDict,
    folder: Path,
    report: Report,
    stop: Stop | None = None,
    profile: bool = False,
    accept: bool = False,
) -> Summary:
    """Trains in a folder, or resumes the run in it; the final measurements.

    `report` prints one line. `accept`: resume with other data than the run was made with; `profile`: trace a few steps.
    The compiler's settings must be in place (runtime/before_jax.py). Raises ValueError where folder, config, data and
    devices do not fit together, and where the last state cannot be saved; Diverged where the loss does not stay finite;
    Stopped, the state saved, when `stop` was requested. With several processes all call it alike; process 0 reports,
    and all write the checkpoints together.
    """
    since, stop, leads = time.monotonic(), stop or Stop(), jax.process_index() == 0
    report = report if leads else _silent
    with ExitStack() as stack:
        opened = open_folder(absolute(config), folder, accept, stack, report)
        experiment, source, held_out, data = opened.experiment, opened.source, opened.held_out, opened.data
        c = experiment.config.train

        def before_seal() -> None:
            """No checkpoint is complete before the metrics up to it and the run's config are on disk."""
            writer.sync()
            opened.claim()

        streams = RunCheckpoints(folder, c.keep, opened.owner.content, before_seal)
        stack.callback(lambda: [report(line) for line in streams.close()])
        abstract, initialise = experiment.fresh()
        resumed = streams.resume(abstract, report)
        state = initialise() if resumed is None else resumed
        first = int(state.step)
        if resumed is not None:
            report(f"checkpoint  resumed from step {first}")
            loop.require_steps_left(first, c.steps)
            opened.claim()

        feed, budget = experiment.feed(source), afford(experiment)
        for line in describe(experiment, source, held_out, data, state, feed, budget.forward):
            report(line)
        traced = profiling.traced(feed, folder / "profile", report) if profile else feed
        writer = stack.enter_context(closing(Writer(folder, first, opened.held) if opened.held else NullWriter()))
        progress = Progress(first, c.steps, c.batch_size, report, since)
        advice = advice_when_out_of_memory.advice(experiment.config, experiment.mesh.size)
        training = loop.Training(experiment.task(), experiment.update(), traced, c.steps, c.steps_per_dispatch, advice)
        estimate = previews_during_training.estimate(experiment, held_out, feed, budget)
        preview = previews_during_training.preview(experiment, held_out, budget, report)
        log = Log(c.log_every, training.update.guard, writer, progress, Watch(recorded(experiment.config), report))
        periodic = periodic_actions(c, streams, writer, report, stop, estimate, preview)
        state = loop.train(training, state, log, periodic, (streams.rolling, streams.permanent), stop)

        subject = Subject(experiment, state.ema, folder, int(state.step), raw=False, data=data)
        summary = measure(subject, source, held_out, budget, stack.enter_context(stop.together()))
        try:
            finish(subject, held_out, summary, writer, report)
        finally:  # where a full disk prevents the report too, the error is that of the state
            streams.rolling.require(int(state.step), state)
        return summary


class Opened(NamedTuple):
    """A run's folder, held by process 0, and what is trained in it."""

    experiment: Experiment
    source: Source
    held_out: Source
    data: Identity
    owner: Run
    held: Callable[[], None] | None
    """Raises ValueError where the lock on the folder is lost; None in other processes than 0."""
    claim: Callable[[], None]
    """Writes config.json, in process 0."""


def open_folder(
    config: ConfigDict, folder: Path, accept: bool, stack: ExitStack, report: Report, classifier: bool = False
) -> Opened:
    """Checks config, data and devices, and takes the folder for as long as `stack` is open; see `run` for the errors.

    A mistake that process 0 alone can find ends all processes. classifier: whether the run is one of
    scripts/train_classifier.py, which needs labels.
    """
    mesh, leads = make_mesh(), jax.process_index() == 0
    with agreement_between_processes.mistakes_shared():
        source, held_out = build.sources(config)
        checked = config
        if classifier:
            require_labels(source, "config.data.name", "a classifier learns them: use data with labels (docs/data.md)")
            checked = config.copy_and_resolve_references()
            checked.net.name = "unet"  # a classifier is the half of one: its levels and heads must fit the images
        elif config.net.class_conditional:
            require_labels(
                source, "config.net.class_conditional", "set it to false, or use data with labels (docs/data.md)"
            )
        data = identity(source, held_out)
        validate(checked, size=source.shape[0])
        experiment = build.experiment(config, source.shape, source.classes, mesh)
        owner = Run(config, source.shape, source.classes, data)
        held = stack.enter_context(lock(folder)) if leads else None
        existing = leads and exists(folder, owner, classifier)
        notes = require_same_data(read_run(folder), data, accept, classifier or None) if existing else []
    existing = agreement_between_processes.shared(existing)
    copies = of_copies(data, source, held_out)
    agreement_between_processes.require_same(
        {"the data": copies, "--workdir being on a shared disk": (folder / "lock").exists()}
    )
    for line in notes:
        report(f"data        {line}")
    devices = format_numbers.describe_devices(list(mesh.devices.flat))
    report(f"folder      {folder}" + (" (existing run)" if existing else ""))
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "memory only")
    report(f"device      {devices}, compiled programs cached in {cache}")
    claim = partial(write_config, folder, owner, devices) if leads else lambda: None
    return Opened(experiment, source, held_out, data, owner, held, claim)


def periodic_actions(
    c: ConfigDict,
    streams: RunCheckpoints,
    writer: Writer,
    report: Report,
    stop: Stop,
    estimate: Callable[[TrainState], dict[str, float]],
    preview: Callable[[Params], Any],
) -> list[Action]:
    """What a run does beside its steps: each is a period of config.train and an action, performed in this order."""
    score = Estimate(estimate, writer, report, stop)
    best = [Action(c.eval_every, keep(streams.permanent, score, c.keep_every, only_best=True))] if c.keep_best else []
    return [
        Action(c.checkpoint_every, save((streams.rolling, streams.permanent), c.steps), first=True),
        Action(c.eval_every, score),
        *best,
        Action(c.keep_every, keep(streams.permanent, score, c.keep_every), last=False),
        Action(c.sample_every, draw(preview, writer, report, stop)),
    ]


def describe(
    experiment: Experiment,
    source: Source,
    held_out: Source,
    data: Identity,
    state: TrainState,
    feed: Feed,
    forward: float,
) -> list[str]:
    """The start-up report: data, network, cost of a step, what is unusual. `forward`: operations on one image."""
    c = experiment.config
    height, width, channels = source.shape
    placement = "on the device" if feed.data else "streamed"
    return [
        f"data        {source.name}: {source.size} train and {held_out.size} held-out images of "
        f"{height}x{width}x{channels}, {placement}",
        *[f"classes     {listed(data.classes)}"] * bool(data.classes),
        *(f"data        {note}" for note in source.notes),
        f"diffusion   {c.diffusion.schedule} schedule, T = {experiment.process.T}, predicts "
        f"{c.diffusion.parameterization}, {c.diffusion.variance} variance, objective {c.objective.name}",
        f"network     {format_numbers.count(state.params):,} parameters, "
        f"{format_numbers.quantity(forward, 'FLOP')} forward per image, about "
        f"{format_numbers.quantity(3 * forward * c.train.batch_size, 'FLOP')} per step of {c.train.batch_size} images",
        f"plan        {c.train.steps:,} steps, {c.train.steps * c.train.batch_size / source.size:.3g} epochs",
        *(f"deviation   {line}" for line in deviations(c)),
        *(f"WARNING     {line}" for line in doubts(c)),
        *(f"remark      {line}" for line in [*remarks(c), *not_exportable(experiment, state.params)]),
    ]


def not_exportable(experiment: Experiment, params: Params) -> list[str]:
    """The line that says why scripts/export_weights.py will refuse a U-Net's run; none if it will not."""
    if type(experiment.net) is not UNet:
        return []
    shapes = {name: leaf.shape for name, leaf in name_mapping.flatten(params).items()}
    try:
        export_weights.contents(experiment.config, shapes, experiment.shape)
    except ValueError as error:
        return [f"this run cannot be exported to diffusers: {error}"]
    return []


def afford(experiment: Experiment) -> Budget:
    """The compute budget of one preview or evaluation on this platform."""
    limit = experiment.config.eval.cpu_flop if jax.default_backend() == "cpu" else 0.0
    return Budget(limit or float("inf"), forward_flops(experiment))


def finish(subject: Subject, held_out: Source, summary: Summary, writer: Writer, report: Report) -> None:
    """The final measurements (samples of the full chain, bound, scores) to eval/, the writer and the report."""
    if jax.process_index() == 0:
        write(summary, subject, held_out)
    experiment, step = subject.experiment, subject.step
    path = subject.folder / "samples" / f"step_{step:07d}.png"
    if len(summary.samples):
        name = f"step_{step:07d}_{experiment.config.sample.sampler}"
        path = writer.grid(step, name, previews_during_training.picture(summary.samples, experiment.classes))
    if summary.bound:
        writer.scalars(step, {f"test/{name}": value for name, value in summary.bound.values.items()})
    if summary.distance:
        writer.scalars(step, {f"test/{summary.distance.name}": summary.distance.values[summary.distance.name]})
    for line in summary.lines():
        report(line)
    report(f"samples     {path}")


def _silent(line: str) -> None: ...
