"""The published tables, and which of our results stand in them: data, matching, three formats, commands, milestones."""

import csv
import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffusion.commands import reproduce
from diffusion.commands.reproduce import commands
from diffusion.config import ablation_grid, config_files
from diffusion.config.config_dict import config_hash, nested, restore
from diffusion.config.keys_with_legal_values import PAPERS
from diffusion.config.validation import validate
from diffusion.convert.inception_weights import NETWORK
from diffusion.data.dataset_interface import in_memory
from diffusion.evaluation.measurement_protocol import QUANTISATION
from diffusion.figures import style
from diffusion.figures.figure_data import curve_data
from diffusion.figures.training_figures import band, milestones
from diffusion.metrics import rate_distortion
from diffusion.metrics.first_images_of_split import split
from diffusion.published import comparison_table, ddpm_tables
from diffusion.published import expected_loss_and_fid_by_step as published
from diffusion.published.differences_of_config_from_paper import deviations, run_differences
from diffusion.published.match_results_to_cells import compare, stored_results
from diffusion.published.table_types import Cell, Experiment
from diffusion.runtime import config_flag
from diffusion.runtime.atomic_files import write_json
from diffusion.workdir import result_files
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.result_files import Result
from diffusion.workdir.run_config import Run
from tests.support.script_flags import flags_of

ROOT = Path(__file__).resolve().parents[2]
TABLES = {table.name: table for table in reproduce.tables()}
CELLS = {(t.name, row.label, column): cell for t in TABLES.values() for row, column, cell in t.cells()}
MEASURED = {place: cell for place, cell in CELLS.items() if cell.measure}
EXPERIMENTS = {cell.measure.experiment for cell in MEASURED.values()}
BEST = ("ddpm_table1", "DDPM, L_simple", "FID")


def values(name: str, column: str) -> dict[str, float]:
    return {row: cell.value for (table, row, c), cell in CELLS.items() if table == name and c == column}


# ---------------------------------------------------------------------------------------------------------- the tables


@pytest.mark.parametrize("experiment", sorted(EXPERIMENTS), ids=lambda e: f"{e.name}_{e.resolve().train.steps}")
def test_every_experiment_is_a_config_that_can_be_run(experiment):
    config = config_files.load(ROOT / experiment.config)
    config.update_from_flattened_dict(dict(experiment.changes))
    validate(config)
    assert config_hash(config) == config_hash(experiment.resolve())
    assert config.train.steps >= 200_000 and config.paper in PAPERS


OTHER_MODELS = {
    *("EBM, conditional", "JEM, conditional", "BigGAN, conditional", "StyleGAN2 + ADA (v1), conditional"),
    *("Diffusion (original)", "Gated PixelCNN", "Sparse Transformer", "PixelIQN", "EBM", "NCSNv2", "NCSN", "SNGAN"),
    *("SNGAN-DDLS", "StyleGAN2 + ADA (v1)", "ProgressiveGAN", "StyleGAN2"),
    "StyleGAN (Church, Cat: as reported by StyleGAN2)",
}
"""Rows that quote models which this project does not implement."""


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_names_a_config_and_a_command(table):
    for (name, row, column), cell in CELLS.items():
        if name != table or row in OTHER_MODELS or (cell.measure is None and cell.printed == "–"):
            continue
        assert cell.measure is not None, (row, column)
        train = reproduce.train(cell.measure.experiment, Path("runs/x"))
        evaluate = reproduce.evaluate(cell.measure, Path("runs/x"), 1)
        assert "--config=configs/" in train and cell.measure.experiment.resolve().train.steps > 0
        assert f"--metrics={cell.measure.metric}" in evaluate
    assert any(place[0] == table for place in MEASURED)


def test_experiments_are_told_apart():
    """Otherwise one result would stand for two: by config, or by the steps of one config."""
    keys = {(config_hash(e.resolve()), e.resolve().train.steps) for e in EXPERIMENTS}
    assert len(keys) == len(EXPERIMENTS)
    for e in EXPERIMENTS:
        matching = [o for o in EXPERIMENTS if not run_differences(o, e.values(), e.values()["train.steps"])]
        assert matching == [e]


def test_places_and_numbers():
    assert len(CELLS) == sum(len(table.cells()) for table in TABLES.values())  # no row label stands twice in a table
    for table in TABLES.values():
        assert all(row.cells.keys() <= set(table.columns) for row in table.rows)
        for _, _, cell in table.cells():
            assert (cell.value is None) == (cell.printed == "–")
            if cell.value is not None:
                assert f"{cell.value:.{cell.digits}f}" in cell.printed
    assert Cell("≤ 3.75").value == 3.75 and Cell("9.46 ± 0.11").value == 9.46 and Cell("–").value is None


