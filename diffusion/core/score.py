"""The score of the noised data, grad_x log q(x_t), from any Prediction.

    score(x_t, t) = -E[eps | x_t] / noise[t] = (signal[t] E[x_0 | x_t] - x_t) / noise[t]^2

A network trained by L_simple is a score network trained by denoising score matching with weight noise^2: eps - eps_hat
is noise times the score's error. Vincent 2011; NCSN eq. 5-6; DDPM section 3.2; score SDE eq. 7.
"""

from diffusion.core.array_types import Image, Time
from diffusion.core.forward_process import Process, at
from diffusion.core.parameterization import Prediction


def score(process: Process, prediction: Prediction, t: Time) -> Image:
    """grad_x log q(x_t) = -eps_hat / noise[t]; t in 1..T is a step of `process`, which may be respaced."""
    return -prediction.eps / at(process.noise, t, prediction.eps)
