"""Workloads of this project, called as the scripts call them."""

import resource
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion.benchmarks.timing import Workload
from diffusion.config import config_files
from diffusion.core import respacing
from diffusion.core.array_types import Array, Image, Keys
from diffusion.data.dataset_interface import in_memory
from diffusion.evaluation.fewer_images_on_cpu import forward_flops
from diffusion.experiment import build
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry_of_samplers_and_schedules import DTYPES, SAMPLERS
from diffusion.metrics import inception_features as inception
from diffusion.nets.inception import SIZE, shapes
from diffusion.runtime import format_numbers
from diffusion.sampling import sampling_loop
from diffusion.training import loop as training
from diffusion.training.state import Params

SEGMENT = 10
"""A chain is timed in multiples of so many steps, and the bound over so many of its terms: each costs the same."""

INCEPTION_FLOP = 11.4e9
"""Operations of a forward pass of one 299x299 image: 5.7 G multiply-adds."""


PRODUCT = {"cpu": 2048}
LARGE_PRODUCT = 8192
"""Rows of a square product that keeps every core busy: by platform, and on accelerators."""


def make(request: Mapping[str, Any]) -> Workload:
    """The workload of a request: {measure, config, changes, shape, images, batch}."""
    workload = MEASURES[request["measure"]](request)
    return workload._replace(facts={**workload.facts, "device": format_numbers.describe_devices(jax.devices())})


def memory() -> int:
    """Peak bytes of the first device; of the process where the device does not count them."""
    stats = jax.devices()[0].memory_stats() or {}
    kilobyte = 1 if sys.platform.startswith("darwin") else 1024
    return int(stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte))


def make_config(request: Mapping[str, Any]) -> ConfigDict:
    """The config of a request."""
    config = config_files.load(request["config"])
    config.update_from_flattened_dict({**request["changes"], "train.batch_size": request["batch"]})
    return config


def make_experiment(request: Mapping[str, Any]) -> Experiment:
    """The experiment of a request."""
    return build.experiment(make_config(request), request["shape"], 0)


def facts(experiment: Experiment, params: Params, passes: float = 1.0) -> dict[str, Any]:
    """Parameters and floating-point operations. `passes`: network evaluations per image in a unit of work."""
    return {"parameters": format_numbers.count(params), "flop": passes * forward_flops(experiment)}


def train(request: Mapping[str, Any]) -> Workload:
    """The compiled step of the training loop with the loop's own feed. A unit is a step: three network evaluations."""
    experiment = make_experiment(request)
    # Noise of the shape and size of the data set: speed does not depend on the images.
    pixels = np.random.default_rng(0).integers(0, 256, (request["images"], *request["shape"]), np.uint8)
    feed, state = experiment.feed(in_memory("noise", pixels)), experiment.create_state()
    batches = feed.batches(0)
    described, update = facts(experiment, state.params, 3.0), experiment.update()
    current = [update.store(state)]
    program = training.compile_steps(experiment.task(), update, feed, current[0], feed.stack([next(batches)]))

    def run(units: int) -> None:
        for _ in range(units):
            current[0], _ = program(current[0], feed.data, feed.stack([next(batches)]))
        jax.block_until_ready(current[0])

    return Workload(run, described)


def forward(request: Mapping[str, Any]) -> Workload:
    """The network in evaluation mode on one batch."""
    experiment, n = make_experiment(request), request["batch"]
    params = jax.jit(experiment.init)(jax.random.key(0))
    apply = jax.jit(lambda params, x, t: experiment.apply(params, x, t, jnp.zeros(n, jnp.int32)))
    x, t = jax.random.normal(jax.random.key(1), (n, *experiment.shape)), jnp.arange(n) % experiment.process.T

    def run(units: int) -> None:
        jax.block_until_ready([apply(params, x, t) for _ in range(units)][-1])

    return Workload(run, facts(experiment, params))


