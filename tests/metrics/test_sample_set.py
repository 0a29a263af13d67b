"""Sample sets on disk: drawn in parts, resumed, never drawn twice, written as archives and as PNG files."""

import tracemalloc
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from diffusion.distributed.sharding import make_mesh
from diffusion.evaluation import sample_batches, sample_sets
from diffusion.evaluation.protocol import Chain, Subject
from diffusion.experiment import build
from diffusion.metrics import image_set
from diffusion.metrics.image_set import ImageSet
from tests.evaluation.test_evaluate import Stop, config, stop_after
from tests.support.networks import OneConvolution

SHAPE = (8, 8, 1)
CHAIN = Chain(grid="4")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffusion.experiment.registry.UNet", OneConvolution)
        ours = build.experiment(config(), SHAPE, 10, make_mesh(jax.devices()[:1]))
        return Subject(ours, ours.init(jax.random.key(2)), tmp_path_factory.mktemp("run"), 3, False)


@pytest.fixture
def subject(made, tmp_path):
    return made._replace(folder=tmp_path)


def parts_of(subject):
    return sorted(path.name for path in sample_sets.parts_folder(subject, CHAIN).glob("*"))


def in_memory(pixels, size=3):
    """A set of an array, in blocks of three."""
    return ImageSet(len(pixels), pixels.shape[1:], lambda: (pixels[i : i + size] for i in range(0, len(pixels), size)))


def test_an_interrupted_set_resumes_to_the_same_bytes(subject, tmp_path, monkeypatch):
    """37 images in batches of 8, in parts of 8: stopped after 16, it draws 21 more and no image again."""
    monkeypatch.setattr(image_set, "BLOCK", 64)
    whole = sample_sets.draw(subject._replace(folder=tmp_path / "whole"), CHAIN, 37, 8)
    with pytest.raises(Stop):
        sample_sets.draw(subject, CHAIN, 37, 8, stop_after(20))
    assert parts_of(subject) == ["images_0000000.npz", "images_0000008.npz", "images_0000016.npz"]
    counts = []
    again = sample_sets.draw(subject, CHAIN, 37, 8, counts.append)
    assert counts == [24, 32, 37]
    for name, one in (("a.npz", whole), ("b.npz", again)):
        image_set.write_archive(tmp_path / name, one)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert len(np.unique(again.pixels().reshape(37, -1), axis=0)) == 37


def test_a_set_that_is_complete_is_not_drawn_again(subject, monkeypatch):
    first = sample_sets.draw(subject, CHAIN, 20, 8).pixels()
    monkeypatch.setattr(sample_batches, "batches", None)
    assert (sample_sets.draw(subject, CHAIN, 20, 8).pixels() == first).all()
    assert (sample_sets.draw(subject, CHAIN, 13, 4).pixels() == first[:13]).all()


def test_a_larger_set_extends_a_smaller_one(subject):
    first, counts = sample_sets.draw(subject, CHAIN, 20, 8).pixels(), []
    more = sample_sets.draw(subject, CHAIN, 30, 8, counts.append)
    assert counts[0] == 20 and more.n == 30 and (more.pixels()[:20] == first).all()


def test_images_depend_on_seed_and_index_alone(subject, tmp_path):
    a = sample_sets.draw(subject, CHAIN, 20, 8).pixels()
    b = sample_sets.draw(subject._replace(folder=tmp_path / "b"), CHAIN, 20, 5).pixels()
    # the compiler may order sums otherwise for another batch size: at most a rounding of the last level
    assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
    c = sample_sets.draw(subject, CHAIN._replace(seed=1), 20, 8).pixels()
    assert (a != c).any(axis=(1, 2, 3)).all()


def test_sets_that_differ_in_anything_lie_apart(subject):
    other = jax.tree.map(lambda x: x * 1.01, subject.params)
    chains = [CHAIN, Chain(grid="5"), Chain("ddim", "4"), Chain("ddim", "4", 0.5)]
    chains += [CHAIN._replace(seed=1), CHAIN._replace(truncate=True)]
    places = {sample_sets.parts_folder(subject, chain) for chain in chains}
    assert len(places | {sample_sets.parts_folder(subject._replace(params=other), CHAIN)}) == len(chains) + 1