def test_table_4_is_a_rate_distortion_curve():
    rate, rmse = (list(values("ddpm_table4", column).values()) for column in TABLES["ddpm_table4"].columns)
    assert len(rate) == len(rmse) == 10
    assert np.all(np.diff(rate) < 0) and np.all(np.diff(rmse) > 0)
    slope = np.diff(rate) / np.diff(rmse)
    assert np.all(np.diff(slope) > 0)  # convex, as every such curve
    assert np.all(np.diff(np.log(rate[2:9]), 2) < 0)  # and falling ever faster
    assert tuple(int(row.split()[-1]) for row in values("ddpm_table4", "rate (bits/dim)")) == (
        rate_distortion.REVERSE_TIMES
    )
    sent, kept, error = (cell.value for (name, _, _), cell in CELLS.items() if name == "ddpm_split")
    assert sent == round(rate[0], 2) and error == round(rmse[0], 2)
    total = values("ddpm_table1", "bits/dim, test")["DDPM, L_simple"]
    assert sent + kept == pytest.approx(total, abs=0.005)
    # L_0 of a Gaussian decoder with sigma^2 = beta_tilde_2, at that error, in the units of 1/255 bins.
    sigma = 0.0073846 * 127.5
    gaussian = math.log2(sigma * math.sqrt(2 * math.pi)) + 0.5 * (rmse[0] / sigma) ** 2 / math.log(2)
    assert gaussian == pytest.approx(kept, abs=0.01)


def test_one_number_that_stands_in_several_tables():
    best = CELLS[BEST].value
    assert CELLS["ddpm_table2", "eps, L_simple", "FID"].value == best
    assert CELLS["ddim_table1", "sigma-hat", "S = 1000"].value == best
    for column in ("IS", "FID"):
        one, two = values("ddpm_table1", column), values("ddpm_table2", column)
        assert one["DDPM, L, fixed isotropic"] == two["eps, L, fixed isotropic"]
        assert one["DDPM, L_simple"] == two["eps, L_simple"]


def test_scores_fall_where_they_must():
    for name in ("ddim_table1", "ddim_table1_celeba64"):
        for row in TABLES[name].rows:  # more steps are never worse
            fids = [row.cells[column].value for column in TABLES[name].columns]
            assert fids == sorted(fids, reverse=True)
        for column in TABLES[name].columns[:3]:  # nor, for few steps, is less noise
            fids = list(values(name, column).values())
            assert fids == sorted(fids)
    for row in ("DDPM, L, fixed isotropic", "DDPM, L_simple"):
        assert values("ddpm_table1", "bits/dim, train")[row] < values("ddpm_table1", "bits/dim, test")[row]
    for name in ("improved_cifar10", "improved_imagenet64"):
        first, *_, last = (v for row, v in values(name, "bits/dim").items() if "1,500,000" not in row)
        assert first > last


GRIDS = {"ho_table2": "ddpm_table2", "improved_ddpm_tables": "improved_cifar10", "samplers": "ddim_table1"}


@pytest.mark.parametrize("name", GRIDS)
def test_tables_agree_with_the_ablations(name):
    """The grids of configs/ablations state the same rows on their own: the same runs, the same numbers."""
    table, compared = GRIDS[name], 0
    grid = ablation_grid.load(f"configs/ablations/{name}.py", "cifar10")
    for row in grid.rows:
        for column, printed in row.paper.items():
            label, place = row.label, column
            if table == "ddim_table1":
                label, steps = row.label.split(", ")
                place = f"S = {steps.split()[0]}"
            cell = CELLS.get((table, label, place))
            if cell is None:  # a column that the paper has in another table
                continue
            assert cell.printed.replace("–", "-") == printed
            config, measure = ablation_grid.config(grid, row), cell.measure
            assert config_hash(config) == config_hash(measure.experiment.resolve()), label
            assert config.train.steps == measure.experiment.resolve().train.steps
            if "sampler" in measure.chain:
                assert measure.chain["sampler"] == config.sample.sampler
                assert measure.chain["grid"] == (config.sample.grid or "full")
                assert measure.chain.get("eta", 0.0) == config.sample.eta
            compared += 1
    assert compared == sum(1 for place in MEASURED if place[0] == table)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (BEST, "cifar10"),
        (("ddpm_table1", "DDPM, L_simple", "FID (test set)"), "cifar10"),
        (("ddpm_table1", "DDPM, L_simple", "bits/dim, test"), "cifar10"),
        (("ddpm_table3", "DDPM, L_simple", "Bedroom"), "lsun_bedroom"),
        (("ddpm_table3", "DDPM, L_simple", "Church"), "lsun_church"),
        (("ddpm_table3", "DDPM, L_simple", "Cat"), "lsun_cat"),
        (("improved_cifar10", "T = 4000, cosine, L_hybrid", "FID"), "cifar10_improved"),
        (("improved_cifar10", "T = 4000, cosine, L_vlb", "bits/dim"), "cifar10_improved_vlb"),
        (("improved_imagenet64", "T = 4000, cosine, L_hybrid, 1,500,000 steps", "FID"), "imagenet64"),
    ],
)
def test_tables_agree_with_the_configs(place, name):
    """The score stands in the docstring of the config, and the run of the cell is that config."""
    cell, config = CELLS[place], CELLS[place].measure.experiment.resolve()
    text = (ROOT / "configs" / f"{name}.py").read_text()
    assert re.search(rf"(?<![\d.]){re.escape(f'{cell.value:.{cell.digits}f}')}(?!\d)", text.partition("Score:")[2])
    config = config.copy_and_resolve_references()
    config.paper = name
    assert deviations(config) == []


