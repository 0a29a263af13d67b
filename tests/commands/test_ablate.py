"""Ablations: the grids as they stand in configs/ablations, running and resuming cells, what the tables say."""

import csv
import io
import itertools
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from diffusion.commands import ablate, ablation_table, train
from diffusion.commands.ablation_table import RowResults, Table
from diffusion.config import ablation_grid
from diffusion.config.ablation_grid import Cell, Row
from diffusion.config.config_dict import differences, flatten, nested
from diffusion.config.config_files import load as load_config
from diffusion.config.validation import validate
from diffusion.core import respacing
from diffusion.data.dataset_identity import Identity
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.published import render_tables
from diffusion.runtime import atomic_files
from diffusion.runtime.signals import STOPPED, Stop, Stopped
from diffusion.training.loop import Diverged
from diffusion.workdir import run_config
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.run_config import Run
from tests.support.networks import OneConvolution

ROOT = Path(__file__).resolve().parents[2]
GRIDS = sorted(path.stem for path in (ROOT / "configs" / "ablations").glob("[!_]*.py"))
SIZES = ("digits", "mnist_small", "mnist", "cifar10")

pytestmark = pytest.mark.usefixtures("unoptimized")

TOY = """
from configs.digits import get_config
from diffusion.config.ablation_grid import Grid, Row

def get_grid(size, overrides):
    config = get_config()
    config.update_from_flattened_dict({
        "diffusion.T": 8, "diffusion.beta_T": 0.99, "net.channels": 8, "net.multipliers": (1,), "net.attention": (),
        "optim.warmup_steps": 0, "train.steps": 4, "train.batch_size": 8, "train.log_every": 1,
        "train.checkpoint_every": 2, "train.sample_every": 0, "train.eval_every": 0, "sample.n": 8,
        "sample.batch_size": 8, "sample.preview_steps": 4, "eval.n": 8, "eval.batch_size": 8, "eval.quick_n": 8,
        "eval.quick_steps": 4,
    })
    config.update_from_flattened_dict(overrides)
    ddim = {"sample.sampler": "ddim", "sample.grid": "4", "eval.final": False}
    return Grid("toy", "A toy on " + size, config, (
        Row("ddim, 4 steps", ddim, {"FID": "4.67"}, run="plain"),
        Row("plain", {}, {"FID": "3.17"}),
        Row("wild", {"optim.lr": 1e30}, {"FID": "-"}),
        Row("wild, ddim", ddim | {"optim.lr": 1e30}, run="wild"),
    ), "A note.")
"""


@pytest.fixture
def toy(tmp_path) -> Path:
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    return path


def script(*args, rc: int = 0, limit: float = 200):
    """Runs scripts/ablate.py with one CPU device: (stdout, stderr)."""
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, "scripts/ablate.py", *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=limit)
    assert done.returncode == rc, done.stderr
    return done.stdout, done.stderr


# ------------------------------------------------------------------------------------------------ the grids as they are


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", GRIDS)
def test_every_row_of_every_grid_is_an_experiment_of_its_own(name, size):
    grid = ablation_grid.load(f"configs/ablations/{name}.py", size)  # which validates each row
    assert (
        grid.name == name and grid.base.data.name == size.removesuffix("_small") and grid.title and len(grid.rows) >= 6
    )
    configs = [{**flatten(ablation_grid.config(grid, row)), "run": row.run} for row in grid.rows]
    assert all(configs[i] != other for i in range(len(configs)) for other in configs[:i])
    for row in grid.rows:
        assert row.changes.keys() <= flatten(grid.base).keys() - {"seed"}
        assert row.run or ablation_grid.config(grid, row).eval.final, "a row that trains has a bound"
        assert all(re.fullmatch(r"-|(≤ )?\d+\.\d+( ± \d\.\d+)?", value) for value in row.paper.values())
    if size != "cifar10":
        assert grid.base.sample.n > 64 + 1, "covariances of 64 features have full rank"


def test_small_grids_keep_to_their_budget():
    for name in GRIDS:
        grid = ablation_grid.load(f"configs/ablations/{name}.py", "digits")
        for row in grid.rows:
            c = ablation_grid.config(grid, row)
            assert c.train.steps * c.train.batch_size <= 1600 * 128 and c.diffusion.T <= 1000
            assert (c.eval.n, c.sample.n) == (64, 256) and c.train.sample_every == c.train.eval_every == 0


@pytest.mark.parametrize("name", GRIDS)
def test_docstrings_have_the_number_of_runs_and_of_the_evaluations_beside_them(name):
    rows = ablation_grid.load(f"configs/ablations/{name}.py", "digits").rows
    text = (ROOT / "configs" / "ablations" / f"{name}.py").read_text()
    stated = re.search(r"(\d+) runs?(?: and (\d+) (more evaluations|sample sets))?\s", text)
    assert stated is not None
    trained = sum(not row.run for row in rows)
    others = len(rows) if stated[3] == "sample sets" else len(rows) - trained
    assert (int(stated[1]), int(stated[2] or 0)) == (trained, others)


