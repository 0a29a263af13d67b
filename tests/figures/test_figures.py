"""Figures: what is drawn is what was given; where it comes from; what a missing input says; files fit for print."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import matplotlib.colors
import numpy as np
import pytest
from PIL import Image

from diffusion.config import default_config
from diffusion.config.config_dict import nested
from diffusion.core import schedules
from diffusion.core.respacing import parse
from diffusion.data import toy_points
from diffusion.data.digits import digits
from diffusion.data.user_images import random_images as images_of
from diffusion.data.user_images import random_pairs
from diffusion.distributed.sharding import make_mesh
from diffusion.experiment import build, registry_of_samplers_and_schedules
from diffusion.figures import catalogue, style
from diffusion.figures.curve_figures import (
    alpha_bar,
    posterior_variance,
    rate_distortion,
    rates,
    ratio,
    speed_by_chips,
    steps,
    terms,
)
from diffusion.figures.figure_data import curve_data
from diffusion.figures.figure_data.samples_from_run import RunSampler, chain_points, nearest_images
from diffusion.figures.flags_and_run_for_figures import Inputs
from diffusion.figures.image_grid import image_figure, image_grid, layout, square
from diffusion.figures.progressive_and_edit_figures import forks, interpolation, neighbours, progressive
from diffusion.figures.reverse_step_is_gaussian_figure import EXAMPLE, reverse_conditional
from diffusion.figures.training_figures import QUARTILES, loss
from diffusion.figures.training_figures import curves as run_curves
from diffusion.planning.report_csv import Record
from diffusion.runtime import atomic_files
from diffusion.training.compare_with_recorded_curve import Curve
from diffusion.workdir import result_files, run_config
from diffusion.workdir.result_files import Result
from tests.support import reference
from tests.support.networks import OneConvolution

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]
T = 12


def curves(ax):
    """(label, x, y) of each line with a label of its own."""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in ax.get_lines()}


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# -------------------------------------------------------------------------------------------------------------- curves


def test_rate_distortion_draws_what_it_is_given():
    rate, rmse = np.linspace(1.8, 0, T), np.linspace(1, 80, T)
    left, middle, right = rate_distortion(rate, rmse).axes
    np.testing.assert_array_equal(left.get_lines()[0].get_xydata(), np.stack([T - np.arange(1, T + 1), rmse], axis=1))
    np.testing.assert_array_equal(middle.get_lines()[0].get_xydata()[:, 1], rate)
    np.testing.assert_array_equal(right.get_lines()[0].get_xydata(), np.stack([rate, rmse], axis=1))
    assert "RMSE, 0–255" in left.get_ylabel() and "bits/dim" in middle.get_ylabel() == right.get_xlabel()
    assert "T - t" in left.get_xlabel() and "RMSE" in right.get_ylabel()


def test_terms_on_logarithmic_axes_leave_out_what_has_no_logarithm():
    values = np.geomspace(1, 1e-6, T)
    values[5], values[7] = 0.0, -1e-9
    (ax,) = terms({"train images": values, "test images": values / 2}).axes
    x, y = curves(ax)["train images"]
    np.testing.assert_array_equal(x, np.arange(1, T + 1))
    np.testing.assert_array_equal(np.isnan(y), values <= 0)
    np.testing.assert_array_equal(y[values > 0], values[values > 0])
    assert ax.get_yscale() == ax.get_xscale() == "log" and "bits/dim" in ax.get_ylabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train images", "test images"]


def test_speeds_of_programs_with_and_without_overlap():
    """7 ms of arithmetic, 8 of memory, 2 of links: the longest; memory and links; 20 ms of arithmetic and links."""
    one = Record("", "train", 128, "bfloat16", "", "", "tpu:v5e", 1, *[1.0] * 5, 0.007, 0.008, 0.002)
    eight = one._replace(target="tpu:v5e:2x4", chips=8, arithmetic=0.001, traffic=0.002, links=0.004)
    assert [value for (value,) in rates([one]).values()] == pytest.approx([125, 100, 1 / (0.02 + 0.002)])
    (axes,) = speed_by_chips([eight, one], one._replace(chips=4), 50.0).axes
    drawn = curves(axes)
    np.testing.assert_allclose(drawn["roofline"], [[1, 8], [125, 250]])
    np.testing.assert_allclose(drawn["no overlap"], [[1, 8], [100, 1 / 0.006]])
    np.testing.assert_allclose(drawn["TPU v3-8, published"], [[4], [50]])
    np.testing.assert_allclose(drawn["TPU v3-8, compiled"], [[4, 4], [1 / 0.022, 125]])
    with pytest.raises(ValueError, match=r"scripts/plan\.py --csv"):
        speed_by_chips([], one)


def test_ratio_of_variances_is_that_of_conditioning():
    """beta_tilde as the variance of x_{t-1} given x_t and x_0, from the dense covariance of the two."""
    beta = reference.linear(T, 0.01, 0.98)
    chain = reference.vp_chain(beta)
    var = [0.0]
    for a, b in zip(chain.a[1:], chain.beta[1:], strict=True):
        var.append(a**2 * var[-1] + b)  # Var[x_t | x_0]
    expected = [(var[t - 1] - (chain.a[t] * var[t - 1]) ** 2 / var[t]) / chain.beta[t] for t in range(1, T + 1)]
    table = schedules.linear(T, 0.01, 0.98)
    np.testing.assert_allclose(ratio(table), expected, rtol=1e-12, atol=1e-14)
    (ax,) = posterior_variance({"T = 12": table}).axes
    x, y = curves(ax)["T = 12"]
    np.testing.assert_allclose(x * T, np.arange(1, T + 1))
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
    assert ax.get_xlabel() and ax.get_ylabel()


def test_alpha_bar_draws_each_schedule():
    given = {"linear": schedules.linear(50, 1e-3, 0.3), "cosine": schedules.cosine(20)}
    (ax,) = alpha_bar(given).axes
    for label, (x, y) in curves(ax).items():
        np.testing.assert_array_equal(y, given[label])
        np.testing.assert_allclose(x, np.arange(len(y)) / (len(y) - 1))
    assert ax.get_xlabel() and "alpha" in ax.get_ylabel()


def test_scores_by_steps_are_means_with_their_spread():
    given = {"DDIM, η = 0": {50: [4.0, 6.0], 10: [13.0, 15.0]}, "Heun": {10: [8.0]}}
    (ax,) = steps(given, "FID").axes
    bars = {container.get_label(): container for container in ax.containers}
    line, _, (spread,) = bars["DDIM, η = 0"]
    np.testing.assert_array_equal(line.get_xydata(), [[10, 14], [50, 5]])
    heights = [segment[1, 1] - segment[0, 1] for segment in spread.get_segments()]
    np.testing.assert_allclose(heights, 2 * np.sqrt(2))  # one sample standard deviation up and down
    assert not bars["Heun"].has_yerr
    assert ax.get_ylabel() == "FID" and ax.get_xlabel() == "sampling steps"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "50"]


def lines_of_a_run():
    training = [{"step": i, "train/mse": 1 / i, **{f"train/{q}": 2 / i for q in QUARTILES}} for i in (1, 2, 4)]
    return [*training, {"step": 4, "eval/bits_per_dim": 5.0}, {"step": 4, "test/bits_per_dim": None}]


def test_loss_draws_the_metrics():
    left, right = loss(lines_of_a_run(), "a run").axes
    np.testing.assert_array_equal(curves(left)["all t"], [[1, 2, 4], [1, 0.5, 0.25]])
    np.testing.assert_array_equal(curves(right)["estimate while training"], [[4], [5]])
    assert [text.get_text() for text in right.get_legend().get_texts()] == [
        "estimate while training"
    ]  # none without points
    assert loss(lines_of_a_run()[:3], "a run").axes[1].get_legend() is None
    assert left.get_xlabel() == "step" and left.get_ylabel() == "squared error" and right.get_ylabel() == "bits/dim"
    with pytest.raises(ValueError, match="nothing yet"):
        loss([{"step": 1}], "")


def test_curves_draw_each_run_and_the_band():
    band = Curve("digits", np.array([1, 4]), np.array([0.9, 0.2]), np.array([1.1, 0.3]))
    runs = {"a": lines_of_a_run(), "b": [{"step": 1, "train/mse": 7.0}]}
    runs["b"].append({"step": 4, "test/fd_digits": 2.0})
    left, middle, right = run_curves(runs, band).axes
    np.testing.assert_array_equal(curves(left)["a"], [[1, 2, 4], [1, 0.5, 0.25]])
    np.testing.assert_array_equal(curves(left)["b"], [[1], [7]])
    assert [path.vertices[:, 1].min() for path in left.collections[0].get_paths()] == [0.2]
    np.testing.assert_array_equal(middle.lines[0].get_xydata(), [[4, 5]])
    np.testing.assert_array_equal(right.lines[1].get_xydata(), [[4, 2]])
    assert right.get_ylabel() == "fd_digits" and len(right.lines[0].get_xydata()) == 0
    assert len(run_curves({"a": lines_of_a_run()}).axes) == 2
    with pytest.raises(ValueError, match="logged nothing yet"):
        run_curves({"a": [{"step": 1}]})


def test_runs_of_a_folder_are_named_by_their_folders(tmp_path):
    for name, value in (("b", 2.0), ("a", 1.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps({"step": 1, "train/mse": value}))
    lines = curve_data.runs(tmp_path)
    assert list(lines) == ["a", "b"] and lines["b"] == [{"step": 1, "train/mse": 2.0}]
    assert list(curve_data.runs(tmp_path / "a")) == ["a"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no run and no folders of runs"):
        curve_data.runs(tmp_path / "empty")


def luma(color):
    return np.dot(matplotlib.colors.to_rgb(color), (0.299, 0.587, 0.114))


def test_lines_can_be_told_apart_without_colour():
    for part in zip(*style.LINES, strict=True):
        assert len(set(part)) == len(style.LINES)
    colors = [color for color, *_ in style.LINES]
    for one, two in itertools.combinations(colors[:4], 2):
        assert abs(luma(one) - luma(two)) > 0.1
    assert max(map(luma, colors)) < 0.7  # on white paper


CURVES = {
    "loss": lambda: loss(lines_of_a_run(), "a run"),
    "curves": lambda: run_curves({"a": [*lines_of_a_run(), {"step": 4, "test/fd_digits": 2.0}]}),
    "rate_distortion": lambda: rate_distortion(np.linspace(1, 0, T), np.linspace(1, 80, T)),
    "terms": lambda: terms({"test": np.geomspace(1, 1e-6, T), "train": np.geomspace(1, 1e-5, T)}),
    "steps": lambda: steps({"Heun": {10: [2.0, 3.0], 20: [1.0, 1.5]}, "DDIM": {10: [4.0]}}, "FID"),
    "posterior_variance": lambda: posterior_variance({"T = 12": schedules.cosine(T)}),
    "alpha_bar": lambda: alpha_bar({"cosine": schedules.cosine(T)}),
    "reverse_conditional": lambda: reverse_conditional(EXAMPLE, 0.1, 0.25, (0.2, 0.1), (0.1, 0.05)),
}


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_vectors_with_their_fonts_in_them(tmp_path, name):
    figure = CURVES[name]()
    drawn = [line for ax in figure.axes for line in ax.get_lines()]
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes)
    looks = {(str(line.get_color()), line.get_linestyle(), line.get_marker()) for line in drawn if line.get_label()}
    assert len(looks) >= min(2, len({line.get_label() for line in drawn}))
    for i, same in enumerate((figure, CURVES[name]())):
        style.save(same, tmp_path / str(i) / "figure.pdf")
    written = (tmp_path / "0" / "figure.pdf").read_bytes()
    assert b"/Subtype /Image" not in written and b"/FontFile2" in written and b"/Type3" not in written
    assert written == (tmp_path / "1" / "figure.pdf").read_bytes()
    assert figure.get_size_inches()[0] <= style.PAGE
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 6.5


# -------------------------------------------------------------------------------------------------------------- panels


@pytest.mark.parametrize(
    ("shape", "columns", "rows"), [((2, 5, 8, 8, 1), "abcde", ["t = 1000", "t = 500"]), ((1, 3, 7, 5, 3), "", ["all"])]
)
def test_a_png_holds_exactly_the_pixels_enlarged_by_a_whole_factor(tmp_path, shape, columns, rows):
    cells = random_images(*shape)
    picture, xs, ys = layout(cells, gaps=[1])
    figure = image_figure(cells, list(columns), rows, gaps=[1])
    style.save(figure, tmp_path / "panel.png")
    found = np.asarray(Image.open(tmp_path / "panel.png").convert("RGB"))
    height, width = picture.shape[:2]
    np.testing.assert_array_equal(found[-height:, -width:], np.broadcast_to(picture, (height, width, 3)))
    factor = -(-1200 // (shape[1] * shape[3]))
    for (r, y), (c, x) in itertools.product(enumerate(ys), enumerate(xs)):
        tall, wide = shape[2] * factor, shape[3] * factor
        top, left = round(y - (tall - 1) / 2), round(x - (wide - 1) / 2)
        cell = picture[top : top + tall, left : left + wide]
        np.testing.assert_array_equal(cell[::factor, ::factor], cells[r, c])
        np.testing.assert_array_equal(cell, cell[::factor, ::factor].repeat(factor, 0).repeat(factor, 1))
    assert np.diff(xs)[0] - np.diff(xs)[-1] == 24  # the gap
    for margin, headings in ((found[:, :-width], rows), (found[:-height], columns)):
        assert bool((margin < 255).any()) == bool(len(headings))


def test_a_pdf_panel_is_as_wide_as_the_page_at_most(tmp_path):
    figure = image_figure(random_images(1, 13, 256, 256, 3))
    assert figure.get_size_inches()[0] <= style.PAGE + 1e-6
    style.save(figure, tmp_path / "panel.pdf")
    assert b"/Subtype /Image" in (tmp_path / "panel.pdf").read_bytes()


def test_a_square_is_filled_up_with_white():
    cells = square(images := random_images(7, 4, 4, 1))
    assert cells.shape == (3, 3, 4, 4, 1)
    np.testing.assert_array_equal(cells.reshape(9, 4, 4, 1)[:7], images)
    assert (cells.reshape(9, 4, 4, 1)[7:] == 255).all()
    assert square(images, 2).shape == (4, 2, 4, 4, 1)


def test_a_picture_is_at_least_as_wide_as_asked_with_a_border():
    images = random_images(4, 3, 5, 1)
    picture = image_grid(images, min_side=37)  # a factor of 4, a border of 2
    assert picture.shape == (2 * 12 + 3 * 2, 2 * 20 + 3 * 2, 1)
    np.testing.assert_array_equal(picture[2:14:4, 24:44:4], images[1])
    assert (picture[:2] == 255).all() and (picture[14:16] == 255).all()
    assert image_grid(images, columns=4).shape == (3 + 2, 4 * 5 + 5, 1)


def shown(figure):
    """The picture of a panel and its headings."""
    (ax,) = figure.axes
    return ax.images[0].get_array()[..., :1], [text.get_text() for text in ax.texts]


def test_progressive_and_neighbours_keep_order():
    hats = random_images(2, 4, 8, 8, 1)
    picture, texts = shown(progressive(hats, [1000, 600, 200]))
    np.testing.assert_array_equal(picture, layout(hats, gaps=[3])[0])
    assert texts == ["t = 1000", "600", "200", "sample"]
    picture, texts = shown(neighbours(hats[:, 0], hats[:, 1:]))
    np.testing.assert_array_equal(picture, layout(hats, gaps=[1])[0])
    assert texts == ["sample", "nearest", "2", "3"]


def test_a_block_of_forks_has_x_t_bottom_right():
    ends, x_t = random_images(2, 3, 3, 8, 8, 1), random_images(2, 3, 8, 8, 1, seed=1)
    picture, texts = shown(forks(ends, x_t, [1000, 500, 250]))
    _, xs, ys = layout(np.zeros((4, 6, 8, 8, 1), np.uint8), gaps=[2, 4], row_gaps=[2])
    factor = -(-1200 // 48)
    offset = np.arange(8) * factor + factor // 2 - (8 * factor - 1) / 2

    def cell(row, column):
        at = [np.round(centre + offset).astype(int) for centre in (ys[row], xs[column])]
        return picture[np.ix_(*at)]

    for g, s in itertools.product(range(2), range(3)):
        found = [cell(2 * g + i, 2 * s + j) for i, j in itertools.product(range(2), range(2))]
        np.testing.assert_array_equal(found, [*ends[g, s], x_t[g, s]])
    assert texts == ["t = 1000", "500", "250"]


def test_interpolation_stands_between_its_images():
    first, second, between = random_images(2, 8, 8, 1), random_images(2, 8, 8, 1, seed=1), random_images(2, 3, 8, 8, 1)
    picture, texts = shown(interpolation(first, second, between, [0.0, 0.5, 1.0], ["t = 500"]))
    cells = np.concatenate([first[:, None], between, second[:, None]], axis=1)
    np.testing.assert_array_equal(picture, layout(cells, gaps=[1, 4])[0])
    assert texts == ["original", "λ = 0", "0.5", "1", "original", "t = 500"]


# --------------------------------------------------------------------------------------------------- drawn by a network


def tiny(**overrides):
    config = default_config()
    config.update_from_flattened_dict(
        {
            "data.name": "digits",
            "diffusion.T": T,
            "diffusion.beta_T": 0.8,
            "net.channels": 8,
            "net.multipliers": (1,),
            "net.blocks": 1,
            "net.attention": (),
            **overrides,
        }
    )
    return config


@pytest.fixture(scope="module")
def run_sampler():
    """A network that knows nothing, on two of the eight devices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_of_samplers_and_schedules, "UNet", OneConvolution)
        ours = build.experiment(tiny(), (8, 8, 1), 10, make_mesh(jax.devices()[:2]))
    return RunSampler(ours, jax.jit(ours.init)(jax.random.key(0)), seed=3)


