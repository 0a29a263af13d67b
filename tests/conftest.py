"""What every test runs under. The settings are environment variables, so that processes started by tests have them too.

CPU with eight devices, so that sharding is tested in-process (JAX_PLATFORMS=cuda tests on a GPU instead); arrays of
different rank never broadcast silently; compiled programs are kept from one run of the suite to the next. Half of the
suite's time is XLA's for thousands of small programs, so it compiles them in a hurry; `-m slow` compiles as users do.
"""

import gc
import os
from importlib.metadata import version
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[1] / ".pytest_cache" / "xla"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
DEVICES = "--xla_force_host_platform_device_count"
if DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES}=8".strip()

HASTE = {"0.10": ("--xla_backend_optimization_level=1", "--xla_cpu_use_fusion_emitters=false")}
"""By the jaxlib series that has them: XLA aborts on a flag that it does not know. A small program takes two thirds of
the time to compile, random numbers two fifths."""

gc.set_threshold(100_000, 50, 100)  # tracing makes millions of objects that stay; looking for garbage takes a tenth


LONG = ("distributed", "sharding", "toy", "nets", "scripts", "training", "fuzz", "figures", "edit_script", "editing")
"""Files whose tests take longest. They are begun first, so that workers of `pytest -n` end at about the same time."""


def pytest_configure(config):
    if config.option.markexpr == "slow":
        return
    found = next((flags for series, flags in HASTE.items() if version("jaxlib").startswith(f"{series}.")), ())
    given = os.environ["XLA_FLAGS"]
    os.environ["XLA_FLAGS"] = " ".join([given, *(flag for flag in found if flag.split("=")[0] not in given)])


def pytest_collection_modifyitems(items):
    names = {name: rank for rank, name in enumerate(f"test_{stem}" for stem in LONG)}
    items.sort(key=lambda item: names.get(item.path.stem, len(names)))


@pytest.fixture(scope="module")
def unoptimized():
    """Programs are compiled with as little work as possible, here and by scripts that are started: for test files whose
    programs are large and run for moments: two of them took 0.6 of the time. Optimised code is tested by the others.
    """
    import jax

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def rng():
    """NumPy's generator, the same in every test."""
    import numpy as np

    return np.random.default_rng(0)


@pytest.fixture
def key():
    """A jax random key, the same in every test."""
    import jax

    return jax.random.key(0)
