"""The likelihood of the probability flow: exact densities of solved worlds, its order, its trace, bits/dim of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.config import default_config
from diffusion.core import respacing, schedules
from diffusion.core.array_types import fold
from diffusion.core.elbo import bits_per_dim
from diffusion.core.flow_likelihood import hutchinson, log_prob, nll
from diffusion.core.forward_process import ve, vp
from diffusion.core.gaussian import sum_dims
from diffusion.data.dataset_interface import in_memory
from diffusion.evaluation import flow_nll, measure_likelihood
from diffusion.evaluation.flow_nll import FLOW
from diffusion.evaluation.measurement_protocol import Subject
from diffusion.experiment import build
from diffusion.metrics.first_images_of_split import split
from diffusion.sampling.sampling_loop import image_keys
from diffusion.workdir import result_files
from tests.support.runs import evaluate_likelihood
from tests.support.worlds import GAUSSIAN, MIXTURE, GaussianWorld

pytestmark = pytest.mark.usefixtures("unoptimized")

N = 64
STEPS = 480
LEVELS = {
    "preserving": lambda n: vp(schedules.cosine(STEPS)[:: STEPS // n]),
    "exploding": lambda n: ve(np.concatenate([[0.0], np.geomspace(0.02, 2000.0, n)])),
}
"""n steps to the same end. So much noise that p(x_T), without a mean, is q(x_T) to 1e-4 nats."""


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def exact(f, x, t):  # noqa: ARG001
    """The exact trace, by all derivatives at once."""
    value, push = jax.linearize(f, x)
    basis = jnp.eye(x[0].size).reshape(-1, 1, *x.shape[1:])
    diagonal = jax.vmap(lambda e: sum_dims(e * push(jnp.broadcast_to(e, x.shape))))(basis)
    return value, diagonal.sum(axis=0)


def at_first_level(world, process, n: int = N):
    x_0 = world.draw(jax.random.key(0), n)
    return process.signal[1] * x_0 + process.noise[1] * jax.random.normal(jax.random.key(1), x_0.shape)


@pytest.fixture(scope="module")
def mixture(strict):  # noqa: ARG001
    """Errors of log p(x_1) in nats per dimension, by process and number of steps."""

    def errors(n):
        processes = [make(n) for make in LEVELS.values()]
        x_1 = jnp.stack([at_first_level(MIXTURE, process) for process in processes])
        both = jax.tree.map(lambda *tables: jnp.stack(tables), *processes)
        ours = jax.jit(jax.vmap(lambda process, x: log_prob(process, MIXTURE.denoiser(process), x, exact)))(both, x_1)
        return [
            (np.float64(found) - MIXTURE.log_density(process, x, 1)) / 3
            for found, process, x in zip(ours, processes, x_1, strict=True)
        ]

    found = {n: dict(zip(LEVELS, errors(n), strict=True)) for n in (120, 240, 480)}
    return {name: {n: found[n][name] for n in found} for name in LEVELS}


@pytest.mark.parametrize("name", LEVELS)
def test_it_is_the_exact_density_of_a_mixture(name, mixture):
    assert np.abs(mixture[name][480]).max() < 1e-3


@pytest.mark.parametrize("name", LEVELS)
def test_it_is_of_second_order(name, mixture):
    """Half the step, a quarter of the error."""
    rms = [float(np.sqrt(np.mean(mixture[name][n] ** 2))) for n in (120, 240)]
    assert 3.2 < rms[0] / rms[1] < 5


@pytest.mark.parametrize("name", LEVELS)
def test_random_signs_are_exact_where_the_jacobian_is_diagonal(name):
    """As in the Gaussian world: v_d^2 = 1 whatever the sign. The density is the product of the dimensions'."""
    process = LEVELS[name](240)
    denoise, x_1 = GAUSSIAN.denoiser(process), at_first_level(GAUSSIAN, process)
    keys = image_keys(1, jnp.arange(N))
    found = np.float64(jax.jit(lambda x: log_prob(process, denoise, x, hutchinson(keys)))(x_1))
    mean, var = GAUSSIAN.marginal(process, 1)
    expected = np.sum(-0.5 * ((np.float64(x_1) - mean) ** 2 / var + np.log(2 * np.pi * var)), axis=1)
    assert np.abs(found - expected).max() / 3 < 1e-3


