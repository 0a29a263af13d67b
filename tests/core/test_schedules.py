"""Schedules: published values, properties common to all, and what is refused."""

import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import schedules, weighting
from diffusion.core.forward_process import vp
from diffusion.experiment.registry_of_samplers_and_schedules import PARAMETERIZATIONS
from tests.support import reference

LINEAR_4000 = (1e-4 / 4, 0.02 / 4)

# beta[1], beta[2], beta[T], alpha_bar[T/2 + 1], alpha_bar[T], beta_tilde[2], log beta_tilde[2], noise[T] / signal[T],
# and L_T in bits/dim at x_0^2 = 1, computed elsewhere from the definitions. (The published code counts from 0,
# the first noising step: its entry k is our entry k + 1.) A string is a rounded value, good to half a last digit.
PUBLISHED = {
    "linear": (
        schedules.linear(1000),
        (
            1e-4,
            "1.1991992e-4",
            0.02,
            "0.07779666",
            "4.0358298e-5",
            "5.4531877e-5",
            "-9.8167251",
            "157.40728",
            "2.911e-5",
        ),
    ),
    "linear_4000": (
        schedules.linear(4000, *LINEAR_4000),
        (
            2.5e-5,
            "2.6244061e-5",
            0.005,
            "0.07874648",
            "4.2466523e-5",
            "1.2803629e-5",
            "-11.2657819",
            "153.45019",
            "3.063e-5",
        ),
    ),
    "quad": (
        schedules.quad(1000),
        (1e-4, "1.0264836e-4", 0.02, "0.33127458", "7.3341246e-4", "5.0656004e-5", "-9.8904528", "36.9119", "5.29e-4"),
    ),
    "const": (
        schedules.const(1000),
        (0.02, 0.02, 0.02, "4.0204e-5", "1.68297e-9", "0.01010101", "-4.5951199", "24376", "1.2e-9"),
    ),
    "warmup10": (
        schedules.warmup(1000),
        (1e-4, "3.0101010e-4", 0.02, "1.10214e-4", "4.61369e-9", "7.5068607e-5", "-9.4971081", "14722", "3.3e-9"),
    ),
    "warmup50": (
        schedules.warmup(1000, share=0.5),
        (1e-4, "1.3987976e-4", 0.02, "6.22566e-3", "2.60614e-7", "5.8315848e-5", "-9.7496367", "1958.85", "1.9e-7"),
    ),
    "cosine": (
        schedules.cosine(1000),
        (
            "4.1284225e-5",
            "4.6141753e-5",
            0.999,
            "0.49228517",
            "2.4287669e-9",
            "2.1789496e-5",
            "-10.7340825",
            "20291",
            "1.75e-9",
        ),
    ),
    "cosine_4000": (
        schedules.cosine(4000),
        (
            "9.8658188e-6",
            "1.0169415e-5",
            0.999,
            "0.49345398",
            "1.5179805e-10",
            "5.0076834e-6",
            "-12.2045371",
            "81165",
            "1.1e-10",
        ),
    ),
}

ALL = {
    "linear": (schedules.linear(1000), reference.linear(1000)),
    "linear_4000": (schedules.linear(4000, *LINEAR_4000), reference.linear(4000, *LINEAR_4000)),
    "quad": (schedules.quad(1000), reference.quad(1000)),
    "const": (schedules.const(1000), reference.const(1000)),
    "jsd": (schedules.jsd(1000), reference.jsd(1000)),
    "warmup10": (schedules.warmup(1000), reference.warmup(1000, 0.1)),
    "warmup50": (schedules.warmup(1000, share=0.5), reference.warmup(1000, 0.5)),
    "cosine": (schedules.cosine(1000), reference.cosine(1000)),
    "sigmoid": (schedules.sigmoid(1000), reference.sigmoid(1000)),
}


