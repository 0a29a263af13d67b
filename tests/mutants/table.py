"""The changes that must not go unnoticed: a factor dropped, an index shifted, two keys swapped."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change to one file, and the tests of which at least one must fail by it."""

    file: str
    old: str
    """Occurs exactly once in the file."""
    new: str
    tests: tuple[str, ...]
    why: str
    """The fault in a few words."""


MUTANTS = (
    Mutant(
        "diffusion/core/timesteps.py",
        "lambda key, n: jax.random.randint(key, (n,), 1, T + 1)",
        "lambda key, n: jax.random.randint(key, (n,), 0, T)",
        ("tests/core/test_timesteps.py",),
        "t uniform on 0..T-1",
    ),
    Mutant(
        "diffusion/core/timesteps.py",
        "jnp.stack([t, T + 1 - t], axis=1)",
        "jnp.stack([t, t], axis=1)",
        ("tests/core/test_timesteps.py",),
        "antithetic pairs are equal",
    ),
    Mutant(
        "diffusion/core/timesteps.py",
        "1.0 / (T * p[i]), 1.0)",
        "1.0 / p[i], 1.0)",
        ("tests/core/test_importance.py",),
        "importance weights without 1 / T",
    ),
    Mutant(
        "diffusion/core/timesteps.py",
        "return i + 1, jnp.where",
        "return i, jnp.where",
        ("tests/core/test_importance.py",),
        "importance-sampled t shifted by one",
    ),
)