# ------------------------------------------------------------------------------------------------------------ matching


def run_of(root: Path, experiment: Experiment, name: str = "", **changes) -> Path:
    """A run's folder, without training: its config, with changes (sections joined to keys by two underscores)."""
    config = restore(nested(experiment.resolve()))
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    folder = root / (name or experiment.name)
    write_json(folder / "config.json", manifest.with_hash(Run(config, (32, 32, 3), 10).content))
    return folder


def protocol_of(cell: Cell) -> dict:
    """The published protocol of a cell, as a result file states it."""
    measure = cell.measure
    config = measure.experiment.resolve()
    flat = {"step": config.train.steps, "images": measure.images, "seed": 0, "config_hash": config_hash(config)}
    flat |= {"split": "test", "devices": "a device", **measure.chain, **measure.binding, **measure.loose}
    made: dict = {}
    for key, value in flat.items():
        section, _, inner = key.rpartition(".")
        (made.setdefault(section, {}) if section else made)[inner] = value
    return made


def result_of(cell: Cell, value: float = 3.21, **changes) -> Result:
    """A result that reproduces the cell as published, but for changes of its protocol."""
    measure = cell.measure
    protocol = protocol_of(cell) | changes
    T = 1000
    series = {}
    if measure.metric == "nll":
        found = {"bits_per_dim": value, "L_T": 1e-5, "rate": value / 2, "distortion": value / 2, "rmse": 0.9}
        series = {"terms": [value / T] * T, "x_0_rmse": list(np.linspace(0.9, 70.0, T))}
    elif measure.metric == "fid":
        n = protocol["images"]
        found = {"fid" if n >= 50_000 else f"fid_{n}": value}
    else:
        found = {"mean": value, "std": 0.1, "mean_1": value}
    return Result(measure.metric, found, series, protocol)


def found_in(root: Path):
    found = stored_results(root)
    return found, compare(reproduce.tables(), found)


def same_measurement(a: Cell, b: Cell) -> bool:
    """Whether one evaluation gives both cells."""
    return (a.measure.experiment, a.measure.flags) == (b.measure.experiment, b.measure.flags)


@pytest.mark.parametrize("place", [place for place in MEASURED if place[0] != "ddpm_table4"], ids=" ".join)
def test_a_result_as_published_fills_its_cells_alone(place, tmp_path):
    """Its own, and those of other tables which ask for the same evaluation."""
    cell = CELLS[place]
    result_files.write(run_of(tmp_path, cell.measure.experiment), result_of(cell))
    _, comparison = found_in(tmp_path)
    filled = {other for other in MEASURED if comparison.fills(other)}
    assert filled == {other for other, c in MEASURED.items() if same_measurement(cell, c)}
    assert place in filled and comparison.cells.keys() == filled and not comparison.unused
    reading = comparison.cells[place]
    assert not reading.departs and not reading.notes
    if cell.value is not None and "bits_per_dim" in result_of(cell).values and place[0] != "ddpm_split":
        assert reading.value == 3.21
        assert comparison_table.difference(cell, reading) == pytest.approx(3.21 - cell.value)


def test_table_4_is_read_from_the_terms_of_the_bound(tmp_path):
    rng = np.random.default_rng(0)
    terms, errors, cell = rng.uniform(size=1000), rng.uniform(size=1000), CELLS["ddpm_table4", "reverse step 1000",
                                                                              "rate (bits/dim)"]  # fmt: skip
    result = result_of(cell)._replace(series={"terms": terms.tolist(), "x_0_rmse": errors.tolist()})
    result_files.write(run_of(tmp_path, ddpm_tables.CIFAR10), result)
    _, comparison = found_in(tmp_path)
    for row in TABLES["ddpm_table4"].rows:
        t = 1000 - int(row.label.split()[-1]) + 1
        sent = 1e-5 + sum(terms[s - 1] for s in range(t + 1, 1001))
        rate, rmse = (comparison.cells["ddpm_table4", row.label, c] for c in TABLES["ddpm_table4"].columns)
        assert rate.value == pytest.approx(sent, rel=1e-12) and rmse.value == errors[t - 1]
    short = result._replace(series={"terms": [1.0] * 50, "x_0_rmse": [1.0] * 50})
    assert cell.measure.read(short) is None