def rows_of(name: str, size: str) -> dict[str, Row]:
    return {row.label: row for row in ablation_grid.load(f"configs/ablations/{name}.py", size).rows}


TABLE_2 = {
    ("mu", "vlb", "learned"): ("7.28 ± 0.10", "23.69"),
    ("mu", "vlb", "fixed_large"): ("8.06 ± 0.09", "13.22"),
    ("mu", "mu_mse", "fixed_large"): ("-", "-"),
    ("eps", "vlb", "learned"): ("-", "-"),
    ("eps", "vlb", "fixed_large"): ("7.67 ± 0.13", "13.51"),
    ("eps", "simple", "fixed_large"): ("9.46 ± 0.11", "3.17"),
}
"""DDPM table 2: parameterisation, objective, variance -> IS, FID."""


@pytest.mark.parametrize("size", SIZES)
def test_ho_table2_is_table_2(size):
    grid = ablation_grid.load("configs/ablations/ho_table2.py", size)
    found = {}
    for row in grid.rows:
        c = ablation_grid.config(grid, row)
        cell = (c.diffusion.parameterization, c.objective.name, c.diffusion.variance)
        found[cell] = (row.paper["IS"], row.paper["FID"])
        assert c.optim.clip == (c.diffusion.T if c.objective.name == "vlb" else 1.0)
        assert c.sample.clip == (c.diffusion.parameterization != "mu")
        assert not row.run
    assert found == TABLE_2


def test_full_size_is_the_published_experiment():
    paper = load_config(ROOT / "configs" / "cifar10.py")
    plain = [
        ("ho_table2", "eps, L_simple"),
        ("variances", "fixed_large"),
        ("schedules", "linear"),
        ("loss_weights", "eps, simple"),
        ("samplers", "sigma-hat, 1000 steps"),
    ]
    for name, label in plain:
        grid = ablation_grid.load(f"configs/ablations/{name}.py", "cifar10")
        row = next(row for row in grid.rows if row.label == label)
        assert {key for key, _, _ in differences(paper, ablation_grid.config(grid, row))} <= {"paper", "eval.cpu_flop"}
        assert row.paper["FID"] == "3.17"


NLL_AND_FID = {
    "cifar10": "3.73 3.29 / 3.37 2.90 / 3.26 3.07 / 3.26 3.05 / 3.17 3.19 / 2.94 11.47",
    "imagenet64": "3.99 32.5 / 3.77 31.3 / 3.66 32.2 / 3.68 27.0 / 3.62 28.0 / 3.57 56.7",
}
"""Improved DDPM's tables: T and schedule and objective in the order of the grid."""


@pytest.mark.parametrize("size", ["cifar10", "imagenet64"])
def test_improved_has_the_published_rows(size):
    grid = ablation_grid.load("configs/ablations/improved_ddpm_tables.py", size)
    assert " / ".join(f"{r.paper['bits/dim']} {r.paper['FID']}" for r in grid.rows[:6]) == NLL_AND_FID[size]
    assert not grid.rows[6].paper, "L_vlb with uniform t is not in the tables"
    configs = [ablation_grid.config(grid, row) for row in grid.rows]
    settings = [(c.diffusion.T, c.diffusion.schedule, c.objective.name) for c in configs]
    assert settings[:3] == [(1000, "linear", "simple"), (4000, "linear", "simple"), (4000, "linear", "hybrid")]
    assert settings[3:] == [(4000, "cosine", name) for name in ("simple", "hybrid", "vlb", "vlb")]
    assert [c.diffusion.beta_T for c in configs[:3]] == pytest.approx([0.02, 0.005, 0.005])
    dropout = {"cifar10": [0.1] * 3 + [0.3] * 4, "imagenet64": [0.0] * 7}[size]
    assert [c.net.dropout for c in configs] == dropout
    assert [c.objective.timesteps for c in configs[5:]] == ["loss_second_moment", "uniform"]
    assert all(c.net.rescale_time and c.optim.clip == 0 for c in configs)
    recipe = load_config(ROOT / "configs" / ("cifar10_improved.py" if size == "cifar10" else "imagenet64.py"))
    changed = {key for key, _, _ in differences(recipe, configs[4])} - {"paper", "eval.cpu_flop"}
    assert changed == ({"train.steps"} if size == "imagenet64" else set())


DDIM = {
    "eta = 0": "13.36 6.84 4.67 4.16 4.04",
    "eta = 0.2": "14.04 7.11 4.77 4.25 4.09",
    "eta = 0.5": "16.66 8.35 5.25 4.46 4.29",
    "eta = 1": "41.07 18.36 8.01 5.78 4.73",
    "sigma-hat": "367.43 133.37 32.72 9.99 3.17",
}
"""DDIM table 1, CIFAR-10: FID after 10, 20, 50, 100 and 1000 steps."""


