"""The variational bound: published values, the independent re-derivation, and a world where it is known exactly."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import elbo, gaussian, parameterization, schedules, variance
from diffusion.core.array_types import fold, normal
from diffusion.core.forward_process import Noised, Process, prior, q_sample, q_step, vp
from diffusion.core.parameterization import Prediction
from diffusion.core.reverse_process import Diffusion, from_network, reverse
from tests.support import reference
from tests.support.worlds import (
    GAUSSIAN,
    GaussianWorld,
    cases,
    float64,
    intermediates,
    one_parameterization,
    one_variance,
    stacked,
    standard_errors,
)

T = 12
CASES = cases(T)
STACKED = stacked(CASES)
PARAMETERIZATIONS = {
    "eps": parameterization.eps,
    "x_0": parameterization.x_0,
    "mu": parameterization.mu,
    "v": parameterization.v,
}
VARIANCES = {
    "fixed_small": variance.fixed_small,
    "fixed_large": variance.fixed_large,
    "learned": variance.learned,
    "learned_range": variance.learned_range,
}


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def keys(n: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), n)


def bits_per_dim(nats) -> np.ndarray:
    return np.float64(nats) / math.log(2)


# Published values.

LINEAR = vp(schedules.linear(1000))
prior_kl = jax.jit(elbo.prior_kl)
FIXED_LARGE = Diffusion(LINEAR, parameterization.eps, variance.fixed_large)


@pytest.mark.parametrize(
    ("schedule", "bits"),
    [
        (schedules.linear(1000), "2.911e-5"),
        (schedules.linear(4000, 2.5e-5, 0.005), "3.063e-5"),
        (schedules.quad(1000), "5.29e-4"),
        (schedules.const(1000), "1.2e-9"),
        (schedules.warmup(1000), "3.3e-9"),
        (schedules.warmup(1000, share=0.5), "1.9e-7"),
        (schedules.cosine(1000), "1.75e-9"),
        (schedules.cosine(4000), "1.1e-10"),
    ],
)
def test_prior_kl(schedule, bits):
    """L_T at x_0^2 = 1 and 1/4, to float32 although it is up to nine orders below the 1 in the formula of the KL."""
    process = vp(schedule)
    found = elbo.bits_per_dim(prior_kl(process, jnp.array([[1.0, -1.0], [0.5, 0.5]])), 2)
    places = len(bits.partition("e")[0].partition(".")[2])
    half_a_digit = 0.501 * 10.0 ** (int(bits.partition("e")[2]) - places)
    assert float(found[0]) == pytest.approx(float(bits), abs=half_a_digit)
    exact = [
        bits_per_dim(reference.kl(math.sqrt(schedule[-1]) * x, math.log1p(-schedule[-1]), 0.0, 0.0)) for x in (1.0, 0.5)
    ]
    # rel: noise[T] is 1 to an ulp of float32, and its log_var enters squared; abs: float64 in the reference, 1e-16
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-15)


def test_prior_kl_of_black():
    """x_0 = 0 under the published schedule: 5.9e-10 bits/dim, the square of a log-variance of 4e-5 known to 6e-8."""
    found = float(elbo.bits_per_dim(prior_kl(LINEAR, jnp.zeros((1, 1))), 1)[0])
    assert found == pytest.approx(5.87478e-10, rel=2 * 6e-8 / 4.04e-5 + 2 * 2.4e-7 / 4.04e-5)


def test_the_price_of_fixed_large_variances():
    """With a perfect mean, sum_{t > 1} L_{t-1} is 0.486 bits/dim; 36% of it in the first step, 96% in the first 50."""
    t = jnp.arange(2, 1001)
    x_0, x_t = jax.random.normal(jax.random.key(0), (2, 999, 1))
    perfect = Prediction(x_0, jnp.zeros_like(x_0), None)
    noised = Noised(x_0, jnp.zeros_like(x_0), x_t, t)
    found = bits_per_dim(elbo.step_kl(FIXED_LARGE, noised, perfect))
    assert found.sum() == pytest.approx(0.486, abs=5e-4)
    shares = np.cumsum(found) / found.sum()
    np.testing.assert_allclose(shares[[0, 9, 49]], [0.36, 0.82, 0.96], atol=5e-3)
    fixed_small = FIXED_LARGE._replace(variance=variance.fixed_small)
    np.testing.assert_array_equal(elbo.step_kl(fixed_small, noised, perfect), 0.0)


def test_the_published_decoder_term():
    """An RMSE of 0.951 (of 255) costs 1.975 bits/dim at t = 1 under a Gaussian density in units of the 8-bit values."""
    x_0 = jnp.zeros((1, 3))
    off = Prediction(jnp.full((1, 3), 0.951 / 127.5), x_0, None)
    nats = elbo.decoder_nll(FIXED_LARGE, Noised(x_0, x_0, x_0, jnp.array([1])), off, gaussian.log_prob)
    assert float(nats[0]) / 3 + math.log(127.5) == pytest.approx(1.975 * math.log(2), abs=1e-3)
    assert float(elbo.bits_per_dim(nats, 3)[0]) == pytest.approx(float(nats[0]) / 3 / math.log(2), rel=1e-6)


# The independent re-derivation.


def network(x, time):
    """Any function, the same in NumPy and JAX; `time` is t - 1."""
    return 0.4 * x + 0.1 * time + 0.3, 0.2 * x - 0.1 * time


def jax_network(x, time):
    return jnp.concatenate(network(x, time[:, None]), axis=-1)


@pytest.fixture(scope="module")
def against_reference(strict):  # noqa: ARG001
    """Bounds of 2 examples, with axes (process, parameterisation, variance); the noise that they were given."""
    rng = np.random.default_rng(0)
    x_0 = jnp.asarray(rng.choice(np.arange(256) / 127.5 - 1, (2, 3)), jnp.float32).at[0, 0].set(-1.0)
    eps = jnp.asarray(rng.normal(size=(T, *x_0.shape)), jnp.float32)

    def noise(keys, like, t):  # noqa: ARG001
        return eps[t - 1, jnp.arange(2)]

    def bound(process, p, v):
        denoise = from_network(process, one_parameterization(list(PARAMETERIZATIONS.values()), p), jax_network)
        diffusion = Diffusion(process, parameterization.eps, one_variance(list(VARIANCES.values()), v))
        return elbo.bound(keys(2), diffusion, denoise, x_0, noise=noise)

    over_variances = jax.vmap(bound, in_axes=(None, None, 0))
    every_bound = jax.jit(jax.vmap(jax.vmap(over_variances, in_axes=(None, 0, None)), in_axes=(0, None, None)))
    return x_0, np.float64(eps), every_bound(STACKED, jnp.arange(4), jnp.arange(4))


@pytest.mark.parametrize("v", VARIANCES)
@pytest.mark.parametrize("p", PARAMETERIZATIONS)
@pytest.mark.parametrize("i", range(3), ids=[case.name for case in CASES])
def test_bound_is_that_of_the_loops(i, p, v, against_reference):
    x_0, eps, bounds = against_reference
    found = jax.tree.map(lambda a: a[i, list(PARAMETERIZATIONS).index(p), list(VARIANCES).index(v)], bounds)
    signal, var = reference.marginals(CASES[i].chain)
    last, terms, mse = reference.bound(
        CASES[i].chain,
        CASES[i].prior_var,
        np.float64(x_0),
        eps,
        lambda x, t: network(x / math.sqrt(signal[t] ** 2 + var[t]), t - 1),
        p,
        v,
        reference.discretized_log_prob,
    )
    # some ten roundings of float32; nothing in the bound may amplify them
    np.testing.assert_allclose(found.prior, last, rtol=1e-6)
    np.testing.assert_allclose(found.x_0_mse, mse, rtol=1e-5)
    np.testing.assert_allclose(found.terms, terms, rtol=1e-5)
    np.testing.assert_allclose(found.total, last + terms.sum(axis=1), rtol=1e-5)


# The Gaussian world.

CHOICES = ["fixed_small", "fixed_large", "learned"]  # learned: from a network that knows the optimal variance
N = 8000


def log_var_table(name: str, process: Process) -> np.ndarray:
    """What the reverse step's log-variance is in the Gaussian world, [T + 1] or [T + 1, D]."""
    if name == "learned":
        table = np.log([GAUSSIAN.reverse_var(process, t) for t in range(1, T + 1)])
        return np.concatenate([table[:1], table])
    return np.asarray(VARIANCES[name](process, jnp.arange(T + 1), None))


