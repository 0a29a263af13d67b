"""The structure of the package, read from its syntax trees: layers, dependencies, no choices by name in the maths."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = (
    ("core",),
    ("nets", "sampling", "config"),
    ("runtime",),
    ("data",),
    ("convert",),
    ("distributed", "metrics"),
    ("workdir",),
    ("training", "published"),
    ("experiment",),
    ("planning",),
    ("evaluation",),
    ("figures",),
    ("benchmarks",),
    ("commands",),
)
"""A module imports only from lines above its own; files of one folder import each other freely."""

FEW = {
    "nets": ("core.array_types",),
    "data": (
        *("core.array_types", "runtime.atomic_files", "runtime.paths"),
        *("runtime.bucket_path", "runtime.bucket_cache", "runtime.short_error_text"),
    ),
}
"""All that a folder may import: a network knows no process, a data source no config."""

MATHS = ("core", "sampling")
NAMES = (
    "config",
    "experiment",
    "commands",
    "runtime/command_line",
    "runtime/before_jax",
    "runtime/paths",
    "published/differences_of_config_from_paper",
    "planning",
)
"""Where a string may be compared with a literal (in planning/, XLA's text): elsewhere choices arrive as values."""

CONFIGS = (
    "config",
    "runtime/config_flag",
    "distributed",
    "workdir",
    "published",
    "experiment",
    "figures",
    "commands",
    "benchmarks",
)
"""What handles whole configs."""

OWNERS = {
    "jax": ("",),
    "numpy": ("",),
    "jaxtyping": ("",),
    "flax": ("nets", "training", "convert/name_mapping", "experiment/build"),
    "optax": ("training",),
    "orbax": ("workdir",),
    "tensorboardX": ("workdir/jsonl_and_tensorboard_writer",),
    "tensorflow_datasets": ("data/tfds",),
    "grain": ("data/batch_order",),
    "sklearn": ("data/digits", "metrics"),
    "scipy": ("metrics", "evaluation"),
    "PIL": ("commands/sample", "data", "workdir/jsonl_and_tensorboard_writer", "metrics", "figures"),
    "matplotlib": ("figures",),
    "tabulate": ("published/render_tables", "planning/report"),
    "fsspec": ("runtime/bucket_path", "runtime/bucket_requests"),
    "tqdm": ("data", "runtime/progress_bar"),
    "safetensors": ("convert",),
    "google_crc32c": ("convert/tensorflow_checkpoint",),
    "google": ("convert/tensorflow_checkpoint",),
    "pooch": ("data/download",),
    "ml_collections": CONFIGS,
    "torch": ("benchmarks/torch_baseline",),
    "diffusers": ("benchmarks/torch_baseline",),
    "absl": (
        "runtime/command_line",
        "runtime/config_flag",
        "runtime/sampling_flags",
        "runtime/workdir_and_data_flags",
    ),
}
"""Every library, and the modules or folders that may import it ("": all of them)."""

MATHS_LIBRARIES = ("jax", "numpy", "jaxtyping")
LAZY = ("fsspec", "tensorflow_datasets", "sklearn", "tensorboardX", "safetensors", "torch", "diffusers")
"""Imported inside functions only, so that whoever does not use them does not pay for them."""

MAX_LINES = 250


class Import(NamedTuple):
    """One imported module: its dotted name, its line, and whether the import stands inside a function."""

    name: str
    line: int
    lazy: bool


def modules(package: Path) -> Iterator[tuple[str, ast.Module]]:
    """(name, tree) of every file below a package, such as ("sampling/loop", ...); folders go by their own name."""
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").as_posix()
        yield name.removesuffix("/__init__") if name != "__init__" else "", ast.parse(path.read_text(), str(path))


def imports(tree: ast.Module, name: str) -> Iterator[Import]:
    """All imports of the package `diffusion`'s module `name`, relative ones resolved, one entry per imported name."""
    lazy = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    parents = ["diffusion", *name.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) in lazy)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield Import(f"{source}.{alias.name}", node.lineno, id(node) in lazy)


def rank(folder: str) -> int | None:
    """The line of LAYERS on which a folder stands."""
    return next((i for i, line in enumerate(LAYERS) if folder in line), None)