@pytest.mark.parametrize("size", SIZES)
def test_samplers_share_one_run_and_have_ddims_table(size):
    rows = rows_of("samplers", size)
    assert [label for label, row in rows.items() if not row.run] == ["sigma-hat, 1000 steps"]
    for label, fids in DDIM.items():
        found = [rows[f"{label}, {n} steps"].paper["FID"] for n in (10, 20, 50, 100, 1000)]
        assert " ".join(found) == fids
    grid = ablation_grid.load("configs/ablations/samplers.py", size)
    for row in grid.rows:
        c = ablation_grid.config(grid, row)
        visited = build.levels(c, respacing.parse(c.sample.grid)).T
        named = int(re.search(r", (\d+) steps", row.label)[1])
        # DDIM's quadratic grids of 50 and 100 have steps twice where neighbours truncate to one; ours takes them once.
        assert visited == named or (size == "cifar10" and named >= 50 and visited > 0.95 * named)


def test_variances_respace_to_a_tenth_and_train_three_networks():
    assert ablation_grid.load("configs/ablations/variances.py", "digits").base.diffusion.T == 500
    rows = rows_of("variances", "digits")
    assert [label for label, row in rows.items() if not row.run] == ["fixed_large", "learned", "learned_range"]
    respaced = {label for label, row in rows.items() if row.changes.get("sample.grid") == "50"}
    assert respaced == {f"{v}, T/10" for v in ("fixed_large", "fixed_small", "learned", "learned_range")}


@pytest.mark.parametrize(("name", "size", "count"), [("cifar10", 32, 52_546_438), ("imagenet64", 64, 121_063_942)])
def test_improved_networks_have_the_published_number_of_parameters(name, size, count):
    config = load_config(ROOT / "configs" / f"{name}{'_improved' if name == 'cifar10' else ''}.py")
    validate(config, size)
    ours = build.experiment(config, (size, size, 3), 1000)
    params = jax.eval_shape(ours.init, jax.random.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count
    assert ours.net.classes == 0


# ------------------------------------------------------------------------------------------------- cells, faulty grids


def test_cells_are_numbered_row_by_row_and_seed_by_seed(toy, tmp_path):
    grid = ablation_grid.load(str(toy), "small")
    cells = ablation_grid.cells(grid, [7, 3], tmp_path)
    assert [cell.index for cell in cells] == list(range(8))
    assert [(c.row.label, c.seed) for c in cells[:4]] == [*itertools.product(["ddim, 4 steps", "plain"], [7, 3])]
    assert all(cell.config.seed == cell.seed for cell in cells)
    assert cells[0].folder == tmp_path / "ddim_4_steps" / "seed_7" and cells[0].trained == cells[2].folder
    assert [cell.trains for cell in cells] == [False, False, True, True, True, True, False, False]
    assert len({cell.folder for cell in cells}) == 8
    assert cells[4].config.optim.lr == 1e30 and cells[2].config.optim.lr == 1e-3
    assert grid.title == "A toy on small"


FAULTS = (
    ('{"optim.lr": -1.0}', "", r"toy, row 'x': config.optim.lr: -1.0 is not a number above 0"),
    ('{"optim.lrr": 1.0}', "", r"row 'x': config.optim.lrr: no such key.*did you mean config.optim.lr"),
    ('{"optim.lr": "fast"}', "", r"row 'x': .*fast"),
    ('{"diffusion.variance": "learned"}', "", r"row 'x': config.diffusion.variance: 'learned' would never be trained"),
    ("{}", "plan", r"row 'x': run = 'plan' is no row that trains; did you mean plain"),
    ("{}", "ddim, 4 steps", r"row 'x': run = 'ddim, 4 steps' is no row that trains"),
    ('{"optim.lr": 0.1}', "plain", r"run = 'plain' was trained with optim.lr = 0.001, not 0.1; train it on its own"),
    ('{"train.steps": 5}', "plain", r"run = 'plain' was trained with train.steps = 4, not 5"),
)


@pytest.mark.parametrize(("changes", "run", "reason"), FAULTS)
def test_faulty_rows_are_refused_before_anything_runs(toy, changes, run, reason):
    toy.write_text(TOY.replace('Row("plain"', f'Row("x", {changes}, run={run!r}), Row("plain"'))
    with pytest.raises(ValueError, match=reason) as caught:
        ablation_grid.load(str(toy), "small")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("Plain!", r"toy, row 'Plain!': its folder plain is that of row 'plain' too; give it another label"),
        ("plain", r"row 'plain': its folder plain is that of row 'plain' too"),
        ("+", r"row '\+': a label needs a letter or a digit to name a folder"),
    ],
)
def test_rows_whose_labels_give_no_folder_of_their_own_are_refused(toy, label, reason):
    toy.write_text(TOY.replace('Row("wild, ddim"', f'Row({label!r}, {{}}), Row("wild, ddim"'))
    with pytest.raises(ValueError, match=reason):
        ablation_grid.load(str(toy), "small")


def test_only_the_fixed_variances_share_a_network_and_only_without_a_bound(toy):
    small = "{'diffusion.variance': 'fixed_small'}"
    toy.write_text(TOY.replace('Row("plain"', f'Row("x", {small}, run="plain"), Row("plain"'))
    ablation_grid.load(str(toy), "small")
    toy.write_text(toy.read_text().replace('"optim.warmup_steps": 0', '"objective.name": "vlb"'))
    with pytest.raises(ValueError, match=r"trained with diffusion.variance = 'fixed_large', not 'fixed_small'"):
        ablation_grid.load(str(toy), "small")


