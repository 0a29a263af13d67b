"""Forked, interpolated and varied chains: identities, and their exact laws in the Gaussian world."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import variance
from diffusion.sampling.ancestral import ancestral
from diffusion.sampling.ddim import ddim
from diffusion.sampling.ddim_latents import decode, encode, interpolate_latents, slerp
from diffusion.sampling.dpm_solver import dpm_solver
from diffusion.sampling.editing import fork, interpolate, vary
from diffusion.sampling.heun import heun
from diffusion.sampling.sampling_loop import descend, image_keys, prior_sample, sample
from tests.support.worlds import GAUSSIAN, ancestral_step, cases, float64

T = 20
CASES = {case.name: case.process for case in cases(T)}
SAMPLERS = {
    "ancestral": lambda p: ancestral(p, variance.fixed_large),
    "ddim": ddim,
    "dpm_solver": dpm_solver,
    "heun": heun,
}
N, D = 16, 3
MANY = 8192
P = CASES["cosine"]
ULPS = 2.0**-20
"""Relative and absolute: float32 sums of a few terms over 20 steps, by differently fused programs."""


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def keys(n=N, seed=3):
    return image_keys(seed, jnp.arange(n))


def images(seed, n=N):
    return GAUSSIAN.draw(jax.random.key(seed), n)


def forked(name, process=P):
    """(shared, own, t) -> Fork, compiled once for all t; x_T follows from the shared keys."""

    @jax.jit
    def run(shared, own, t):
        x_T = prior_sample(shared, process, (D,))
        return fork(shared, own, process, SAMPLERS[name](process), GAUSSIAN.denoiser(process), x_T, t)

    return run


def interpolated(name, process=P, shared=False):
    """(keys, x_0, other, lam, t) -> images, compiled once for all t."""

    @jax.jit
    def run(keys, x_0, other, lam, t):
        denoise = GAUSSIAN.denoiser(process)
        return interpolate(keys, process, SAMPLERS[name](process), denoise, x_0, other, lam=lam, t=t, shared=shared)

    return run


def varied(name, process=P):
    """(keys, x_0, t) -> images, compiled once for all t."""
    return jax.jit(
        lambda keys, x_0, t: vary(keys, process, SAMPLERS[name](process), GAUSSIAN.denoiser(process), x_0, t)
    )


def law_from(process, t, mean, var):
    """Mean and variance of x_0 by ancestral sampling (fixed-large variance) from x_t ~ N(mean, var)."""
    step = ancestral_step(process, process.log_beta)
    for s in range(t, 0, -1):
        k_0, k_t, noise_var = step(s)
        slope, offset, _ = GAUSSIAN.posterior(process, s)
        mean, var = (k_0 * slope + k_t) * mean + k_0 * offset, (k_0 * slope + k_t) ** 2 * var + noise_var
    return mean, var


def assert_law(x, mean, var):
    """4 standard errors of the mean and variance of independent Gaussian draws; 1e-6 where there is nothing random."""
    x, n = np.float64(x), len(x)
    assert (np.abs(x.mean(axis=0) - mean) < 4 * np.sqrt(var / n) + 1e-6).all()
    assert (np.abs(x.var(axis=0, ddof=1) - var) < 4 * var * np.sqrt(2 / n) + 1e-6).all()


# --------------------------------------------------------------------------------------------------- chains in pieces


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_chain_taken_in_pieces_is_the_chain(name):
    """The state goes along: without it, the second piece of dpm_solver would start at first order."""
    sampler, denoise = SAMPLERS[name](P), GAUSSIAN.denoiser(P)
    x_T = prior_sample(keys(), P, (D,))

    @jax.jit
    def pieces(cut):
        x_t, state = descend(keys(), sampler, denoise, x_T, sampler.init(x_T), jnp.int32(T), cut)
        return descend(keys(), sampler, denoise, x_t, state, cut, jnp.int32(0))[0]

    whole = jax.jit(lambda: sample(keys(), P, sampler, denoise, x_T).x_0)()
    for cut in (T, 13, 1, 0):
        np.testing.assert_allclose(pieces(jnp.int32(cut)), whole, rtol=ULPS, atol=ULPS)


# -------------------------------------------------------------------------------------------------------------- forks


def test_a_fork_of_one_is_the_chain_itself():
    run = forked("ancestral")
    x_T = prior_sample(keys(), P, (D,))
    whole = jax.jit(lambda: sample(keys(), P, SAMPLERS["ancestral"](P), GAUSSIAN.denoiser(P), x_T).x_0)()
    for t in (T, 15, 5, 1, 0):
        np.testing.assert_allclose(run(keys(), keys(), t).x_0, whole, rtol=ULPS, atol=ULPS)


def test_forks_share_x_t_and_part_there():
    run = forked("ancestral")
    shared = keys()[jnp.arange(N) // 4]  # four chains of four ends
    for t in (T, 15, 5):
        found = run(shared, keys(seed=9), t)
        x_t, x_0 = (np.asarray(x).reshape(4, 4, D) for x in (found.x_t, found.x_0))
        np.testing.assert_array_equal(x_t, np.broadcast_to(x_t[:, :1], x_t.shape))
        assert len(np.unique(x_t[:, 0, 0])) == 4 and len(np.unique(x_0[..., 0])) == N
    np.testing.assert_array_equal(run(shared, keys(seed=9), T).x_t, prior_sample(shared, P, (D,)))
    last = run(shared, keys(seed=9), 1)  # the last step draws no noise
    np.testing.assert_array_equal(last.x_0, run(shared, keys(seed=8), 1).x_0)
    np.testing.assert_array_equal(run(shared, keys(seed=9), 0).x_t, run(shared, keys(seed=9), 0).x_0)


def test_forks_at_other_steps_lie_on_one_chain():
    """x_5 of the fork at 5 is where the chain of the fork at 15 arrives if it keeps the shared keys."""
    run, sampler, denoise = forked("ancestral"), SAMPLERS["ancestral"](P), GAUSSIAN.denoiser(P)
    above = run(keys(), keys(seed=9), 15).x_t
    below = jax.jit(lambda x: descend(keys(), sampler, denoise, x, (), jnp.int32(15), jnp.int32(5))[0])(above)
    np.testing.assert_allclose(below, run(keys(), keys(seed=8), 5).x_t, rtol=ULPS, atol=ULPS)


def test_a_sampler_without_noise_has_one_continuation():
    run = forked("ddim")
    np.testing.assert_array_equal(run(keys(), keys(seed=9), 10).x_0, run(keys(), keys(seed=8), 10).x_0)


@pytest.mark.parametrize("name", ["cosine", "geometric"])
def test_ends_of_a_fork_have_the_law_of_the_chain_given_x_t(name):
    process = CASES[name]
    one = keys(1)[jnp.zeros(MANY, jnp.int32)]
    for t in (15, 6):
        found = forked("ancestral", process)(one, keys(MANY, seed=9), t)
        assert_law(found.x_0, *law_from(process, t, np.float64(found.x_t[0]), np.zeros(D)))


# ------------------------------------------------------------------------------------------------------ interpolation


def test_at_0_the_images_themselves_are_mixed():
    lam = jnp.linspace(0, 1, N)
    found = interpolated("ancestral")(keys(), images(1), images(2), lam, 0)
    share = np.float64(lam)[:, None]
    expected = (1 - share) * np.float64(images(1)) + share * np.float64(images(2))
    np.testing.assert_allclose(found, expected, rtol=ULPS, atol=ULPS)
    np.testing.assert_array_equal(found[0], images(1)[0])
    np.testing.assert_array_equal(found[-1], images(2)[-1])


def test_the_ends_know_one_image_alone():
    run, none, all_ = interpolated("ancestral"), jnp.zeros(N), jnp.ones(N)
    for t in (T, 10, 3):
        found = run(keys(), images(1), images(2), none, t)
        np.testing.assert_array_equal(found, run(keys(), images(1), images(3), none, t))
        found = run(keys(), images(1), images(2), all_, t)
        np.testing.assert_array_equal(found, run(keys(), images(3), images(2), all_, t))
        half = [run(keys(), images(1), other, all_ / 2, t) for other in (images(2), images(3))]
        assert (half[0] != half[1]).any()


@pytest.mark.parametrize("name", SAMPLERS)
def test_with_one_key_only_lam_moves(name):
    """The optimal denoiser of a Gaussian is affine, so the decoder is affine in x_t up to its noise: with all noise
    shared, the images lie on the straight line between the two ends."""
    run, lam = interpolated(name), jnp.linspace(0, 1, N)
    one = keys(1)[jnp.zeros(N, jnp.int32)]
    first, second = (jnp.broadcast_to(images(s)[:1], (N, D)) for s in (1, 2))
    for t in (T, 10, 3):
        found = np.float64(run(one, first, second, lam, t))
        share = np.float64(lam)[:, None]
        np.testing.assert_allclose(found, (1 - share) * found[0] + share * found[-1], rtol=1e-5, atol=1e-5)
        assert np.abs(found[0] - found[-1]).max() > 0.01 * (t < T)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_mixtures_have_the_law_of_independent_encodings(lam):
    """x_t of the two images have independent noise, of variance noise^2 ((1 - lam)^2 + lam^2) when mixed, and that of
    the chain is independent of both."""
    x_0, other = (jnp.broadcast_to(images(s)[:1], (MANY, D)) for s in (1, 2))
    p = float64(P)
    run = interpolated("ancestral")
    for t in (12, 5):
        found = run(keys(MANY), x_0, other, jnp.full(MANY, lam), t)
        mean = p.signal[t] * ((1 - lam) * np.float64(x_0[0]) + lam * np.float64(other[0]))
        var = p.noise[t] ** 2 * ((1 - lam) ** 2 + lam**2)
        assert_law(found, *law_from(P, t, mean, np.full(D, var)))


def test_the_same_keys_give_the_same_images_and_rows_are_independent():
    run, lam = interpolated("ancestral"), jnp.linspace(0, 1, N)
    found = run(keys(), images(1), images(2), lam, 10)
    np.testing.assert_array_equal(found, run(keys(), images(1), images(2), lam, 10))
    assert (found != run(keys(seed=4), images(1), images(2), lam, 10)).all()
    back = jnp.arange(N)[::-1]
    turned = run(keys()[back], images(1)[back], images(2)[back], lam[back], 10)
    np.testing.assert_allclose(turned[back], found, rtol=ULPS, atol=ULPS)


# --------------------------------------------------------------------------------------------- shared noise, variation


def test_shared_noise_encodes_the_mixed_image():
    """(1 - lam) x_t + lam x_t' is then signal ((1 - lam) x_0 + lam x_0') + noise eps, the same eps whatever lam is."""
    run, run_vary, lam = interpolated("ancestral", shared=True), varied("ancestral"), jnp.linspace(0, 1, N)
    share = lam[:, None]
    mixed = (1 - share) * images(1) + share * images(2)
    for t in (T, 10, 3):
        found = run(keys(), images(1), images(2), lam, t)
        np.testing.assert_allclose(found, run_vary(keys(), mixed, t), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(run(keys(), images(1), images(1), lam, 0), run_vary(keys(), images(1), 0))


def test_shared_and_own_noise_agree_at_the_ends_alone():
    own, shared, lam = interpolated("ancestral"), interpolated("ancestral", shared=True), jnp.linspace(0, 1, N)
    found = [run(keys(), images(1), images(2), lam, 10) for run in (own, shared)]
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=ULPS, atol=ULPS)
    assert (found[0][1:] != found[1][1:]).all()  # at lam = 1 own noise is that of the other image


@pytest.mark.parametrize("name", ["cosine", "geometric"])
def test_variations_have_the_law_of_one_encoding(name):
    """At T a variance-preserving chain has forgotten the image; a mixture with shared noise has the same variance."""
    process, x_0 = CASES[name], jnp.broadcast_to(images(1)[:1], (MANY, D))
    other, p = jnp.broadcast_to(images(2)[:1], (MANY, D)), float64(process)
    run, run_shared = varied("ancestral", process), interpolated("ancestral", process, shared=True)
    for t in (T, 12, 3):
        var = np.full(D, p.noise[t] ** 2)
        assert_law(run(keys(MANY), x_0, t), *law_from(process, t, p.signal[t] * np.float64(x_0[0]), var))
        middle = p.signal[t] * (np.float64(x_0[0]) + np.float64(other[0])) / 2
        assert_law(run_shared(keys(MANY), x_0, other, jnp.full(MANY, 0.5), t), *law_from(process, t, middle, var))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_variation_is_an_interpolation_without_the_other_image(name):
    run, run_vary, none = interpolated(name), varied(name), jnp.zeros(N)
    for t in (T, 5, 0):
        found = run_vary(keys(), images(1), t)
        np.testing.assert_allclose(found, run(keys(), images(1), images(2), none, t), rtol=ULPS, atol=ULPS)
    np.testing.assert_array_equal(run_vary(keys(), images(1), 0), images(1))
    assert (run_vary(keys(), images(1), 10) != run_vary(keys(seed=4), images(1), 10)).all()


# ------------------------------------------------------------------------------------------------------------- latents


def test_slerp_turns_one_vector_into_the_other_at_constant_speed():
    rng, angle = np.random.default_rng(0), np.linspace(0.2, 3.0, N)
    plane = np.stack([np.linalg.qr(rng.normal(size=(6, 2)))[0].T for _ in range(N)])
    x = 2.5 * plane[:, 0]
    other = 2.5 * (np.cos(angle)[:, None] * plane[:, 0] + np.sin(angle)[:, None] * plane[:, 1])
    run = jax.jit(slerp)
    for lam in (0.0, 0.3, 0.5, 1.0):
        turned = np.cos(lam * angle)[:, None] * plane[:, 0] + np.sin(lam * angle)[:, None] * plane[:, 1]
        args = [jnp.asarray(a.reshape(N, 3, 2), jnp.float32) for a in (x, other)]
        found = np.float64(run(*args, jnp.full(N, lam))).reshape(N, 6)
        np.testing.assert_allclose(found, 2.5 * turned, rtol=1e-4, atol=1e-4)


def test_slerp_where_there_is_no_angle_is_the_straight_line():
    x, lam = images(1), jnp.linspace(0, 1, N)
    share = np.float64(lam)[:, None]
    for other in (x, 3 * x, -2 * x, 0 * x, x * (1 + 1e-6)):
        straight = (1 - share) * np.float64(x) + share * np.float64(other)
        np.testing.assert_allclose(slerp(x, other, lam), straight, rtol=1e-5, atol=1e-5)


def test_latents_are_turned_between_round_trips():
    """DDIM is affine in the Gaussian world: encode and decode are straight lines in each dimension, found from two
    points, so the mixture is known from the mixed latents in float64."""
    denoise, lam = GAUSSIAN.denoiser(P), jnp.linspace(0, 1, N)
    first, second = images(1), images(2)
    up, down = (jax.jit(lambda x, f=f: f(P, denoise, x)) for f in (encode, decode))
    found = jax.jit(lambda a, b: interpolate_latents(P, denoise, a, b, lam))(first, second)
    a, b = (np.float64(up(x)) for x in (first, second))
    theta = np.arccos(np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))[:, None]
    share = np.float64(lam)[:, None]
    mixed = (np.sin((1 - share) * theta) * a + np.sin(share * theta) * b) / np.sin(theta)
    offset = np.float64(down(jnp.zeros((N, D))))
    slope = np.float64(down(jnp.ones((N, D)))) - offset
    np.testing.assert_allclose(found, offset + slope * mixed, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[0], down(up(first))[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[-1], down(up(second))[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("t", [-1, T + 1])
def test_steps_outside_the_chain_are_refused(t):
    sampler, denoise, x = SAMPLERS["ddim"](P), GAUSSIAN.denoiser(P), images(1)
    with pytest.raises(ValueError, match=f"t = {t} is no step of this process: it must lie in 0..20"):
        interpolate(keys(), P, sampler, denoise, x, x, lam=jnp.zeros(N), t=t)
    with pytest.raises(ValueError, match=r"0\.\.20"):
        fork(keys(), keys(), P, sampler, denoise, x, t)
    with pytest.raises(ValueError, match=r"0\.\.20"):
        vary(keys(), P, sampler, denoise, x, t)
