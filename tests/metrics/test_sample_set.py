"""Sample sets on disk: drawn in parts, resumed, never drawn twice, written as archives and as PNG files."""

import jax
import numpy as np
import pytest
from PIL import Image

from diffusion.commands import sample
from diffusion.distributed.sharding import make_mesh
from diffusion.evaluation import draw_and_store_sample_sets, sample_batches
from diffusion.evaluation.measurement_protocol import Chain, Subject
from diffusion.experiment import build
from diffusion.metrics import read_and_write_sample_sets
from diffusion.runtime import bucket_path
from diffusion.runtime.atomic_files import write_npz
from diffusion.workdir.run_config import Run
from tests.evaluation.test_evaluate import Stop, config, stop_after
from tests.support.networks import OneConvolution

SHAPE = (8, 8, 1)
CHAIN = Chain(grid="4")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffusion.experiment.registry_of_samplers_and_schedules.UNet", OneConvolution)
        ours = build.experiment(config(), SHAPE, 10, make_mesh(jax.devices()[:1]))
        return Subject(ours, ours.init(jax.random.key(2)), tmp_path_factory.mktemp("run"), 3, False)


@pytest.fixture
def subject(made, tmp_path):
    return made._replace(folder=tmp_path)


def parts_of(subject):
    return sorted(path.name for path in draw_and_store_sample_sets.parts_folder(subject, CHAIN).glob("*.npz"))


def draw(*args):
    """The pixels of a set."""
    return draw_and_store_sample_sets.draw(*args)[0]


def test_an_interrupted_set_resumes_to_the_same_bytes(subject, tmp_path, monkeypatch):
    """37 images in batches of 8, in parts of 8: stopped after 24, it draws 13 more and no image again."""
    monkeypatch.setattr(draw_and_store_sample_sets, "SECONDS", 0.0)
    whole = draw(subject._replace(folder=tmp_path / "whole"), CHAIN, 37, 8)
    with pytest.raises(Stop):
        draw_and_store_sample_sets.draw(subject, CHAIN, 37, 8, stop_after(20))
    assert parts_of(subject) == ["images_0000000.npz", "images_0000008.npz", "images_0000016.npz"]
    counts = []
    again = draw(subject, CHAIN, 37, 8, counts.append)
    assert counts == [24, 32, 37]
    assert (again == whole).all() and len(np.unique(again.reshape(37, -1), axis=0)) == 37