def test_grid_files_that_are_none(toy):
    with pytest.raises(ValueError, match=r"--grid=ho_table.py: no such file; did you mean .*/ho_table2.py"):
        ablation_grid.load("ho_table.py", "digits")
    toy.write_text("x = 1")
    with pytest.raises(ValueError, match=r"must return a diffusion.config.ablation_grid.Grid"):
        ablation_grid.load(str(toy), "digits")
    toy.write_text("def get_grid(size, overrides):\n    return 1 / 0\n")
    with pytest.raises(ValueError, match=r"toy.py, line 2: ZeroDivisionError"):
        ablation_grid.load(str(toy), "digits")
    with pytest.raises(ValueError, match="size 'huge' is not one of digits, mnist_small, mnist, cifar10"):
        ablation_grid.load("configs/ablations/loss_weights.py", "huge")


def test_overrides_change_the_base_but_not_what_rows_set(toy):
    grid = ablation_grid.load(str(toy), "small", {"train.steps": 9, "data.dir": "here"})
    assert {ablation_grid.config(grid, row).train.steps for row in grid.rows} == {9}
    with pytest.raises(ValueError, match=r"config.optim.lr cannot be set over an ablation: row 'wild' of toy sets it"):
        ablation_grid.load(str(toy), "small", {"optim.lr": 0.1})
    with pytest.raises(ValueError, match=r"config.seed cannot be set over an ablation: it is set by --seeds"):
        ablation_grid.load(str(toy), "small", {"seed": 1})


def test_rows_labels_and_title_are_those_of_the_base_with_its_overrides():
    def loaded(name: str, **diffusion):
        overrides = {f"diffusion.{key}": value for key, value in diffusion.items()}
        grid = ablation_grid.load(f"configs/ablations/{name}.py", "mnist_small", overrides)
        return grid, {row.label: row for row in grid.rows}

    grid, rows = loaded("samplers", T=500, beta_T=0.04)
    assert grid.title == "Samplers on mnist, T = 500"
    assert [row.label for row in grid.rows if not row.run] == ["sigma-hat, 500 steps"]
    assert {int(re.search(r", (\d+) steps", label)[1]) for label in rows} == {10, 20, 50, 100, 500}
    assert rows["eta = 0, 100 steps"].paper and not rows["eta = 0, 500 steps"].paper, "the paper has 1000"
    _, rows = loaded("samplers", T=100, beta_T=0.2)
    assert {int(re.search(r", (\d+) steps", label)[1]) for label in rows} == {10, 20, 50, 100}
    assert rows["eta = 0, 50 steps"].paper and not rows["eta = 0, 100 steps"].paper, "it is the whole chain here"
    grid, rows = loaded("variances", T=1000)
    assert grid.title.endswith("T = 1000 and 100") and rows["learned, T/10"].changes["sample.grid"] == "100"
    assert loaded("ho_table2", T=1000)[1]["eps, L, fixed isotropic"].changes["optim.clip"] == 1000
    assert loaded("improved_ddpm_claims", T=200)[1]["cosine, L_vlb, uniform t"].changes["optim.clip"] == 200


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_applies_overrides_to_the_base_that_its_title_is_made_of(name):
    overrides = {"data.name": "folder:here", "data.size": 28, "train.batch_size": 32}
    grid = ablation_grid.load(f"configs/ablations/{name}.py", "mnist", overrides)
    assert "folder:here" in grid.title and grid.base.train.batch_size == 32


def test_a_grid_file_that_ignores_overrides_is_refused(toy):
    toy.write_text(TOY.replace("    config.update_from_flattened_dict(overrides)\n", ""))
    ablation_grid.load(str(toy), "small")
    with pytest.raises(ValueError, match=r"config.train.steps: .*toy.py does not apply it to its base; .*overrides\)"):
        ablation_grid.load(str(toy), "small", {"train.steps": 9})