def test_sets_of_another_churn_lie_apart(subject):
    """config.sample may change between evaluations of one run, so the hash of the config does not tell them apart."""
    places = set()
    for churn, noise in ((0.0, 1.0), (40.0, 1.0), (40.0, 1.003)):
        changed = config()
        changed.sample.update(sampler="edm", churn=churn, churn_noise=noise)
        places.add(
            sample_sets.parts_folder(subject._replace(experiment=subject.experiment._replace(config=changed)), CHAIN)
        )
    assert len(places) == 3


def test_sets_of_another_precision_lie_apart(subject):
    with jax.default_matmul_precision("float32"):
        exact = sample_sets.parts_folder(subject, CHAIN)
    assert exact != sample_sets.parts_folder(subject, CHAIN)


def test_truncation_cuts_levels(subject):
    rounded = sample_sets.draw(subject, CHAIN, 16, 8).pixels().astype(int)
    cut = sample_sets.draw(subject, CHAIN._replace(truncate=True), 16, 8).pixels().astype(int)
    assert set(np.unique(rounded - cut)) == {0, 1}


def test_a_damaged_part_is_drawn_again(subject, monkeypatch):
    monkeypatch.setattr(image_set, "BLOCK", 64)
    first = sample_sets.draw(subject, CHAIN, 24, 8).pixels()
    damaged = sample_sets.parts_folder(subject, CHAIN) / "images_0000008.npz"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    counts = []
    assert (sample_sets.draw(subject, CHAIN, 24, 8, counts.append).pixels() == first).all() and counts[0] == 8


def test_images_that_are_not_finite_are_counted(subject):
    broken = subject._replace(params=jax.tree.map(lambda x: x * np.nan, subject.params))
    assert sample_sets.draw(broken, CHAIN, 10, 8).broken == 10 and sample_sets.draw(broken, CHAIN, 3, 8).broken == 3
    assert sample_sets.draw(subject, CHAIN, 10, 8).broken == 0


def test_labels_go_round():
    assert sample_batches.labels(np.arange(8, 13), 10).tolist() == [8, 9, 0, 1, 2]
    assert sample_batches.labels(np.arange(3), 0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(8, 8, 1), (4, 6, 3)])
def test_archives_have_the_layout_of_the_evaluator(tmp_path, rng, shape):
    pixels = rng.integers(0, 256, (10, *shape), dtype=np.uint8)
    image_set.write_archive(tmp_path / "a.npz", in_memory(pixels), np.arange(10, dtype=np.int32))
    with np.load(tmp_path / "a.npz") as file:
        assert file.files == ["arr_0", "arr_1"] and file["arr_0"].dtype == np.uint8
        assert (file["arr_0"] == pixels).all() and file["arr_1"].tolist() == list(range(10))
    image_set.write_archive(tmp_path / "b.npz", in_memory(pixels))
    with np.load(tmp_path / "b.npz") as file:
        assert file.files == ["arr_0"]


@pytest.mark.parametrize("shape", [(8, 8, 1), (4, 6, 3)])
def test_sets_are_read_as_they_were_written(tmp_path, rng, shape, monkeypatch):
    monkeypatch.setattr(image_set, "BLOCK", 3 * int(np.prod(shape)))
    pixels = rng.integers(0, 256, (10, *shape), dtype=np.uint8)
    np.savez_compressed(tmp_path / "c.npz", arr_0=pixels)
    image_set.write_archive(tmp_path / "a.npz", in_memory(pixels))
    image_set.write_folder(tmp_path / "p", in_memory(pixels))
    for path in (tmp_path / "a.npz", tmp_path / "c.npz", tmp_path / "p"):
        found = image_set.read(path, shape)
        assert found.n == 10 and [len(block) for block in found.blocks()] == [3, 3, 3, 1]
        assert (found.pixels() == pixels).all() and (found.first(4).pixels() == pixels[:4]).all()
        assert [len(chunk) for chunk in found.chunks(4)] == [4, 4, 2]
        assert (np.concatenate(list(found.chunks(4))) == pixels).all()