DEVIATING = {
    "width": {"net__channels": 64},
    "dropout": {"net__dropout": 0.0},
    "learning rate": {"optim__lr": 1e-4},
    "batch": {"train__batch_size": 256},
    "average": {"optim__ema_decay": 0.999},
    "type": {"net__dtype": "bfloat16"},
    "flip": {"data__flip": False},
    "other data": {"data__name": "tfds:cifar100"},
    "a folder": {"data__name": "folder:images"},
}


@pytest.mark.parametrize("changes", DEVIATING.values(), ids=DEVIATING)
def test_a_changed_config_fills_nothing(changes, tmp_path):
    folder = run_of(tmp_path, ddpm_tables.CIFAR10, **changes)
    config = json.loads((folder / "config.json").read_text())
    result_files.write(folder, result_of(CELLS[BEST], config_hash=config["hash"]))
    _, comparison = found_in(tmp_path)
    assert not comparison.cells
    (line,) = comparison.unused
    key, value = next(iter(changes.items()))
    assert repr(value) in line and "fid" in line and str(folder) in line
    assert key.replace("__", ".") in line or "data" in key


@pytest.mark.parametrize("step", [94_000, 799_999, 1_000_000, None])
def test_another_number_of_steps_fills_nothing(step, tmp_path):
    result_files.write(run_of(tmp_path, ddpm_tables.CIFAR10), result_of(CELLS[BEST], step=step))
    _, comparison = found_in(tmp_path)
    assert not comparison.cells and "of 800,000" in comparison.unused[0]


def test_what_does_not_matter_does_not_matter(tmp_path):
    """Another seed, plan, place of the data or way to log; the released checkpoint; TFDS's copy of the data."""
    changes = {"seed": 7, "train__steps": 900_000, "train__log_every": 7, "data__dir": "/data", "sample__n": 9}
    folder = run_of(
        tmp_path, ddpm_tables.CIFAR10, **changes, paper="", net__remat=True, data__name="tfds:cifar10:3.0.0"
    )
    saved = json.loads((folder / "config.json").read_text())["hash"]
    stamp = {"step": 790_000, "config_hash": saved, "features": f"{NETWORK} 1a2b3c4d5e6f"}
    result_files.write(folder, result_of(CELLS[BEST], **stamp))
    _, comparison = found_in(tmp_path)
    assert comparison.fills(BEST) and not comparison.cells[BEST].notes


def test_a_folder_of_images_is_taken_for_a_set_without_a_loader_and_noted(tmp_path):
    place = ("ddpm_table3", "DDPM, L_simple", "Church")
    folder = run_of(tmp_path, ddpm_tables.CHURCH, data__name="folder:church")
    saved = json.loads((folder / "config.json").read_text())["hash"]
    result_files.write(folder, result_of(CELLS[place], config_hash=saved))
    _, comparison = found_in(tmp_path)
    assert comparison.fills(place) and comparison.cells.keys() == {place}
    assert "folder:church" in comparison.cells[place].notes[0]


DEPARTING = {
    "few samples": (BEST, {"images": 1000}, "FID-1000"),
    "raw weights": (BEST, {"weights": "raw"}, "raw"),
    "part of the reference": (
        BEST,
        {"reference": split("train", in_memory("cifar10", np.zeros((9, 1, 1, 1), np.uint8)), 5).facts},
        "5 reference images of 9 (published: all)",
    ),
    "nothing said": (BEST, {"weights": None}, "published: ema"),
    "ten thousand is not more": (
        ("improved_imagenet64", "T = 4000, cosine, L_simple, 200,000 steps", "FID"),
        {"images": 50_000},
        "FID-50000",
    ),
    "other weights of Inception": (
        BEST,
        {"features": "inception-1a2b3c4d 1a2b3c4d5e"},
        "features: inception-1a2b3c4d 1a2b3c4d5e (",
    ),
    "another score's weights": ((*BEST[:2], "IS"), {"features": "inception-1a2b3c4d 1a2b"}, "features: inception-1a2b"),
    "part of a split": (("ddpm_table1", "DDPM, L_simple", "bits/dim, test"), {"images": 256}, "256 images"),
    "raw weights, bound": (("ddpm_table1", "DDPM, L_simple", "bits/dim, train"), {"weights": "raw"}, "raw"),
}


@pytest.mark.parametrize(("place", "changes", "word"), DEPARTING.values(), ids=DEPARTING)
def test_another_protocol_is_shown_but_fills_nothing(place, changes, word, tmp_path):
    cell = CELLS[place]
    result_files.write(run_of(tmp_path, cell.measure.experiment), result_of(cell, 25.0, **changes))
    _, comparison = found_in(tmp_path)
    assert not any(map(comparison.fills, MEASURED)) and not comparison.unused
    reading = comparison.cells[place]
    assert word in "; ".join(reading.departs)
    assert comparison_table.difference(cell, reading) is None
    text = comparison_table.measured(cell, reading, [])
    assert text.startswith(f"{25.0:.{cell.digits}f}") and "*" in text and "(" not in text
    assert word in comparison_table.markdown([TABLES[place[0]]], comparison)