def close(a, b):
    """The compiler may order sums otherwise in another program: at most a rounding of the last level."""
    return a.shape == b.shape and np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_progressive_generation_ends_at_the_samples(run_sampler):
    drawn, stops = run_sampler.progressive(3, columns=5)
    assert drawn.shape == (3, 5, 8, 8, 1) and drawn.dtype == np.uint8 and stops == [12, 9, 6, 3]
    assert close(drawn[:, -1], run_sampler.samples(3))
    assert (drawn[:, 0] != drawn[:, -1]).any()


def test_forked_chains_share_x_t_and_their_start(run_sampler):
    ends, x_t, stops = run_sampler.forks(2, 3, [1.0, 0.5, 1 / T])
    assert ends.shape == (2, 3, 3, 8, 8, 1) and x_t.shape == (2, 3, 8, 8, 1) and stops == [12, 6, 1]
    assert all((ends[0, 0, 0] != ends[0, 0, i]).any() for i in (1, 2))
    assert close(ends[:, 2, 0], ends[:, 2, 1])  # the last step draws no noise
    small = run_sampler._replace(batch_size=2).forks(2, 3, [1.0, 0.5])
    assert close(small[0], ends[:, :2]) and close(small[1], x_t[:, :2])


def test_guided_chains_of_points_end_at_the_guided_samples():
    labels = {"net.class_conditional": True, "net.label_dropout": 0.1, "sample.guidance": 50.0, "sample.clip": False}
    config = tiny(**{"data.name": "toy:moons", "net.name": "mlp", **labels})
    ours = build.experiment(config, toy_points.SHAPE, 2, make_mesh(jax.devices()[:1]))
    params = jax.tree.map(lambda x: x + 0.1, jax.jit(ours.init)(jax.random.key(0)))
    points = RunSampler(ours, params, seed=3)
    ends = np.clip(chain_points(points, 4, [0])[0], -1, 1)
    np.testing.assert_allclose(toy_points.to_points(points.samples(4)), ends, atol=0.01)


