"""The reverse chain: its law in the Gaussian world, its randomness, what it collects, its memory."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import schedules, variance
from diffusion.core.array_types import fold, normal
from diffusion.core.forward_process import Process, vp
from diffusion.core.parameterization import Prediction, eps
from diffusion.core.reverse_process import clip, from_network
from diffusion.sampling.ancestral import ancestral
from diffusion.sampling.sampling_loop import image_keys, prior_sample, sample
from tests.support.worlds import (
    GAUSSIAN,
    GaussianWorld,
    ancestral_step,
    cases,
    float64,
    intermediates,
    one_variance,
    stacked,
)

T = 20
CASES = cases(T)
NAMES = [case.name for case in CASES]
N = 8192
FIXED = {"fixed_small": variance.fixed_small, "fixed_large": variance.fixed_large}
TS = np.array([0, 1, 3, 6, 10, 15, 20])
RESPACED = vp(schedules.linear(T, 0.01, 0.75)[TS], base_t=TS)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def chain(process: Process, base: Process, v: jax.Array, denoise=None) -> jax.Array:
    """N images of the world by ancestral sampling; `base` is what the denoiser was made for."""

    def with_raw_var(x_t, t):
        prediction = GAUSSIAN.denoiser(base)(x_t, t)
        return prediction._replace(raw_var=jnp.zeros_like(x_t))  # for one_variance, which asks for its shape

    keys = image_keys(0, jnp.arange(N))
    sampler = ancestral(process, one_variance(list(FIXED.values()), v))
    return sample(keys, process, sampler, denoise or with_raw_var, prior_sample(keys, process, (3,))).x_0


@pytest.fixture(scope="module")
def chains(strict):  # noqa: ARG001
    """Samples with axes (process, variance)."""
    over_variances = jax.vmap(lambda process, v: chain(process, process, v), in_axes=(None, 0))
    return jax.jit(jax.vmap(over_variances, in_axes=(0, None)))(stacked(CASES), jnp.arange(2))


def assert_law(x: np.ndarray, mean: np.ndarray, var: np.ndarray) -> None:
    """4 standard errors of the mean and variance of independent Gaussian samples."""
    x, n = np.float64(x), len(x)
    assert (np.abs(x.mean(axis=0) - mean) < 4 * np.sqrt(var / n)).all()
    assert (np.abs(x.var(axis=0, ddof=1) - var) < 4 * var * math.sqrt(2 / n)).all()
    between = np.corrcoef(x.T)[np.triu_indices(x.shape[1], 1)]
    assert (np.abs(between) < 4 / math.sqrt(n)).all()


@pytest.mark.parametrize("v", FIXED)
@pytest.mark.parametrize("i", range(3), ids=NAMES)
def test_the_chain_has_its_exact_law(i, v, chains):
    """Not the law of the data: that of the chain with so few steps and a fixed variance, by linear recursion."""
    process = CASES[i].process
    log_var = {"fixed_small": process.log_beta_tilde, "fixed_large": process.log_beta}[v]
    mean, var = GAUSSIAN.chain_law(process, ancestral_step(process, log_var))
    assert_law(chains[i, list(FIXED).index(v)], mean, var)


@pytest.mark.parametrize("i", range(3), ids=NAMES)
def test_the_exact_reverse_chain_ends_at_the_data(i):
    """Of the recursion itself: with Var[x_{t-1} | x_t] at each step, the last included, it regresses x_0 on x_T.

    Were x_T drawn from q, its mean and variance would be the world's; p(x_T) differs a little, and a slope of
    Cov(x_0, x_T) / Var(x_T) of the difference is left.
    """
    process = CASES[i].process
    p = float64(process)
    mean, var = GAUSSIAN.chain_law(process, lambda t: (p.c_x_0[t], p.c_x_t[t], GAUSSIAN.reverse_var(process, t)))
    mean_T, var_T = GAUSSIAN.marginal(process, T)
    slope = p.signal[-1] * GAUSSIAN.std**2 / var_T
    # 1e-5: 20 steps with float32 tables
    np.testing.assert_allclose(mean, GAUSSIAN.mean - slope * mean_T, atol=1e-5)
    np.testing.assert_allclose(var, GAUSSIAN.std**2 + slope**2 * (CASES[i].prior_var - var_T), rtol=1e-5)


def test_a_respaced_chain_has_its_exact_law():
    """The denoiser belongs to the base process of 20 steps, the tables to the chain of 6."""
    base = CASES[0].process
    x = jax.jit(lambda v: chain(RESPACED, base, v))(jnp.int32(0))
    assert_law(x, *GAUSSIAN.chain_law(RESPACED, ancestral_step(RESPACED, RESPACED.log_beta_tilde)))


@pytest.mark.parametrize("i", [0, 1], ids=NAMES[:2])
def test_a_step_is_that_of_algorithm_2(i):
    """x_{t-1} = (x_t - beta eps_hat / sqrt(1 - alpha_bar)) / sqrt(alpha) + sigma z, no z at t = 1, without clipping."""
    process, reference_chain = CASES[i].process, CASES[i].chain
    x_t = jax.random.normal(jax.random.key(1), (T, 3))
    t, keys = jnp.arange(1, T + 1), image_keys(3, jnp.arange(T))
    denoise = from_network(process, eps, lambda x, time: jnp.sin(3 * x) + 0.01 * time[:, None])
    step = jax.jit(
        lambda: (ancestral(process, variance.fixed_large).step(keys, (), x_t, t, denoise), normal(keys, x_t))
    )
    (found, state), z = step()
    assert state == ()
    eps_hat = np.sin(3 * np.float64(x_t)) + 0.01 * np.arange(T)[:, None]
    a, beta = reference_chain.a[1:, None], reference_chain.beta[1:, None]
    noise = np.float64(process.noise[1:, None])
    z = np.float64(z) * (np.arange(1, T + 1) > 1)[:, None]
    paper = (np.float64(x_t) - beta * eps_hat / noise) / a + np.sqrt(beta) * z
    # c_x_0 x_0_hat and c_x_t x_t cancel in part; each is below 8 / a
    assert (np.abs(found - paper) <= 32 * 2.0**-23 / a * 8).all()


def test_the_last_step_returns_the_mean():
    """With different keys but the same x_1: no noise at t = 1, and noise at t = 2."""
    process = CASES[1].process
    x = jax.random.normal(jax.random.key(2), (4, 3))
    step = ancestral(process, variance.fixed_large).step
    denoise = GAUSSIAN.denoiser(process)

    @jax.jit
    def take(first, t):
        ts = jnp.full(4, t)
        return step(image_keys(0, first + jnp.arange(4)), (), x, ts, denoise)[0], denoise(x, ts).x_0

    (one, x_0_hat), (two, _) = take(0, 1), take(4, 1)
    np.testing.assert_array_equal(one, two)
    # c_x_0[1] = 1 and c_x_t[1] = 0, so the mean is x_0_hat itself, to the rounding of two programs
    np.testing.assert_allclose(one, x_0_hat, rtol=1e-6, atol=1e-7)
    assert (take(0, 2)[0] != take(4, 2)[0]).all()


def test_prior_sample():
    for case in CASES:
        keys = image_keys(5, jnp.arange(N))
        x_T = jax.jit(prior_sample, static_argnums=2)(keys, case.process, (2,))
        assert_law(x_T, np.zeros(2), np.full(2, case.prior_var))
    shaped = jax.eval_shape(lambda: prior_sample(keys, CASES[0].process, (4, 2, 1)))
    assert (shaped.shape, shaped.dtype) == ((N, 4, 2, 1), jnp.float32)


def test_image_keys():
    def data(keys):
        return jax.random.key_data(keys)

    some = data(image_keys(7, jnp.arange(6)))
    np.testing.assert_array_equal(some[3:], data(image_keys(7, jnp.arange(3, 6))))
    np.testing.assert_array_equal(some[4], jax.random.key_data(jax.random.fold_in(jax.random.key(7), 4)))
    assert len({tuple(row) for row in np.asarray(some)}) == 6
    assert (np.asarray(some) != np.asarray(data(image_keys(8, jnp.arange(6))))).any()


# What is collected, and independence of the batch.

STOPS = (20, 13, 7, 1)


@pytest.fixture(scope="module")
def collecting(strict):  # noqa: ARG001
    process = CASES[1].process
    sampler = ancestral(process, variance.fixed_small)

    @jax.jit
    def run(indices):
        keys = image_keys(11, indices)
        x_T = prior_sample(keys, process, (3,))
        return sample(keys, process, sampler, GAUSSIAN.denoiser(process), x_T, collect=STOPS), x_T

    return run


def test_an_image_is_its_own(collecting):
    """The same image whatever the batch and the order."""
    whole, _ = collecting(jnp.arange(8))
    halves = [collecting(jnp.arange(i, i + 4))[0] for i in (0, 4)]
    order = np.array([3, 0, 7, 5, 1, 2, 6, 4])
    moved, _ = collecting(jnp.asarray(order))
    # vector units may round differently at different batch sizes: ulps, over 20 contracting steps
    np.testing.assert_allclose(np.concatenate([half.x_0 for half in halves]), whole.x_0, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved.x_0, whole.x_0[order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved.x_0_hats, whole.x_0_hats[:, order], rtol=1e-5, atol=1e-6)
    assert len(np.unique(whole.x_0[:, 0])) == 8


def test_collected_predictions_are_those_of_the_chain(collecting):
    """Against a plain Python loop over t."""
    process = CASES[1].process
    found, x_t = collecting(jnp.arange(8))
    denoise = GAUSSIAN.denoiser(process)

    @jax.jit
    def step(x, s):
        t = jnp.full(8, s, jnp.int32)
        keys = fold(image_keys(11, jnp.arange(8)), s)
        return ancestral(process, variance.fixed_small).step(keys, (), x, t, denoise)[0], denoise(x, t).x_0

    expected = {}
    for s in range(T, 0, -1):
        x_t, expected[s] = step(x_t, s)
    assert found.x_0_hats.shape == (4, 8, 3)
    for k, s in enumerate(STOPS):
        np.testing.assert_allclose(found.x_0_hats[k], expected[s], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.x_0, x_t, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.x_0_hats[-1], found.x_0)  # the last step adds no noise


@pytest.mark.parametrize("collect", [(), [7, 5, 20, 5]])
def test_collecting_changes_nothing_and_sorts(collect, collecting):
    process = CASES[1].process
    whole, x_T = collecting(jnp.arange(8))
    keys, sampler = image_keys(11, jnp.arange(8)), ancestral(process, variance.fixed_small)
    found = jax.jit(lambda: sample(keys, process, sampler, GAUSSIAN.denoiser(process), x_T, collect))()
    np.testing.assert_allclose(found.x_0, whole.x_0, rtol=1e-5, atol=1e-6)
    stops = sorted(set(collect), reverse=True)
    assert found.x_0_hats.shape == (len(stops), 8, 3)
    for k, s in enumerate(stops):
        if s in STOPS:
            np.testing.assert_allclose(found.x_0_hats[k], whole.x_0_hats[STOPS.index(s)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("collect", [(0,), (21,), (5, -1), (1, 20, 99)])
def test_steps_that_do_not_exist_are_refused(collect):
    process = CASES[0].process
    keys = image_keys(0, jnp.arange(2))
    with pytest.raises(ValueError, match=r"steps must lie in 1\.\.20") as error:
        sample(
            keys,
            process,
            ancestral(process, variance.fixed_small),
            GAUSSIAN.denoiser(process),
            jnp.zeros((2, 3)),
            collect=collect,
        )
    assert str(list(collect)) in str(error.value)


def test_the_network_is_asked_for_base_steps_in_order():
    """T calls from base_t[T] down to base_t[1], and one more for each collected step."""
    process, seen = RESPACED, []

    def denoise(x_t, t):
        jax.debug.callback(lambda t: seen.append(int(t[0])), t, ordered=True)
        return Prediction(0.5 * x_t, x_t, None)

    keys = image_keys(0, jnp.arange(2))
    found = sample(keys, process, ancestral(process, variance.fixed_small), denoise, jnp.ones((2, 3)), collect=(2,))
    jax.effects_barrier()
    down = [int(s) for s in process.base_t[:0:-1]]
    assert seen == [*down[:-1], *down[-2:]]  # the second last step is collected, then taken
    assert np.isfinite(found.x_0).all()


def test_a_clipped_chain_stays_in_the_range_of_the_data():
    process = CASES[1].process
    keys = image_keys(0, jnp.arange(16))
    denoise = from_network(process, eps, lambda x, time: 0.5 * x)  # noqa: ARG005
    sampler = ancestral(process, variance.fixed_large)

    @jax.jit
    def run():
        x_T = prior_sample(keys, process, (2, 2, 1))
        return denoise(x_T, jnp.full(16, T)), sample(
            keys, process, sampler, clip(process, denoise), x_T, collect=(20, 1)
        )

    free, clipped = run()
    assert np.abs(free.x_0).max() > 10
    assert np.abs(clipped.x_0).max() <= 1
    assert np.abs(clipped.x_0_hats).max() == 1


def test_memory_does_not_grow_with_t():
    """Nothing of the size of one batch for each step, or even one number for each example and step, is ever made."""
    steps, batch = 400, 8
    process = vp(schedules.cosine(steps))
    world = GaussianWorld(np.zeros(5), np.ones(5))
    sampler = ancestral(process, variance.fixed_small)
    keys = image_keys(0, jnp.arange(batch))

    def run(x_T):
        return sample(keys, process, sampler, world.denoiser(process), x_T, collect=(300, 200, 1))

    sizes = [math.prod(shape) for shape in intermediates(run, jnp.zeros((batch, 5)))]
    assert 3 * batch * 5 in sizes  # the collected predictions
    assert max(sizes) <= steps + 1  # a table
