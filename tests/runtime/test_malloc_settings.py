"""Memory that stays with the process: what it gains, counted in page faults, and when it stands back."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion.runtime import malloc_settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = 4096

COUNT = """
import ctypes, json, resource, sys
sys.path.insert(0, sys.argv[1])
from diffusion.runtime import malloc_settings
limit, size, times = int(sys.argv[2]), 100 * 2**20, 5
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
kept = malloc_settings.keep()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
library.free.argtypes = (ctypes.c_void_p,)
def step():
    block = library.malloc(size)
    ctypes.memset(block, 1, size)
    library.free(block)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(times):
    step()
faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / times
print(json.dumps([kept, faults]))
"""

glibc_alone = pytest.mark.skipif(malloc_settings.glibc() is None, reason="needs the GNU C library")


def count(limit: int = 0, **environment: str) -> tuple[bool, float]:
    """Whether memory was kept, and the page faults of a step that writes to 100 MB and frees them."""
    command = [sys.executable, "-c", COUNT, str(ROOT), str(limit)]
    found = subprocess.run(command, env={"JAX_PLATFORMS": "cpu", **environment}, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    kept, faults = json.loads(found.stdout)
    return kept, faults


@glibc_alone
@pytest.mark.parametrize("limit", [0, 2**31], ids=["", "few addresses"])
def test_a_freed_block_is_had_again_without_page_faults(limit):
    assert count(limit) == (True, pytest.approx(0, abs=10))


@glibc_alone
@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_settings_of_the_user_are_left_alone(name):
    """Then the library does what it does: every page of the block is cleared again."""
    value = {"MALLOC_ARENA_MAX": "4", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=7", "LD_PRELOAD": ""}[name]
    kept, faults = count(**{name: value})
    assert not kept and faults > 0.9 * 100 * 2**20 / PAGE


@pytest.mark.parametrize(
    ("told", "packages", "expected"),
    [
        ("", (), True),
        ("", ("libtpu",), False),
        ("", ("jax_plugins",), False),
        ("cpu", ("jax_plugins",), True),
        ("cuda,cpu", (), False),
    ],
)
def test_it_stands_back_where_an_accelerator_computes(monkeypatch, told, packages, expected):
    monkeypatch.setattr(malloc_settings, "find_spec", lambda name: name in packages or None)
    monkeypatch.setenv("JAX_PLATFORMS", told)
    assert malloc_settings.computes_here() is expected


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(malloc_settings.sys, "platform", "darwin")
    assert malloc_settings.glibc() is None


class Untouched(ctypes.CDLL):
    """A library none of whose functions may be asked for."""

    def __getattr__(self, name):
        raise AssertionError(name)


@glibc_alone
def test_addresses_that_count_as_memory_are_not_reserved(monkeypatch, tmp_path):
    """The C library is not asked for anything then."""
    for text, expected in (("0\n", False), ("1\n", False), ("2\n", True)):
        (tmp_path / "overcommit").write_text(text)
        monkeypatch.setattr(malloc_settings, "OVERCOMMIT", tmp_path / "overcommit")
        assert malloc_settings.counted() is expected
    malloc_settings._reserve(Untouched(None))
    monkeypatch.setattr(malloc_settings, "OVERCOMMIT", tmp_path / "none")
    assert not malloc_settings.counted()