def test_steps_are_those_of_the_full_chain_nearest_to_fractions(run_sampler):
    short = run_sampler._replace(grid=parse("4"))
    base = np.asarray(short.process.base_t)
    for fraction in (1.0, 0.7, 0.5, 0.2, 0.0):
        (t,) = short.steps([fraction])
        assert abs(base[t] - fraction * T) == np.abs(base - fraction * T).min()
    assert short.steps([1.0, 0.99, 0.0], lowest=1) == [4, 1]  # each once
    drawn, stops = short.progressive(2, columns=3)
    assert stops == [12, int(base[short.steps([0.5])[0]])] and drawn.shape[1] == 3


def test_an_impossible_grid_is_refused(run_sampler):
    with pytest.raises(ValueError, match="cannot take 13 steps from a process of 12"):
        run_sampler._replace(grid=parse("13")).samples(1)


@pytest.mark.parametrize("same_class", [False, True])
def test_pairs_follow_from_the_seed_and_have_one_class_where_asked(same_class):
    first, second = random_pairs(digits(train=False), 20, 1, same_class)
    assert len({image.tobytes() for image in (*first.pixels, *second.pixels)}) == 40
    assert (first.labels == second.labels).all() == same_class and len(set(first.labels)) > 5
    again, other = (random_pairs(digits(train=False), 20, seed, same_class)[0].pixels for seed in (1, 2))
    assert (again == first.pixels).all() and (other != first.pixels).any()
    assert (images_of(digits(train=False), 2, 1).pixels == images_of(digits(train=False), 5, 1).pixels[:2]).all()
    with pytest.raises(ValueError, match=r"give 14\d pairs, not 200; ask for fewer"):
        random_pairs(digits(train=False), 200, 1, same_class)