def layer_faults(package: Path) -> list[str]:
    """Imports that do not come from above, and modules that no layer knows."""
    faults = []
    for name, tree in modules(package):
        top = name.split("/")[0]
        here = rank(top)
        if name and here is None:
            faults.append(f"{name}: stands on no line of LAYERS; give it one")
            continue
        for found in imports(tree, name):
            parts = found.name.split(".")
            if parts[0] != "diffusion" or len(parts) == 1 or parts[1] == top:
                continue
            there = rank(parts[1])
            if there is None:
                if len(parts) > 2 or not parts[1].startswith("__"):
                    faults.append(f"{name}:{found.line}: imports {found.name}, which stands on no line of LAYERS")
            elif not name:
                faults.append(f"__init__:{found.line}: imports {found.name}, but importing the package imports nothing")
            elif there >= (here or 0):
                faults.append(f"{name}:{found.line}: imports {found.name}, which is not above it")
            elif top in FEW and ".".join(parts[1:3]) not in FEW[top]:
                faults.append(f"{name}:{found.line}: imports {found.name}, but {top} may import {FEW[top]} alone")
    return faults


def belongs(name: str, places: Iterable[str]) -> bool:
    """Whether a module is one of these, or in one of these folders; "" is every place."""
    return any(not place or name == place or name.startswith(place + "/") for place in places)


def library_faults(package: Path) -> list[str]:
    """Imports of libraries where they do not belong."""
    faults = []
    for name, tree in modules(package):
        for found in imports(tree, name):
            library = found.name.split(".")[0]
            if library == "diffusion" or library in sys.stdlib_module_names:
                continue
            owners = OWNERS.get(library, ())
            owned = belongs(name, owners)
            if not owned or (name.split("/")[0] in MATHS and library not in MATHS_LIBRARIES):
                faults.append(f"{name}:{found.line}: {library} does not belong here")
            if library in LAZY and not found.lazy:
                faults.append(f"{name}:{found.line}: {library} must be imported inside the function that uses it")
    return faults