def chain(request: Mapping[str, Any], sampler: str, grid: str) -> Workload:
    """A reverse chain. A unit is a step."""
    experiment, n = make_experiment(request), request["batch"]
    process = experiment.sampled(respacing.parse(grid) if grid else respacing.full)
    step = SAMPLERS[sampler](process, experiment.process, experiment.variance, experiment.config.sample)
    params = jax.jit(experiment.init)(jax.random.key(0))
    keys = sampling_loop.image_keys(0, jnp.arange(n))
    x_T = sampling_loop.prior_sample(keys, process, experiment.shape)

    @jax.jit
    def descend(params: Params, keys: Keys, x_T: Image, last: Array) -> Image:
        denoise = experiment.denoise(params, jnp.zeros(n, jnp.int32))
        return sampling_loop.descend(keys, step, denoise, x_T, step.init(x_T), jnp.int32(process.T), last)[0]

    def run(units: int) -> None:
        lasts = [max(process.T - left, 0) for left in range(units, 0, -process.T)]
        jax.block_until_ready([descend(params, keys, x_T, jnp.int32(last)) for last in lasts][-1])

    return Workload(run, facts(experiment, params) | {"steps": process.T}, min(SEGMENT, process.T))


def elbo(request: Mapping[str, Any]) -> Workload:
    """SEGMENT terms of the variational bound, spread over the chain. A unit is a term."""
    experiment, n = make_experiment(request), request["batch"]
    grid = respacing.parse(str(min(SEGMENT, experiment.process.T)))
    terms = experiment.sampled(grid).T
    bound = experiment.bound(grid)
    params = jax.jit(experiment.init)(jax.random.key(0))
    keys, x_0 = sampling_loop.image_keys(0, jnp.arange(n)), jnp.zeros((n, *experiment.shape))

    def run(units: int) -> None:
        labels = jnp.zeros(n, jnp.int32)
        jax.block_until_ready([bound(params, keys, x_0, labels) for _ in range(units // terms)][-1])

    return Workload(run, facts(experiment, params) | {"steps": experiment.process.T}, terms)


def features(request: Mapping[str, Any]) -> Workload:
    """Inception's features of a batch of images, from host memory and back, with random weights."""
    rng, n = np.random.default_rng(0), request["batch"]
    layers = ("2048", "logits_unbiased")
    weights = {
        name: rng.normal(0, (2.0 / max(np.prod(shape[:-1]), 1)) ** 0.5, shape).astype(np.float32)
        for name, shape in shapes(layers).items()
    }
    extract = inception.extractor(weights, n, dtype(request), layers, request.get("features", SIZE)).extract
    images = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)

    def run(units: int) -> None:
        for _ in range(units):
            extract(images)

    return Workload(run, {"flop": INCEPTION_FLOP})


def peak(request: Mapping[str, Any]) -> Workload:
    """Square matrix products in the type of the network. A unit is one product; its result is the next operand."""
    n = request.get("product") or PRODUCT.get(jax.default_backend(), LARGE_PRODUCT)
    matrix = jnp.full((n, n), 1.0 / n, dtype(request))
    multiply = jax.jit(jnp.matmul)
    held = [matrix]

    def run(units: int) -> None:
        for _ in range(units):
            held[0] = multiply(held[0], matrix)
        jax.block_until_ready(held[0])

    described = {"flop": 2.0 * n**3, "dtype": matrix.dtype.name, "side": n, "platform": jax.default_backend()}
    return Workload(run, described)


def dtype(request: Mapping[str, Any]) -> Any:
    """The type in which the network of a request computes."""
    return DTYPES[request["changes"].get("net.dtype", "float32")]


MEASURES = {
    "train": train,
    "forward": forward,
    "chain": partial(chain, sampler="ancestral", grid=""),
    "ddim": partial(chain, sampler="ddim", grid="50"),
    "elbo": elbo,
    "features": features,
    "peak": peak,
}