def test_the_nearest_training_image_of_a_training_image_is_itself():
    source = digits(train=True)
    images, _ = source.read(np.array([7, 100]))
    found = nearest_images(source, images, 3)
    assert found.shape == (2, 3, 8, 8, 1)
    np.testing.assert_array_equal(found[:, 0], images)
    huge = source._replace(size=10**9)
    with pytest.raises(ValueError, match="do not fit in memory"):
        nearest_images(huge, images, 3)


# ----------------------------------------------------------------------------------------------------- read from files


def bound(split, step, n=T, first=1.0):
    values = {"bits_per_dim": 2.0, "L_T": 0.5, "L_0": first}
    series = {"terms": [first / t for t in range(1, n + 1)], "x_0_rmse": [float(t) for t in range(1, n + 1)]}
    return Result("nll", values, series, {"split": split, "step": step, "steps": n})


def score(name, value, steps, **chain):
    protocol = {"config": "a", "step": 10, "split": "train", "sampler": "ddim", "eta": 0.0, "steps": steps, **chain}
    return Result(name, {name: value}, {}, protocol)


def test_the_newest_bound_over_the_longest_chain_is_drawn(tmp_path):
    with pytest.raises(ValueError, match=r"python scripts/evaluate\.py --workdir=.* --metrics=nll"):
        curve_data.bounds(tmp_path)
    for split, step, n in (("test", 5, T), ("train", 10, T), ("test", 10, T), ("test", 10, 4)):
        result_files.write(tmp_path, bound(split, step, n), str(n))
    result_files.write(tmp_path, Result("fid", {"fid": 3.0}, {}, {"step": 20}))
    found = curve_data.bounds(tmp_path)
    assert [(r.protocol["split"], len(r.series["terms"])) for r in found] == [("test", T), ("test", 4), ("train", T)]
    drawn = curve_data.terms(found)
    assert list(drawn) == ["train images", "test images"]
    np.testing.assert_array_equal(drawn["test images"], bound("test", 10).series["terms"])
    assert len(curve_data.bounds(tmp_path, step=5)) == 1
    with pytest.raises(ValueError, match="at step 6"):
        curve_data.bounds(tmp_path, step=6)
    for weights, images in (("ema", 8), ("raw", 64), ("ema", 32)):
        one = bound("test", 12)
        result = one._replace(protocol={**one.protocol, "weights": weights, "images": images})
        result_files.write(tmp_path, result, weights, str(images))
    found = [(r.protocol["weights"], r.protocol["images"]) for r in curve_data.bounds(tmp_path)]
    assert found == [("ema", 32), ("ema", 8), ("raw", 64)]


