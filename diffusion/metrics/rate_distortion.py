"""Rate and distortion of a chain read as a progressive code. DDPM section 4.3, figure 5 and table 4.

A receiver of x_T, ..., x_t can compute x_0_hat(x_t). Distortion is the error of this estimate; rate is the cost of what
was sent: L_T and the terms of the steps above t. The remaining terms, down to L_0, turn it into the exact image.
"""

from collections.abc import Sequence

import numpy as np

REVERSE_TIMES = (1000, 900, 800, 700, 600, 500, 400, 300, 200, 100)
"""The rows of table 4: T - t + 1 for T = 1000."""


def curve(
    prior: float, terms: Sequence[float] | np.ndarray, x_0_rmse: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(rate, distortion), each [T]; entry t - 1 is step t.

    rate[t] = L_T + sum_{s > t} L_{s-1}, so rate[1] + L_0 is the whole bound; distortion is x_0_rmse as it is. `prior`
    is L_T and `terms` are those of the bound, entry t - 1 of step t, in bits/dim.
    """
    bits, error = np.asarray(terms, np.float64), np.asarray(x_0_rmse, np.float64)
    return prior + np.append(np.cumsum(bits[:0:-1])[::-1], 0.0), error


def lines(prior: float, terms: Sequence[float] | np.ndarray, x_0_rmse: Sequence[float] | np.ndarray) -> list[str]:
    """Table 4 as text. Reverse time r is the step t = T - r' + 1, r' = r T / 1000 to the nearest whole one.

    A chain of fewer than ten steps has fewer rows.
    """
    rate, distortion = curve(prior, terms, x_0_rmse)
    T = len(rate)
    steps = {T - max(1, round(r * T / 1000)) + 1: r for r in reversed(REVERSE_TIMES)}
    head = f"{'reverse time':>12} {'t':>5} {'rate, bits/dim':>14} {'RMSE of 255':>11}"
    rows = (f"{r:>12} {t:>5} {rate[t - 1]:>14.5f} {distortion[t - 1]:>11.5f}" for t, r in sorted(steps.items()))
    return [head, *rows]