def matches(value: float, published: float | str) -> bool:
    """Within 1e-6 relative, or within what the printed digits tell where they are fewer."""
    mantissa, _, exponent = str(published).partition("e")
    places = len(mantissa.partition(".")[2])
    rounding = 0.5 * 10.0 ** (int(exponent or 0) - places) if isinstance(published, str) else 0.0
    return abs(value - float(published)) <= max(1e-6 * abs(float(published)), 1.001 * rounding)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name):
    alpha_bar, published = PUBLISHED[name]
    T = len(alpha_bar) - 1
    beta = 1 - alpha_bar[1:] / alpha_bar[:-1]  # beta[k] is that of step k + 1
    beta_tilde_2 = beta[1] * (1 - alpha_bar[1]) / (1 - alpha_bar[2])
    last = alpha_bar[T]
    found = (
        beta[0],
        beta[1],
        beta[-1],
        alpha_bar[T // 2 + 1],
        last,
        beta_tilde_2,
        math.log(beta_tilde_2),
        math.sqrt(1 / last - 1),
        -0.5 * math.log1p(-last) / math.log(2),  # KL(N(signal x_0, 1 - alpha_bar) || N(0, 1)) at x_0^2 = 1
    )
    assert [p for value, p in zip(found, published, strict=True) if not matches(value, p)] == []


def test_only_the_last_cosine_beta_is_clipped():
    beta = 1 - schedules.cosine(1000)[1:] / schedules.cosine(1000)[:-1]
    assert np.isclose(beta[-2], 0.74999939, rtol=1e-8)
    assert np.isclose(beta[-1], 0.999, rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_agrees_with_the_loop_over_betas(name):
    alpha_bar, beta = ALL[name]
    product, products = 1.0, [1.0]
    for b in beta:
        product *= 1.0 - b
        products.append(product)
    np.testing.assert_allclose(alpha_bar, products, rtol=1e-12)  # float64: 4000 roundings of 1e-16


@pytest.mark.parametrize("name", ALL)
def test_starts_clean_and_falls(name):
    alpha_bar, _ = ALL[name]
    assert alpha_bar.dtype == np.float64
    assert alpha_bar[0] == 1.0
    assert (np.diff(alpha_bar) < 0).all()
    assert alpha_bar[-1] >= 0


def test_jsd_falls_linearly_to_nothing():
    np.testing.assert_allclose(schedules.jsd(10), 1 - np.arange(11) / 10, atol=1e-15)
    assert schedules.jsd(10)[-1] == 0.0


def test_the_scaled_linear_schedule_keeps_its_end():
    """Improved DDPM's 1000 / T: the continuous limit is the same, so alpha_bar moves by O(1 / T)."""
    a, b = schedules.linear(1000), schedules.linear(4000, *LINEAR_4000)[::4]
    assert np.abs(a - b).max() < 2e-3
    assert b[-1] == pytest.approx(a[-1], rel=0.06)


@pytest.mark.parametrize(
    "make",
    [
        schedules.linear,
        schedules.quad,
        schedules.const,
        schedules.jsd,
        schedules.warmup,
        lambda T: schedules.warmup(T, share=0.5),
        schedules.cosine,
        schedules.sigmoid,
        lambda T: schedules.linear(4 * T, *LINEAR_4000),
    ],
)
def test_published_schedules_do_not_warn(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(1000)


def test_left_signal_warns_with_its_value():
    product = math.prod(1 - b for b in reference.linear(100))
    with pytest.warns(UserWarning, match=f"alpha_bar_T = {product:.4g}"):
        schedules.linear(100)


@pytest.mark.parametrize(
    ("make", "t"),
    [
        (lambda: schedules.linear(10_000), 8260),
        (lambda: schedules.linear(100_000), 25_829),
        (lambda: schedules.linear(1000, 1e-4, 0.2), 808),
        (lambda: schedules.const(5000), 3420),
    ],
)
def test_signal_below_what_float32_divides_by_is_refused(make, t):
    """Squares of noise / signal would overflow: the loss of networks that predict eps would be NaN from there on."""
    line = rf"alpha_bar\[{t}\] = \S+ of \d+ steps is too little signal .*1000 / T"
    with pytest.raises(ValueError, match=line) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:the schedule ends")
@pytest.mark.parametrize("parameterization", ["eps", "mu"])
def test_the_loss_is_finite_down_to_the_least_signal(parameterization):
    process = vp(schedules.from_betas(np.array([0.02, *[0.9] * 29, 0.5])))
    chosen, t = PARAMETERIZATIONS[parameterization], jnp.arange(1, 32)
    assert float(process.signal[-1]) ** 2 < 10 * schedules.LEAST_SIGNAL
    factor = weighting.native(process, chosen, t) * chosen.gain(process, t) ** 2
    np.testing.assert_allclose(factor, 1, rtol=1e-5)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
@pytest.mark.parametrize("t", [1, 2, 3])
def test_a_beta_outside_0_1_is_refused_by_its_index(bad, t):
    beta = [0.5, 0.5, 0.5, 0.999]
    beta[t - 1] = bad
    with pytest.raises(ValueError, match=rf"beta\[{t}\] = {bad:g} is outside \(0, 1\)") as error:
        schedules.from_betas(np.array(beta))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.0001, math.nan])
def test_the_last_beta_may_be_1_and_nothing_else_outside(bad):
    assert schedules.from_betas(np.array([0.5, 1.0]))[-1] == 0.0
    with pytest.raises(ValueError, match=r"beta\[2\]"):
        schedules.from_betas(np.array([0.5, bad]))


def test_the_first_bad_beta_is_the_one_named():
    with pytest.raises(ValueError, match=r"beta\[2\] = -1 "):
        schedules.from_betas(np.array([0.5, -1.0, 2.0, 0.5]))


@pytest.mark.parametrize("make", [schedules.linear, schedules.quad, schedules.sigmoid, schedules.warmup])
@pytest.mark.parametrize("ends", [(-1e-4, 0.02), (1e-4, 1.5), (math.nan, 0.02)])
def test_bad_ends_are_refused(make, ends):
    with pytest.raises(ValueError, match=r"outside \(0, 1\)"):
        make(10, *ends)


def test_empty_betas_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        schedules.from_betas(np.array([]))


@pytest.mark.parametrize(
    "make",
    [
        schedules.linear,
        schedules.quad,
        schedules.const,
        schedules.jsd,
        schedules.warmup,
        schedules.cosine,
        schedules.sigmoid,
        schedules.constant,
        schedules.geometric,
    ],
)
@pytest.mark.filterwarnings("ignore:the schedule ends")
def test_one_step_is_legal_and_none_is_not(make):
    table = make(1)
    assert table.shape == (2,)
    assert np.isfinite(table).all()
    for T in (0, -3):
        with pytest.raises(ValueError, match=f"T = {T} "):
            make(T)


def test_geometric_sigma():
    sigma = schedules.geometric(7, 0.01, 50.0)
    np.testing.assert_allclose(sigma, reference.geometric(7, 0.01, 50.0), rtol=1e-12)
    assert sigma[0] == 0.0
    assert (sigma[1], sigma[-1]) == pytest.approx((0.01, 50.0), rel=1e-12)
    assert np.ptp(sigma[2:] / sigma[1:-1]) < 1e-9


def test_one_geometric_step_ends_at_the_largest_sigma():
    """The prior is N(0, sigma_T^2), whatever T."""
    assert schedules.geometric(1, 0.01, 50.0)[-1] == 50.0


def test_constant_sigma_adds_equal_variance():
    sigma = schedules.constant(7, 50.0)
    np.testing.assert_allclose(sigma, reference.constant(7, 50.0), rtol=1e-12)
    np.testing.assert_allclose(np.diff(sigma**2), 2500 / 7, rtol=1e-9)
    assert sigma[0] == 0.0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: schedules.geometric(5, 0.0, 1.0), "sigma_1 = 0 must be positive"),
        (lambda: schedules.geometric(5, 0.1, -1.0), "sigma_T = -1 must be positive"),
        (lambda: schedules.geometric(5, 2.0, 1.0), "sigma_1 = 2 must be below sigma_T = 1"),
        (lambda: schedules.constant(5, 0.0), "sigma_T = 0 must be positive"),
        (lambda: schedules.constant(5, math.nan), "sigma_T = nan must be positive"),
    ],
)
def test_bad_sigmas_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_process_keeps_the_published_values(name):
    """The float32 tables round the float64 ones: 6e-8 relative."""
    alpha_bar, published = PUBLISHED[name]
    process = vp(alpha_bar)
    assert float(process.log_beta[2]) == pytest.approx(math.log(float(published[1])), rel=1e-6)
    assert float(process.log_beta_tilde[2]) == pytest.approx(float(published[6]), rel=1e-6)
    assert process.log_beta_tilde[1] == process.log_beta_tilde[2]