def cell(folder, grid, sampler, value, seed=0, eta=0.0, diverged=False, **changes):
    config = tiny(**{"sample.grid": grid, "sample.sampler": sampler, "sample.eta": eta, "seed": seed, **changes})
    content = {"grid": "samplers", "diverged": diverged, "score": "fd_digits", "results": {"fd_digits": value}}
    atomic_files.write_json(folder / "result.json", {**content, "config": nested(config)})


def test_scores_of_an_ablation_by_sampler_and_steps(tmp_path):
    for seed in (0, 1):
        cell(tmp_path / f"a{seed}", "3", "ddim", 9.0 + seed, seed)
        cell(tmp_path / f"b{seed}", "", "ddim", 4.0 + seed, seed)
    cell(tmp_path / "c", "3", "ddim", 20.0, eta=1.0)
    cell(tmp_path / "d", "", "ancestral", 5.0, **{"diffusion.variance": "fixed_small"})
    cell(tmp_path / "e", "4", "ddim", None, diverged=True)
    cell(tmp_path / "f", "4", "ddim", 1.0, **{"optim.lr": 0.5})  # another network
    curves, name = curve_data.scores(tmp_path)
    assert name == "fd_digits"
    expected = {
        "DDIM, η = 0": {3: [9.0, 10.0], T: [4.0, 5.0]},
        "DDIM, η = 1": {3: [20.0]},
        "ancestral, fixed-small variance": {T: [5.0]},
    }
    assert curves == expected
    for grid, value in (("3", 90.0), ("", 40.0)):  # other samples of the same network
        cell(tmp_path / f"g{grid}", grid, "ddim", value, **{"sample.clip": False, "sample.preview_steps": 7})
    curves, _ = curve_data.scores(tmp_path)
    (unclipped,) = [points for label, points in curves.items() if "clip False: DDIM" in label]
    assert unclipped == {3: [90.0], T: [40.0]} and len(curves) == len(expected) + 1
    assert all(points in curves.values() for points in expected.values())


