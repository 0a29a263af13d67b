"""What networks regress: definitions, round trips and gains, variance preserving and exploding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import parameterization
from diffusion.core.forward_process import Noised, q_sample, vp
from diffusion.core.schedules import cosine, jsd
from tests.support import reference
from tests.support.worlds import cases

ULP = 2.0**-23
T = 20
CASES = {case.name: case for case in cases(T)}
ALL = {
    "eps": parameterization.eps,
    "x_0": parameterization.x_0,
    "mu": parameterization.mu,
    "v": parameterization.v,
    "velocity": parameterization.velocity,
    "edm": parameterization.edm,
}
GAIN = {name: jax.jit(p.gain) for name, p in ALL.items()}
TARGET = {name: jax.jit(p.target) for name, p in ALL.items()}
TO_X_0 = {name: jax.jit(p.to_x_0) for name, p in ALL.items()}
to_eps = jax.jit(parameterization.to_eps)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="module", params=CASES)
def drawn(request, strict):  # noqa: ARG001
    """(process, chain, x_0, x_t, eps, t) with every t once."""
    _, process, chain, _ = CASES[request.param]
    x_0, eps = jax.random.normal(jax.random.key(0), (2, process.T, 3))
    t = jnp.arange(1, process.T + 1)
    return process, chain, x_0, jax.jit(q_sample)(process, x_0, t, eps), eps, t


def rounding(gain, out, x_0) -> np.ndarray:
    """The error that float32 leaves of x_0, per step.

    x_0 = +- gain out + k x_t: each of the two parts is at most |x_0| + gain |out|, and carries a handful of roundings
    (of the output, x_t, the tables and the operations). At t = T gain is 400 for eps under the cosine schedule, so no
    single tolerance would do.
    """
    return 8 * ULP * (np.abs(x_0).max(axis=1) + np.float64(gain) * np.abs(out).max(axis=1))[:, None]


def test_targets_are_their_definitions(drawn):
    process, chain, x_0, x_t, eps, t = drawn
    signal, var = (table[1:, None] for table in reference.marginals(chain))
    c_x_0, c_x_t, _ = np.array([reference.posterior(chain, s) for s in range(1, chain.T + 1)]).T[..., None]
    expected = {"eps": eps, "x_0": x_0, "mu": c_x_0 * x_0 + c_x_t * x_t, "v": signal * eps - np.sqrt(var) * x_0}
    expected["velocity"] = eps - x_0
    expected["edm"] = (x_0 - signal * x_t / (signal**2 + var)) / np.sqrt(var / (signal**2 + var))  # sigma_data = 1
    for name in ALL:
        found = TARGET[name](process, Noised(x_0, eps, x_t, t))
        scale = np.abs(x_0) + np.abs(eps) * np.sqrt(1 + var) + np.abs(x_0) * np.sqrt(var)  # of the parts of mu and v
        assert (np.abs(found - expected[name]) <= 8 * ULP * scale).all(), name


@pytest.mark.parametrize("name", ALL)
def test_round_trip(name, drawn):
    process, _, x_0, x_t, eps, t = drawn
    out = TARGET[name](process, Noised(x_0, eps, x_t, t))
    found = TO_X_0[name](process, out, x_t, t)
    assert (np.abs(found - x_0) <= rounding(GAIN[name](process, t), out, x_0)).all()


@pytest.mark.parametrize("name", ALL)
def test_x_0_solves_the_definition(name, drawn):
    """Any output, not only a target: x_0 from solving the two linear equations for the output and x_t."""
    process, chain, x_0, x_t, _, t = drawn
    out = jax.random.normal(jax.random.key(1), x_0.shape)
    found = TO_X_0[name](process, out, x_t, t)
    signal, var = reference.marginals(chain)
    for s in range(1, chain.T + 1):
        rows = [
            reference.x_0_hat(name, float(o), float(x), signal[s], var[s], reference.posterior(chain, s))
            for o, x in zip(out[s - 1], x_t[s - 1], strict=True)
        ]
        scale = rounding(GAIN[name](process, t)[s - 1 : s], out[s - 1 : s], np.array([rows]))
        assert (np.abs(found[s - 1] - np.array(rows)) <= scale).all()


@pytest.mark.parametrize("name", ALL)
def test_gain_relates_the_errors(name, drawn):
    """|x_0_hat - x_0| = gain |out - target|."""
    process, _, x_0, x_t, eps, t = drawn
    target = TARGET[name](process, Noised(x_0, eps, x_t, t))
    out = target + jax.random.normal(jax.random.key(2), x_0.shape)
    gain = GAIN[name](process, t)
    error = np.abs(TO_X_0[name](process, out, x_t, t) - x_0)
    tolerance = rounding(gain, np.abs(out) + np.abs(target), x_0)
    assert (np.abs(error - gain[:, None] * np.abs(out - target)) <= tolerance).all()


@pytest.mark.parametrize("name", ALL)
def test_gain_is_the_derivative(name, drawn):
    process, _, x_0, x_t, _, t = drawn
    _, slope = jax.jvp(lambda out: TO_X_0[name](process, out, x_t, t), (x_0,), (jnp.ones_like(x_0),))
    np.testing.assert_allclose(
        np.abs(slope), np.broadcast_to(GAIN[name](process, t)[:, None], slope.shape), rtol=4 * ULP
    )


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("goal", ALL)
def test_conversions(source, goal, drawn):
    """Source -> x_0 -> goal gives the goal's own target: n parameterisations need no n^2 conversions."""
    process, _, x_0, x_t, eps, t = drawn
    out = TARGET[source](process, Noised(x_0, eps, x_t, t))
    hat = TO_X_0[source](process, out, x_t, t)
    found = TARGET[goal](process, Noised(hat, to_eps(process, hat, x_t, t), x_t, t))
    exact = TARGET[goal](process, Noised(x_0, eps, x_t, t))
    error = rounding(GAIN[source](process, t), out, x_0) + 8 * ULP * np.abs(x_0).max()
    # an error of x_0 reaches the goal divided by its gain, and to_eps adds a rounding of x_t / noise
    tolerance = error / np.float64(GAIN[goal](process, t))[:, None] + 8 * ULP * np.abs(exact).max(axis=1)[:, None]
    tolerance += 8 * ULP * np.abs(x_t).max(axis=1)[:, None] * (1 + 1 / np.float64(process.noise[1:, None]))
    assert (np.abs(found - exact) <= tolerance).all()


def test_v_keeps_full_precision_at_both_ends():
    """Its gain never exceeds 1, so neither end of the chain amplifies the network's error: why v exists."""
    process = vp(cosine(1000))
    t = jnp.arange(1, 1001)
    assert (GAIN["v"](process, t) <= 1).all()
    assert float(GAIN["eps"](process, t)[-1]) == pytest.approx(20291, rel=1e-4)


def test_without_signal_all_but_eps_are_defined():
    process = vp(jsd(8))
    t = jnp.full(T, 8)
    x_0, eps = jax.random.normal(jax.random.key(3), (2, T, 3))
    x_t = jax.jit(q_sample)(process, x_0, t, eps)
    for name in ("x_0", "mu", "v", "velocity", "edm"):
        out = TARGET[name](process, Noised(x_0, eps, x_t, t))
        np.testing.assert_allclose(TO_X_0[name](process, out, x_t, t), x_0, rtol=1e-6, atol=1e-6)
    assert np.isinf(GAIN["eps"](process, t)).all()