@pytest.mark.parametrize("name", ["fd_inception-1a2b3c4d", "fd_inception-2015-12-05-bfloat16", "fid_inception-1a2b"])
def test_scores_of_another_network_fill_nothing(name, tmp_path):
    result = result_of(CELLS[BEST])._replace(name=name, values={name: 3.2})
    result_files.write(run_of(tmp_path, ddpm_tables.CIFAR10), result)
    _, comparison = found_in(tmp_path)
    assert not comparison.cells and f"another result fills it [{name} {name} = 3.2]" in comparison.unused[0]


def test_another_reference_has_its_own_cell_and_is_no_stand_in(tmp_path):
    test_set = (*BEST[:2], "FID (test set)")
    result_files.write(run_of(tmp_path, ddpm_tables.CIFAR10), result_of(CELLS[test_set], 5.3))
    _, comparison = found_in(tmp_path)
    assert comparison.fills(test_set) and BEST not in comparison.cells


def test_another_chain_is_another_cell(tmp_path):
    folder = run_of(tmp_path, ddpm_tables.CIFAR10)
    chain = {"sampler": "ddim", "grid": "quad50", "eta": 0.0}
    result_files.write(folder, result_of(CELLS[BEST], 4.7, **chain, clip=False))
    result_files.write(folder, result_of(CELLS[BEST], 6.0, **chain | {"grid": "ddim50"}), "ddim50")
    _, comparison = found_in(tmp_path)
    place = ("ddim_table1", "eta = 0", "S = 50")
    assert comparison.cells.keys() == {place} and comparison.cells[place].value == 4.7
    assert len(comparison.unused) == 1 and "chain" in comparison.unused[0]


def test_small_differences_are_noted_and_fill(tmp_path):
    result_files.write(run_of(tmp_path, ddpm_tables.CIFAR10), result_of(CELLS[BEST], clip=False))
    place = ("improved_cifar10", "T = 4000, cosine, L_hybrid", "FID")
    experiment = CELLS[place].measure.experiment
    result_files.write(run_of(tmp_path, experiment), result_of(CELLS[place], quantisation="uint8 by rounding"))
    _, comparison = found_in(tmp_path)
    assert comparison.fills(BEST) and "clip: False (published: True)" in comparison.cells[BEST].notes
    assert (
        comparison.fills(place)
        and f"quantisation: uint8 by rounding (published: {QUANTISATION[1]})" in comparison.cells[place].notes
    )


def test_of_several_results_the_last_checkpoint_of_a_run_is_shown(tmp_path):
    for seed, value in enumerate((3.1, 3.2)):
        folder = run_of(tmp_path, ddpm_tables.CIFAR10, f"seed_{seed}", seed=seed)
        saved = json.loads((folder / "config.json").read_text())["hash"]
        result_files.write(folder, result_of(CELLS[BEST], value, config_hash=saved))
        result_files.write(folder, result_of(CELLS[BEST], 99.0, config_hash=saved, step=790_000))
    _, comparison = found_in(tmp_path)
    assert comparison_table.measured(CELLS[BEST], comparison.cells[BEST], []) == "3.10 (-0.07) [1]"
    assert (
        len(comparison.unused) == 2 and "another result fills it [fid fid = 99; fid fid = 3.2]" in comparison.unused[1]
    )


def test_a_result_on_another_split_fills_nothing(tmp_path):
    half = {"reference": {"data": "cifar10", "split": "half", "images": 25_000}}
    result_files.write(run_of(tmp_path, ddpm_tables.CIFAR10), result_of(CELLS[BEST], **half))
    _, comparison = found_in(tmp_path)
    assert not comparison.cells and "no cell has this metric, chain and split" in comparison.unused[0]


def test_a_diverged_result_is_shown_as_such(tmp_path):
    place = ("ddpm_table2", "mu, MSE", "FID")
    cell = CELLS[place]
    result_files.write(run_of(tmp_path, cell.measure.experiment), result_of(cell, float("nan")))
    _, comparison = found_in(tmp_path)
    assert comparison.fills(place) and comparison_table.difference(cell, comparison.cells[place]) is None
    assert comparison_table.measured(cell, comparison.cells[place], []) == "not finite [1]"


def test_results_of_a_lost_or_foreign_config_fill_nothing(tmp_path):
    lost = run_of(tmp_path, ddpm_tables.CIFAR10, "lost")
    result_files.write(lost, result_of(CELLS[BEST]))
    (lost / "config.json").unlink()
    result_files.write(run_of(tmp_path, ddpm_tables.CIFAR10, "foreign"), result_of(CELLS[BEST], config_hash="0" * 12))
    damaged = run_of(tmp_path, ddpm_tables.CIFAR10, "damaged")
    result_files.write(damaged, result_of(CELLS[BEST]))
    (damaged / "config.json").write_text("{")
    _, comparison = found_in(tmp_path)
    assert not comparison.cells
    assert [re.search("no config.json|another config|is damaged", line)[0] for line in comparison.unused] == [
        *("is damaged", "another config", "no config.json")
    ]


