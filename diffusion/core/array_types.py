"""Array aliases and the glossary of symbols.

A symbol that stands in a paper keeps its name everywhere in this package:

    t, T          time step, 1..T; index 0 of every table is clean data, so `t - 1` is always legal
    x_0, x_t      data and noised data; images are scaled to [-1, 1]
    eps           the standard normal noise in x_t = signal[t] x_0 + noise[t] eps
    beta          variance of one forward step q(x_t | x_{t-1})
    alpha_bar     prod_{s <= t} (1 - beta_s); alpha_bar[0] = 1
    beta_tilde    variance of the forward posterior q(x_{t-1} | x_t, x_0)
    mu            mean of the forward posterior
    v             signal[t] eps - noise[t] x_0
    velocity      eps - x_0, dx / du of a flow x = (1 - u) x_0 + u eps
    signal, noise q(x_t | x_0) = N(signal[t] x_0, noise[t]^2 I);
                  variance preserving: sqrt(alpha_bar), sqrt(1 - alpha_bar); variance exploding: 1, sigma;
                  flow: 1 - u, u
    snr           signal^2 / noise^2
    sigma_data    standard deviation that the network's input and the edm parameterisation assume of the data
    L_T, L_{t-1}, L_0   the terms of the variational bound, in nats

An estimate ends in `_hat`. `sigma` and `noise` are standard deviations; the code computes with `log_var`.
Losses and divergences are in nats, summed over the dimensions of one example unless the name says `per_dim`.
"""

from collections.abc import Callable

import jax
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, UInt8

Image = Float[Array, "B *D"]
"""A batch of examples; images are B H W C in [-1, 1]. The maths holds for any shape after B."""

Pixels = UInt8[Array, "B H W C"]
"""Images as stored, 0..255."""

Mask = Bool[Array, "B *D"]
"""One truth value for each element of an `Image`."""

PerExample = Float[Array, "B"]
Time = Int[Array, "B"]
Labels = Int[Array, "B"]
Condition = Float[Array, "B N"]
"""Numbers of each example that a network receives beside its time and label."""
Keys = Key[Array, "B"]
"""One random key per example: the numbers of example i do not depend on the rest of the batch."""

OneKey = PRNGKeyArray

Noise = Callable[[Keys, Image, Time], Image]
"""noise(keys, like, t): the standard normal numbers of a step at t, in the shape of `like`; by default `from_keys`."""


def expand(values: Array, like: Array) -> Array:
    """`values`, of shape [B] or of the rank of `like`, with singleton axes appended up to that rank."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def normal(keys: Keys, like: Image) -> Image:
    """Standard normal noise of the shape and dtype of `like`; row i comes from keys[i] alone."""
    return jax.vmap(lambda key: jax.random.normal(key, like.shape[1:], like.dtype))(keys)


def from_keys(keys: Keys, like: Image, t: Time) -> Image:  # noqa: ARG001
    """`normal`; callers have folded t into the keys."""
    return normal(keys, like)


def fold(keys: Keys, data: int | Array) -> Keys:
    """Each key folded with the same number, such as the time step."""
    return jax.vmap(lambda key: jax.random.fold_in(key, data))(keys)