@pytest.fixture(scope="module")
def in_the_gaussian_world(strict):  # noqa: ARG001
    """Bounds of N examples of the world by the optimal denoiser, continuous decoder."""
    x_0 = GAUSSIAN.draw(jax.random.key(1), N)

    def bound(process, v):
        chosen = one_variance([VARIANCES[name] for name in CHOICES], v)
        return elbo.bound(
            keys(N, 2),
            Diffusion(process, parameterization.eps, chosen),
            GAUSSIAN.denoiser(process, True),
            x_0,
            gaussian.log_prob,
        )

    return jax.jit(jax.vmap(jax.vmap(bound, in_axes=(None, 0)), in_axes=(0, None)))(STACKED, jnp.arange(len(CHOICES)))


@pytest.mark.parametrize("v", CHOICES)
@pytest.mark.parametrize("i", range(3), ids=[case.name for case in CASES])
def test_terms_have_their_exact_means(i, v, in_the_gaussian_world):
    process = CASES[i].process
    found = jax.tree.map(lambda a: a[i, CHOICES.index(v)], in_the_gaussian_world)
    expected = GAUSSIAN.terms(process, log_var_table(v, process))
    # 4.5 standard errors: 117 comparisons, each missed once in 150,000
    assert (standard_errors(found.terms, expected) < 4.5).all()
    assert standard_errors(found.prior, GAUSSIAN.prior_kl(process)) < 4.5
    assert standard_errors(found.total, expected.sum() + GAUSSIAN.prior_kl(process)) < 4.5
    posterior_var = [GAUSSIAN.posterior(process, t)[2].mean() for t in range(1, T + 1)]
    assert (standard_errors(found.x_0_mse, posterior_var) < 4.5).all()