def test_a_folder_in_a_bucket_is_read_like_one_on_a_disk(tmp_path, monkeypatch, rng):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pixels, folder = rng.integers(0, 256, (3, *SHAPE), dtype=np.uint8), bucket_path.at("memory://bucket/samples")
    read_and_write_sample_sets.write_folder(folder, pixels)
    assert (read_and_write_sample_sets.read(folder, SHAPE) == pixels).all()
    (folder / "000001.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"--samples=memory://bucket/samples/000001\.png: not a readable image"):
        read_and_write_sample_sets.read(folder, SHAPE)


def test_a_run_that_can_only_be_read_is_sampled_all_the_same(subject, tmp_path, monkeypatch):
    """Its parts are in the user's cache, and an interrupted set resumes there."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: path != folder)  # noqa: ARG005
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    foreign = subject._replace(folder=folder)
    with pytest.raises(Stop):
        draw_and_store_sample_sets.draw(foreign, CHAIN, 20, 8, stop_after(10))
    counts = []
    assert (draw(foreign, CHAIN, 20, 8, counts.append) == draw(subject, CHAIN, 20, 8)).all() and counts[0] == 16
    assert list(folder.iterdir()) == [] and len(list((tmp_path / "cache").rglob("*.npz"))) == 2
    run = Run(foreign.experiment.config, SHAPE, 10)
    with pytest.raises(ValueError, match="run cannot be written by this user: give the file or folder to write as --o"):
        sample.sample(folder, run, CHAIN, print, n=20, batch=8, form="grid", out=None, step=3, raw=False, guidance={})
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "a.png"
    with pytest.raises(ValueError, match="file cannot be written to; give another --out"):
        sample.sample(folder, run, CHAIN, print, n=20, batch=8, form="grid", out=out, step=3, raw=False, guidance={})


def test_a_set_that_is_complete_is_not_drawn_again(subject, monkeypatch):
    first = draw(subject, CHAIN, 20, 8)
    monkeypatch.setattr(sample_batches, "batches", None)
    assert (draw(subject, CHAIN, 20, 8) == first).all()
    assert (draw(subject, CHAIN, 13, 4) == first[:13]).all()


def test_a_larger_set_extends_a_smaller_one(subject):
    first, counts = draw(subject, CHAIN, 20, 8), []
    more = draw(subject, CHAIN, 30, 8, counts.append)
    assert counts[0] == 20 and len(more) == 30 and (more[:20] == first).all()


def test_images_depend_on_seed_and_index_alone(subject, tmp_path):
    a = draw(subject, CHAIN, 20, 8)
    b = draw(subject._replace(folder=tmp_path / "b"), CHAIN, 20, 5)
    # the compiler may order sums otherwise for another batch size: at most a rounding of the last level
    assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
    c = draw(subject, CHAIN._replace(seed=1), 20, 8)
    assert (a != c).any(axis=(1, 2, 3)).all()


def test_sets_that_differ_in_anything_lie_apart(subject):
    other = jax.tree.map(lambda x: x * 1.01, subject.params)
    chains = [CHAIN, Chain(grid="5"), Chain("ddim", "4"), Chain("ddim", "4", 0.5)]
    chains += [CHAIN._replace(seed=1), CHAIN._replace(truncate=True)]
    places = {draw_and_store_sample_sets.parts_folder(subject, chain) for chain in chains}
    assert (
        len(places | {draw_and_store_sample_sets.parts_folder(subject._replace(params=other), CHAIN)})
        == len(chains) + 1
    )


def test_sets_of_another_churn_lie_apart(subject):
    """config.sample may change between evaluations of one run, so the hash of the config does not tell them apart."""
    places = set()
    for churn, noise in ((0.0, 1.0), (40.0, 1.0), (40.0, 1.003)):
        changed = config()
        changed.sample.update(sampler="edm", churn=churn, churn_noise=noise)
        places.add(
            draw_and_store_sample_sets.parts_folder(
                subject._replace(experiment=subject.experiment._replace(config=changed)), CHAIN
            )
        )
    assert len(places) == 3


def test_sets_of_another_precision_lie_apart(subject):
    with jax.default_matmul_precision("float32"):
        exact = draw_and_store_sample_sets.parts_folder(subject, CHAIN)
    assert exact != draw_and_store_sample_sets.parts_folder(subject, CHAIN)


def test_truncation_cuts_levels(subject):
    rounded = draw(subject, CHAIN, 16, 8).astype(int)
    cut = draw(subject, CHAIN._replace(truncate=True), 16, 8).astype(int)
    assert set(np.unique(rounded - cut)) == {0, 1}


def test_a_damaged_part_is_drawn_again(subject, monkeypatch):
    monkeypatch.setattr(draw_and_store_sample_sets, "SECONDS", 0.0)
    first = draw(subject, CHAIN, 24, 8)
    damaged = draw_and_store_sample_sets.parts_folder(subject, CHAIN) / "images_0000008.npz"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    counts = []
    assert (draw(subject, CHAIN, 24, 8, counts.append) == first).all() and counts[0] == 8


def test_images_that_are_not_finite_are_counted(subject):
    broken = subject._replace(params=jax.tree.map(lambda x: x * np.nan, subject.params))
    assert (
        draw_and_store_sample_sets.draw(broken, CHAIN, 10, 8)[1] == 10
        and draw_and_store_sample_sets.draw(broken, CHAIN, 3, 8)[1] == 3
    )
    assert draw_and_store_sample_sets.draw(subject, CHAIN, 10, 8)[1] == 0


def test_labels_go_round():
    assert sample_batches.labels(np.arange(8, 13), 10).tolist() == [8, 9, 0, 1, 2]
    assert sample_batches.labels(np.arange(3), 0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(8, 8, 1), (4, 6, 3)])
def test_sets_are_read_as_they_were_written(tmp_path, rng, shape):
    pixels = rng.integers(0, 256, (10, *shape), dtype=np.uint8)
    np.savez_compressed(tmp_path / "c.npz", arr_0=pixels)
    write_npz(tmp_path / "a.npz", {"arr_0": np.asfortranarray(pixels)})
    read_and_write_sample_sets.write_folder(tmp_path / "p", pixels)
    for path in (tmp_path / "a.npz", tmp_path / "c.npz", tmp_path / "p"):
        assert (read_and_write_sample_sets.read(path, shape) == pixels).all()


def test_folders_are_not_mixed(tmp_path, rng):
    pixels = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    read_and_write_sample_sets.write_folder(tmp_path / "p", pixels)
    read_and_write_sample_sets.write_folder(tmp_path / "p", pixels)
    with pytest.raises(ValueError, match=r"holds images of another set, such as 000003\.png"):
        read_and_write_sample_sets.write_folder(tmp_path / "p", pixels[:3])
    with pytest.raises(ValueError, match=r"000000\.png: is 8x8, and samples are 9x8"):
        read_and_write_sample_sets.read(tmp_path / "p", (8, 9, 1))


def write_files(folder, pixels, names, **options):
    folder.mkdir()
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image.squeeze()).save(folder / name, **options)
    return folder


def test_folders_of_samples_are_read_whatever_their_endings(tmp_path, rng):
    pixels = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    place = write_files(tmp_path / "p", pixels, ["a.PNG", "b.bmp", "c.Tif", "d.png", "e.TIFF"])
    (place / "notes.txt").write_text("x")
    (place / "f.gif").write_text("x")
    with pytest.warns(UserWarning, match=r"^--samples=.*: left out 2 files by ending: 1 .*1 ") as said:
        assert (read_and_write_sample_sets.read(place, (8, 8, 3)) == pixels).all()
    assert len(said) == 1
    Image.fromarray(pixels[0]).save(place / "g.jpg")
    with pytest.warns(UserWarning, match="left out"):
        assert len(read_and_write_sample_sets.read(place, (8, 8, 3))) == 6


def test_samples_are_upright_and_what_is_changed_is_said(tmp_path, rng):
    pixels = rng.integers(0, 256, (4, 8, 8, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3
    place = write_files(tmp_path / "p", pixels, [f"{i}.png" for i in range(4)], exif=exif)
    with pytest.warns(UserWarning) as said:
        found = read_and_write_sample_sets.read(place, (8, 8, 3))
    assert ["4 images turned upright" in str(one.message) for one in said] == [True, False]
    assert "4 images with transparency, flattened on white" in str(said[1].message)
    opaque = pixels[..., 3:] == 255
    assert (found == pixels[:, ::-1, ::-1, :3])[np.repeat(opaque[:, ::-1, ::-1], 3, -1)].all()


def test_grey_samples_may_be_stored_as_colour(tmp_path, rng):
    pixels = rng.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    place = write_files(tmp_path / "p", np.repeat(pixels, 3, -1), ["1.png", "2.png", "3.png"])
    assert (read_and_write_sample_sets.read(place, SHAPE) == pixels).all()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place / "2.png")
    with pytest.raises(ValueError, match=r"2\.png: has colours, and samples of this run are grey"):
        read_and_write_sample_sets.read(place, SHAPE)


def test_samples_of_zeros_and_ones_are_told_so(tmp_path, rng):
    pixels = rng.integers(0, 2, (6, 8, 8, 1), dtype=np.uint8)
    write_npz(tmp_path / "a.npz", {"arr_0": pixels})
    for path in (tmp_path / "a.npz", write_files(tmp_path / "p", pixels, [f"{i}.png" for i in range(6)])):
        with pytest.raises(ValueError, match=f"--samples={path}: its pixels are 0 or 1, and levels are 0 to 255"):
            read_and_write_sample_sets.read(path, SHAPE)
    for other in (pixels * 255, pixels * 0):
        write_npz(tmp_path / "a.npz", {"arr_0": other})
        assert (read_and_write_sample_sets.read(tmp_path / "a.npz", SHAPE) == other).all()


def test_a_damaged_archive_is_refused_in_a_line(tmp_path, rng):
    write_npz(tmp_path / "a.npz", {"arr_0": rng.integers(0, 256, (50, *SHAPE), dtype=np.uint8)})
    whole = (tmp_path / "a.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[2000] ^= 1
    for content in (whole[:1000], bytes(flipped), b"no archive"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"no \.npz file with an array arr_0, or a damaged one"):
            read_and_write_sample_sets.read(tmp_path / "a.npz", SHAPE)
