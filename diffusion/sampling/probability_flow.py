"""Euler's method on the probability-flow ODE, deterministic and first order. Score SDE eq. 13 and section 4.3."""

from diffusion.core.array_types import Image, Keys, Time, expand
from diffusion.core.forward_process import Process, at
from diffusion.core.reverse_process import Denoiser
from diffusion.core.score import score
from diffusion.sampling.sampling_loop import Sampler, State


def probability_flow(process: Process) -> Sampler:
    """x_{t-1} = x_t + 1/2 (1 - a^2) x_t + 1/2 beta score,  a = signal[t] / signal[t-1], beta the forward variance.

    Variance exploding (a = 1): half the mean's step of `reverse_diffusion`, without noise. Variance preserving: x_t +
    1/2 beta (x_t + score). The published discretisation has (2 - sqrt(1 - beta)) x_t there, the same up to beta^2 / 8;
    this one leaves pure noise (score = -x_t) unchanged. The difference matters for schedules that end with beta near 1
    (cosine, jsd), where the published step gives twice the data's spread with any number of steps.

    DDIM is Euler's method for x / signal against noise / signal. The step to t = 0 keeps half the noise of x_1.
    """

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:  # noqa: ARG001
        a = at(process.signal, t, x_t) / at(process.signal, t - 1, x_t)
        beta = expand(process.beta(t), x_t)
        slope = score(process, denoise(x_t, process.base_t[t]), t)
        return x_t + 0.5 * ((1 - a) * (1 + a) * x_t + beta * slope), state

    return Sampler(lambda x_T: (), step)  # noqa: ARG005