def is_text(node: ast.AST) -> bool:
    """Whether an expression is a string literal or a display of some."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(map(is_text, node.elts))
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def name_faults(package: Path) -> list[str]:
    """Comparisons of something with a string literal, by ==, !=, in, not in or match."""
    faults = []
    for name, tree in modules(package):
        if belongs(name, NAMES):
            continue
        for node in ast.walk(tree):
            by_match = isinstance(node, ast.MatchValue) and is_text(node.value)
            by_operator = isinstance(node, ast.Compare) and any(map(is_text, [node.left, *node.comparators]))
            if by_match or by_operator:
                faults.append(f"{name}:{node.lineno}: compares with a string literal: pass the value, not its name")
    return faults


def length_faults(package: Path) -> list[str]:
    """Files that are too long to hold one idea."""
    counts = {path: len(path.read_text().splitlines()) for path in sorted(package.rglob("*.py"))}
    return [
        f"{path.relative_to(package)}: {n} lines, more than {MAX_LINES}" for path, n in counts.items() if n > MAX_LINES
    ]


def test_the_root_holds_the_map_alone():
    """A line a folder, none above what it imports, and no module beside it."""
    package = ROOT / "diffusion"
    assert [path.name for path in package.glob("*.py")] == ["__init__.py"]
    folders = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    named = re.findall(r"^    (\w+)  ", (package / "__init__.py").read_text(), re.MULTILINE)
    assert set(named) == folders == {name for line in LAYERS for name in line}
    assert named == sorted(named, key=rank)


CHECKS = (layer_faults, library_faults, name_faults, length_faults)


@pytest.mark.parametrize("check", CHECKS)
def test_package_keeps_its_structure(check):
    assert len(list(modules(ROOT / "diffusion"))) > 20
    faults = check(ROOT / "diffusion")
    assert not faults, "\n".join(faults)


GOOD = {
    "core/score.py": "import jax.numpy as jnp\nfrom diffusion.core.array_types import Image\nfrom . import elbo\n",
    "training/loop.py": "import optax\nfrom diffusion.core import objective\nfrom .state import X\n",
    "data/tfds.py": "def read():\n    import tensorflow_datasets\n",
    "data/image_folder.py": "SUFFIXES = {'.png'}\ndef is_image(path):\n    return path.suffix in SUFFIXES\n",
    "config/config_files.py": "from diffusion.core import types\ndef f(c):\n    return c.name == 'a'\n",
    "workdir/run_config.py": "import diffusion\nv = diffusion.__version__\nfrom diffusion import __version__\n",
    "__init__.py": '__version__ = "0"\n',
}
BAD = (
    (layer_faults, "core/forward_process.py", "from diffusion.sampling import x"),
    (layer_faults, "core/forward_process.py", "from ..sampling import x"),
    (layer_faults, "core/forward_process.py", "import diffusion.sampling.ddim"),
    (layer_faults, "core/forward_process.py", "def f():\n    from diffusion.config import keys_with_legal_values"),
    (layer_faults, "sampling/ddim.py", "from ..training import loop"),
    (layer_faults, "sampling/ddim.py", "from diffusion.nets.unet import x"),
    (layer_faults, "nets/unet.py", "from diffusion.core.forward_process import Process"),
    (layer_faults, "data/image_folder.py", "from diffusion import config"),
    (layer_faults, "training/loop.py", "from diffusion.figures import style"),
    (layer_faults, "utils.py", "x = 1"),
    (layer_faults, "config/config_files.py", "from diffusion import utils"),
    (layer_faults, "__init__.py", "from diffusion.core import types"),
    (library_faults, "core/elbo.py", "from flax import linen"),
    (library_faults, "core/forward_process.py", "def f():\n    import optax"),
    (library_faults, "core/array_types.py", "import ml_collections"),
    (library_faults, "evaluation/sample_quality.py", "import optax"),
    (library_faults, "config/config_files.py", "import pandas"),
    (library_faults, "training/loop.py", "def f():\n    import tensorflow_datasets"),
    (library_faults, "data/tfds.py", "import tensorflow_datasets"),
    (library_faults, "data/tfds.py", "if True:\n    from tensorflow_datasets import core"),
    (name_faults, "core/elbo.py", "def f(kind):\n    return kind == 'eps'"),
    (name_faults, "core/elbo.py", "def f(kind):\n    return 'eps' != kind"),
    (name_faults, "core/elbo.py", "def f(kind):\n    return kind in ('eps', 'v')"),
    (name_faults, "core/elbo.py", "def f(kind):\n    return kind not in {'eps'}"),
    (name_faults, "training/loop.py", "def f(kind):\n    match kind:\n        case 'eps':\n            return 1"),
    (length_faults, "core/elbo.py", "x = 1\n" * (MAX_LINES + 1)),
)


def write(package: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)


def test_checks_accept_a_good_tree(tmp_path):
    write(tmp_path, GOOD)
    assert [fault for check in CHECKS for fault in check(tmp_path)] == []


@pytest.mark.parametrize(("check", "name", "text"), BAD, ids=range(len(BAD)))
def test_checks_find_each_fault(tmp_path, check, name, text):
    write(tmp_path, GOOD | {name: text})
    (fault,) = check(tmp_path)
    assert fault.startswith(name.removesuffix(".py"))
    for other in set(CHECKS) - {check}:
        assert other(tmp_path) == []


HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "grain", "sklearn", "scipy")


def imported_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_light_modules_import_nothing_heavy():
    light = (
        "config.validation",
        "published.differences_of_config_from_paper",
        "runtime.command_line",
        "runtime.before_jax",
        "runtime.atomic_files",
        "workdir.run_config",
    )
    light = "; ".join(f"import diffusion.{name}" for name in light)
    assert imported_by(light) & set(HEAVY) == set()
    assert imported_by("import diffusion") & {"numpy", "absl", "ml_collections"} == set()
    assert "jax" in imported_by("import diffusion.core.array_types")


def test_suite_runs_under_the_settings_of_conftest():
    import jax
    import jax.numpy as jnp

    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.zeros((2, 3)) + jnp.zeros(3)
    if os.environ["JAX_PLATFORMS"] == "cpu":
        assert jax.device_count() == 8