def test_the_scale_of_the_networks_input_is_no_part_of_it():
    """sigma_data changes what the network is given, and neither the flow nor its density."""
    process, other = LEVELS["preserving"](60), vp(schedules.cosine(STEPS)[:: STEPS // 60], sigma_data=0.5)
    x_1 = at_first_level(GAUSSIAN, process, 4)
    found, expected = (np.float64(log_prob(p, GAUSSIAN.denoiser(p), x_1, exact)) for p in (other, process))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_hutchinson_is_unbiased():
    """Its mean over keys is the exact trace, for one step and for the whole integral, within 4 standard errors."""
    process, n = vp(schedules.cosine(STEPS)[::40]), 2048
    denoise = MIXTURE.denoiser(process)
    x_1 = jnp.broadcast_to(jnp.array([[-0.2, 0.1, 0.3]]), (n, 3))
    keys, t = image_keys(2, jnp.arange(n)), jnp.int32(5)

    @jax.jit
    def found():
        field = lambda x: denoise(x, jnp.full(n, 5)).eps  # noqa: E731
        one = [trace(field, x_1, t)[1] for trace in (exact, hutchinson(keys))]
        return one, log_prob(process, denoise, x_1, hutchinson(keys)), log_prob(process, denoise, x_1[:1], exact)

    (trace, once), noisy, sharp = jax.tree.map(np.float64, found())
    for samples, expected in ((once, trace[0]), (noisy, sharp[0])):
        assert samples.std() > 1e-3
        assert abs(samples.mean() - expected) < 4 * samples.std() / np.sqrt(n)


def test_a_flow_without_signal_at_its_end():
    """jsd has signal[T] = 0: noise / signal is infinite there, the angle is not."""
    process = vp(schedules.jsd(STEPS))
    x_1 = at_first_level(GAUSSIAN, process)
    found = np.float64(jax.jit(lambda x: log_prob(process, GAUSSIAN.denoiser(process), x, exact))(x_1))
    mean, var = GAUSSIAN.marginal(process, 1)
    expected = np.sum(-0.5 * ((np.float64(x_1) - mean) ** 2 / var + np.log(2 * np.pi * var)), axis=1)
    assert np.abs(found - expected).max() / 3 < 2e-3


def test_dequantised_likelihood_of_a_known_law():
    """Of a law that is smooth over a bin, the probability of a level is its density times the bin's width."""
    world = GaussianWorld(np.array([0.1, -0.2]), np.array([0.4, 0.6]))
    process = ve(np.concatenate([[0.0], np.geomspace(0.002, 500.0, 200)]))
    x_0 = jnp.round(jax.random.uniform(jax.random.key(5), (512, 2), minval=-0.5, maxval=0.5) * 127.5) / 127.5
    keys = image_keys(6, jnp.arange(512))
    found = np.float64(jax.jit(lambda: nll(keys, process, world.denoiser(process), x_0))())
    z = (np.float64(x_0) - world.mean) / world.std
    expected = np.sum(0.5 * z**2 + np.log(world.std * np.sqrt(2 * np.pi)) - np.log(2 / 255), axis=1)
    # over a bin of relative width 0.02 the density changes by about 1%, up or down
    assert np.abs(found - expected).max() < 0.06
    assert abs((found - expected).mean()) < 4e-3
    seen = []
    jax.jit(lambda: nll(keys, process, lambda x, t: seen.append(x.shape) or world.denoiser(process)(x, t), x_0))()
    assert set(seen) == {(512, 2)}
    u = jax.vmap(lambda key: jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0))(fold(keys, 0))
    by_hand = jax.jit(lambda x: log_prob(process, world.denoiser(process), x, hutchinson(keys)))(x_0 + u / 255)
    np.testing.assert_allclose(found, -np.float64(by_hand) - 2 * np.log(2 / 255), atol=1e-4)


def test_the_density_is_that_of_x_1_over_its_signal():
    """y = x_1 / signal_1 has the density signal_1^D p(signal_1 y); here signal_1^2 = 0.7."""
    world, process = GaussianWorld(np.array([0.1, -0.2]), np.array([0.4, 0.6])), vp(schedules.linear(8, 0.3, 0.9))
    x_0, keys = jax.random.uniform(jax.random.key(5), (16, 2), minval=-1.0), image_keys(6, jnp.arange(16))
    found = jax.jit(lambda: nll(keys, process, world.denoiser(process), x_0))()
    u = jax.vmap(lambda key: jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0))(fold(keys, 0))
    x_1 = jnp.float32(np.sqrt(0.7) * np.float64(x_0 + u / 255))
    density = jax.jit(lambda x: log_prob(process, world.denoiser(process), x, hutchinson(keys)))(x_1)
    np.testing.assert_allclose(found, -np.float64(density) - 2 * np.log(np.sqrt(0.7) * 2 / 255), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------------- bits of a run


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    config = default_config()
    changes = {"data.name": "digits", "diffusion.T": 12, "diffusion.beta_T": 0.9, "net.name": "mlp", "net.channels": 8}
    config.update_from_flattened_dict({**changes, "net.blocks": 1, "eval.batch_size": 8})
    ours = build.experiment(config, (8, 8, 1), 10)
    params = ours.init(jax.random.key(1))
    params = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    return Subject(ours, params, tmp_path_factory.mktemp("run"), 7, False)


@pytest.fixture(scope="module")
def source():
    pixels = np.random.default_rng(0).integers(0, 256, (21, 8, 8, 1)).astype(np.uint8)
    return in_memory("noise", pixels, np.zeros(21, np.int64), 10)


@pytest.mark.slow
def test_bits_of_a_run(subject, source):
    """A result file of the mean and its error, whatever the batch; the same as image by image."""
    result, path, _ = evaluate_likelihood(FLOW, subject, source, seed=3)
    again = evaluate_likelihood(FLOW, subject, source, seed=3, batch_size=21).result
    assert result_files.read(path) == again and path.name == "flow_nll_test_7_seed3.json"
    values = result.values
    assert values["bits_per_dim"] == pytest.approx(again.values["bits_per_dim"], rel=1e-5)
    assert values["images"] == 21 and result.protocol["clip"] is False and result.protocol["steps"] == 12
    assert "21 test images" in flow_nll.lines(result)[0]
    assert not list(subject.folder.rglob("*.npz"))
    measured = flow_nll.columns(subject.experiment, respacing.full)
    batch = 24  # a multiple of the devices
    index = np.minimum(np.arange(batch), 20)
    pixels, labels = source.read(index)
    x_0 = (2 * pixels.astype(np.float32) - 255) / 255
    nats = measured(subject.params, image_keys(3, jnp.asarray(index)), jnp.asarray(x_0), jnp.asarray(labels))
    bits = bits_per_dim(np.float64(nats[:21, 0]), 64)
    assert values["bits_per_dim"] == pytest.approx(bits.mean(), rel=1e-5)
    assert values["standard_error"] == pytest.approx(bits.std(ddof=1) / np.sqrt(21), rel=1e-4)


def test_a_stopped_measurement_goes_on(subject, source):
    whole, _ = measure_likelihood.measure(FLOW, subject, split("test", source), seed=4, resumable=False)

    def stop(done):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_likelihood.measure(FLOW, subject, split("test", source), seed=4, progress=stop)
    told = []
    resumed, _ = measure_likelihood.measure(FLOW, subject, split("test", source), seed=4, progress=told.append)
    assert told[0] == 8 and told[-1] == 21
    assert resumed.values["bits_per_dim"] == pytest.approx(whole.values["bits_per_dim"], rel=1e-6)


def test_more_images_than_there_are(subject, source):
    with pytest.raises(ValueError, match="has 21 images, not"):
        measure_likelihood.measure(FLOW, subject, split("test", source, 22))


def test_the_network_is_not_clipped(subject, source):
    """The same number whether or not samples are clipped."""
    config = subject.experiment.config.copy_and_resolve_references()
    config.sample.clip = not config.sample.clip
    other = subject._replace(experiment=subject.experiment._replace(config=config))
    images = split("test", source, 8)
    first, second = (measure_likelihood.measure(FLOW, one, images, seed=5, resumable=False) for one in (subject, other))
    assert first[0].values == second[0].values
