"""scripts/edit.py: images in, pictures out; what it refuses; what its edits do to the images that they are given."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from diffusion.config import default_config
from diffusion.core.respacing import parse
from diffusion.data import user_images
from diffusion.data.digits import digits
from diffusion.data.user_images import LabelledImages
from diffusion.distributed.sharding import make_mesh
from diffusion.experiment import build
from diffusion.figures import edit_images_with_run as edits
from diffusion.figures.figure_data.samples_from_run import RunSampler
from diffusion.figures.image_grid import layout
from diffusion.figures.progressive_and_edit_figures import HIDDEN, inpainting, roundtrip, variations
from diffusion.nets.unet import UNet
from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints
from diffusion.workdir.run_config import Run, write_config
from tests.support.networks import OneConvolution

ROOT = Path(__file__).resolve().parents[2]
T = 12
SHAPE = (8, 8, 1)
TINY = {"data.name": "digits", "diffusion.T": T, "diffusion.beta_T": 0.8, "net.channels": 8, "net.multipliers": (1,)}
TINY |= {"net.blocks": 1, "net.attention": ()}


def tiny():
    config = default_config()
    config.update_from_flattened_dict(TINY)
    return config


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path, pixels, mode=None):
    image = Image.fromarray(pixels.squeeze())
    (image.convert(mode) if mode else image).save(path)
    return str(path)


# --------------------------------------------------------------------------------------------------- what a user gives


def test_image_files_come_in_as_they_are(tmp_path):
    grey, colour = random_images(8, 8, 1), random_images(8, 8, 3)
    paths = [write(tmp_path / "a.png", grey), write(tmp_path / "b.png", grey, "RGB")]
    found = user_images.read_files(paths, SHAPE, label=3)
    np.testing.assert_array_equal(found.pixels, np.stack([grey, grey]))
    np.testing.assert_array_equal(found.labels, [3, 3])
    paths = [write(tmp_path / "c.png", colour), paths[0]]
    found = user_images.read_files(paths, (8, 8, 3))
    np.testing.assert_array_equal(found.pixels, np.stack([colour, grey.repeat(3, axis=2)]))
    assert user_images.read_files(
        [write(tmp_path / "d.png", random_images(20, 16, 3))], SHAPE, fit=True
    ).pixels.shape == (
        1,
        *SHAPE,
    )


def test_image_files_that_do_not_fit_are_refused(tmp_path):
    small, colour = write(tmp_path / "s.png", random_images(4, 8, 1)), write(tmp_path / "c.png", random_images(8, 8, 3))
    (tmp_path / "t.png").write_text("no image")
    for path, line in (
        (small, "s.png: 8x4 pixels, but this network draws 8x8; resize it, or add --fit"),
        (colour, "c.png: has colours, but this network draws grey images; add --fit"),
        (str(tmp_path / "n.png"), "n.png: not a readable image .No such file or directory"),
        (str(tmp_path / "t.png"), "t.png: not a readable image"),
    ):
        with pytest.raises(ValueError, match=line) as caught:
            user_images.read_files([path], SHAPE)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="resizes to squares"):
        user_images.read_files([small], (8, 6, 1), fit=True)


def test_held_out_images_come_by_their_number():
    source = digits(train=False)
    found = user_images.held_out(source, [5, 0])
    np.testing.assert_array_equal(found.pixels, source.read(np.array([5, 0]))[0])
    np.testing.assert_array_equal(found.labels, source.read(np.array([5, 0]))[1])
    with pytest.raises(ValueError, match=r"the held-out set of digits has images 0\.\.296, not 297"):
        user_images.held_out(source, [297])


def test_masks_by_name_and_by_picture(tmp_path):
    for name, rows, columns in (
        ("left", (0, 8), (0, 4)),
        ("right", (0, 8), (4, 8)),
        ("top", (0, 4), (0, 8)),
        ("bottom", (4, 8), (0, 8)),
        ("middle", (2, 6), (2, 6)),
    ):
        expected = np.ones((8, 8), bool)
        expected[slice(*rows), slice(*columns)] = False
        np.testing.assert_array_equal(user_images.read_mask(name, SHAPE), expected)
    picture = random_images(8, 8, 1)
    np.testing.assert_array_equal(
        user_images.read_mask(write(tmp_path / "m.png", picture), SHAPE), picture[..., 0] < 128
    )
    for pixels, line in (
        (np.zeros((8, 8), np.uint8), "it has 8x8 pixels, 0 of them white"),
        (np.full((8, 8), 255, np.uint8), "it has 8x8 pixels, 64 of them white"),
        (random_images(9, 8, 1), "the mask of 8x8 images must have their size.* it has 8x9 pixels"),
    ):
        with pytest.raises(ValueError, match=line):
            user_images.read_mask(write(tmp_path / "m.png", pixels), SHAPE)
    with pytest.raises(ValueError, match=r"--mask=centre: there is no such file; .* or name .* left, right"):
        user_images.read_mask("centre", SHAPE)


# --------------------------------------------------------------------------------------------------------------- edits


@pytest.fixture(scope="module")
def run_sampler():
    """A network that knows nothing."""
    ours = build.experiment(tiny(), SHAPE, 10, make_mesh(jax.devices()[:1]))
    net = OneConvolution(**{f: getattr(ours.net, f) for f in UNet.__dataclass_fields__ if f not in ("parent", "name")})
    ours = ours._replace(net=net)
    return RunSampler(ours, jax.jit(ours.init)(jax.random.key(0)), seed=3, batch_size=4)


@pytest.fixture(scope="module")
def three():
    return user_images.held_out(digits(train=False), [0, 1, 2])


def close(a, b):
    """The compiler may order sums otherwise in another program: at most a rounding of the last level."""
    return a.shape == b.shape and np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_completions_keep_what_is_known_and_differ_elsewhere(run_sampler, three):
    known = user_images.read_mask("left", SHAPE)
    _, found = edits.inpaint(run_sampler, three, known, 4, resamplings=3, jump=2)
    assert found.shape == (3, 4, *SHAPE)
    kept = np.broadcast_to(three.pixels[:, None], found.shape)
    np.testing.assert_array_equal(found[:, :, known], kept[:, :, known])
    assert all(len({image.tobytes() for image in row}) == 4 for row in found)
    _, few = edits.inpaint(run_sampler, three, known, 2, resamplings=3, jump=2)
    assert close(few, found[:, :2])  # by row and draw alone
    with pytest.raises(ValueError, match=r"jump = 12: going back must stay within the chain, by 1\.\.11"):
        edits.inpaint(run_sampler, three, known, 2, resamplings=3, jump=12)


def test_variations_come_from_the_nearest_steps_of_the_chain(run_sampler, three):
    figure, found = edits.vary(run_sampler, three, 4, [1.0, 0.5, 0.01])
    assert found.shape == (3, 12, *SHAPE) and shown(figure)[1][-3:] == ["t = 12", "t = 6", "t = 1"]
    few = edits.vary(run_sampler, three, 2, [0.5])[1]
    assert close(few, found[:, 4:6])
    figure, short = edits.vary(run_sampler._replace(grid=parse("4")), three, 2, [0.5])
    steps = np.asarray(run_sampler.experiment.sampled(parse("4")).base_t)
    assert short.shape == (3, 2, *SHAPE) and int(shown(figure)[1][-1].removeprefix("t = ")) in steps
    again = edits.vary(run_sampler._replace(seed=4), three, 2, [0.5])[1]
    assert all((again[i] != few[i]).any() for i in range(3))


def test_interpolation_starts_from_the_given_images(run_sampler, three):
    first, second = (LabelledImages(three.pixels[i], three.labels[i]) for i in ([0, 1], [1, 2]))
    figure, found = edits.interpolate(run_sampler, first, second, [0.0, 0.25, 1.0], [0.5, 0.0])
    assert found.shape == (4, 3, *SHAPE) and shown(figure)[1][-4:] == ["t = 6", "t = 0"] * 2
    half, images = found[::2], found[1::2]
    np.testing.assert_array_equal(images[:, 0], first.pixels)
    np.testing.assert_array_equal(images[:, 2], second.pixels)
    mixed = np.float64(first.pixels) * 0.75 + np.float64(second.pixels) * 0.25
    assert np.abs(images[:, 1] - mixed).max() <= 0.51
    _, other = edits.interpolate(run_sampler, first, first, [0.0, 0.25, 1.0], [0.5])
    assert close(other[:, 0], half[:, 0]) and not close(other[:, 2], half[:, 2])


def test_latents_mixed_at_the_ends_are_round_trips(run_sampler, three):
    decoded = edits.roundtrip(run_sampler, three)[1][:, 0]
    assert decoded.shape == (3, *SHAPE)
    first, second = (LabelledImages(three.pixels[i], three.labels[i]) for i in ([0, 1], [1, 2]))
    _, found = edits.interpolate_latents(run_sampler, first, second, [0.0, 0.4, 1.0])
    assert close(found[:, 0], decoded[[0, 1]]) and close(found[:, -1], decoded[[1, 2]])
    assert (found[:, 1] != found[:, 0]).any() and (found[:, 1] != found[:, 2]).any()


def shown(figure):
    (ax,) = figure.axes
    return ax.images[0].get_array(), [text.get_text() for text in ax.texts]


def test_figures_keep_order():
    images, drawn = random_images(2, 8, 8, 1), random_images(2, 3, 8, 8, 1, seed=1)
    known = random_images(8, 8, seed=2) < 128
    masked = np.where(known[..., None], images, np.array(HIDDEN, np.uint8))
    cells = np.concatenate([x.repeat(3 // x.shape[-1], axis=-1) for x in (images[:, None], masked[:, None])], axis=1)
    cells = np.concatenate([cells, drawn.repeat(3, axis=-1)], axis=1)
    picture, texts = shown(inpainting(images, known, drawn))
    np.testing.assert_array_equal(picture, layout(cells, gaps=[1, 2])[0])
    assert texts == ["original", "known", "completed", "2", "3"]

    varied = random_images(2, 2, 3, 8, 8, 1, seed=3)
    rows = np.stack([np.concatenate([images[i][None], varied[i, s]]) for i in range(2) for s in range(2)])
    picture, texts = shown(variations(images, varied, [9, 4]))
    np.testing.assert_array_equal(picture[..., :1], layout(rows, gaps=[1], row_gaps=[2])[0])
    assert texts == ["original", "varied", "2", "3", "t = 9", "t = 4", "t = 9", "t = 4"]

    picture, texts = shown(roundtrip(images, drawn[:, 0], np.maximum(images, 3) - 3))
    lost = np.minimum(images, 3) * 10
    cells = np.stack([images, drawn[:, 0], np.maximum(images, 3) - 3, lost], axis=1)
    np.testing.assert_array_equal(picture[..., :1], layout(cells, gaps=[3], wide=480)[0])
    rmse = [f"RMSE {np.sqrt(np.mean((image / 10) ** 2)):.3g}" for image in lost.astype(float)]
    assert texts == ["original", "x_T", "decoded", "error x 10", *rmse]


# ---------------------------------------------------------------------------------------------------------- the script


def script(name, *args):
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, args)]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of which the first state is saved, made once."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    there = Run(tiny(), SHAPE, 10)
    write_config(folder, there, "test")
    ours = build.experiment(there.config, SHAPE, 10, make_mesh(jax.devices()[:1]))
    with closing(RunCheckpoints(folder, about=there.content)) as streams:
        streams.rolling.require(0, ours.create_state())
    return folder


def test_an_image_is_completed_from_files(run, tmp_path):
    image, mask = random_images(8, 8, 1), np.zeros((8, 8), np.uint8)
    mask[:, 5:] = 255
    args = [f"--image={write(tmp_path / 'a.png', image)}", f"--mask={write(tmp_path / 'm.png', mask)}", "--n=3"]
    out, each = tmp_path / "new" / "edited.png", tmp_path / "each"
    more = ["--resamplings=2", f"--out={out}", f"--separate={each}"]
    done = script("edit.py", f"--workdir={run}", "--edit=inpaint", *args, *more)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(out)]
    assert Image.open(out).size[0] >= 1200
    assert sorted(path.name for path in each.iterdir()) == ["000_000.png", "000_001.png", "000_002.png"]
    for path in each.iterdir():
        np.testing.assert_array_equal(np.asarray(Image.open(path))[:, :5], image[:, :5, 0])


@pytest.mark.slow
def test_held_out_images_are_mixed(run):
    done = script("edit.py", f"--workdir={run}", "--edit=interpolate", "--held_out=0,1", "--t=12,6", "--n=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(run / "edits" / "interpolate.png")]
    assert (run / "edits" / "interpolate.png").is_file()


def test_help_is_immediate_and_names_every_edit():
    settings = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    command = [sys.executable, str(ROOT / "scripts" / "edit.py"), "--help"]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert all(f"\n{name} " in done.stdout for name in ("interpolate", "latent", "inpaint", "vary", "roundtrip"))
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"jax", "PIL", "matplotlib", "flax"}


HALF = ["--edit=inpaint", "--held_out=0", "--mask=left"]


MISTAKES = [
    ([], "--edit is required: interpolate, latent, inpaint, vary, roundtrip"),
    (["--edit=paint"], "--edit"),
    (["--edit=vary"], "give images either as files, --image=a.png, or by their number"),
    (["--edit=vary", "--held_out=0", "--t=0"], "--t=0: a step of this run lies in 1..12"),
    (["--edit=vary", "--held_out=0", "--t=13"], "--t=13: a step of this run lies in 1..12"),
    (["--edit=vary", "--held_out=x"], "flag --held_out=x: give numbers, separated by commas"),
    (["--edit=vary", "--held_out=0", "--t=1.5"], "flag --t=1.5: give numbers, separated by commas"),
    (["--edit=latent", "--held_out=0"], "needs two images for each picture: --held_out=0,1"),
    (["--edit=latent", "--image=a.png"], "needs as many --other as --image"),
    (["--edit=inpaint", "--held_out=0"], "--mask is required"),
    ([*HALF, "--jump=12"], "jump = 12: going back must stay within the chain"),
    ([*HALF, "--step=9"], "no checkpoint of step 9; it has"),
    ([*HALF, "--out=README.md/a.png"], "README.md cannot be written to; give another --out"),
    ([*HALF, "--separate=README.md/a"], "README.md cannot be written to; give another --separate"),
    ([*HALF, "--out=a.jpg"], "--out=a.jpg: a picture is written as .png, .pdf, .svg"),
]

DRIVER = """
import contextlib, importlib.util, io, json, sys
from absl import flags
spec = importlib.util.spec_from_file_location("edit_script", "scripts/edit.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for args in json.load(sys.stdin):
    said = io.StringIO()
    for name in list(flags.FLAGS):
        flags.FLAGS[name].unparse()
    with contextlib.redirect_stderr(said):
        try:
            module.command_line.run(module.main, ["edit.py", *args])
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, said.getvalue()]))
"""
"""Runs the script once for each list of arguments: a process of its own for each would take seconds to start."""


@pytest.fixture(scope="module")
def answers(run):
    """Exit status and stderr for all mistakes."""
    todo = json.dumps([[f"--workdir={run}", *args] for args, _ in MISTAKES])
    command = [sys.executable, "-c", DRIVER]
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=settings, input=todo, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("i", range(len(MISTAKES)))
def test_mistakes_end_in_one_line(answers, i):
    (args, line), (status, said) = MISTAKES[i], answers[i]
    assert status == 2, (args, said)
    assert len(said.strip().splitlines()) == 1 and line in said


def test_a_run_without_an_intact_checkpoint_is_refused(run, tmp_path):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    done = script("edit.py", f"--workdir={tmp_path}", "--edit=roundtrip", "--held_out=0")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "checkpoint" in done.stderr
    gone = script("edit.py", "--workdir=/nowhere", "--edit=roundtrip", "--held_out=0")
    assert gone.returncode == 2 and "holds no run" in gone.stderr and len(gone.stderr.strip().splitlines()) == 1