def test_scores_of_runs_by_sampler_and_steps(tmp_path):
    for n, value in ((10, 9.0), (50, 5.0)):
        result_files.write(tmp_path / "a", score("fid_10000", value, n), str(n))
    result_files.write(tmp_path / "a", score("fid", 4.0, 10))
    result_files.write(tmp_path / "a", score("fid_10000", float("nan"), 100), "broken")
    result_files.write(tmp_path / "b", score("fid_10000", 8.0, 10, config="b"))
    assert curve_data.scores(tmp_path) == ({"DDIM, η = 0": {10: [9.0], 50: [5.0]}}, "FID-10000")
    result_files.write(tmp_path / "b", score("fid_10000", 3.0, 50, config="b", sampler="heun", eta=None), "heun")
    assert list(curve_data.scores(tmp_path)[0]) == ["DDIM, η = 0"]  # b: two samplers, at one number of steps each
    result_files.write(tmp_path / "b", score("fid_10000", 3.0, 50, config="b"), "more")
    assert "b at 10: DDIM, η = 0" in curve_data.scores(tmp_path)[0]
    with pytest.raises(ValueError, match=r"two numbers of steps; python scripts/ablate\.py"):
        curve_data.scores(tmp_path / "nothing")


def test_runs_whose_folders_have_one_name_are_networks_of_their_own(tmp_path):
    """As the runs of an ablation, each in a folder seed_0: two networks at one number of steps each are no curve."""
    for row, n in (("short", 10), ("long", 50)):
        result_files.write(tmp_path / row / "seed_0", score("fd_digits", 9.0, n, config="seed_0"))
    with pytest.raises(ValueError, match="two numbers of steps"):
        curve_data.scores(tmp_path)
    for row, n in (("short", 50), ("long", 10)):
        result_files.write(tmp_path / row / "seed_0", score("fd_digits", 9.0, n, config="seed_0"), str(n))
    assert sorted(curve_data.scores(tmp_path)[0]) == [f"{row}/seed_0 at 10: DDIM, η = 0" for row in ("long", "short")]


