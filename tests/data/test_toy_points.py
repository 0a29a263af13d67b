"""Worlds of two dimensions: their points and densities, the network for them, a run, and what its figures show."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image

from diffusion.commands import previews_during_training as during
from diffusion.commands.train import run as train_run
from diffusion.config import config_files
from diffusion.core.forward_process import Noised, q_sample
from diffusion.core.objective import evaluate
from diffusion.core.respacing import parse
from diffusion.core.reverse_process import Diffusion
from diffusion.data import toy_points
from diffusion.distributed.sharding import make_mesh
from diffusion.experiment import build, registry_of_samplers_and_schedules
from diffusion.figures import catalogue
from diffusion.figures.figure_data.samples_from_run import RunSampler, chain_points, noised_points, score_vectors
from diffusion.figures.flags_and_run_for_figures import Inputs
from diffusion.figures.point_figures import (
    animation,
    arrow_origins,
    marginals,
    samplers,
    scatter,
    score_field,
    trajectories,
)
from diffusion.figures.style import save
from diffusion.metrics.scores_without_inception import fits
from diffusion.nets.embedding import time_embedding
from diffusion.nets.mlp import FREQUENCIES, MLP
from diffusion.workdir.run_config import Run
from tests.support.worlds import MixtureWorld

ROOT = Path(__file__).resolve().parents[2]


def sliced_wasserstein(a: np.ndarray, b: np.ndarray, directions: int = 32) -> float:
    """Mean over directions of the distance W_1 between the projections of two clouds of one size."""
    angle = np.pi * np.arange(directions) / directions
    axes = np.stack([np.cos(angle), np.sin(angle)])
    return float(np.abs(np.sort(a @ axes, axis=0) - np.sort(b @ axes, axis=0)).mean())


# --------------------------------------------------------------------------------------------------------------- worlds


@pytest.mark.parametrize("name", toy_points.TOYS)
def test_a_world_is_a_source_like_any_other(name):
    train, test = (registry_of_samplers_and_schedules.SOURCES["toy:"](None, name)(split) for split in (True, False))
    assert (train.name, train.size, test.size) == (f"toy:{name}", 20_000, 2_000)
    for source in (train, test):
        pixels, labels = source.arrays
        assert source.shape == toy_points.SHAPE == pixels.shape[1:] and pixels.dtype == np.uint8
        assert set(np.unique(labels)) == set(range(max(1, source.classes)))
        assert not fits(source)  # no classifier of pictures is trained on points
    again = toy_points.toy(name, train=True)
    np.testing.assert_array_equal(again.arrays[0], train.arrays[0])
    a, b = toy_points.to_points(train.arrays[0][:2000]), toy_points.to_points(test.arrays[0])
    assert not np.array_equal(a, b) and sliced_wasserstein(a, b) < 0.03  # other points of one law
    assert np.abs(a).max() < 1 and a.std(axis=0).min() > 0.2 and np.abs(a).max() > 0.7


def test_an_unknown_world_is_refused():
    with pytest.raises(ValueError, match=r"toy:moon is no set of points; there are toy:spiral, toy:moons"):
        toy_points.toy("moon", train=True)


def test_levels_move_a_point_by_half_a_level_at_most():
    points = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    pixels = toy_points.to_pixels(points)
    assert pixels.shape == (1000, *toy_points.SHAPE)
    assert np.abs(toy_points.to_points(pixels) - points).max() <= 1 / 255 + 1e-12
    np.testing.assert_array_equal(toy_points.to_points(toy_points.to_pixels(np.array([[-3.0, 9.0]]))), [[-1, 1]])
    np.testing.assert_array_equal(toy_points.to_pixels(toy_points.to_points(pixels)), pixels)


def checkerboard_log_density(points):
    """-log of the area of all fields that have points, -infinity elsewhere."""
    field = np.floor(points / toy_points.FIELD + toy_points.SIDE / 2)
    inside = ((field >= 0) & (field < toy_points.SIDE)).all(axis=1) & (field.sum(axis=1) % 2 == 0)
    return np.where(inside, -np.log(toy_points.SIDE**2 / 2 * toy_points.FIELD**2), -np.inf)


def mixture_log_density(points):
    """That of Gaussians of one weight."""
    square, var = np.sum((points[:, None] - toy_points.centres()) ** 2, axis=-1), toy_points.SPREAD**2
    return np.logaddexp.reduce(-square / (2 * var), axis=1) - np.log(toy_points.MODES * 2 * np.pi * var)


LOG_DENSITIES = {"checkerboard": checkerboard_log_density, "mixture": mixture_log_density}
"""Exact, in nats, where there is a closed form."""


@pytest.mark.parametrize("name", LOG_DENSITIES)
def test_the_draws_have_their_exact_density(name):
    """It has mass 1, and its mean over draws of functions is their integral."""
    log_density, n, side = LOG_DENSITIES[name], 200_000, 1200
    middle = -1 + (np.arange(side) + 0.5) * 2 / side
    x = np.stack(np.meshgrid(middle, middle), axis=-1).reshape(-1, 2)
    mass = np.exp(log_density(x)) * (2 / side) ** 2
    assert mass.sum() == pytest.approx(1, abs=1e-4)
    points, _ = toy_points.TOYS[name].draw(np.random.default_rng(1), n)
    assert np.isfinite(log_density(points)).all()
    for f in (np.cos, lambda v: np.sin(5 * v)):
        for g in (np.cos, lambda v: np.sin(7 * v + 1)):
            drawn, expected = f(points[:, 0]) * g(points[:, 1]), mass @ (f(x[:, 0]) * g(x[:, 1]))
            assert abs(drawn.mean() - expected) < 4 * drawn.std() / np.sqrt(n) + 1e-4


def test_labels_say_which_part():
    for name, distance in (("mixture", 6 * toy_points.SPREAD), ("moons", 0.35)):
        points, label = toy_points.TOYS[name].draw(np.random.default_rng(2), 2000)
        own, other = (
            [
                np.linalg.norm(points[label == k][:, None] - points[(label == k) == same], axis=-1)
                for k in np.unique(label)
            ]
            for same in (True, False)
        )
        nearest_own = np.concatenate([np.sort(d, axis=1)[:, 1] for d in own])
        nearest_other = np.concatenate([d.min(axis=1) for d in other])
        assert (nearest_own < nearest_other).mean() > 0.99, name
        assert nearest_own.max() < distance


# -------------------------------------------------------------------------------------------------------------- network


def made_up(net: MLP, *args) -> dict:
    """Parameters none of which is at its initial value."""
    rng = np.random.default_rng(0)
    shapes = flatten_dict(jax.eval_shape(net.init, jax.random.key(0), *args)["params"])
    drawn = {path: rng.normal(size=leaf.shape) / math.sqrt(leaf.shape[0]) for path, leaf in shapes.items()}
    return unflatten_dict({path: jnp.asarray(z, jnp.float32) for path, z in drawn.items()})


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("classes", [0, 3])
def test_the_network_is_its_formula(classes):
    """By a float64 loop over its layers, for a point and for an image; with a variance half too."""
    net = MLP(classes, False, 2, 16, 2)
    x = jax.random.normal(jax.random.key(0), (5, 2, 3, 1))
    t = jnp.arange(5) * 20
    args = (x, t, jnp.arange(5) % 3) if classes else (x, t)
    params = made_up(net, *args)
    found = jax.jit(net.apply)({"params": params}, *args)
    assert found.shape == (5, 2, 3, 2) and found.dtype == jnp.float32

    def affine(name: str, h: np.ndarray) -> np.ndarray:
        return h @ np.float64(params[name]["kernel"]) + np.float64(params[name]["bias"])

    emb = affine("time_1", np.float64(time_embedding(t, 16)))
    if classes:
        emb = emb + np.float64(params["label"]["embedding"])[np.arange(5) % 3]
    flat = np.float64(x).reshape(5, 6)
    h = affine(
        "dense_in", np.concatenate([flat, *(w(f * flat) for f in FREQUENCIES for w in (np.sin, np.cos))], axis=1)
    )
    for i in range(2):
        inner = affine(f"block_{i}_1", swish(h)) + affine(f"block_{i}_time", swish(emb))
        h = h + affine(f"block_{i}_2", swish(inner))
    np.testing.assert_allclose(found, affine("dense_out", swish(h)).reshape(5, 2, 3, 2), rtol=1e-4, atol=1e-5)


def test_a_fresh_network_says_0_and_learns_everywhere():
    net = MLP(channels=16, blocks=2)
    x, t = jax.random.normal(jax.random.key(0), (4, *toy_points.SHAPE)), jnp.array([0.0, 5.0, 50.0, 999.0])
    params = net.init(jax.random.key(1), x, t)["params"]
    assert np.abs(net.apply({"params": params}, x, t)).max() < 1e-3
    slopes = jax.grad(lambda p: ((net.apply({"params": p}, x, t) - x) ** 2).sum())(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))


def test_labels_and_dropout_are_asked_for():
    x, t, label = jnp.zeros((2, *toy_points.SHAPE)), jnp.zeros(2), jnp.zeros(2, jnp.int32)
    with pytest.raises(ValueError, match="it needs a label for every image"):
        MLP(classes=3).init(jax.random.key(0), x, t)
    with pytest.raises(ValueError, match="a label was given to a network without classes"):
        MLP().init(jax.random.key(0), x, t, label)
    net = MLP(channels=16, blocks=1, dropout=0.5)
    params = {"params": made_up(net, x, t)}
    with pytest.raises(InvalidRngError):
        net.apply(params, x, t, train=True)
    one, two = (net.apply(params, x, t, train=True, rngs={"dropout": jax.random.key(i)}) for i in (0, 1))
    assert (one != two).any()
    np.testing.assert_array_equal(net.apply(params, x, t)[0], net.apply(params, x, t)[1])


# ------------------------------------------------------------------------------------------------------------------ run


def points_config(**changes):
    config = config_files.load(ROOT / "configs" / "toy2d.py")
    config.update_from_flattened_dict(
        {"data.name": "toy:mixture", "compilation_cache": "off", "sample.n": 1000, "sample.batch_size": 1000, **changes}
    )
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """configs/toy2d.py on the mixture, for a fifth of its steps."""
    folder = tmp_path_factory.mktemp("toy")
    config = points_config(
        **{"train.steps": 600, "train.sample_every": 0, "train.eval_every": 0, "train.checkpoint_every": 0},
        **{"optim.ema_decay": 0.99, "eval.n": 200, "eval.batch_size": 200, "eval.quick_n": 200, "net.channels": 64},
    )
    said: list[str] = []
    return folder, train_run(config, folder, said.append), said


@pytest.mark.slow
def test_a_run_ends_in_the_law_of_its_data(run):
    """Sliced Wasserstein distance below 0.05, where a standard normal cloud has 0.5 and the ring's radius is 0.7."""
    _, summary, _ = run
    drawn = toy_points.to_points(summary.samples)
    data = toy_points.to_points(toy_points.toy("mixture", train=False).arrays[0][:1000])
    noise = np.random.default_rng(0).normal(size=(1000, 2))
    assert sliced_wasserstein(noise, data) > 0.3
    assert sliced_wasserstein(drawn, data) < 0.05
    near = np.linalg.norm(drawn[:, None] - toy_points.centres(), axis=-1)
    assert (near.min(axis=1) < 4 * toy_points.SPREAD).mean() > 0.85
    assert np.bincount(near.argmin(axis=1), minlength=toy_points.MODES).min() > 60