# ------------------------------------------------------------------------------------------------- running and resuming


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The toy grid with one seed, stopped by a signal in step 3 and taken up again: (grid, cells, lines said)."""
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "toy.py").write_text(TOY)
    grid = ablation_grid.load(str(folder / "toy.py"), "small", {"train.checkpoint_every": 4})
    cells = ablation_grid.cells(grid, [0], folder / "out")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr("diffusion.metrics.small_image_classifier.EPOCHS", 2)
        patch.setattr("diffusion.experiment.registry_of_samplers_and_schedules.UNet", OneConvolution)
        patch.setattr(
            "diffusion.commands.previews_during_training.preview",
            lambda *_: lambda params: np.zeros((8, 8, 1), np.uint8),  # noqa: ARG005
        )
        patch.setattr("diffusion.commands.previews_during_training.estimate", lambda *_: lambda state: {"zero": 0.0})  # noqa: ARG005
        for module in (train, ablate, sharding):  # one of the eight devices: programs compile faster
            patch.setattr(module, "make_mesh", partial(sharding.make_mesh, jax.devices()[:1]))
        scalars = train.Writer.scalars

        def interrupted(self, step, values):
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            scalars(self, step, values)

        with patch.context() as inner:
            inner.setattr(train.Writer, "scalars", interrupted)
            with Stop.on_signals(resumable=True) as stop, pytest.raises(Stopped, match="stopped by SIGTERM") as ended:
                ablate.run_cells(grid, cells, said.append, stop=stop)
            assert ended.value.status == STOPPED
        assert not any((cell.folder / ablation_grid.RESULT).exists() for cell in cells)
        said.append("--- again")
        tables_written = []
        ablate.run_cells(grid, cells, said.append, lambda: tables_written.append(ablation_table.table(grid, cells)))
    assert len(tables_written) == 4
    return grid, cells, said


def results(cells) -> dict[str, dict]:
    return {cell.row.label: json.loads((cell.folder / ablation_grid.RESULT).read_text()) for cell in cells}


@pytest.mark.slow
def test_an_interrupted_row_goes_on_from_its_checkpoint(swept):
    _, cells, said = swept
    again = said[said.index("--- again") :]
    assert again[1] == "row         1: plain, seed 0" and "checkpoint  resumed from step 2" in again
    steps = [json.loads(line)["step"] for line in (cells[1].folder / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2, 3, 4]


def test_a_result_holds_the_bound_the_score_and_its_protocol(swept):
    _, cells, _ = swept
    found = results(cells)["plain"]
    numbers = found["results"]
    assert numbers["bits_per_dim"] == pytest.approx(numbers["L_T"] + numbers["L_steps"] + numbers["L_0"], rel=1e-5)
    assert numbers["images"] == numbers["samples"] == numbers["fd_digits_samples"] == 8
    assert numbers["fd_digits"] > numbers["fd_digits_floor"] > 0 and found["score"] == "fd_digits"
    assert (found["seed"], found["steps"], found["diverged"], found["fault"]) == (0, 4, False, "")
    assert found["seconds"] > 0 and len(found["config_hash"]) == 12 and found["libraries"]["jax"]
    assert found["config"]["diffusion"]["T"] == 8
    assert found["protocol"]["training steps"] == 4 and "not an FID" in found["protocol"]["fd_digits"]


def test_a_row_that_evaluates_trains_nothing(swept):
    _, cells, said = swept
    found = results(cells)["ddim, 4 steps"]
    assert "bits_per_dim" not in found["results"] and found["results"]["fd_digits"] > 0
    assert sorted(p.name for p in cells[0].folder.iterdir()) == ["result.json", "step_0000004_ddim.png"]
    order = [line for line in said[said.index("--- again") :] if line.startswith("row ")]
    assert [line.split()[1] for line in order] == ["1:", "2:", "0:", "3:"], "rows that train come first"


def test_a_row_that_diverges_is_reported_and_does_not_stop_the_sweep(swept):
    _, cells, said = swept
    wild, follower = results(cells)["wild"], results(cells)["wild, ddim"]
    assert wild["diverged"] and wild["fault"] and follower["diverged"]
    assert follower["fault"] == "the run that it evaluates, that of row 'wild', has diverged"
    assert sum(line.startswith("DIVERGED ") for line in said) == 2
    json.dumps(wild["results"], allow_nan=False)


def test_finished_rows_are_not_run_again_and_a_changed_config_is_refused(swept, monkeypatch):
    grid, cells, _ = swept
    for name in ("train_cell", "evaluate_cell"):
        monkeypatch.setattr(ablate, name, None)
    said = []
    ablate.run_cells(grid, cells, said.append)
    assert len(said) == 4 and all(line.endswith("(already done)") for line in said)

    def changed(key, value) -> Cell:
        config = cells[1].config.copy_and_resolve_references()
        config.update_from_flattened_dict({key: value})
        return cells[1]._replace(config=config)

    ablate.run_cells(grid, [changed("train.log_every", 3), changed("data.dir", "elsewhere")], said.append)
    for key, value in (("train.steps", 5), ("optim.lr", 0.5), ("sample.n", 9), ("eval.n", 9), ("sample.grid", "4")):
        with pytest.raises(ValueError, match=rf"holds a result of another config: {key} was .* and is now"):
            ablate.run_cells(grid, [changed(key, value)], said.append)


def test_rows_that_cannot_be_built_are_refused_before_the_first_trains(tmp_path, monkeypatch, recwarn):
    def train_cell(*_):
        raise Diverged("the first row trains")

    monkeypatch.setattr(ablate, "train_cell", train_cell)
    for T, error, reason in (
        (1500, ValueError, r"^schedules, row 'const': alpha_bar\[\d+\] = .* too little signal"),
        (100, Diverged, "the first row trains"),
    ):
        grid = ablation_grid.load("configs/ablations/schedules.py", "digits", {"diffusion.T": T})
        with pytest.raises(error, match=reason):
            ablate.run_cells(grid, ablation_grid.cells(grid, [0], tmp_path), print)
    assert not recwarn.list, "a schedule's warning is for its row's turn"


def test_unfinished_and_damaged_runs_are_named(swept, tmp_path):
    grid, cells, _ = swept
    with pytest.raises(ValueError, match=r"row 0 .* evaluates the run in .* not finished; run the row 'plain'"):
        ablate.run_cells(grid, [cells[0]._replace(folder=tmp_path / "x", trained=tmp_path / "y")], lambda line: None)  # noqa: ARG005
    for text in ("", "{}", '{"config": {"optim": {"lrr": 1}}}'):
        (tmp_path / "z").mkdir(exist_ok=True)
        (tmp_path / "z" / ablation_grid.RESULT).write_text(text)
        with pytest.raises(ValueError, match=r"result.json is damaged .*; delete it"):
            ablate.run_cells(grid, [cells[1]._replace(folder=tmp_path / "z", trained=tmp_path / "z")], print)


def test_a_row_does_not_evaluate_a_run_of_another_config(toy, tmp_path):
    """As where each cell is a job of its own: the row that trains is not looked at."""
    grids = [
        ablation_grid.load(str(toy), "small", {"objective.p2_k": k, "sample.n": n}) for k, n in ((1.0, 8), (2.0, 9))
    ]
    first, other = (ablation_grid.cells(grid, [0], tmp_path) for grid in grids)
    content = {"config": nested(first[1].config), "diverged": True}
    atomic_files.write_json(first[1].folder / ablation_grid.RESULT, content)
    assert "has diverged" in ablate.evaluate_cell(first[0], print)[0]
    with pytest.raises(ValueError, match=r"row 0 .* evaluates .*plain.*trained with objective\.p2_k = 1\.0, not 2\.0"):
        ablate.evaluate_cell(other[0], print)


def test_results_of_an_image_folder_that_has_moved_are_kept(toy, tmp_path):
    def cells(name: str) -> list[Cell]:
        grid = ablation_grid.load(str(toy), "small", {"data.name": name, "data.size": 8})
        return ablation_grid.cells(grid, [0], tmp_path)

    for cell in (cells("folder:a")[1], cells("folder:a")[0]):
        content = {"config": nested(cell.config), "diverged": True}
        atomic_files.write_json(cell.folder / ablation_grid.RESULT, content)
    assert all(cell.result() for cell in cells("folder:b")[:2])
    assert "has diverged" in ablate.evaluate_cell(cells("folder:b")[0], print)[0]
    with pytest.raises(ValueError, match=r"another config: data.name was 'folder:a' and is now 'tfds:a'"):
        cells("tfds:a")[1].result()


def test_a_row_that_evaluates_keeps_to_the_budget_of_a_cpu(swept, tmp_path, monkeypatch):
    """As a row that trains does: with no FLOP to spend, neither draws a sample."""
    _, cells, _ = swept
    monkeypatch.setattr("diffusion.experiment.registry_of_samplers_and_schedules.UNet", OneConvolution)
    monkeypatch.setattr(ablate, "save_image", None)
    config = cells[0].config.copy_and_resolve_references()
    config.eval.cpu_flop = 1.0
    said = []
    _, summary = ablate.evaluate_cell(cells[0]._replace(config=config, folder=tmp_path / "x"), said.append)
    assert summary.samples.shape == (0, 8, 8, 1) and "0 samples of the chain instead of 8" in said[0]
    assert not any(line.startswith("samples ") for line in said)


def test_an_interrupted_run_of_another_config_is_refused(swept, tmp_path, monkeypatch):
    grid, cells, _ = swept
    other = cells[1].config.copy_and_resolve_references()
    other.optim.lr = 0.5
    for name in ("config.json", "checkpoints/0/manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((cells[1].folder / name).read_bytes())
    monkeypatch.setattr(build, "experiment", lambda *_: None)
    cell = cells[1]._replace(folder=tmp_path, trained=tmp_path, config=other)
    reason = r"holds a run with another config: optim.lr is 0.001 in the run and 0.5 now. Give another --out, or the"
    with pytest.raises(ValueError, match=reason):
        ablate.run_cells(grid, [cell], print)


def test_a_cell_that_another_process_trains_is_refused_by_this_scripts_flag(swept, tmp_path, monkeypatch):
    grid, cells, _ = swept
    monkeypatch.setattr(build, "experiment", lambda *_: None)
    with run_config.lock(tmp_path), pytest.raises(ValueError, match=r"stop it, or give another --out$"):
        ablate.run_cells(grid, [cells[1]._replace(folder=tmp_path, trained=tmp_path)], print)


def test_numbers_that_are_not_finite_or_absurd_are_faults(swept):
    from diffusion.evaluation.evaluation_after_training import Summary
    from diffusion.workdir.result_files import Result

    def summary(total: float, broken: int = 0) -> Summary:
        bound = Result("nll", {"bits_per_dim": total, "L_0": 1.0}, {}, {"images": 8})
        return Summary(np.zeros((8, 4, 4, 1), np.uint8), broken, bound, ())

    assert [ablate.fault(summary(x)) for x in (0.1, 3.5, 9999.0)] == ["", "", ""]
    for x in (math.nan, math.inf, -math.inf, 1e5):
        assert ablate.fault(summary(x)) == f"the bound is {x:.3g} bits/dim"
    assert ablate.fault(summary(3.5, broken=2)) == "2 of 8 samples are not finite"
    grid, cells, _ = swept
    found = ablate.record(grid, cells[1], "x", summary(math.nan), 1.0)
    assert json.loads(json.dumps(found, allow_nan=False))["results"]["L_0"] == 1.0


def test_the_noise_scale_of_a_run_is_its_last(tmp_path):
    lines = [{"step": 1, "eval/noise_scale": 5.0}, {"step": 2, "eval/noise_scale": 7.0}, {"step": 3, "train/loss": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert ablate.noise_scale(tmp_path) == {"noise_scale": 7.0}
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "eval/noise_scale": null}\n')
    assert ablate.noise_scale(tmp_path) == {}


# --------------------------------------------------------------------------------------------------------------- tables


ROWS = (
    RowResults("a & b|c", {"bits_per_dim": [3.0, 4.0], "L_0": [1.0, 1.5]}, 2, 0, {"FID": "3.17"}),
    RowResults("one", {"bits_per_dim": [3.25]}, 1, 1, {}),
    RowResults("gone", {}, 0, 2, {"IS": "7.28 ± 0.10"}),
    RowResults("later", {}, 0, 0, {}),
)
TABLE = Table("Title_1", "A caption, 50%.", ROWS)


def test_markdown_has_mean_and_spread_beside_the_papers_value():
    lines = render_tables.markdown(ablation_table.text_table(TABLE)).splitlines()
    assert lines[0] == "# Title_1" and lines[-1] == "A caption, 50%."
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:-2]]
    assert rows[0] == ["", "seeds", "bits/dim", "L_0", "FID (paper)", "IS (paper)"]
    assert rows[2] == [r"a & b\|c", "2", "3.500 ± 0.707", "1.250 ± 0.354", "3.17", ""]
    assert rows[3] == ["one", "1 (1 diverged)", "3.250", "", "", ""]
    assert rows[4] == ["gone", "0 (2 diverged)", "", "", "", "7.28 ± 0.10"]
    assert rows[5] == ["later", "0", "", "", "", ""]


def test_csv_has_every_digit():
    rows = list(csv.DictReader(io.StringIO(ablation_table.comma_separated(TABLE))))
    assert [row["row"] for row in rows] == ["a & b|c", "one", "gone", "later"]
    assert float(rows[0]["bits_per_dim_std"]) == pytest.approx(math.sqrt(0.5), rel=1e-15)
    assert rows[0] | {"done": "2", "diverged": "0", "bits_per_dim_mean": "3.5", "paper_FID": "3.17"} == rows[0]
    assert rows[1]["bits_per_dim_std"] == "" and rows[2]["bits_per_dim_mean"] == "" and rows[2]["diverged"] == "2"


def test_latex_is_balanced_and_escaped():
    text = render_tables.latex(ablation_table.text_table(TABLE))
    cells = [re.split(r"\s*(?<!\\)&\s*", line.strip()) for line in text.splitlines() if line.startswith(" a ")]
    assert cells == [[r"a \& b|c", "2", r"3.500 $\pm$ 0.707", r"1.250 $\pm$ 0.354", "3.17", r"\\"]]
    assert r"\caption{Title\_1. A caption, 50\%.}" in text and r"7.28 $\pm$ 0.10" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    body = text[text.index(r"\toprule") :]
    columns = len(re.search(r"tabular}{(l r*|lr*)}", text)[1])
    assert all(line.replace(r"\&", "").count("&") == columns - 1 for line in body.splitlines() if line.endswith(r"\\"))
    assert render_tables.escaped("x_0 ~ 5% {a}^2 \\ #1 $ ≤") == (
        r"x\_0 \textasciitilde{} 5\% \{a\}\^{}2 \textbackslash{} \#1 \$ $\le$"
    )


def test_the_sweeps_table_is_that_of_its_results(swept, tmp_path):
    grid, cells, _ = swept
    found = results(cells)
    made = ablation_table.table(grid, cells)
    lines = {line.label: line for line in made.rows}
    assert lines["plain"].values["bits_per_dim"] == [found["plain"]["results"]["bits_per_dim"]]
    assert [(line.done, line.diverged) for line in made.rows] == [(1, 0), (1, 0), (0, 1), (0, 1)]
    assert list(made.columns) == ["bits_per_dim", "L_T", "L_steps", "L_0", "fd_digits"]
    for words in (
        "Seed 0 (n = 1)",
        "data: digits",
        "training steps: 4",
        "samples: 8",
        "held-out images for the bound: 8",
    ):
        assert words in made.caption
    assert "weights: moving average" in made.caption and made.caption.endswith("A note.")
    assert [path.name for path in ablation_table.write(made, tmp_path)] == ["table.md", "table.csv", "table.tex"]
    assert re.search(r"\| wild +\| 0 \(1 diverged\) \|", (tmp_path / "table.md").read_text())


def test_the_caption_tells_what_differs_between_rows(toy):
    grid = ablation_grid.load(str(toy), "small")
    one, two = ({"protocol": {"data": "digits", "T": T}} for T in (125, 500))
    assert "data: digits; T: 125 or 500." in ablation_table.caption(grid, [one, two], [0, 1])
    assert "over seeds 0, 1 (n = 2)" in ablation_table.caption(grid, [one, two], [0, 1])
    same, other = ({**one, "data_identity": name} for name in ("20 images, digest a", "21 images, digest b"))
    assert "changed" not in ablation_table.caption(grid, [one, same, same], [0])
    words = "the data changed between rows: 20 images, digest a or 21 images, digest b."
    assert words in ablation_table.caption(grid, [same, other], [0])


def test_a_result_states_the_data_of_its_run(toy, tmp_path):
    grid = ablation_grid.load(str(toy), "small")
    cells = ablation_grid.cells(grid, [0], tmp_path)
    identity = Identity(19, 1, (8, 8, 1), ("a", "b"), "0123", "content")
    content = Run(cells[1].config, (8, 8, 1), 2, identity).content
    atomic_files.write_json(cells[1].folder / "config.json", manifest.with_hash(content))
    stated = [ablate.record(grid, cell, "", None, 1.0)["data_identity"] for cell in cells[:3]]
    assert stated == [str(identity), str(identity), None], (
        "the row that evaluates, that of the run, and one without a run"
    )


# --------------------------------------------------------------------------------------------------------- the script


def test_the_listed_commands_name_each_cell_once_and_are_commands_of_this_script(toy):
    given = [f"--grid={toy}", "--size=small", "--seeds=0,5", "--config.data.dir=a b", "--out=runs/my toy"]
    given += ["--data_changed=accept"]
    out, _ = script(*given, "--list")
    lines = out.splitlines()
    (remark,) = [line for line in lines if line.startswith("#")]
    commands = [shlex.split(line) for line in lines if line != remark]
    rows = [int(command[-1].removeprefix("--row=")) for command in commands]
    assert rows == [2, 3, 4, 5, 0, 1, 6, 7] and lines.index(remark) == 4
    assert all(command[:2] == ["python", "scripts/ablate.py"] for command in commands)
    assert {*given} <= {*commands[0]}
    assert script(*commands[3][2:-1], "--list")[0] == out


def test_table_alone_comes_from_the_results(swept):
    _, cells, _ = swept
    folder = cells[0].folder.parents[1]
    out, _ = script(f"--grid={folder.parent / 'toy.py'}", "--size=small", "--seeds=0", f"--out={folder}", "--table")
    assert out.split() == [str(folder / f"table.{kind}") for kind in ("md", "csv", "tex")]
    assert re.search(r"\| wild +\| 0 \(1 diverged\) \|", (folder / "table.md").read_text())


@pytest.mark.slow
def test_a_signal_saves_the_row_under_way_and_the_sweep_goes_on(toy, tmp_path):
    """The real script: status 75, then the rest of the row from the step at which it was stopped."""
    given = [f"--grid={toy}", "--size=small", "--seeds=0", f"--out={tmp_path / 'out'}", "--row=1"]
    log, long = tmp_path / "log", ["--config.train.steps=100000", "--config.train.checkpoint_every=0"]
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    with log.open("wb") as console:
        command = [sys.executable, "scripts/ablate.py", *given, *long]
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=console, stderr=console)
    while "step 3/" not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(900) == STOPPED
    assert log.read_text().strip().splitlines()[-1] == "ablate.py: stopped by SIGTERM: start it again to resume"
    folder = tmp_path / "out" / "plain" / "seed_0"
    (at,) = [int(path.name) for path in (folder / "checkpoints").iterdir() if path.name != "0"]
    _, err = script(*given, f"--config.train.steps={at + 2}", limit=900)
    assert f"resumed from step {at}" in err
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, at + 3))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "--grid is required"),
        (["--grid=configs/ablations/loss_weights.py", "--row=16"], "--row=16 is not one of 0..15"),
        (["--grid=configs/ablations/loss_weights.py", "--seeds=0,x"], "--seeds=0,x: give different whole numbers"),
        (["--grid=configs/ablations/loss_weights.py", "--seeds=1,1"], "--seeds=1,1: give different whole numbers"),
        (["--grid=configs/ablations/loss_weights.py", "--table", "--row=0"], "--row and --table exclude each other"),
        (["--grid=configs/ablations/loss_weights.py", "--list", "--row=2"], "--row and --list exclude each other"),
        (["--grid=configs/ablations/loss_weights.py", "--list", "--table"], "--list and --table exclude each other"),
        (["--grid=configs/ablations/loss_weights.py", "--config.optim.lrr=1"], "did you mean config.optim.lr"),
    ],
)
def test_mistakes_end_with_one_line(arguments, reason):
    _, err = script(*arguments, rc=2)
    assert reason in err and len(err.splitlines()) == 1
