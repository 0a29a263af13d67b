"""From names to values: the only place where a config becomes an experiment.

Each table maps the names that config.py lists to a value. Adding a schedule, parameterisation, variance, objective,
timestep distribution, sampler or data set is a function in its own file, a row here, and its name in config.py.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from diffusion import denoiser, elbo, parameterization, schedules, timesteps, variance, weighting
from diffusion.data import cifar10, embedded, folder, mnist, tfds
from diffusion.data.source import Source
from diffusion.denoiser import Denoiser
from diffusion.elbo import Bound
from diffusion.nets.unet import UNet
from diffusion.objective import Objective
from diffusion.parameterization import Parameterization
from diffusion.process import Process, ve, vp
from diffusion.sampling import ancestral, ddim, grids, loop
from diffusion.sampling.loop import Sampler
from diffusion.timesteps import Timesteps
from diffusion.training import feed, optimizer, sharding
from diffusion.training.feed import Feed
from diffusion.training.state import Params, TrainState, create
from diffusion.training.step import Task, Update
from diffusion.types import Array, Image, Keys, Labels, OneKey, PerExample
from diffusion.variance import Variance

# name -> (config.diffusion) -> alpha_bar[0..T]
VP_SCHEDULES: dict[str, Callable[[ConfigDict], np.ndarray]] = {
    "linear": lambda c: schedules.linear(c.T, c.beta_1, c.beta_T),
    "quad": lambda c: schedules.quad(c.T, c.beta_1, c.beta_T),
    "const": lambda c: schedules.const(c.T, c.beta_T),
    "jsd": lambda c: schedules.jsd(c.T),
    "warmup10": lambda c: schedules.warmup(c.T, c.beta_1, c.beta_T, share=0.1),
    "warmup50": lambda c: schedules.warmup(c.T, c.beta_1, c.beta_T, share=0.5),
    "cosine": lambda c: schedules.cosine(c.T),
    "sigmoid": lambda c: schedules.sigmoid(c.T, c.beta_1, c.beta_T),
}

# name -> (config.diffusion) -> sigma[0..T]
VE_SCHEDULES: dict[str, Callable[[ConfigDict], np.ndarray]] = {
    "constant": lambda c: schedules.constant(c.T, c.sigma_T),
    "geometric": lambda c: schedules.geometric(c.T, c.sigma_1, c.sigma_T),
}

PARAMETERIZATIONS: dict[str, Parameterization] = {
    "eps": parameterization.eps,
    "x_0": parameterization.x_0,
    "mu": parameterization.mu,
    "v": parameterization.v,
}

# name -> (variance, output channels per data channel)
VARIANCES: dict[str, tuple[Variance, int]] = {
    "fixed_small": (variance.fixed_small, 1),
    "fixed_large": (variance.fixed_large, 1),
    "learned": (variance.learned, 2),
    "learned_range": (variance.learned_range, 2),
}

# name -> (config.objective) -> Objective
OBJECTIVES: dict[str, Callable[[ConfigDict], Objective]] = {
    "simple": lambda c: Objective(weighting.native, vlb=0.0),  # noqa: ARG005
    "vlb": lambda c: Objective(None, vlb=1.0),  # noqa: ARG005
    "mu_mse": lambda c: Objective(weighting.mu_mse, vlb=0.0),  # noqa: ARG005
    "hybrid": lambda c: Objective(weighting.native, vlb=c.vlb_weight, freeze_mean=True),
}

TIMESTEPS: dict[str, Callable[[int], Timesteps]] = {
    "uniform": timesteps.uniform,
    "antithetic": timesteps.antithetic,
}

# name -> (process, variance) -> Sampler
SAMPLERS: dict[str, Callable[[Process, Variance], Sampler]] = {
    "ancestral": ancestral.ancestral,
    "ddim": lambda process, variance: ddim.ddim(process),  # noqa: ARG005
}

SHARDINGS: dict[str, tuple[sharding.Rule, ...]] = {"replicated": sharding.REPLICATED, "fsdp": sharding.FSDP}

# Drawing initial weights is run once and is quick: compiling it without optimisation saves seconds at every start.
RUN_ONCE = {"xla_backend_optimization_level": 0}

DTYPES: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# name, or prefix ending in ":" -> (config.data, what follows the prefix, train) -> Source
SOURCES: dict[str, Callable[[ConfigDict, str, bool], Source]] = {
    "digits": lambda c, rest, train: embedded.digits(train),  # noqa: ARG005
    "cifar10": lambda c, rest, train: cifar10.cifar10(train, c.dir, c.download),  # noqa: ARG005
    "mnist": lambda c, rest, train: mnist.mnist(train, c.dir),  # noqa: ARG005
    "folder:": lambda c, rest, train: folder.folder(rest, train, c.size),
    "tfds:": lambda c, rest, train: tfds.tfds(rest, train, c.dir, c.size, c.download),
}


def levels(config: ConfigDict, grid: Callable[[int], np.ndarray] = grids.full) -> Process:
    """The process of a config on a grid of its steps; grids.full gives the one that the network is trained on."""
    c = config.diffusion
    ts = grid(c.T)
    if c.schedule in VP_SCHEDULES:
        return vp(VP_SCHEDULES[c.schedule](c)[ts], base_t=ts)
    return ve(VE_SCHEDULES[c.schedule](c)[ts], base_t=ts)


def source(config: ConfigDict, train: bool) -> Source:
    """The training or held-out split of the config's data set."""
    name = config.data.name
    prefix, colon, rest = name.partition(":")
    return SOURCES[prefix + colon](config.data, rest, train)


