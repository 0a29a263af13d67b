"""Noise schedules: alpha_bar[0..T] for variance-preserving processes, sigma[0..T] for variance-exploding ones, u[0..T]
for flows.

NumPy in float64; entry 0 is clean data (alpha_bar[0] = 1, sigma[0] = 0, u[0] = 0). DDPM section 4 and appendix B;
Improved DDPM eq. 17; the published DDPM code for const, jsd and warmup.
"""

import warnings

import numpy as np

LEAST_SIGNAL = 1e-30
"""Least alpha_bar but 0: the square of noise / signal, by which networks that predict eps are read, fits float32."""

SIGNAL_LEFT = 1e-3
"""Schedules that end with a larger alpha_bar_T raise a warning: sampling starts from pure noise, training did not."""


def from_betas(beta: np.ndarray) -> np.ndarray:
    """alpha_bar[0..T] = prod (1 - beta), from beta[1..T] given as an array of length T.

    Raises ValueError for the first beta outside (0, 1), and where alpha_bar falls below LEAST_SIGNAL. Only the last
    beta may be 1, which removes all signal (jsd). Warns if alpha_bar_T leaves signal.
    """
    beta = np.asarray(beta, np.float64)
    if beta.ndim != 1 or len(beta) == 0:
        raise ValueError(f"betas must be a sequence of at least one number; got shape {beta.shape}")
    legal = (beta > 0) & (beta < 1)
    legal[-1] |= beta[-1] == 1
    if not legal.all():
        t = int(np.argmin(legal)) + 1
        raise ValueError(f"beta[{t}] = {beta[t - 1]:g} is outside (0, 1): choose beta_1 and beta_T between 0 and 1")
    alpha_bar = np.concatenate([[1.0], np.cumprod(1.0 - beta)])
    lost = alpha_bar < LEAST_SIGNAL
    lost[-1] &= beta[-1] < 1
    if lost.any():
        t = int(np.argmax(lost))
        raise ValueError(
            f"alpha_bar[{t}] = {alpha_bar[t]:.2g} of {len(beta)} steps is too little signal for float32 (least "
            f"{LEAST_SIGNAL:g}): use fewer steps or smaller betas (Improved DDPM scales the linear ends by 1000 / T)"
        )
    if alpha_bar[-1] > SIGNAL_LEFT:
        warnings.warn(
            f"the schedule ends with alpha_bar_T = {alpha_bar[-1]:.4g}: x_T still carries signal, but sampling starts "
            "from pure noise; use more steps or larger betas (Improved DDPM scales the linear ends by 1000 / T)",
            stacklevel=2,
        )
    return alpha_bar


def from_function(alpha_bar, T: int, max_beta: float = 0.999) -> np.ndarray:
    """alpha_bar[0..T] from a decreasing function of u = t / T in [0, 1]. Improved DDPM section 3.2.

    beta_t = min(1 - alpha_bar(t / T) / alpha_bar((t - 1) / T), max_beta), the minimum against a singularity at t = T.
    Only ratios enter, so the function need not be 1 at 0.
    """
    u = np.arange(_steps(T) + 1, dtype=np.float64) / T
    values = alpha_bar(u)
    return from_betas(np.minimum(1.0 - values[1:] / values[:-1], max_beta))


