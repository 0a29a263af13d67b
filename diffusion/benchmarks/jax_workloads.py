"""Our workloads: what scripts run, called as scripts call it."""

import resource
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion.benchmarks import products
from diffusion.benchmarks import saving as saves
from diffusion.benchmarks.comparison import FORWARD
from diffusion.benchmarks.convolutions import shapes as kinds
from diffusion.benchmarks.peak import product
from diffusion.benchmarks.worker import Workload
from diffusion.commands.train import forward_flops
from diffusion.config import files
from diffusion.core import respacing
from diffusion.core.types import Array, Image, Keys
from diffusion.data.source import Source, in_memory
from diffusion.experiment import build
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry import DTYPES, SAMPLERS
from diffusion.metrics import features as inception
from diffusion.nets.inception import SIZE, shapes
from diffusion.runtime import text
from diffusion.sampling import loop
from diffusion.training import loop as training
from diffusion.training.state import TrainState
from diffusion.workdir.checkpoint import Checkpoints

SEGMENT = 10
"""Steps of a chain that are timed at once where a whole one takes too long."""

INCEPTION_FLOP = 11.4e9
"""Of one image of 299x299, forward: 5.7 G multiply-adds."""


def make(request: Mapping[str, Any]) -> Workload:
    """The workload of a request: {measure, config, changes, shape, images, batch, whole}.

    `whole`: chains are timed from end to end, not by segments.
    """
    return MEASURES[request["measure"]](request)


def memory() -> int:
    """Peak bytes of the first device; of the process where the device does not count them."""
    stats = jax.devices()[0].memory_stats() or {}
    kilobyte = 1 if sys.platform.startswith("darwin") else 1024
    return int(stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte))


def settings(request: Mapping[str, Any]) -> ConfigDict:
    """The config of a request."""
    config = files.load(files.find(request["config"]))
    changes = {key: tuple(v) if isinstance(v, list) else v for key, v in request["changes"].items()}
    config.update_from_flattened_dict({**changes, "train.batch_size": request["batch"]})
    return config


def subject(request: Mapping[str, Any]) -> Experiment:
    """The experiment of a request."""
    height, width, channels = request["shape"]
    return build.experiment(settings(request), (height, width, channels), 0)


def data(request: Mapping[str, Any]) -> Source:
    """Noise of the shape and number of the data set: speed does not depend on what is seen."""
    pixels = np.random.default_rng(0).integers(0, 256, (request["images"], *request["shape"]), np.uint8)
    return in_memory("noise", pixels)


def facts(ours: Experiment, state: Any, passes: float = 1.0) -> dict[str, Any]:
    """What every row says; `passes`: network evaluations that a unit costs for each image."""
    return {
        "parameters": text.count(state),
        "flop": passes * forward_flops(ours),
        "device": text.describe_devices(jax.devices()),
    }


def train(request: Mapping[str, Any]) -> Workload:
    """The program of the training loop, fed as by the loop; a unit is a step, three evaluations' worth."""
    ours = subject(request)
    feed, state = ours.feed(data(request)), ours.create_state()
    batches = feed.batches(0)
    program = training.compile_steps(ours.task(), ours.update(), feed, state, feed.stack([next(batches)]))
    known = facts(ours, state.params, 3.0)
    held = [state]

    def run(units: int) -> None:
        for _ in range(units):
            held[0], _ = program(held[0], feed.data, feed.stack([next(batches)]))
        jax.block_until_ready(held[0])

    return Workload(run, known)


def saving(request: Mapping[str, Any]) -> Workload:
    """Nothing to run: steps with and without a checkpoint being written, timed one by one, as facts."""
    ours = subject(request)
    feed, state = ours.feed(data(request)), ours.create_state()
    batches = feed.batches(0)
    program = training.compile_steps(ours.task(), ours.update(), feed, state, feed.stack([next(batches)]))
    held = [state]

    def step() -> TrainState:
        held[0], _ = program(held[0], feed.data, feed.stack([next(batches)]))
        return jax.block_until_ready(held[0])

    with tempfile.TemporaryDirectory(prefix="saves") as folder:
        checkpoints = Checkpoints(Path(folder), keep=1)
        found = saves.measure(step, checkpoints)
        checkpoints.close()
    return Workload(lambda units: None, dict(found))  # noqa: ARG005


def forward(request: Mapping[str, Any]) -> Workload:
    """The network in evaluation mode on one batch."""
    ours, n = subject(request), request["batch"]
    params = jax.jit(ours.init)(jax.random.key(0))
    apply = jax.jit(lambda params, x, t: ours.apply(params, x, t, jnp.zeros(n, jnp.int32)))
    x, t = jax.random.normal(jax.random.key(1), (n, *ours.shape)), jnp.arange(n) % ours.process.T

    def run(units: int) -> None:
        jax.block_until_ready([apply(params, x, t) for _ in range(units)][-1])

    return Workload(run, facts(ours, params))