def network(config: ConfigDict, channels: int, classes: int) -> UNet:
    """The U-Net for data with this many channels and classes. Raises ValueError if it needs labels that are not there."""
    c = config.net
    if c.class_conditional and not classes:
        raise ValueError(f"config.net.class_conditional: {config.data.name} has no labels; set it to false")
    return UNet(
        out_channels=channels * VARIANCES[config.diffusion.variance][1],
        channels=c.channels,
        multipliers=tuple(c.multipliers),
        blocks=c.blocks,
        attention=tuple(c.attention),
        dropout=c.dropout,
        heads=c.heads,
        scale_shift=c.scale_shift,
        classes=classes if c.class_conditional else 0,
        compute_dtype=DTYPES[c.dtype],
        remat=c.remat,
    )


class Experiment(NamedTuple):
    """Everything that a config stands for, the data aside."""

    config: ConfigDict
    shape: tuple[int, int, int]
    """H, W, C of the data."""
    net: UNet
    process: Process
    parameterization: Parameterization
    variance: Variance
    time_scale: float
    mesh: Mesh

    def init(self, key: OneKey) -> Params:
        """Fresh network parameters."""
        x, t = jnp.zeros((1, *self.shape)), jnp.zeros(1)
        return self.net.init(key, x, t, self._label(jnp.zeros(1, jnp.int32)))["params"]

    def denoise(self, params: Params, labels: Labels, clip: bool | None = None) -> Denoiser:
        """The denoiser of a set of parameters, in evaluation mode; clipped as config.sample.clip says unless told."""

        def apply(x_t: Image, time: Array) -> Array:
            return self._apply(params, x_t, time, labels)

        denoise = denoiser.from_network(apply, self.process, self.parameterization, self.time_scale)
        clip = self.config.sample.clip if clip is None else clip
        return denoiser.clip(denoise, self.process) if clip else denoise

    def task(self) -> Task:
        """What training optimises."""
        config = self.config

        def apply(params: Params, x_t: Image, time: Array, labels: Labels, key: OneKey) -> Array:
            return self._apply(params, x_t, time, labels, train=True, rngs={"dropout": key})

        return Task(
            self.process,
            self.parameterization,
            self.variance,
            OBJECTIVES[config.objective.name](config.objective),
            TIMESTEPS[config.objective.timesteps](self.process.T),
            apply,
            self.time_scale,
            config.data.flip,
        )

    def update(self) -> Update:
        """How training follows gradients."""
        c = self.config.optim
        adam = optimizer.adam(
            c.lr,
            warmup_steps=c.warmup_steps,
            clip=c.clip,
            beta_1=c.beta_1,
            beta_2=c.beta_2,
            eps=c.eps,
            weight_decay=c.weight_decay,
        )
        return Update(adam, c.ema_decay, c.ema_warmup)

    def create_state(self) -> TrainState:
        """The state before the first update, placed on the devices by the config's sharding rules."""
        task, update = self.task(), self.update()

        def make(seed: Array) -> TrainState:
            init_key, train_key = jax.random.split(jax.random.key(seed))
            return create(self.init(init_key), update.optimizer, task.timesteps, train_key)

        seed = jnp.uint32(self.config.seed)
        rules = SHARDINGS[self.config.train.sharding]
        places = sharding.by_rules(jax.eval_shape(make, seed), self.mesh, rules)
        return jax.jit(make, out_shardings=places, compiler_options=RUN_ONCE)(seed)

    def feed(self, data: Source) -> Feed:
        """Training batches: from the device if the set fits there, else streamed."""
        c = self.config
        sharding.check_batch(c.train.batch_size, self.mesh)
        if feed.fits(data, c.data.resident_mb):
            return feed.resident(data, c.seed, c.train.batch_size, self.mesh)
        return feed.streamed(data, c.seed, c.train.batch_size, self.mesh, c.data.threads)

    def sampler(
        self, name: str = "", grid: Callable[[int], np.ndarray] = grids.full, collect: tuple[int, ...] = ()
    ) -> Callable[[Params, Keys, Labels], loop.Sample]:
        """A jitted (params, keys, labels) -> Sample; the batch is split over the devices.

        `name` is a row of SAMPLERS, by default the config's; `collect` lists steps of the sampled process.
        """
        process = levels(self.config, grid)
        step = SAMPLERS[name or self.config.sample.sampler](process, self.variance)

        def run(params: Params, keys: Keys, labels: Labels) -> loop.Sample:
            x_T = loop.prior_sample(keys, process, self.shape)
            return loop.sample(keys, process, step, self.denoise(params, labels), x_T, collect)

        return self._split(run)

    def bound(self, grid: Callable[[int], np.ndarray] = grids.full) -> Callable[[Params, Keys, Image, Labels], Bound]:
        """A jitted (params, keys, x_0, labels) -> Bound over every step of the grid. x_0_hat is clipped, as published."""
        process = levels(self.config, grid)

        def run(params: Params, keys: Keys, x_0: Image, labels: Labels) -> Bound:
            return elbo.bound(keys, process, self.variance, self.denoise(params, labels), x_0)

        return self._split(run)

    def estimate(self, steps: int) -> Callable[[Params, Keys, Image, Labels], PerExample]:
        """A jitted (params, keys, x_0, labels) -> unbiased estimate of the bound, in nats, from `steps` network calls."""

        def run(params: Params, keys: Keys, x_0: Image, labels: Labels) -> PerExample:
            return elbo.estimate(keys, self.process, self.variance, self.denoise(params, labels), x_0, steps)

        return self._split(run)

    def batch(self, wanted: int) -> int:
        """`wanted` images, rounded up to a multiple of the number of devices."""
        return -(-wanted // self.mesh.size) * self.mesh.size

    def _apply(self, params: Params, x_t: Image, time: Array, labels: Labels, **mode: Any) -> Any:
        return self.net.apply({"params": params}, x_t, time, self._label(labels), **mode)

    def _label(self, labels: Labels) -> Labels | None:
        return labels if self.net.classes else None

    def _split(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """`run` jitted, its arguments after the parameters split over the devices by rows."""
        place = sharding.split_axis(self.mesh)
        jitted = jax.jit(run)

        def call(params: Params, *batch: Any) -> Any:
            return jitted(params, *(jax.device_put(b, place) for b in batch))

        return call


def experiment(config: ConfigDict, shape: tuple[int, int, int], classes: int, mesh: Mesh | None = None) -> Experiment:
    """The experiment of a validated config for data of this shape. Raises ValueError where the two do not go together."""
    return Experiment(
        config,
        shape,
        network(config, shape[-1], classes),
        levels(config),
        PARAMETERIZATIONS[config.diffusion.parameterization],
        VARIANCES[config.diffusion.variance][0],
        1000.0 / config.diffusion.T if config.net.rescale_time else 1.0,
        mesh or sharding.make_mesh(),
    )


def evenly(config: ConfigDict, steps: int | None) -> Callable[[int], np.ndarray]:
    """A grid of `steps` evenly spaced steps with both ends, or of all of them. Raises ValueError for more than T."""
    T = config.diffusion.T
    if steps is None or steps == T:
        return grids.full
    if steps > T:
        raise ValueError(f"{steps} steps are more than the {T} that the process has; use at most {T}")
    return partial(grids.sections, counts=(steps,))