def test_scores_under_another_protocol_are_no_draws_of_one_number(tmp_path):
    for n in (10, 50):
        protocols = {"a": {}, "raw": {"weights": "raw"}, "seed": {"seed": 1}, "few": {"images": 64}}
        protocols |= {"free": {"guidance": 2.0}, "classified": {"guidance": 2.0, "classifier": "1a2b"}}
        protocols |= {"between": {"guidance": 2.0, "guidance_steps": "100..900"}}
        for name, changes in protocols.items():
            result = score("fd_digits", 9.0, n, **{"weights": "ema", "images": 500, **changes})
            result_files.write(tmp_path / "a", result, f"{n}{name}")
    assert {
        label: {n: len(values) for n, values in points.items()}
        for label, points in curve_data.scores(tmp_path)[0].items()
    } == {
        "a at 10, 500 samples: DDIM, η = 0": {10: 2, 50: 2},
        "a at 10, 500 samples, weights raw: DDIM, η = 0": {10: 1, 50: 1},
        "a at 10, 64 samples: DDIM, η = 0": {10: 1, 50: 1},
        "a at 10, 500 samples, guidance 2.0: DDIM, η = 0": {10: 1, 50: 1},
        "a at 10, 500 samples, guidance 2.0, classifier 1a2b: DDIM, η = 0": {10: 1, 50: 1},
        "a at 10, 500 samples, guidance 2.0, guidance_steps 100..900: DDIM, η = 0": {10: 1, 50: 1},
    }


