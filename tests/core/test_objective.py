"""Training losses: every combination is finite, and each objective is what it says."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import elbo, gaussian, parameterization, timesteps, variance, weighting
from diffusion.core.array_types import fold, normal
from diffusion.core.forward_process import Noised, q_sample
from diffusion.core.objective import Objective, Terms, evaluate
from diffusion.core.reverse_process import Diffusion, from_network, network_input, network_time
from tests.support.worlds import GAUSSIAN, cases, one_parameterization, one_variance, stacked, standard_errors

T = 10
CASES = cases(T)
NAMES = [case.name for case in CASES]
STACKED = stacked(CASES)
EVERY_T = jnp.arange(1, T + 1)
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
OBJECTIVES = {
    "simple": Objective(weighting.native, 0.0),
    "vlb": Objective(None, 1.0),
    "mu_mse": Objective(weighting.mu_mse, 0.0),
    "hybrid": Objective(weighting.native, 0.001, freeze_mean=True),
}
GRID = np.arange(256) / 127.5 - 1


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


class Outcome(NamedTuple):
    terms: Terms
    out: jax.Array
    """Gradient of the summed loss with respect to the regression half."""
    raw_var: jax.Array
    """The same for the variance half."""


@pytest.fixture(scope="module")
def outcomes(strict):  # noqa: ARG001
    """Losses and gradients of each objective, with axes (process, parameterisation, variance); one example per t."""
    out, raw_var, eps = jax.random.normal(jax.random.key(0), (3, T, 2, 2, 1))
    x_0 = jnp.asarray(np.random.default_rng(0).choice(GRID, eps.shape), jnp.float32)

    def run(process, p, v):
        chosen = one_parameterization(list(PARAMETERIZATIONS.values()), p)
        x_t = q_sample(process, x_0, EVERY_T, eps)

        def outcome(objective):
            def loss(out, raw_var):
                log_var = one_variance(list(VARIANCES.values()), v)
                terms = evaluate(
                    objective, Diffusion(process, chosen, log_var), Noised(x_0, eps, x_t, EVERY_T), out, raw_var
                )
                return terms.loss.sum(), terms

            slopes, terms = jax.grad(loss, argnums=(0, 1), has_aux=True)(out, raw_var)
            return Outcome(terms, *slopes)

        return {name: outcome(objective) for name, objective in OBJECTIVES.items()}

    over_variances = jax.vmap(run, in_axes=(None, None, 0))
    every = jax.vmap(jax.vmap(over_variances, in_axes=(None, 0, None)), in_axes=(0, None, None))
    found = jax.jit(every)(STACKED, jnp.arange(4), jnp.arange(4))
    return jax.tree.map(np.asarray, found)


LEARNED = slice(2, 4)  # on the axis of variances


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("i", range(3), ids=NAMES)
def test_every_combination_is_finite(i, name, outcomes):
    found = jax.tree.map(lambda a: a[i], outcomes[name])
    assert found.terms.loss.shape == (4, 4, T)
    for leaf in jax.tree.leaves(found):
        assert np.isfinite(leaf).all()
    assert (found.terms.mse > 0).all()
    assert (found.out[:, :, 1:] != 0).all()  # each output is trained; at t = 1 the decoder may be at its floor


@pytest.mark.parametrize("i", range(3), ids=NAMES)
def test_the_parts_of_the_loss(i, outcomes):
    simple, vlb, mu_mse, hybrid = (jax.tree.map(lambda a: a[i], outcomes[name].terms) for name in OBJECTIVES)
    np.testing.assert_allclose(simple.loss, simple.mse, rtol=1e-6)
    np.testing.assert_array_equal(vlb.loss, vlb.vlb)
    np.testing.assert_allclose(hybrid.loss, simple.mse + 0.001 * vlb.vlb, rtol=1e-5)
    for terms in (simple, mu_mse):
        np.testing.assert_array_equal(terms.vlb, 0)
    for terms in (vlb, mu_mse, hybrid):
        np.testing.assert_array_equal(terms.mse, simple.mse)
    # mu-tilde's loss is the plain error of a network that outputs mu
    mu = list(PARAMETERIZATIONS).index("mu")
    np.testing.assert_allclose(mu_mse.loss[mu], mu_mse.mse[mu], rtol=1e-6)


@pytest.mark.parametrize("i", range(3), ids=NAMES)
def test_the_hybrid_trains_each_half_with_its_own_part(i, outcomes):
    """The bound moves the variance alone, the squared error the mean alone."""
    simple, vlb, mu_mse, hybrid = (jax.tree.map(lambda a: a[i], outcomes[name]) for name in OBJECTIVES)
    np.testing.assert_array_equal(hybrid.out, simple.out)
    # 1/2 (1 - var ratio - squared error / var) may cancel, to an ulp of the 1 in units of the loss
    unit = 0.001 * T / (4 * math.log(2))
    np.testing.assert_allclose(hybrid.raw_var[:, :, 1:], 0.001 * vlb.raw_var[:, :, 1:], rtol=1e-6, atol=unit * 2.0**-23)
    learned = list(VARIANCES).index("learned")  # at t = 1 the decoder's tail, z^2 / 2, makes more of an ulp of z
    np.testing.assert_allclose(hybrid.raw_var[:, learned, 0], 0.001 * vlb.raw_var[:, learned, 0], rtol=1e-4)
    np.testing.assert_array_equal(simple.raw_var, 0)
    np.testing.assert_array_equal(mu_mse.raw_var, 0)
    np.testing.assert_array_equal(vlb.raw_var[:, :2], 0)  # fixed variances have nothing to train
    assert (vlb.raw_var[:, LEARNED, 1:] != 0).all()


@pytest.mark.parametrize("i", range(3), ids=NAMES)
def test_the_gradient_of_l_simple_is_that_of_the_plain_error(i, outcomes):
    """2 (out - target) / dims, from the losses alone: mse = mean (out - target)^2 = dims / 4 mean (gradient)^2."""
    simple = jax.tree.map(lambda a: a[i], outcomes["simple"])
    from_slope = (simple.out.reshape(4, 4, T, 4) ** 2).sum(axis=-1) * 4 / 4
    np.testing.assert_allclose(from_slope, simple.terms.mse, rtol=1e-5)


def test_terms_of_all_steps_add_up_to_the_bound():
    """mean_t of T L_{t-1} is the bound without L_T, in bits/dim; at t = 1 it is the decoder's."""
    x_0 = jnp.asarray(np.random.default_rng(1).choice(GRID, (3, 4)), jnp.float32)
    some = jax.random.split(jax.random.key(1), 3)

    def network(x, time):
        return jnp.concatenate([0.3 * x + 0.05 * time[:, None], jnp.tanh(x)], axis=-1)

    @jax.jit
    @jax.vmap
    def both(process):
        denoise = from_network(process, parameterization.v, network)
        bound = elbo.bound(some, Diffusion(process, parameterization.eps, variance.learned_range), denoise, x_0)

        def at(t):
            ts = jnp.full(3, t)
            eps = normal(fold(some, t), x_0)
            x_t = q_sample(process, x_0, ts, eps)
            halves = jnp.split(network(network_input(process, x_t, ts), network_time(process, ts)), 2, axis=-1)
            diffusion = Diffusion(process, parameterization.v, variance.learned_range)
            return evaluate(OBJECTIVES["vlb"], diffusion, Noised(x_0, eps, x_t, ts), *halves)

        return bound, jax.lax.map(at, EVERY_T)

    bounds, every_terms = both(STACKED)
    for i in range(3):
        bound, terms = jax.tree.map(lambda a, i=i: a[i], (bounds, every_terms))
        expected = elbo.bits_per_dim(bound.terms, 4)
        np.testing.assert_allclose(terms.vlb.T, T * expected, rtol=1e-5)
        np.testing.assert_allclose(terms.vlb.mean(axis=0), elbo.bits_per_dim(bound.total - bound.prior, 4), rtol=1e-5)
        np.testing.assert_array_equal(terms.loss, terms.vlb)