def linear(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> np.ndarray:
    """beta rises linearly from beta_1 to beta_T. DDPM section 4.

    The ends belong to T = 1000. For another T, Improved DDPM multiplies both by 1000 / T so that alpha_bar_T stays.
    """
    return from_betas(np.linspace(beta_1, beta_T, _steps(T), dtype=np.float64))


def quad(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> np.ndarray:
    """sqrt(beta) rises linearly. DDPM section 4 (the quadratic schedule)."""
    _betas_for_roots(beta_1, beta_T)
    return from_betas(np.linspace(beta_1**0.5, beta_T**0.5, _steps(T), dtype=np.float64) ** 2)


def const(T: int, beta_T: float = 0.02) -> np.ndarray:
    """beta is beta_T throughout. DDPM section 4."""
    return from_betas(np.full(_steps(T), beta_T, np.float64))


def jsd(T: int) -> np.ndarray:
    """beta_t = 1 / (T - t + 1): alpha_bar falls linearly to 0 at t = T. Sohl-Dickstein et al. 2015, section 2.4.1.

    No signal is left at T, so x_0 cannot be read from eps there: predict x_0, mu or v.
    """
    return from_betas(1.0 / np.arange(_steps(T), 0, -1, dtype=np.float64))


def warmup(T: int, beta_1: float = 1e-4, beta_T: float = 0.02, share: float = 0.1) -> np.ndarray:
    """beta_T after int(share T) steps that rise linearly from beta_1 to beta_T. Published DDPM code."""
    beta = np.full(_steps(T), beta_T, np.float64)
    n = int(T * share)
    beta[:n] = np.linspace(beta_1, beta_T, n, dtype=np.float64)
    return from_betas(beta)


def cosine(T: int, s: float = 0.008) -> np.ndarray:
    """alpha_bar(u) proportional to cos^2((u + s) / (1 + s) pi / 2), beta at most 0.999. Improved DDPM eq. 17."""
    return from_function(lambda u: np.cos((u + s) / (1 + s) * np.pi / 2) ** 2, T)


def sigmoid(T: int, beta_1: float = 1e-4, beta_T: float = 0.02, width: float = 6.0) -> np.ndarray:
    """beta follows a logistic curve over [-width, width] between beta_1 and beta_T. Published DDIM code."""
    z = np.linspace(-width, width, _steps(T), dtype=np.float64)
    return from_betas(beta_1 + (beta_T - beta_1) / (1 + np.exp(-z)))


def constant(T: int, sigma_T: float = 50.0) -> np.ndarray:
    """sigma[t] = sigma_T sqrt(t / T): each step adds the same variance. Variance exploding."""
    _positive(sigma_T=sigma_T)
    return sigma_T * np.sqrt(np.arange(_steps(T) + 1, dtype=np.float64) / T)


def geometric(T: int, sigma_1: float = 0.01, sigma_T: float = 50.0) -> np.ndarray:
    """sigma[1..T] in geometric progression from sigma_1 to sigma_T, sigma[0] = 0. NCSN; score SDE appendix C.

    Built from the end, so that a single step is sigma_T, that of the prior.
    """
    _rising(sigma_1, sigma_T)
    return np.concatenate([[0.0], np.geomspace(sigma_T, sigma_1, _steps(T), dtype=np.float64)[::-1]])


def karras(T: int, sigma_1: float = 0.002, sigma_T: float = 80.0, rho: float = 7.0) -> np.ndarray:
    """sigma[1..T] with sigma^(1/rho) evenly spaced from sigma_1 to sigma_T, sigma[0] = 0. Karras et al. 2022 eq. 5.

    A large rho spends more steps near the data. Built from the end, so that a single step is sigma_T.
    """
    _positive(rho=rho)
    _rising(sigma_1, sigma_T)
    roots = np.linspace(sigma_T ** (1 / rho), sigma_1 ** (1 / rho), _steps(T), dtype=np.float64)
    return np.concatenate([[0.0], roots[::-1] ** rho])


def rectified(T: int) -> np.ndarray:
    """u[t] = t / T: steps of one length along the straight lines from data to noise. Liu et al. 2023, eq. 1.

    No signal is left at T, so x_0 cannot be read from eps there: predict the velocity, x_0, mu or v.
    """
    return np.arange(_steps(T) + 1, dtype=np.float64) / T


def _steps(T: int) -> int:
    if T < 1:
        raise ValueError(f"T = {T} steps: a process needs at least 1")
    return T


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} = {value:g} must be positive")


def _rising(sigma_1: float, sigma_T: float) -> None:
    _positive(sigma_1=sigma_1, sigma_T=sigma_T)
    if sigma_1 >= sigma_T:
        raise ValueError(f"sigma_1 = {sigma_1:g} must be below sigma_T = {sigma_T:g}: noise grows with t")


def _betas_for_roots(beta_1: float, beta_T: float) -> None:
    for t, value in (("1", beta_1), ("T", beta_T)):
        if not 0 < value < 1:
            raise ValueError(f"beta[{t}] = {value:g} is outside (0, 1): choose beta_1 and beta_T between 0 and 1")