@pytest.mark.parametrize("i", range(3), ids=[case.name for case in CASES])
def test_the_bound_is_tight_with_the_optimal_variance(i, in_the_gaussian_world):
    """p then reverses q exactly: what is left over the entropy is KL(q(x_T) || p(x_T)). Fixed variances pay more."""
    process = CASES[i].process
    closed = {v: GAUSSIAN.terms(process, log_var_table(v, process)).sum() + GAUSSIAN.prior_kl(process) for v in CHOICES}
    mean, var = GAUSSIAN.marginal(process, T)
    end = sum(reference.kl(m, math.log(s), 0.0, math.log(CASES[i].prior_var)) for m, s in zip(mean, var, strict=True))
    assert closed["learned"] == pytest.approx(GAUSSIAN.entropy() + end, abs=1e-4)  # 36 terms from tables good to 1e-7
    bounds = [jax.tree.map(lambda a, v=v: a[i, CHOICES.index(v)], in_the_gaussian_world) for v in CHOICES]
    small, large, learned = (np.float64(bound.total) for bound in bounds)
    assert standard_errors(learned, GAUSSIAN.entropy() + end) < 4.5
    for fixed in (small, large):  # of the same images and noise, so that the difference varies little
        assert standard_errors(fixed - learned, 0.0) > 10 and (fixed - learned).mean() > 0.1


WITHOUT_CARE = ["fixed_small", "fixed_large", "learned_range"]


@pytest.fixture(scope="module")
def both_forms(strict):  # noqa: ARG001
    """For N examples, of each process: the bound by eq. 5, and one draw of the bound by eq. 3 along whole trajectories.

    The denoiser is that of another world, with a raw variance of its own: nothing in the identity needs it to be good.
    """
    x_0 = GAUSSIAN.draw(jax.random.key(3), N)
    wrong = GaussianWorld(np.array([0.0, 0.2, -0.5]), np.array([0.5, 0.3, 1.0]))

    def denoiser(process):
        inner = wrong.denoiser(process)

        def denoise(x_t, t):
            return inner(x_t, t)._replace(raw_var=jnp.tanh(x_t))

        return denoise

    def joint(process, chosen):
        """log q(x_1..x_T | x_0) - log p(x_0..x_T) of one trajectory for each example, drawn by single forward steps."""
        denoise = denoiser(process)

        def step(carry, t):
            x_s, total = carry
            ts = jnp.full(N, t, jnp.int32)
            q = q_step(process, x_s, ts)
            x_t = gaussian.sample(q, jax.random.normal(jax.random.fold_in(jax.random.key(4), t), x_s.shape))
            p = reverse(process, chosen, denoise(x_t, ts), x_t, ts)
            ratio = gaussian.log_prob(q, x_t) - gaussian.log_prob(p, x_s)
            return (x_t, total + gaussian.sum_dims(ratio)), None

        (x_T, total), _ = jax.lax.scan(step, (x_0, jnp.zeros(N)), jnp.arange(1, T + 1, dtype=jnp.int32))
        return total - gaussian.sum_dims(gaussian.log_prob(prior(process, x_T), x_T))

    def forms(process, v):
        chosen = one_variance([VARIANCES[name] for name in WITHOUT_CARE], v)
        total = elbo.bound(
            keys(N, 5), Diffusion(process, parameterization.eps, chosen), denoiser(process), x_0, gaussian.log_prob
        ).total
        return total, joint(process, chosen)

    every_form = jax.jit(jax.vmap(jax.vmap(forms, in_axes=(None, 0)), in_axes=(0, None)))
    return every_form(STACKED, jnp.arange(len(WITHOUT_CARE)))


