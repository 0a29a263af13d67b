"""From names to values, by the tables of the registry: the only place where a config becomes an experiment."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from diffusion.core import elbo, respacing, reverse_process
from diffusion.core.array_types import Array, Image, Keys, Labels, OneKey, PerExample, Time
from diffusion.core.elbo import Bound
from diffusion.core.forward_process import Process
from diffusion.core.parameterization import Parameterization, Prediction
from diffusion.core.respacing import Grid
from diffusion.core.reverse_process import Denoiser, Diffusion
from diffusion.core.variance import Variance
from diffusion.data.dataset_interface import Source, Splits, load
from diffusion.distributed import global_arrays, sharding
from diffusion.experiment import build_guidance
from diffusion.experiment.layers_by_platform import layers, placed
from diffusion.experiment.registry_of_samplers_and_schedules import (
    NETWORKS,
    OBJECTIVES,
    PARAMETERIZATIONS,
    PROCESSES,
    SAMPLERS,
    SHARDINGS,
    SOURCES,
    TIMESTEPS,
    VARIANCES,
    augment,
    clips,
    timed,
)
from diffusion.nets.network_interface import Net, narrowed
from diffusion.sampling import Sampler, sampling_loop
from diffusion.training import batch_feed
from diffusion.training.skipped_updates import Guard
from diffusion.training.state import RUN_ONCE, Fresh, Params, TrainState, create
from diffusion.training.step import Task, Update, hidden


def levels(config: ConfigDict, grid: Grid = respacing.full) -> Process:
    """The process of a config on a grid of its steps; respacing.full gives the one that the network is trained on."""
    c = config.diffusion
    with jax.ensure_compile_time_eval(), np.errstate(divide="ignore"):  # tables are constants, inside jit too
        base = timed(config, PROCESSES[c.schedule](c, np.arange(c.T + 1)))
        steps = grid(np.asarray(base.noise, np.float64) / np.asarray(base.signal, np.float64))
        return base if len(steps) == c.T + 1 else timed(config, PROCESSES[c.schedule](c, steps))


def splits(config: ConfigDict) -> Splits:
    """The config's data set, each split of which is read when it is asked for."""
    prefix, colon, rest = config.data.name.partition(":")
    return SOURCES[prefix + colon](config.data, rest)


def sources(config: ConfigDict) -> tuple[Source, Source]:
    """The training and the held-out split. Raises ValueError where their images are not of one shape."""
    train, held_out = map(splits(config), (True, False))
    if train.shape != held_out.shape:
        raise ValueError(
            f"{train.name}: training images of {'x'.join(map(str, train.shape))} and held-out ones of "
            f"{'x'.join(map(str, held_out.shape))} are not of one data set; fetch it again"
        )
    return train, held_out


def network(config: ConfigDict, channels: int, classes: int) -> Net:
    """The network for data with this many channels and classes. Raises ValueError if it needs labels and has none."""
    c = config.net
    if c.class_conditional and not classes:
        raise ValueError(f"config.net.class_conditional: {config.data.name} has no labels; set it to false")
    out_channels = channels * VARIANCES[config.diffusion.variance][1]
    return NETWORKS[c.name](c, out_channels, classes if c.class_conditional else 0)