def chain(request: Mapping[str, Any], sampler: str, grid: str) -> Workload:
    """A reverse chain; a unit is a step of it. Where it is not `whole`, the first steps of it are taken over again."""
    ours, n = subject(request), request["batch"]
    process = ours.sampled(respacing.parse(grid) if grid else respacing.full)
    step = SAMPLERS[sampler](process, ours.variance, ours.config.sample)
    params = jax.jit(ours.init)(jax.random.key(0))
    keys = loop.image_keys(0, jnp.arange(n))
    x_T = loop.prior_sample(keys, process, ours.shape)

    @jax.jit
    def descend(params: Any, keys: Keys, x_T: Image, last: Array) -> Image:
        denoise = ours.denoise(params, jnp.zeros(n, jnp.int32))
        return loop.descend(keys, step, denoise, x_T, step.init(x_T), jnp.int32(process.T), last)[0]

    def run(units: int) -> None:
        lasts = [max(process.T - left, 0) for left in range(units, 0, -process.T)]
        jax.block_until_ready([descend(params, keys, x_T, jnp.int32(last)) for last in lasts][-1])

    whole = bool(request["whole"])
    known = facts(ours, params) | {"steps": process.T, "estimated": not whole}
    return Workload(run, known, process.T if whole else min(SEGMENT, process.T))


def elbo(request: Mapping[str, Any]) -> Workload:
    """Every term of the bound; a unit is a term. Where it is not `whole`, terms spread over the chain are taken."""
    ours, n = subject(request), request["batch"]
    grid = respacing.full if request["whole"] else respacing.parse(str(min(SEGMENT, ours.process.T)))
    some = ours.sampled(grid).T
    bound = ours.bound(grid)
    params = jax.jit(ours.init)(jax.random.key(0))
    keys, x_0 = loop.image_keys(0, jnp.arange(n)), jnp.zeros((n, *ours.shape))

    def run(units: int) -> None:
        labels = jnp.zeros(n, jnp.int32)
        jax.block_until_ready([bound(params, keys, x_0, labels) for _ in range(units // some)][-1])

    known = facts(ours, params) | {"steps": ours.process.T, "estimated": not request["whole"]}
    return Workload(run, known, some)


def features(request: Mapping[str, Any]) -> Workload:
    """Inception's features of a batch of images, from host memory and back, with random weights."""
    rng, n = np.random.default_rng(0), request["batch"]
    layers = ("2048", "logits_unbiased")
    weights = {
        name: rng.normal(0, (2.0 / max(np.prod(shape[:-1]), 1)) ** 0.5, shape).astype(np.float32)
        for name, shape in shapes(layers).items()
    }
    dtype = DTYPES[request["changes"].get("net.dtype", "float32")]
    extract = inception.extractor(weights, n, dtype, layers, request.get("features", SIZE)).extract
    images = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)

    def run(units: int) -> None:
        for _ in range(units):
            extract(images)

    return Workload(run, {"flop": INCEPTION_FLOP, "device": text.describe_devices(jax.devices())})


def convolutions(request: Mapping[str, Any]) -> Workload:
    """Nothing to run: the 3x3 convolutions of the network, as this platform computes it: [H, W, in, out, how many]."""
    ours, n = subject(request), request["batch"]
    traced = products.traced(ours, n, FORWARD)
    known = [[*shape, count] for shape, count in kinds(traced).items()]
    return Workload(lambda units: None, {"convolutions": known})  # noqa: ARG005


def skeleton(request: Mapping[str, Any]) -> Workload:
    """The convolutions and products of a `pass`, and nothing else."""
    call, arguments = products.alone(products.traced(subject(request), request["batch"], request["pass"]))
    call = jax.jit(call)

    def run(units: int) -> None:
        for _ in range(units):
            jax.block_until_ready(call(arguments))

    return Workload(run, {})


def peak(request: Mapping[str, Any]) -> Workload:
    """The machine's matrix products, in the type of the network."""
    made = product(DTYPES[request["changes"].get("net.dtype", "float32")], request.get("product", 0))
    device = {"device": text.describe_devices(jax.devices()), "platform": jax.default_backend()}
    return made._replace(facts=made.facts | device)


MEASURES = {
    "train": train,
    "forward": forward,
    "chain": partial(chain, sampler="ancestral", grid=""),
    "ddim": partial(chain, sampler="ddim", grid="50"),
    "elbo": elbo,
    "features": features,
    "peak": peak,
    "saving": saving,
    "convolutions": convolutions,
    "convolution": products.convolution,
    "products": skeleton,
}