# --------------------------------------------------------------------------------------------------------- every figure


OF_POINTS = ("marginals", "trajectories", "score_field", "samplers", "animation")
"""Drawn in test_toy."""
OF_NO_RUN = ("posterior_variance", "schedules", "reverse_conditional", "speed_by_chips")


@pytest.mark.slow
def test_every_figure_of_a_run_is_drawn(tmp_path, run_sampler):
    inputs = Inputs(tmp_path, n=2, t=[3])
    inputs.__dict__["_run_sampler"] = run_sampler._replace(grid=parse("4"))
    inputs.__dict__["run"] = run_config.Run(run_sampler.experiment.config, (8, 8, 1), 10)
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines_of_a_run())))
    result_files.write(tmp_path, bound("test", 10))
    for n, value in ((10, 9.0), (50, 5.0)):
        result_files.write(tmp_path, score("fid", value, n), str(n))
    effect = {"scale": [0.0, 1.0], "free, accuracy": [0.8, 0.9], "free, diversity": [1.0, 0.7]}
    result_files.write(
        tmp_path, result_files.Result(curve_data.GUIDANCE, {"held_out_accuracy": 0.97}, effect, {"step": 10})
    )
    for name in OF_POINTS:
        with pytest.raises(ValueError, match="points of the plane, and the run's data are images"):
            catalogue.FIGURES[name](inputs)
    for name, draw in catalogue.FIGURES.items():
        if name in OF_POINTS:
            continue
        axes = draw(inputs).axes
        assert axes and all(ax.get_lines() or ax.images for ax in axes), name
    axes = catalogue.FIGURES["rate_distortion"](inputs).axes
    rate = axes[1].get_lines()[0].get_ydata()
    np.testing.assert_allclose(rate[-1], 0.5)  # L_T
    np.testing.assert_allclose(rate[0], 0.5 + sum(1 / t for t in range(2, T + 1)))  # all but L_0


@pytest.mark.parametrize("name", [name for name in catalogue.FIGURES if name not in OF_NO_RUN])
def test_a_figure_of_nothing_says_in_one_line_what_is_missing(tmp_path, name):
    with pytest.raises(ValueError, match=r"scripts/|--workdir") as caught:
        catalogue.FIGURES[name](Inputs(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="--workdir is required"):
        catalogue.FIGURES[name](Inputs())


def script(*args):
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, str(ROOT / "scripts" / "figures.py"), *map(str, args)]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300)


def test_help_lists_every_figure():
    done = script("--help")
    listed = [line.partition(" ")[0] for line in done.stdout.partition("Flags:")[0].splitlines()]
    assert done.returncode == 0 and [name for name in listed if name in catalogue.FIGURES] == list(catalogue.FIGURES)


def test_all_draws_what_it_can_and_says_what_is_missing(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines_of_a_run())))
    done = script(f"--workdir={tmp_path}", "--figure=all")
    assert done.returncode == 0, done.stderr
    names = {Path(line).name for line in done.stdout.split()}
    drawn = ("loss", "curves", *OF_NO_RUN)
    assert names == {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")}
    missing = {}
    for line in done.stderr.splitlines():
        name, _, why = line.removeprefix("left out    ").partition(": ")
        missing[name] = why
    assert set(missing) == set(catalogue.FIGURES) - set(drawn)
    assert "scripts/evaluate.py" in missing["terms"] and "scripts/ablate.py" in missing["steps"]
    alone = script(f"--workdir={tmp_path}", f"--out={tmp_path / 'one.svg'}")
    assert alone.returncode == 0 and (tmp_path / "one.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ([], "--workdir is required"),
        (["--figure=all"], "--workdir is required"),
        (["--figure=los"], "did you mean loss?"),
        (["--figure=schedules,terms", "--out=a.png"], "several figures: give a folder"),
        (["--figure=schedules", "--out=a.jpg"], "written as .png, .pdf, .svg"),
    ],
)
def test_mistakes_end_in_one_line(args, line):
    done = script(*args)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and line in done.stderr
