"""Power-function averages: their definition, and other widths made of them, against sums over every update."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate

from diffusion.training import weight_averages
from diffusion.training.optimizer import skipping


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def profile(t: float, gamma: float, T: float) -> float:
    return (gamma + 1) * t**gamma / T ** (gamma + 1)


def exact(path: np.ndarray, gamma: float) -> float:
    """The average of a path that has the value path[i] from i to i + 1."""
    edges = np.arange(len(path) + 1) / len(path)
    return float(np.sum(path * np.diff(edges ** (gamma + 1))))


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_width_is_the_standard_deviation_of_the_profile(width):
    gamma = weight_averages.gamma_of(width)
    mean = integrate.quad(lambda t: t * profile(t, gamma, 1.0), 0, 1)[0]
    square = integrate.quad(lambda t: (t - mean) ** 2 * profile(t, gamma, 1.0), 0, 1)[0]
    assert square**0.5 == pytest.approx(width, rel=1e-6)
    assert gamma > 0


@pytest.mark.parametrize("width", [0.0, -0.1, 0.2887, 1.0])
def test_a_width_that_no_profile_has(width):
    assert weight_averages.gamma_of(0.05) == pytest.approx(16.97, abs=0.005)  # the published pair
    assert weight_averages.gamma_of(0.10) == pytest.approx(6.94, abs=0.005)
    with pytest.raises(ValueError, match=rf"width {width:g} is not above 0 and below 0\.2887"):
        weight_averages.gamma_of(width)


def walk(steps: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(0).normal(size=steps)) / steps**0.5


def trained(path: np.ndarray, fits: np.ndarray):
    """States after each update of a parameter that is set to path[i] where fits[i]."""
    optimizer = weight_averages.averaged(skipping(optax.identity()))
    params = {"w": jnp.float32(3.0)}
    state, states = optimizer.init(params), []
    step = jax.jit(lambda u, s, p, fit: optimizer.update(u, s, p, fit=fit))
    for target, fit in zip(path, fits, strict=True):
        updates, state = step({"w": jnp.float32(target) - params["w"]}, state, params, jnp.bool_(fit))
        params = optax.apply_updates(params, updates) if fit else params
        states.append(state)
    return states


def test_the_averages_are_their_definition_and_skipped_updates_do_not_count():
    path, fits = walk(60), np.arange(60) % 7 != 3
    fits[0] = False
    state = trained(path, fits)[-1]
    assert int(weight_averages.find(state).count) == fits.sum()
    for width, average in zip(weight_averages.WIDTHS, state.averages, strict=True):
        assert float(average["w"]) == pytest.approx(exact(path[fits], weight_averages.gamma_of(width)), rel=1e-5)


def test_an_optimiser_without_averages_has_none():
    with pytest.raises(ValueError, match=r"no power-function averages; train it with config.optim.power_ema = true"):
        weight_averages.find(optax.adam(0.1).init({"w": jnp.float32(1.0)}))


@pytest.mark.parametrize(("a", "b"), [((3.0, 2.0), (5.0, 7.0)), ((5.0, 7.0), (3.0, 2.0)), ((4.0, 6.9), (4.0, 16.9))])
def test_inner_products_are_integrals(a, b):
    top = min(a[0], b[0])
    expected = integrate.quad(lambda t: profile(t, a[1], a[0]) * profile(t, b[1], b[0]), 0, top)[0]
    assert weight_averages.inner_product(*a, *b) == pytest.approx(expected, rel=1e-8)


def test_other_widths_are_reconstructed():
    """A stored width comes out exactly; others closely, and closer the more checkpoints there are."""
    path = walk(400)
    states = trained(path, np.ones(400, bool))

    def made(width: float, every: int, count: int = 400) -> float:
        counts = list(range(every, count + 1, every))
        weights = weight_averages.reconstruction(counts, count, width)
        assert weights.shape == (len(counts), 2)
        stored = [[float(a["w"]) for a in states[n - 1].averages] for n in counts]
        return float(np.sum(weights * np.array(stored)))

    for width, average in zip(weight_averages.WIDTHS, states[-1].averages, strict=True):
        assert made(width, 50) == pytest.approx(float(average["w"]), abs=1e-5)
    spread = path.std()
    for width in (0.03, 0.08, 0.15, 0.25):
        wanted = exact(path, weight_averages.gamma_of(width))
        errors = [abs(made(width, every) - wanted) / spread for every in (200, 50, 20)]
        assert errors[2] < 0.01 and errors[2] <= errors[0]
    assert made(0.1, 20, count=200) == pytest.approx(exact(path[:200], weight_averages.gamma_of(0.1)), abs=1e-4)