def test_the_exact_bound_is_estimated_without_bias():
    """E over t and x_t of the loss L, in the Gaussian world with the optimal network: sum_t L_{t-1} in bits/dim."""
    n, case = 40_000, CASES[0]
    process = case.process
    objective = OBJECTIVES["vlb"]._replace(decoder=gaussian.log_prob)

    @jax.jit
    def run(t, weight):
        x_0 = GAUSSIAN.draw(jax.random.key(2), n)
        eps = jax.random.normal(jax.random.key(4), x_0.shape)
        x_t = q_sample(process, x_0, t, eps)
        out = GAUSSIAN.denoiser(process)(x_t, t).eps
        terms = evaluate(
            objective,
            Diffusion(process, parameterization.eps, variance.fixed_large),
            Noised(x_0, eps, x_t, t),
            out,
            None,
        )
        return weight * terms.loss

    log_var = variance.fixed_large(process, jnp.arange(T + 1), None)
    expected = GAUSSIAN.terms(process, log_var).sum() / (3 * math.log(2))
    for some in (timesteps.uniform(T), timesteps.antithetic(T)):
        t, weight = jax.jit(some.sample, static_argnums=2)(jax.random.key(3), some.init(), n)
        pairs = np.float64(run(t, weight)).reshape(-1, 2).mean(axis=1)  # independent, whichever way t is drawn
        assert standard_errors(pairs, expected) < 4
        assert pairs.std() / math.sqrt(n / 2) < 0.05 * expected