def test_data_of_no_table_are_said_to_be(tmp_path):
    folder = run_of(tmp_path, ddpm_tables.CIFAR10, "digits", data__name="digits", net__attention=())
    saved = json.loads((folder / "config.json").read_text())["hash"]
    result_files.write(folder, result_of(CELLS["ddpm_table1", "DDPM, L_simple", "bits/dim, test"], config_hash=saved))
    result_files.write(folder, Result("neighbours", {"mean": 1.0}, {}, {"config_hash": saved, "step": 1}))
    _, comparison = found_in(tmp_path)
    (line,) = comparison.unused  # one line a run, not one a result
    assert "'digits'" in line and "nll bits_per_dim = 3.21" in line and "neighbours" in line


# ------------------------------------------------------------------------------------------------------------- formats


@pytest.fixture
def some(tmp_path):
    """A folder of runs in which two cells are filled, one is shown and one run does not qualify."""
    folder = run_of(tmp_path, ddpm_tables.CIFAR10)
    result_files.write(folder, result_of(CELLS[BEST], 3.456))
    result_files.write(folder, result_of(CELLS[(*BEST[:2], "IS")], 9.4))
    result_files.write(folder, result_of(CELLS[(*BEST[:2], "bits/dim, test")], images=100))
    small = run_of(tmp_path, ddpm_tables.CIFAR10, "small_100%", net__channels=64)
    saved = json.loads((small / "config.json").read_text())["hash"]
    result_files.write(small, result_of(CELLS[BEST], 40.0, config_hash=saved))
    return tmp_path