@pytest.mark.parametrize("v", WITHOUT_CARE)
@pytest.mark.parametrize("i", range(3), ids=[case.name for case in CASES])
def test_equation_3_is_equation_5(i, v, both_forms):
    """sum_t L_t equals E_q[log q(x_1..x_T | x_0) - log p(x_0..x_T)]."""
    total, joint = (np.float64(form[i, WITHOUT_CARE.index(v)]) for form in both_forms)
    difference = joint - total  # the same x_0 in both: their own spread cancels
    assert standard_errors(difference, 0.0) < 4
    assert difference.std() / math.sqrt(N) < 0.02 * total.mean()  # the test would see an error of a few percent


# Batches, order, memory.


@pytest.fixture(scope="module")
def batched(strict):  # noqa: ARG001
    @jax.jit
    def run(some, x_0):
        process = CASES[1].process
        return elbo.bound(
            some, Diffusion(process, parameterization.eps, variance.fixed_large), GAUSSIAN.denoiser(process), x_0
        )

    return run


def test_the_bound_of_an_example_is_its_own(batched):
    """Whatever else is in the batch, and in whatever order: noise comes from the example's key and t alone."""
    x_0, some = GAUSSIAN.draw(jax.random.key(6), 8), keys(8, 7)
    whole = batched(some, x_0)
    halves = [batched(some[i : i + 4], x_0[i : i + 4]) for i in (0, 4)]
    order = np.array([5, 2, 7, 0, 1, 6, 3, 4])
    moved = batched(some[order], x_0[order])
    for a, b, c, d in zip(whole, *halves, moved, strict=True):
        np.testing.assert_allclose(
            np.concatenate([b, c]), a, rtol=1e-6, atol=1e-6
        )  # vector units round alike, or nearly
        np.testing.assert_allclose(d, np.asarray(a)[order], rtol=1e-6, atol=1e-6)
    assert len({float(v) for v in whole.total}) == 8


def test_every_step_of_the_bound_has_noise_of_its_own(batched):
    """That of fold_in(key, t)."""
    x_0, some, process = GAUSSIAN.draw(jax.random.key(6), 8), keys(8, 7), CASES[1].process
    table = jnp.stack([normal(fold(some, t), x_0) for t in range(T + 1)])
    diffusion = Diffusion(process, parameterization.eps, variance.fixed_large)

    @jax.jit
    def run(some, x_0):
        chosen = lambda keys, like, t: table[t[0]]  # noqa: ARG005, E731
        return elbo.bound(some, diffusion, GAUSSIAN.denoiser(process), x_0, noise=chosen)

    np.testing.assert_allclose(batched(some, x_0).terms, run(some, x_0).terms, rtol=1e-5, atol=1e-5)


def test_memory_does_not_grow_with_t():
    """No array of the bound is as large as one batch for each step: the results are [B, T], nothing is [T, B, D]."""
    process = vp(schedules.cosine(200))
    x_0 = jnp.zeros((4, 50))
    world = GaussianWorld(np.zeros(50), np.ones(50))

    def run(x):
        return elbo.bound(
            keys(4), Diffusion(process, parameterization.eps, variance.fixed_small), world.denoiser(process), x
        )

    largest = max(math.prod(shape) for shape in intermediates(run, x_0))
    assert 200 * 4 <= largest < 2 * 200 * 4
    kept = intermediates(lambda x: jax.lax.map(lambda t: q_sample(process, x, jnp.full(4, t), x), jnp.arange(200)), x_0)
    assert (200, 4, 50) in kept  # the search does find such an array


# The estimate.


def indicator(where: jax.Array):
    """A denoiser that is perfect for x_0 = 0 but at one step, where it errs by 1: that term alone is not 0."""

    def denoise(x_t, t):
        x_0 = jnp.broadcast_to((t == where).astype(jnp.float32)[:, None], x_t.shape)
        return Prediction(x_0, x_0, None)

    return denoise


