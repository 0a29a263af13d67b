"""The band of a recorded curve, against a world whose scatter is known, and the watch over a run."""

import math

import numpy as np
import pytest

from diffusion.training import compare_with_recorded_curve
from diffusion.training.compare_with_recorded_curve import LEAST, WIDTH, Curve, Watch

STEPS = range(10, 1010, 10)


def run(seed, scatter, factor=1.0):
    """Lines of a run whose loss is 3 step^-1/2, each window off by a normal factor."""
    z = np.random.default_rng(seed).standard_normal(len(STEPS))
    losses = (factor * 3 * step**-0.5 * math.exp(scatter * e) for step, e in zip(STEPS, z, strict=True))
    lines = [
        {"step": step, "train/mse": loss, "train/mse_t_quartile_1": 2.0}
        for step, loss in zip(STEPS, losses, strict=True)
    ]
    return [{"step": 5, "eval/bits_per_dim": 9.0}, *lines, {"step": 500, "eval/bits_per_dim": 4.0}]


def half_width(row):
    return math.log(row["high"] / row["low"]) / 2


def test_a_power_law_without_scatter_is_its_own_middle():
    table = compare_with_recorded_curve.rows([run(0, 0.0)])
    for row in table:
        assert row["low"] * row["high"] == pytest.approx((3 * row["step"] ** -0.5) ** 2, rel=1e-9)
        assert half_width(row) == pytest.approx(WIDTH * LEAST)
    assert [row["step"] for row in table] == list(STEPS)
    assert [row["step"] for row in table if row["bits_per_dim"]] == [500] and table[49]["bits_per_dim"] == 4.0
    assert {row["mse_t_quartile_1"] for row in table} == {2.0} and {row["mse_t_quartile_2"] for row in table} == {None}


def test_the_width_is_that_of_single_windows_of_all_seeds():
    runs = [run(seed, 0.05) for seed in range(20)]
    widths = [half_width(row) for row in compare_with_recorded_curve.rows(runs)]
    assert np.mean(widths) == pytest.approx(WIDTH * 0.05, rel=0.03)
    apart = compare_with_recorded_curve.rows([run(0, 0.0), run(1, 0.0, factor=1.3)])
    assert apart[50]["low"] * apart[50]["high"] == pytest.approx(1.3 * 9 / apart[50]["step"])
    assert half_width(apart[50]) == pytest.approx(WIDTH * math.log(1.3) / math.sqrt(2))


def test_a_curve_needs_five_windows():
    with pytest.raises(ValueError, match="needs 5 logged losses, and the run has 4"):
        compare_with_recorded_curve.rows([run(0, 0.0)[:5]])


def test_the_table_survives_the_file(tmp_path):
    table = compare_with_recorded_curve.rows([run(0, 0.05)])
    compare_with_recorded_curve.write(tmp_path / "curve.csv", table)
    again = compare_with_recorded_curve.read(tmp_path / "curve.csv")
    assert again[0].keys() == table[0].keys() and math.isnan(again[0]["bits_per_dim"])
    for row, read in zip(table, again, strict=True):
        assert read["step"] == row["step"] and read["low"] == pytest.approx(row["low"], rel=1e-4)


def watched(windows, period=10):
    """What a watch over a band of 0.9 to 1.1 in windows of 10 steps reports."""
    lines = []
    watch = Watch(Curve("x", np.arange(10, 110, 10), np.full(10, 0.9), np.full(10, 1.1)), lines.append)
    for k, loss in enumerate(windows):
        watch(period * (k + 1), loss)
    return lines


def test_a_loss_that_leaves_the_band_is_reported_once_and_when_it_is_back():
    assert watched([1.0] * 12) == [] == watched([1.0, 2.0, 1.0, 2.0, 1.0])
    left = watched([1.0, 2.0, 2.1, 2.2, 1.0, 1.05])
    assert len(left) == 2
    assert left[0].startswith("WARNING     loss 2.1 at step 30 is above the band of 0.9 to 1.1 that pretrained/x had")
    assert left[1].startswith("loss        1 at step 50 is back in the band")
    assert "0.5 at step 20 is below" in watched([0.5, 0.5])[0]
    assert watched([1.0] * 10 + [9.0] * 5) == []  # past the end of the curve


def test_windows_of_the_run_are_averaged_to_those_of_the_curve():
    assert watched([0.5, 1.5] * 10, period=5) == []
    assert "loss 2 at step 20" in watched([1.5, 2.5] * 10, period=5)[0]
    assert watched([1.0, 3.0, 1.0, 1.0], period=20) == []  # one window alone is out
    assert "at step 60" in watched([1.0, 3.0, 3.0], period=20)[0]
    assert watched([3.0] * 6, period=7) == []  # no window of the curve ends where a loss is logged