def losses_of(out: str) -> np.ndarray:
    """L_simple on 50,000 points of the mixture, of the exact denoiser ("exact") or of an output of 0 ("none")."""
    config, n = points_config(), 50_000
    process = build.levels(config)
    world = MixtureWorld(
        np.full(toy_points.MODES, 1 / toy_points.MODES),
        toy_points.centres(),
        np.full((toy_points.MODES, 2), toy_points.SPREAD),
    )
    keys = jax.random.split(jax.random.key(0), 3)
    x_0, eps = world.draw(keys[0], n), jax.random.normal(keys[1], (n, 2))
    t = jax.random.randint(keys[2], (n,), 1, process.T + 1)
    x_t = q_sample(process, x_0, t, eps)
    known = world.denoiser(process)(x_t, t)
    chosen = registry_of_samplers_and_schedules.PARAMETERIZATIONS[config.diffusion.parameterization]
    given = {"exact": chosen.target(process, Noised(known.x_0, known.eps, x_t, t)), "none": jnp.zeros_like(x_t)}[out]
    simple = registry_of_samplers_and_schedules.OBJECTIVES[config.objective.name](config.objective)
    variance = registry_of_samplers_and_schedules.VARIANCES[config.diffusion.variance][0]
    return np.asarray(
        evaluate(simple, Diffusion(process, chosen, variance), Noised(x_0, eps, x_t, t), given, None).loss
    )