def square(g, x):
    """A decoder whose L_0 is 0 for a perfect prediction."""
    return -((x - g.mean) ** 2)


def test_estimate_counts_every_term_once():
    """Its mean is the bound, term by term. Terms do not depend on the noise here, so only the choice of t varies."""
    process, x_0, steps = CASES[0].process, jnp.zeros((2000, 1)), 5

    @jax.jit
    @jax.vmap
    def run(where):
        denoise = indicator(where)
        return elbo.estimate(
            keys(2000, steps),
            Diffusion(process, parameterization.eps, variance.fixed_small),
            denoise,
            x_0,
            steps,
            square,
        )

    found = np.float64(run(jnp.arange(1, T + 1))) - float(prior_kl(process, jnp.zeros((1, 1)))[0])
    np.testing.assert_allclose(found[0], 1.0, rtol=1e-6)  # L_0 is always computed
    tables = float64(process)
    exact = tables.c_x_0**2 / 2 * np.exp(-tables.log_beta_tilde)  # the KL that an error of 1 costs
    for t in range(2, T + 1):
        tolerance = 4 * found[t - 1].std() / math.sqrt(2000) + 1e-5 * exact[t]  # the latter where the choice is certain
        assert found[t - 1].mean() == pytest.approx(exact[t], abs=tolerance), t


@pytest.mark.parametrize("T", [1, 7])
def test_estimate_with_every_step_is_the_bound(T):
    process = vp(np.concatenate([[1.0], np.linspace(0.9, 1e-4, T)]))
    x_0 = jnp.zeros((5, 1))

    def denoise(x_t, t):
        x_0 = jnp.broadcast_to(0.1 * t.astype(jnp.float32)[:, None], x_t.shape)
        return Prediction(x_0, x_0, None)

    @jax.jit
    def both():
        whole = elbo.bound(keys(5), Diffusion(process, parameterization.eps, variance.fixed_small), denoise, x_0).total
        return whole, elbo.estimate(
            keys(5, 1), Diffusion(process, parameterization.eps, variance.fixed_small), denoise, x_0, T
        )

    whole, found = both()
    np.testing.assert_allclose(found, whole, rtol=1e-6)


def test_estimate_is_unbiased_in_the_gaussian_world():
    x_0 = GAUSSIAN.draw(jax.random.key(8), N)

    @jax.jit
    @jax.vmap
    def run(process):
        denoise = GAUSSIAN.denoiser(process)
        return elbo.estimate(
            keys(N, 9),
            Diffusion(process, parameterization.eps, variance.fixed_large),
            denoise,
            x_0,
            6,
            gaussian.log_prob,
        )

    for found, case in zip(run(STACKED), CASES, strict=True):
        expected = GAUSSIAN.terms(case.process, log_var_table("fixed_large", case.process)).sum()
        expected += GAUSSIAN.prior_kl(case.process)
        assert standard_errors(found, expected) < 4


@pytest.mark.parametrize("steps", [-1, 0, 1, T + 1])
def test_estimate_refuses_impossible_numbers_of_steps(steps):
    process = CASES[0].process
    with pytest.raises(ValueError, match=f"steps = {steps}: .* needs 2 to {T}"):
        elbo.estimate(
            keys(2),
            Diffusion(process, parameterization.eps, variance.fixed_small),
            GAUSSIAN.denoiser(process),
            jnp.zeros((2, 3)),
            steps,
        )


def test_dims():
    assert elbo.dims(jnp.zeros((5, 8, 8, 3))) == 192
    assert elbo.dims(jnp.zeros((5, 2))) == 2


def test_bound_of_a_respaced_process_asks_the_network_for_base_steps():
    alpha_bar = schedules.linear(T, 0.02, 0.98)
    ts = np.array([0, 2, 5, 12])
    process, seen = vp(alpha_bar[ts], base_t=ts), []

    def denoise(x_t, t):
        jax.debug.callback(lambda t: seen.append(int(t[0])), t)
        return Prediction(x_t, x_t, None)

    found = elbo.bound(
        keys(2), Diffusion(process, parameterization.eps, variance.fixed_small), denoise, jnp.ones((2, 3))
    )
    jax.effects_barrier()
    assert found.terms.shape == found.x_0_mse.shape == (2, 3)
    assert sorted(seen) == [2, 5, 12]
