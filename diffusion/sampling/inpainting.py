"""Inpainting without training: at every step the known region is replaced by q(x_{t-1} | x_0). RePaint, Algorithm 1."""

import jax
import jax.numpy as jnp

from diffusion.core import gaussian
from diffusion.core.array_types import Array, Image, Keys, Mask, Time, fold, normal
from diffusion.core.forward_process import Process, q_sample, q_step
from diffusion.core.reverse_process import Denoiser
from diffusion.sampling.sampling_loop import Sampler, State, descend, prior_sample, sample


def inpainting(
    process: Process, sampler: Sampler, x_0: Image, known: Mask, resamplings: int | Array = 1, jump: int = 1
) -> Sampler:
    """Any sampler of the process, kept to x_0 where `known`:  x_{t-1} <- known ? q(x_{t-1} | x_0) : the sampler's.

    Lugmayr et al. 2022 (RePaint) eq. 8, Algorithm 1. With replacement alone (resamplings = 1; score SDE, appendix I.2)
    the other region depends on x_0 only through the noised x_{t-1}, so the two fit badly. Therefore at x_s with
    s = 1, 1 + jump, 1 + 2 jump, ..., s + jump <= T, the chain goes back to x_{s + jump} by forward steps
    q(x_t | x_{t-1}) and down again, resamplings - 1 times, as in the published code; the paper has jump = 10 and
    resamplings = 10. The sampler's state starts anew after a jump, and it is called about T resamplings times.

    x_0 is returned exactly where it is known. `resamplings` may be traced. If the sampler draws the exact reverse step,
    the law of the unknown region tends with many resamplings to the exact conditional, up to an error that vanishes
    with noise[1] and the length of the steps. Raises ValueError for resamplings below 1 and for a jump outside 1..T-1
    (T = 1 allows 1).
    """
    check(process, resamplings, jump)

    def replaced(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:
        drawn, state = sampler.step(fold(keys, 0), state, x_t, t, denoise)
        return jnp.where(known, q_sample(process, x_0, t - 1, normal(fold(keys, 1), x_0)), drawn), state

    once = sampler._replace(step=replaced)

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:
        s = t[0] - 1

        def again(i: Array, carry: tuple[Image, State]) -> tuple[Image, State]:
            own = fold(keys, 2 + i)
            up, down = fold(own, 0), fold(own, 1)

            def forward(j: Array, x: Image) -> Image:
                at = jnp.full(x.shape[0], s + 1 + j, jnp.int32)
                return gaussian.sample(q_step(process, x, at), normal(fold(up, s + 1 + j), x))

            x = jax.lax.fori_loop(0, jump, forward, carry[0])
            return descend(down, once, denoise, x, sampler.init(x), s + jump, s)

        resampled = (s >= 1) & ((s - 1) % jump == 0) & (s + jump <= process.T)
        times = jnp.where(resampled, resamplings - 1, 0)
        return jax.lax.fori_loop(0, times, again, replaced(keys, state, x_t, t, denoise))

    return sampler._replace(step=step)


def check(process: Process, resamplings: int | Array, jump: int) -> None:
    """Raises ValueError for what `inpainting` refuses; traced resamplings are not checked."""
    if isinstance(resamplings, int) and resamplings < 1:
        raise ValueError(f"resamplings = {resamplings}: each step is taken at least once; 1 means no going back")
    if not 1 <= jump <= max(1, process.T - 1):
        raise ValueError(f"jump = {jump}: going back must stay within the chain, by 1..{max(1, process.T - 1)} steps")


def inpaint(
    keys: Keys,
    process: Process,
    sampler: Sampler,
    denoise: Denoiser,
    x_0: Image,
    known: Mask,
    resamplings: int | Array = 1,
    jump: int = 1,
) -> Image:
    """A draw of the unknown region given the known one; x_0 where `known`. See `inpainting`.

    x_T ~ p(x_T), replaced by q(x_T | x_0) where known, which counts where T leaves some signal. Row i depends on row i
    of the arguments alone. Raises ValueError as `inpainting` does.
    """
    wrapped = inpainting(process, sampler, x_0, known, resamplings, jump)
    x_T = prior_sample(keys, process, x_0.shape[1:])
    last = jnp.full(x_0.shape[0], process.T, jnp.int32)
    # The chain folds in its steps 1..T, prior_sample 0.
    noised = q_sample(process, x_0, last, normal(fold(keys, process.T + 1), x_0))
    return sample(keys, process, wrapped, denoise, jnp.where(known, noised, x_T)).x_0