def test_folders_are_not_mixed(tmp_path, rng):
    pixels = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    image_set.write_folder(tmp_path / "p", in_memory(pixels))
    image_set.write_folder(tmp_path / "p", in_memory(pixels))
    with pytest.raises(ValueError, match=r"holds images of another set, such as 000003\.png"):
        image_set.write_folder(tmp_path / "p", in_memory(pixels[:3]))
    with pytest.raises(ValueError, match=r"000000\.png: is 8x8 grey, and samples are 8x8 in colour"):
        image_set.read(tmp_path / "p", (8, 8, 3))


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
        assert (image_set.read(place, (8, 8, 3)).pixels() == pixels).all()
    assert len(said) == 1
    Image.fromarray(pixels[0]).save(place / "g.jpg")
    with pytest.warns(UserWarning, match="left out"):
        assert image_set.read(place, (8, 8, 3)).n == 6


def test_samples_are_upright_and_what_is_changed_is_said(tmp_path, rng):
    pixels = rng.integers(0, 256, (4, 8, 8, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3
    place = write_files(tmp_path / "p", pixels, [f"{i}.png" for i in range(4)], exif=exif)
    with pytest.warns(UserWarning) as said:
        found = image_set.read(place, (8, 8, 3)).pixels()
    assert ["4 images turned upright" in str(one.message) for one in said] == [True, False]
    assert "4 images with transparency, flattened on white" in str(said[1].message)
    opaque = pixels[..., 3:] == 255
    assert (found == pixels[:, ::-1, ::-1, :3])[np.repeat(opaque[:, ::-1, ::-1], 3, -1)].all()


def test_grey_samples_may_be_stored_as_colour(tmp_path, rng):
    pixels = rng.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    place = write_files(tmp_path / "p", np.repeat(pixels, 3, -1), ["1.png", "2.png", "3.png"])
    assert (image_set.read(place, SHAPE).pixels() == pixels).all()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place / "2.png")
    with pytest.raises(ValueError, match=r"2\.png: has colours, and samples of this run are grey"):
        image_set.read(place, SHAPE)


def test_samples_of_zeros_and_ones_are_told_so(tmp_path, rng):
    pixels = rng.integers(0, 2, (6, 8, 8, 1), dtype=np.uint8)
    image_set.write_archive(tmp_path / "a.npz", in_memory(pixels))
    for path in (tmp_path / "a.npz", write_files(tmp_path / "p", pixels, [f"{i}.png" for i in range(6)])):
        with pytest.raises(ValueError, match=f"--samples={path}: its pixels are 0 or 1, and levels are 0 to 255"):
            image_set.read(path, SHAPE)
    for other in (pixels * 255, pixels * 0):
        image_set.write_archive(tmp_path / "a.npz", in_memory(other))
        assert (image_set.read(tmp_path / "a.npz", SHAPE).pixels() == other).all()


def test_a_cut_archive_is_refused_in_a_line(tmp_path, rng):
    pixels = rng.integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    image_set.write_archive(tmp_path / "a.npz", in_memory(pixels))
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive, zipfile.ZipFile(tmp_path / "a.npz") as whole:
        archive.writestr("arr_0.npy", whole.read("arr_0.npy")[:-100])
    with pytest.raises(ValueError, match="is damaged after 0 images"):
        image_set.read(tmp_path / "short.npz", SHAPE)
    image_set.write_archive(tmp_path / "long.npz", in_memory(np.tile(pixels, (90, 1, 1, 1))))
    flipped = bytearray((tmp_path / "long.npz").read_bytes())
    flipped[200_000] ^= 1
    (tmp_path / "flipped.npz").write_bytes(flipped)
    with pytest.raises(ValueError, match="is damaged after 0 images"):
        image_set.read(tmp_path / "flipped.npz", SHAPE).pixels()
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:1000])
    with pytest.raises(ValueError, match="or a damaged one"):
        image_set.read(tmp_path / "cut.npz", SHAPE)


def test_memory_is_that_of_a_block(tmp_path, monkeypatch):
    """A set of 8 MiB goes from parts to an archive and is read from it in blocks of 64 KiB."""
    monkeypatch.setattr(image_set, "BLOCK", 2**16)
    n, block = 2**17, np.zeros((1024, *SHAPE), np.uint8)
    images = ImageSet(n, SHAPE, lambda: (block for _ in range(n // len(block))))
    tracemalloc.start()
    try:
        image_set.write_archive(tmp_path / "a.npz", images)
        total = sum(len(chunk) for chunk in image_set.read(tmp_path / "a.npz", SHAPE).chunks(1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == n and peak < 2**20