class Experiment(NamedTuple):
    """Everything that a config stands for, the data aside."""

    config: ConfigDict
    shape: tuple[int, int, int]
    """H, W, C of the data."""
    net: Net
    process: Process
    parameterization: Parameterization
    variance: Variance
    mesh: Mesh
    guide: build_guidance.Guide = build_guidance.UNGUIDED
    """How samples, and they alone, are guided: bounds are those of the model as it is."""

    @property
    def classes(self) -> int:
        """Samples are drawn with labels 0..classes-1, an input of the network or of its guidance; 0: without labels."""
        return max(self.net.classes, self.guide.classes)

    def init(self, key: OneKey) -> Params:
        """Fresh network parameters."""
        x, condition = augment(self.config.data)(key, jnp.zeros((1, *self.shape)))
        return self.net.init(key, x, jnp.zeros(1), self._label(jnp.zeros(1, jnp.int32)), condition)["params"]

    def apply(self, params: Params, x_t: Image, time: Array, labels: Labels, train: bool = False, **mode: Any) -> Any:
        """The network's output by the layers of layers_by_platform.layers; labels only where it takes some."""
        with layers(self.config, self.mesh, train):
            return self.net.apply({"params": params}, x_t, time, self._label(labels), train=train, **mode)

    def denoise(self, params: Params, labels: Labels, clip: bool | None = None, guided: bool = False) -> Denoiser:
        """The denoiser of a set of parameters, in evaluation mode; clipped as registry.clips says if `clip` is None.
        With `guided` it is the one that samples are drawn with: guided as config.sample says, before it is clipped.
        """
        params = params if self.mesh.devices.flat[0].platform == "cpu" else narrowed(self.init, params)

        def labelled(x_t: Image, t: Time, labels: Labels) -> Prediction:
            apply = lambda x, time: self.apply(params, x, time, labels)  # noqa: E731
            return reverse_process.from_network(self.process, self.parameterization, apply)(x_t, t)

        denoise = (self.guide if guided else build_guidance.UNGUIDED).denoiser(labelled, labels)
        clipped = clips(self.config) if clip is None else clip
        return reverse_process.clip(self.process, denoise) if clipped else denoise

    def task(self) -> Task:
        """What training optimises."""
        config = self.config

        def apply(params: Params, x_t: Image, time: Array, labels: Labels, condition: Any, key: OneKey) -> Array:
            shown = hidden(key, labels, config.net.label_dropout, self.net.classes)
            return self.apply(params, x_t, time, shown, train=True, condition=condition, rngs={"dropout": key})

        return Task(
            self.diffusion(respacing.full),
            OBJECTIVES[config.objective.name](config.objective),
            TIMESTEPS[config.objective.timesteps](self.process, config.objective),
            apply,
            augment(config.data),
            config.train.accumulate,
        )

    def update(self) -> Update:
        """How training follows gradients."""
        c, train = self.config.optim, self.config.train
        guard = Guard(min(train.bad_steps, max(1, train.steps // 2)), c.skip_spike)  # no short run ends unnoticed
        return Update(ema_decay=c.ema_decay, ema_warmup=c.ema_warmup, guard=guard, **placed(self.config, self.mesh))

    def fresh(self) -> Fresh:
        """The state before the first update, placed on the devices by the config's sharding rules."""
        task, update, rules = self.task(), self.update(), SHARDINGS[self.config.train.sharding]

        def make(seed: Array) -> TrainState:
            init_key, train_key = jax.random.split(jax.random.key(seed))
            return create(self.init(init_key), update.optimizer, task.timesteps, train_key)

        traced, seed = jax.jit(make), jnp.uint32(self.config.seed)  # traced once, for its shapes and for its program
        shapes = jax.eval_shape(traced, seed)
        where = sharding.by_rules(shapes, self.mesh, rules)
        like = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, where)
        program = jax.jit(lambda seed: traced(seed), out_shardings=where, compiler_options=RUN_ONCE)
        return Fresh(like, lambda: program(seed))

    def create_state(self) -> TrainState:
        """The arrays of `fresh`."""
        return self.fresh().make()

    def feed(self, data: Source) -> batch_feed.Feed:
        """Training batches: from the device if the set fits there, else streamed."""
        c = self.config
        sharding.check_batch(c.train.batch_size, self.mesh, c.train.accumulate)
        data = load(data, c.data.resident_mb * 2**20)
        if batch_feed.fits(data, c.data.resident_mb):
            return batch_feed.resident(data, c.seed, c.train.batch_size, self.mesh)
        return batch_feed.streamed(data, c.seed, c.train.batch_size, self.mesh, c.data.threads)

    def chain(self, name: str = "", grid: Grid | None = None, eta: float | None = None) -> tuple[Process, Sampler]:
        """The process that samples follow and the sampler of SAMPLERS for it; each defaults to the config's."""
        c, process = self.config.sample, self.sampled(grid)
        options = c if eta is None else ConfigDict({**c, "eta": eta})
        return process, SAMPLERS[name or c.sampler](process, self.process, self.variance, options)

    def sampler(
        self, name: str = "", grid: Grid | None = None, eta: float | None = None, collect: tuple[int, ...] = ()
    ) -> global_arrays.ByRows:
        """A jitted (params, keys, labels) -> Sample; the batch is split over the devices.

        `name` of SAMPLERS, `grid` and `eta` default to the config's; `collect` lists steps of the sampled process.
        """
        process, step = self.chain(name, grid, eta)

        def run(params: Params, keys: Keys, labels: Labels) -> sampling_loop.Sample:
            denoise = self.denoise(params, labels, guided=True)
            x_T = sampling_loop.prior_sample(keys, process, self.shape)
            return sampling_loop.sample(keys, process, step, denoise, x_T, collect)

        return self._split(run)

    def bound(self, grid: Grid | None = None) -> Callable[[Params, Keys, Image, Labels], Bound]:
        """A jitted (params, keys, x_0, labels) -> Bound over every step of the grid, by default the config's.

        x_0_hat is clipped, as published.
        """
        diffusion = self.diffusion(grid)

        def run(params: Params, keys: Keys, x_0: Image, labels: Labels) -> Bound:
            return elbo.bound(keys, diffusion, self.denoise(params, labels), x_0)

        return self._split(run)

    def estimate(self, steps: int) -> Callable[[Params, Keys, Image, Labels], PerExample]:
        """A jitted (params, keys, x_0, labels) -> unbiased estimate of the bound, in nats, by `steps` network calls."""

        def run(params: Params, keys: Keys, x_0: Image, labels: Labels) -> PerExample:
            return elbo.estimate(keys, self.diffusion(respacing.full), self.denoise(params, labels), x_0, steps)

        return self._split(run)

    def batch(self, wanted: int) -> int:
        """`wanted` images, rounded up to a multiple of the number of devices."""
        return -(-wanted // self.mesh.size) * self.mesh.size

    def sampled(self, grid: Grid | None = None) -> Process:
        """The process on a grid of its steps, by default the config's."""
        return levels(self.config, respacing.parse(self.config.sample.grid) if grid is None else grid)

    def diffusion(self, grid: Grid | None = None) -> Diffusion:
        """The model without its network, on a grid of the process's steps, by default the config's."""
        return Diffusion(self.sampled(grid), self.parameterization, self.variance)

    def _label(self, labels: Labels) -> Labels | None:
        return labels if self.net.classes else None

    def _split(self, run: Callable[..., Any]) -> global_arrays.ByRows:
        """`run` jitted, its arguments after the parameters split over the devices by rows."""
        return global_arrays.ByRows(run, sharding.split_axis(self.mesh))


def experiment(config: ConfigDict, shape: tuple[int, int, int], classes: int, mesh: Mesh | None = None) -> Experiment:
    """The experiment of a validated config for data of this shape. Raises ValueError where they do not go together."""
    net, process = network(config, shape[-1], classes), levels(config)
    return Experiment(
        config,
        shape,
        net,
        process,
        PARAMETERIZATIONS[config.diffusion.parameterization],
        VARIANCES[config.diffusion.variance][0],
        mesh or sharding.make_mesh(),
        build_guidance.of(config, shape, classes, net, process),
    )
