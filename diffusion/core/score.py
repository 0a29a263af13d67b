"""The score of the noised data, grad_x log q(x_t), as a reading of any Prediction, and back.

    score(x_t, t) = -E[eps | x_t] / noise[t] = (signal[t] E[x_0 | x_t] - x_t) / noise[t]^2

A network trained by L_simple is a score network trained by denoising score matching with weight noise^2: eps - eps_hat
is noise times the score's error. Vincent 2011; NCSN eq. 5-6; DDPM section 3.2; score SDE eq. 7.
"""

from diffusion.core.parameterization import Prediction
from diffusion.core.process import Process, at
from diffusion.core.types import Image, Time


def score(process: Process, prediction: Prediction, t: Time) -> Image:
    """grad_x log q(x_t) = -eps_hat / noise[t]; t in 1..T (at t = 0 there is no noise to divide by).

    `process` is whichever t counts the steps of: the tables of a respaced process hold the same levels.
    """
    return -prediction.eps / at(process.noise, t, prediction.eps)


def tweedie(process: Process, score: Image, x_t: Image, t: Time) -> Image:
    """E[x_0 | x_t] = (x_t + noise[t]^2 score) / signal[t]. Tweedie's formula (Robbins 1956; Efron 2011); t in 1..T.

    A step along the score of length noise^2 ends at the mean of the clean data. Needs signal[t] > 0.
    """
    return (x_t + at(process.noise, t, x_t) ** 2 * score) / at(process.signal, t, x_t)


def from_score(process: Process, score: Image, x_t: Image, t: Time) -> Prediction:
    """The Prediction that a score stands for, so that a score model is a denoiser as any other; t in 1..T."""
    return Prediction(tweedie(process, score, x_t, t), -at(process.noise, t, x_t) * score, None)
