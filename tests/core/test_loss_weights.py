"""P2 and min-SNR weights: stated in x_0 space, compared with the published forms for predictions of eps and v."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.config import default_config
from diffusion.core import parameterization, variance, weighting
from diffusion.core.forward_process import Noised, q_sample
from diffusion.core.gaussian import mean_dims
from diffusion.core.objective import Objective, evaluate
from diffusion.core.reverse_process import Diffusion
from diffusion.experiment import build
from tests.support import reference
from tests.support.worlds import cases

T = 20
CASES = {case.name: case for case in cases(T)}
PRESERVING = ("linear", "cosine")
EVERY_T = jnp.arange(1, T + 1)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def ratios(name: str) -> np.ndarray:
    """SNR[1..T] in float64, from the composed chain."""
    signal, var = reference.marginals(CASES[name].chain)
    return signal[1:] ** 2 / var[1:]


def on_output(name: str, weight, predicts) -> np.ndarray:
    """The factor of the squared error of the network's output."""
    process = CASES[name].process
    return np.float64(weight(process, predicts, EVERY_T)) * np.float64(predicts.gain(process, EVERY_T)) ** 2


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("gamma", "k"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.1), (2.0, 3.0)])
def test_p2_on_eps_is_the_published_form(name, gamma, k):
    found = on_output(name, lambda *a: weighting.p2(*a, gamma=gamma, k=k), parameterization.eps)
    np.testing.assert_allclose(found, 1 / (k + ratios(name)) ** gamma, rtol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_p2_without_gamma_is_l_simple(name):
    found = on_output(name, lambda *a: weighting.p2(*a, gamma=0.0), parameterization.eps)
    np.testing.assert_allclose(found, np.ones(T), rtol=1e-5)


@pytest.mark.parametrize("name", PRESERVING)
def test_p2_on_v(name):
    snr = ratios(name)
    np.testing.assert_allclose(on_output(name, weighting.p2, parameterization.v), snr / (1 + snr) ** 2, rtol=2e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_on_x_0_and_eps_are_the_published_forms(name, gamma):
    def weight(*a):
        return weighting.min_snr(*a, gamma=gamma)

    snr = ratios(name)
    np.testing.assert_allclose(on_output(name, weight, parameterization.x_0), np.minimum(snr, gamma), rtol=2e-5)
    np.testing.assert_allclose(on_output(name, weight, parameterization.eps), np.minimum(snr, gamma) / snr, rtol=2e-5)
    assert snr.min() < gamma < snr.max()  # both sides of the minimum are met


@pytest.mark.parametrize("name", PRESERVING)
def test_min_snr_on_v_is_the_published_form(name):
    snr = ratios(name)
    found = on_output(name, weighting.min_snr, parameterization.v)
    np.testing.assert_allclose(found, np.minimum(snr, 5.0) / (snr + 1), rtol=2e-5)


@pytest.mark.parametrize("weight", [weighting.p2, weighting.min_snr])
@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_the_same_whatever_the_network_predicts(name, weight):
    """An error of x_0 costs weight times its square, read from the output of each parameterisation."""
    process = CASES[name].process
    x_0, eps, error = jax.random.normal(jax.random.key(0), (3, T, 4))
    objective = Objective(weight, vlb=0.0)

    @jax.jit
    def losses():
        x_t = q_sample(process, x_0, EVERY_T, eps)
        found = []
        for predicts in (parameterization.eps, parameterization.x_0, parameterization.mu, parameterization.v):
            out = (
                predicts.target(process, Noised(x_0, eps, x_t, EVERY_T))
                + error / predicts.gain(process, EVERY_T)[:, None]
            )
            terms = evaluate(
                objective, Diffusion(process, predicts, variance.fixed_small), Noised(x_0, eps, x_t, EVERY_T), out, None
            )
            found.append(terms.loss)
        return jnp.stack(found), weight(process, parameterization.eps, EVERY_T) * mean_dims(error**2)

    found, expected = losses()
    # out - target is a difference of numbers up to |target|: hundreds of roundings of the error where the gain is large
    np.testing.assert_allclose(found, np.broadcast_to(expected, (4, T)), rtol=1e-3)


def test_the_config_sets_the_constants():
    config = default_config()
    config.objective.update(name="p2", p2_gamma=0.5, p2_k=2.0)
    process = CASES["linear"].process
    p2 = build.OBJECTIVES["p2"](config.objective)
    expected = weighting.p2(process, parameterization.eps, EVERY_T, gamma=0.5, k=2.0)
    np.testing.assert_array_equal(p2.weight(process, parameterization.eps, EVERY_T), expected)
    config.objective.update(min_snr_gamma=2.0)
    min_snr = build.OBJECTIVES["min_snr"](config.objective)
    assert float(min_snr.weight(process, parameterization.eps, EVERY_T).max()) == 2.0
    assert not p2.vlb and not min_snr.vlb