@pytest.mark.slow
def test_a_run_learns_what_there_is_to_learn(run):
    """Its last loss lies between that of the exact denoiser and a tenth of the way back to an output of 0."""
    folder, _, _ = run
    losses = [json.loads(line).get("train/loss") for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [loss for loss in losses if loss is not None][-1]  # the mean over 100 steps of 512 points
    floor, nothing = losses_of("exact"), losses_of("none").mean()
    assert last > floor.mean() - 4 * floor.std() / np.sqrt(100 * 512)
    assert last < floor.mean() + 0.1 * (nothing - floor.mean())


@pytest.mark.slow
def test_a_run_reports_and_shows_points(run):
    folder, summary, said = run
    assert any("toy:mixture: 20000 train and 2000 held-out images of 1x2x1" in line for line in said)
    assert summary.scores == ()
    assert math.isfinite(summary.bound.values["bits_per_dim"])
    (picture,) = (folder / "samples").glob("*_ancestral.png")
    found = np.asarray(Image.open(picture))
    np.testing.assert_array_equal(found, scatter(toy_points.to_points(summary.samples), during.GRID_SIDE)[..., 0])
    previews = [path for path in (folder / "samples").glob("*.png") if path != picture]
    assert previews and all(Image.open(path).size == (during.GRID_SIDE, during.GRID_SIDE) for path in previews)


# -------------------------------------------------------------------------------------------------------------- figures


def test_a_scatter_has_each_point_where_it_is():
    points = np.array([[0.0, 0.0], [-1.0, 1.0], [0.5, -0.5], [0.5, -0.5], [3.0, 0.0]])
    picture = scatter(points, side=101, dot=1)
    assert picture.shape == (101, 101, 1) and picture.dtype == np.uint8
    dark = {(int(r), int(c)): int(picture[r, c, 0]) for r, c in np.argwhere(picture[..., 0] < 255)}
    assert set(dark) == {(50, 50), (0, 0), (75, 75)}  # the second coordinate upwards; one point lies outside
    assert dark[75, 75] < dark[50, 50] == dark[0, 0]
    wide = scatter(points[:1], side=101, dot=3)[..., 0]
    np.testing.assert_array_equal(np.argwhere(wide < 255), [(r, c) for r in (49, 50, 51) for c in (49, 50, 51)])


def test_pictures_of_images_stay_grids():
    images = np.zeros((4, 8, 8, 1), np.uint8)
    assert during.picture(images).shape[0] > during.GRID_SIDE
    assert during.picture(np.zeros((4, *toy_points.SHAPE), np.uint8)).shape == (during.GRID_SIDE, during.GRID_SIDE, 1)


def untrained(schedule: str) -> RunSampler:
    changes = {"diffusion.schedule": schedule, "diffusion.T": 12, "net.channels": 16, "net.blocks": 1}
    changes |= {"diffusion.parameterization": "x_0"}
    ours = build.experiment(points_config(**changes), toy_points.SHAPE, 8, make_mesh(jax.devices()[:1]))
    x, t = jnp.zeros((1, *toy_points.SHAPE)), jnp.zeros(1)
    return RunSampler(ours, made_up(ours.net, x, t), seed=3)


@pytest.fixture(scope="module")
def run_sampler():
    return untrained("cosine")


@pytest.fixture(scope="module", params=["cosine", "ve_constant"])
def either(request):
    return untrained(request.param)


def test_clouds_are_noised_by_the_process(either):
    points = toy_points.TOYS["mixture"].draw(np.random.default_rng(0), 4000)[0]
    clouds = noised_points(either, points, [0, 3, 12])
    np.testing.assert_allclose(clouds[0], points, rtol=1e-6, atol=1e-7)
    p = either.process
    for found, t in zip(clouds, (0, 3, 12), strict=True):
        signal, noise, scale = float(p.signal[t]), float(p.noise[t]), float(p.scale[t])
        assert scale == pytest.approx((signal**2 + noise**2) ** -0.5, rel=1e-6)
        expected = scale**2 * (signal**2 * points.var(axis=0) + noise**2)
        np.testing.assert_allclose(found.var(axis=0), expected, rtol=0.1)
    eps = (clouds[1] / float(p.scale[3]) - float(p.signal[3]) * points) / float(p.noise[3])
    last = (clouds[2] / float(p.scale[12]) - float(p.signal[12]) * points) / float(p.noise[12])
    np.testing.assert_allclose(eps, last, atol=1e-3)  # one noise for all steps


@pytest.mark.slow
def test_ways_end_at_the_samples(run_sampler):
    """Of the run's own chain; chains of any sampler start at one noise, and fewer rows are the first rows."""
    every = chain_points(run_sampler, 6, [12, 7, 1, 0])
    drawn = toy_points.to_points(run_sampler.samples(6))
    np.testing.assert_allclose(np.clip(every[-1], -1, 1), drawn, atol=1 / 255 + 1e-5)
    ddim = chain_points(run_sampler, 3, [12, 0], "ddim")
    np.testing.assert_allclose(ddim[0], every[0, :3], rtol=1e-6)
    assert np.abs(ddim[1] - every[-1, :3]).max() > 1e-3
    np.testing.assert_allclose(chain_points(run_sampler, 3, [12, 7, 1, 0]), every[:, :3], rtol=1e-4, atol=1e-4)
    few = chain_points(run_sampler, 3, [0], "ddim", parse("4"))
    assert few.shape == (1, 3, 2) and np.abs(few[0] - ddim[1]).max() > 1e-6


def test_the_field_is_the_score_of_the_network(either):
    p, points = either.process, arrow_origins()[::40]
    for t in (1, 12):
        x = jnp.asarray(points, jnp.float32).reshape(-1, *toy_points.SHAPE) / p.scale[t]
        ts = jnp.full(len(points), t)
        denoise = either.experiment.denoise(either.params, jnp.zeros(len(points), jnp.int32), clip=False)
        x_0 = np.float64(denoise(x, ts).x_0).reshape(-1, 2)
        signal, noise = float(p.signal[t]), float(p.noise[t])
        expected = -(points / float(p.scale[t]) - signal * x_0) / noise
        np.testing.assert_allclose(score_vectors(either, points, [t])[0], expected, rtol=2e-3, atol=2e-3)


def offsets(ax):
    return np.concatenate([np.asarray(drawn.get_offsets()) for drawn in ax.collections])


def test_figures_show_what_they_are_given(tmp_path):
    rng = np.random.default_rng(0)
    one, two, data = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 2)), rng.normal(size=(7, 2))
    axes = marginals(one, two, [0, 4, 9]).axes
    np.testing.assert_array_equal([offsets(ax) for ax in axes], [*one, *two])
    assert [ax.get_title() for ax in axes[:3]] == ["$t = 0$", "$t = 4$", "$t = 9$"]
    left, right = trajectories({"a": one, "b": two}, data).axes
    np.testing.assert_array_equal(offsets(left), data)
    np.testing.assert_array_equal(right.get_lines()[0].get_xydata(), two[:, 0])
    assert (left.get_title(), right.get_title()) == ("a", "b")
    axes = samplers({"a": list(one), "b": list(two)}, [1, 2, 3], data).axes
    np.testing.assert_array_equal(offsets(axes[3]), one[1])
    np.testing.assert_array_equal(offsets(axes[8]), data)
    field = rng.normal(size=(2, len(arrow_origins()), 2))
    figure = score_field(field, one[:2], [1, 2])
    (quiver,) = (drawn for drawn in figure.axes[1].collections if hasattr(drawn, "U"))
    np.testing.assert_array_equal(np.stack([quiver.X, quiver.Y], axis=1), arrow_origins())
    length = np.hypot(quiver.U, quiver.V)
    assert length.max() <= 1 + 1e-9 and (length > 1 - 1e-9).mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(np.arctan2(quiver.V, quiver.U), np.arctan2(field[1, :, 1], field[1, :, 0]))
    for kind in ("png", "pdf"):
        save(figure, tmp_path / f"field.{kind}")
        assert (tmp_path / f"field.{kind}").stat().st_size > 1000