def test_markdown(some):
    _, comparison = found_in(some)
    text = comparison_table.markdown(reproduce.tables(), comparison)
    blocks = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert [block.splitlines()[0] for block in blocks] == [*(t.title for t in TABLES.values()), comparison_table.UNUSED]
    for block, table in zip(blocks, TABLES.values(), strict=False):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) == 1 and len(rows) == len(table.rows) + 2
    row = next(line for line in blocks[0].splitlines() if line.startswith("| DDPM, L_simple"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:5] == ["9.46 ± 0.11", "9.40 ± 0.10 (-0.06) [1]", "3.17", "3.46 (+0.29) [2]"]
    assert cells[5:7] == ["5.24", "–"] and cells[8].startswith("3.21*")
    assert cells[9:] == ["3.72", "–"]
    for i in (1, 2, 3):
        assert f"- [{i}] {some}" in blocks[0]
    assert "step 800000, weights ema, images 50000" in blocks[0] and "reference split train" in blocks[0]
    assert "net.channels = 64 (published: 128)" in blocks[-1] and "fid fid = 40" in blocks[-1]


def test_nothing_measured_is_a_dash_in_every_cell(tmp_path):
    _, comparison = found_in(tmp_path)
    for table in TABLES.values():
        text = comparison_table.markdown([table], comparison)
        wanted = [cell for _, _, cell in table.cells() if cell.measure]
        blank = [cell for _, _, cell in table.cells() if cell.printed == "–"]
        rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
        assert len(re.findall(r"\| +– ", rows)) == len(wanted) + len(blank)
        assert "[1]" not in text and comparison_table.UNUSED not in text


def test_csv_parses_back(some):
    _, comparison = found_in(some)
    rows = list(csv.DictReader(io.StringIO(comparison_table.comma_separated(reproduce.tables(), comparison))))
    assert [(row["table"], row["row"], row["column"]) for row in rows] == list(CELLS)
    for row, cell in zip(rows, CELLS.values(), strict=True):
        assert row["published"] == cell.printed
        assert row["value"] == ("" if cell.value is None else repr(cell.value))
        if row["difference"]:
            assert float(row["difference"]) == float(row["measured"]) - float(row["value"])
    filled = {(row["table"], row["row"], row["column"]) for row in rows if row["fills"] == "yes"}
    assert filled == {place for place in MEASURED if comparison.fills(place)} and BEST in filled
    shown = next(row for row in rows if row["column"] == "bits/dim, test" and row["row"] == "DDPM, L_simple")
    assert shown["fills"] == "no" and shown["measured"] == "3.21" and not shown["difference"] and shown["departs"]


def test_latex(some):
    _, comparison = found_in(some)
    text = comparison_table.latex(reproduce.tables(), comparison)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(TABLES)
    body, _, left = text.partition(f"% {comparison_table.UNUSED}")
    assert left and all(line.startswith("%") for line in left.splitlines()[1:])
    assert r"$L_{simple}$" in body and r"7.67 $\pm$ 0.13" in body and r"$\le$ 3.70" in body
    assert not re.search(r"(?<!\\)[_%#$^~]", re.sub(r"\$(\\pm|\\le|L_\{\w+\})\$", "", body))
    assert "–" not in body and "≤" not in body and "±" not in body
    for part, table in zip(body.split(r"\begin{tabular}")[1:], TABLES.values(), strict=True):
        columns = part[part.index("{") + 1 : part.index("}")]
        rows = part[part.index(r"\midrule") : part.index(r"\bottomrule")].splitlines()[1:]
        assert len(rows) == len(table.rows)
        assert all(row.count(" & ") == len(columns) - 1 and row.endswith(r"\\") for row in rows)


# ------------------------------------------------------------------------------------------------------------ commands


def blocks_of(text: str) -> dict[tuple[str, str], list[str]]:
    return {block.splitlines()[0]: block.splitlines()[1:] for block in text.strip().split("\n\n")}


def test_one_block_for_each_cell_that_is_not_filled(some):
    found, comparison = found_in(some)
    blocks = blocks_of(commands(reproduce.tables(), comparison, found, some))
    expected = [
        f"# {name}: {row}, {column}, published {cell.printed}"
        for (name, row, column), cell in MEASURED.items()
        if not comparison.fills((name, row, column))
    ]
    assert list(blocks) == expected
    assert f"# {BEST[0]}: {BEST[1]}, {BEST[2]}, published 3.17" not in blocks
    for lines in blocks.values():
        assert sum("scripts/evaluate.py" in line for line in lines) == 1


def test_commands_are_those_of_the_cells(tmp_path):
    """Trains every experiment once, evaluates each measurement once, with flags that the scripts have."""
    found, comparison = found_in(tmp_path)
    text = commands(reproduce.tables(), comparison, found, tmp_path)
    lines = [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]
    assert all(line[0] == "python" and (ROOT / line[1]).is_file() for line in lines)
    assert len({tuple(line) for line in lines}) == len(lines)
    trained = {}
    for line in (line for line in lines if line[1] == "scripts/train.py"):
        flag = config_flag.ConfigFlag("")
        (workdir,) = flag.parse(line[1], line[2:])
        folder, config = workdir.removeprefix("--workdir="), flag.value
        trained.setdefault(folder, []).append((config_hash(config), config.train.steps))
    wanted = {(config_hash(e.resolve()), e.resolve().train.steps) for e in EXPERIMENTS}
    assert sorted(pair for pairs in trained.values() for pair in pairs) == sorted(wanted)
    assert all(len({hash for hash, _ in pairs}) == 1 for pairs in trained.values())  # one config a folder
    known = flags_of("scripts/evaluate.py")
    evaluations = [line for line in lines if line[1] == "scripts/evaluate.py"]
    assert len(evaluations) == len({(c.measure.experiment, c.measure.flags) for c in MEASURED.values()})
    for line in evaluations:
        assert {flag.removeprefix("--").partition("=")[0] for flag in line[2:]} <= known
        folder, step = line[2].removeprefix("--workdir="), line[3].removeprefix("--step=")
        assert int(step) in {steps for _, steps in trained[folder]}


def test_a_finished_run_is_not_trained_again(some):
    found, comparison = found_in(some)
    text = commands([TABLES["ddpm_table1"]], comparison, found, some)
    assert f"# trained, in {some / 'cifar10'}" in text
    assert [line for line in text.splitlines() if "train.py" in line and "eps_bound" not in line] == []


# ---------------------------------------------------------------------------------------------------------- milestones


def test_milestones_are_a_course_of_training():
    for points in (published.LOSS, published.FID):
        steps, curve = np.array(points).T
        assert np.all(np.diff(steps) > 0) and np.all(np.diff(curve) < 0) and steps[-1] <= 800_000
    assert abs(published.FID[-1][1] / CELLS[BEST].value - 1) < published.TOLERANCE


def test_the_band_goes_through_the_milestones():
    steps, curve = np.array(published.FID).T
    low, high = band(published.FID, 0.1, steps)
    np.testing.assert_allclose((low, high), (0.9 * curve, 1.1 * curve))
    middle = sum(band(((1, 1.0), (100, 0.01)), 0.1, np.array([10.0]))) / 2
    np.testing.assert_allclose(middle, 0.1)


LINES = [{"step": step, "train/mse": 1.0 / step} for step in (1, 10, 100)] + [{"step": 100, "eval/bits_per_dim": 4.0}]


def figure_of(lines=LINES, scores=((47_000, 9.0, ""), (94_000, 60.0, "FID-1000"))):
    return milestones(lines, scores, "a run", "")


def test_the_figure_shows_the_run(tmp_path):
    figure = figure_of()
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[-1].get_xydata(), [(1, 1), (10, 0.1), (100, 0.01)])
    curves = {line.get_label(): line for line in right.lines}
    np.testing.assert_allclose(curves["milestones"].get_xydata(), published.FID)
    np.testing.assert_allclose(curves["this run"].get_xydata(), [(47_000, 9.0)])
    other = curves["this run, FID by another protocol"]
    np.testing.assert_allclose(other.get_xydata(), [(94_000, 60.0)])
    assert other.get_markerfacecolor() == "none"
    low, high = right.get_ylim()
    assert low < 3.188 and high > 60.0
    assert set(curves) <= {text.get_text() for text in figure.legends[0].get_texts()}
    style.save(figure, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert len(figure_of(scores=()).axes[1].lines[-1].get_xydata()) == 0
    assert figure_of(lines=()).axes
    with pytest.raises(ValueError, match="nothing to draw"):
        figure_of(lines=(), scores=())


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    folder = run_of(tmp_path, ddpm_tables.CIFAR10)
    lines = [b'{"step": 1000, "train/mse": 0.04}', b'{"step": 2000, "train/mse": "\xff', b'{"step": 3000, "train/m']
    (folder / "metrics.jsonl").write_bytes(b"\n".join(lines))
    with pytest.warns(UserWarning, match="damaged lines of its metrics are left out: 2"):
        reproduce.draw_milestones(folder, [tmp_path / "milestones.png"])
    assert (tmp_path / "milestones.png").exists()
    with pytest.warns(UserWarning, match="damaged lines"):
        assert curve_data.metrics(folder) == [{"step": 1000, "train/mse": 0.04}]


def test_scores_of_a_run_say_how_they_depart(tmp_path):
    folder = run_of(tmp_path, ddpm_tables.CIFAR10)
    result_files.write(folder, result_of(CELLS[BEST], 9.0, step=47_000))
    result_files.write(folder, result_of(CELLS[BEST], 60.0, step=10_000, images=1000))
    result_files.write(folder, result_of(CELLS[(*BEST[:2], "IS")], 9.0))
    small, full = published.scores(folder)
    assert full == (47_000, 9.0, "") and small[:2] == (10_000, 60.0) and "FID-1000" in small[2]
    assert published.faults(folder) == []
    assert published.faults(run_of(tmp_path, ddpm_tables.CIFAR10, "small", net__channels=64)) == [
        "net.channels = 64 (published: 128)"
    ]
    with pytest.raises(ValueError, match="milestones are those of CIFAR-10"):
        published.faults(run_of(tmp_path, ddpm_tables.CHURCH, "church"))


# -------------------------------------------------------------------------------------------------------------- script


def script(*args, cwd=ROOT):
    command = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=dict(os.environ), capture_output=True, text=True, timeout=120)