def test_an_animation_is_a_gif_of_its_frames(tmp_path):
    clouds = np.random.default_rng(0).uniform(-1, 1, (4, 30, 2))
    made = animation(clouds)
    for name in ("one.gif", "two.gif"):
        save(made, tmp_path / name)
    assert (tmp_path / "one.gif").read_bytes() == (tmp_path / "two.gif").read_bytes()
    with Image.open(tmp_path / "one.gif") as file:
        assert (file.n_frames, file.size, file.info["loop"]) == (4, (300, 300), 0)
        for i in range(4):
            file.seek(i)
            shown = np.asarray(file.convert("L"), int)
            assert np.abs(shown - made.pictures[i]).max() <= 255 / 15 / 2 + 1


@pytest.mark.slow
def test_every_figure_of_points_is_drawn(tmp_path, run_sampler):
    asked = Inputs(tmp_path, n=20)
    asked.__dict__["_run_sampler"] = run_sampler
    asked.__dict__["run"] = Run(run_sampler.experiment.config, toy_points.SHAPE, 8)
    for name in ("marginals", "trajectories", "score_field", "animation"):
        figure = catalogue.FIGURES[name](asked)
        save(figure, tmp_path / f"{name}{'.gif' if name == 'animation' else '.png'}")
    with pytest.raises(ValueError, match="shows images, and the run's data are points"):
        catalogue.FIGURES["samples"](asked)