def test_the_script_writes_tables_and_figure(some, tmp_path):
    out = tmp_path / "new" / "table.csv"
    done = script(f"--runs={some}", "--format=csv", "--table=ddpm_table1,ddim_table1", f"--out={out}")
    assert done.returncode == 0 and done.stdout.strip() == str(out) and "net.channels = 64" in done.stderr
    rows = list(csv.DictReader(out.open()))
    assert {row["table"] for row in rows} == {"ddpm_table1", "ddim_table1"}
    assert sum(row["fills"] == "yes" for row in rows) == 3  # FID and IS, and the same FID in DDIM's table
    (some / "cifar10" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    done = script(f"--milestones={some / 'cifar10'}", f"--out={tmp_path / 'm.png'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    for out, line in (
        (tmp_path, "is a folder: name a file in it"),
        (tmp_path / "new" / "table.csv" / "a.md", "cannot be"),
    ):
        done = script(f"--runs={some}", f"--out={out}")
        assert done.returncode == 2 and line in done.stderr and done.stderr.count("\n") == 1


def test_commands_are_written_to_any_file(tmp_path):
    done = script("--table=ddpm_table1", "--commands", "--out=fill.sh", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "fill.sh\n" and not done.stderr
    assert "scripts/evaluate.py" in (tmp_path / "fill.sh").read_text()


def test_the_script_without_runs_prints_dashes(tmp_path):
    done = script("--table=ddpm_table3", cwd=tmp_path)
    assert done.returncode == 0 and re.search(r"\| DDPM, L_simple +\| +6.36 \| +– \|", done.stdout) and not done.stderr


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--table=ddpm_table9"], "did you mean"),
        (["--table=ddpm_table1,x"], "no such table; there are ddpm_table1"),
        (["--runs=nowhere"], "no such folder"),
        (["--format=html"], "format"),
        (["--milestones=nowhere"], "holds no run"),
        (["--milestones=nowhere", "--out=m.txt"], "--out=m.txt: the figure is written as .png, .pdf, .svg"),
        (["--milestones=x", "--table=ddpm_table1", "--format=csv"], "one run: leave out --table, --format"),
        (["--milestones=x", "--commands"], "one run: leave out --commands"),
    ],
)
def test_mistakes_end_in_one_line(args, line, tmp_path):
    done = script(*args, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and line in done.stderr
