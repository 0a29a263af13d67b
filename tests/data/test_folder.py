"""Folders of images: what they hold, how it is split and resized, and what is said about a bad file."""

import warnings

import numpy as np
import pytest
from PIL import Image

from diffusion.data import folder as module
from diffusion.data.folder import folder
from diffusion.data.images import decode, resize


@pytest.fixture
def write(tmp_path, rng):
    """Writes an image of noise, or of the given pixels, and returns them."""

    def put(name, shape=(8, 8, 3), pixels=None, **options):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8) if pixels is None else pixels
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        return pixels

    return put


def error_of(path, train=True, size=0) -> str:
    with pytest.raises(ValueError) as error:
        folder(path, train, size)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_images_come_in_the_order_of_their_paths(tmp_path, write):
    names = ["b/2.png", "b/10.png", "a/z/x.PNG", "c.png", "a.png"]
    pixels = {name: write(name) for name in names}
    write(".hidden/1.png")
    write("b/._2.png")
    (tmp_path / "notes.txt").write_text("not an image")
    source = folder(str(tmp_path), train=True)
    assert (source.size, source.shape, source.classes) == (5, (8, 8, 3), 0)
    assert source.name == f"folder:{tmp_path}"
    np.testing.assert_array_equal(source.arrays[0], [pixels[name] for name in sorted(names)])


def test_jpeg_is_read_as_pillow_reads_it(tmp_path, write):
    for name in ("a.jpg", "b.JPEG"):
        write(name)
    expected = [np.asarray(Image.open(tmp_path / name)) for name in ("a.jpg", "b.JPEG")]
    np.testing.assert_array_equal(folder(tmp_path, train=True).arrays[0], expected)


def test_every_twentieth_image_is_test(tmp_path, write):
    pixels = np.stack([write(f"{i:03d}.png", (2, 2, 3)) for i in range(45)])
    train, test = folder(tmp_path, True), folder(tmp_path, False)
    np.testing.assert_array_equal(test.arrays[0], pixels[[19, 39]])
    np.testing.assert_array_equal(train.arrays[0], np.delete(pixels, [19, 39], axis=0))


def test_train_and_test_folders_are_the_splits(tmp_path, write):
    train = [write(f"train/{name}.png") for name in ("cat/1", "cat/2", "dog/1")]
    test = [write(f"test/{name}.png") for name in ("cat/1", "dog/1")]
    write("loose.png", (4, 4, 3))  # in neither
    for source, pixels, labels in (
        (folder(tmp_path, True), train, [0, 0, 1]),
        (folder(tmp_path, False), test, [0, 1]),
    ):
        assert source.classes == 2
        np.testing.assert_array_equal(source.arrays[0], pixels)
        np.testing.assert_array_equal(source.arrays[1], labels)


def test_an_empty_split_is_named(tmp_path, write):
    write("train/1.png")
    (tmp_path / "test").mkdir()
    assert str(tmp_path / "test") in error_of(tmp_path, train=False)


@pytest.mark.parametrize(
    "names, labels",
    [
        (["b/1", "a/1", "c/1", "b/2"], [0, 1, 1, 2]),  # in the order of the paths
        (["train/1", "trams/1"], [1, 0][::-1]),
        (["a/1", "b/1", "loose"], None),
        (["a/1", "b/x/1"], None),
        (["a/x/1", "a/y/1"], None),
        (["a/1", "a/2"], None),
        (["1", "2"], None),
    ],
)
def test_labels_are_sub_folders_one_level_deep(tmp_path, write, names, labels):
    for name in names:
        write(f"{name}.png")
    source = folder(tmp_path, True)
    assert source.classes == (max(labels) + 1 if labels else 0)
    assert source.arrays[1].tolist() == (labels or [0] * len(names))


def test_grey_images_stay_grey_if_all_are(tmp_path, write):
    grey = write("a.png", (8, 8))
    Image.fromarray(grey > 127).save(tmp_path / "b.png")  # one bit a pixel
    source = folder(tmp_path, True)
    assert source.shape == (8, 8, 1)
    np.testing.assert_array_equal(source.arrays[0][..., 0], [grey, 255 * (grey > 127)])
    colour = write("c.png")
    source = folder(tmp_path, True)
    assert source.shape == (8, 8, 3)
    np.testing.assert_array_equal(source.arrays[0][0], np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(source.arrays[0][2], colour)


def test_one_image_in_colour_makes_both_splits_colour(tmp_path, write):
    write("train/1.png", (8, 8))
    write("test/1.png", (8, 8, 3))
    assert folder(tmp_path, True).shape == folder(tmp_path, False).shape == (8, 8, 3)


def test_alpha_and_palettes_become_colour(tmp_path, rng):
    rgba = rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    palette = Image.fromarray(rgba[..., :3]).quantize(16)
    palette.save(tmp_path / "b.png")
    palette.save(tmp_path / "c.png", transparency=bytes(range(16)))
    Image.fromarray(rgba[..., :2]).save(tmp_path / "d.png")  # grey with alpha
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = folder(tmp_path, True).arrays[0]
    np.testing.assert_array_equal(pixels[0], rgba[..., :3])
    np.testing.assert_array_equal(pixels[1], np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(pixels[2], pixels[1])
    np.testing.assert_array_equal(pixels[3], np.stack([rgba[..., 0]] * 3, axis=-1))


def test_non_square_images_of_one_size_are_kept(tmp_path, write):
    pixels = [write(f"{i}.png", (4, 6, 3)) for i in range(2)]
    source = folder(tmp_path, True)
    assert source.shape == (4, 6, 3)
    np.testing.assert_array_equal(source.arrays[0], pixels)


def test_an_image_of_another_size_is_named(tmp_path, write):
    for i in range(3):
        write(f"{i}.png")
    write("odd.jpg", (8, 9, 3))
    message = error_of(tmp_path)
    assert message.startswith(f"{tmp_path / 'odd.jpg'}: 9x8 pixels") and "--config.data.size" in message
    assert folder(tmp_path, True, size=8).shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_broken_image_is_named(tmp_path, write, suffix):
    for i in range(3):
        write(f"{i}.png", (32, 32, 3))
    write(f"bad.{suffix}", (32, 32, 3))
    path = tmp_path / f"bad.{suffix}"
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:30], whole[:5], b"", b"<html>not found</html>"):
        path.write_bytes(broken)
        assert error_of(tmp_path).startswith(f"{path}: ") and error_of(tmp_path, size=8).startswith(f"{path}: ")


def test_random_damage_ends_in_one_line_or_an_image(tmp_path, write, rng):
    write("1.png")
    write("bad.png")
    whole = (tmp_path / "bad.png").read_bytes()
    for _ in range(60):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        (tmp_path / "bad.png").write_bytes(broken)
        try:
            source = folder(tmp_path, True)
        except ValueError as error:
            assert "bad.png" in str(error) and "\n" not in str(error)
        else:
            assert source.arrays[0].shape == (2, 8, 8, 3)


def test_images_of_more_than_eight_bits_are_named(tmp_path, write):
    write("1.png")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    assert str(tmp_path / "deep.png") in error_of(tmp_path) and "8 bits" in error_of(tmp_path)


def test_folders_without_images_are_named(tmp_path):
    assert str(tmp_path / "nowhere") in error_of(tmp_path / "nowhere")
    assert "no image" in error_of(tmp_path)
    assert "no such folder" in error_of("")


def test_one_image_is_enough_to_train_on(tmp_path, write):
    pixels = write("only.png")
    np.testing.assert_array_equal(folder(tmp_path, True).read(np.zeros(3, np.int64))[0], [pixels] * 3)
    assert "too few" in error_of(tmp_path, train=False)


def test_large_sets_are_decoded_as_they_are_read(tmp_path, write, monkeypatch):
    pixels = np.stack([write(f"{'ab'[i % 2]}/{i}.png") for i in range(6)])[[0, 2, 4, 1, 3, 5]]
    whole = folder(tmp_path, True)
    monkeypatch.setattr(module, "load", lambda source: source)
    source = folder(tmp_path, True)
    assert source.arrays is None and source.classes == 2
    index = np.array([5, 0, 3, 3])
    np.testing.assert_array_equal(source.read(index)[0], pixels[index])
    np.testing.assert_array_equal(source.read(index)[1], whole.arrays[1][index])
    (tmp_path / "b" / "3.png").write_bytes((tmp_path / "b" / "3.png").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"b/3\.png: not a readable image"):
        source.read(np.array([4]))


# --- the resize ---


def test_resizing_to_the_same_size_changes_nothing(tmp_path, write):
    pixels = write("a.png")
    np.testing.assert_array_equal(folder(tmp_path, True, size=8).arrays[0][0], pixels)
    np.testing.assert_array_equal(resize(pixels, 8), pixels)


@pytest.mark.parametrize("height, width", [(8, 20), (20, 8)])
def test_the_central_square_is_cut_out(rng, height, width):
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    top, left = (height - 8) // 2, (width - 8) // 2
    np.testing.assert_array_equal(resize(pixels, 8), pixels[top : top + 8, left : left + 8])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_power_of_two_is_resized_by_averages(rng, channels):
    pixels = rng.integers(0, 256, (32, 32, channels), dtype=np.uint8)
    expected = pixels
    for _ in range(2):  # columns, then rows, each rounded to levels
        for axis in (1, 0):
            pairs = np.stack([expected.take(range(start, expected.shape[axis], 2), axis) for start in (0, 1)])
            expected = np.floor(pairs.mean(0) + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(resize(pixels, 8), expected)


@pytest.mark.parametrize("shape", [(11, 8, 3), (50, 33, 3), (8, 8, 1), (17, 90, 1), (5, 3, 3)])
def test_any_size_becomes_the_size_asked_for(shape):
    constant = np.full(shape, 77, np.uint8)
    assert (resize(constant, 8) == 77).all() and resize(constant, 8).shape == (8, 8, shape[2])
    ramp = np.broadcast_to(np.linspace(0, 255, shape[1]).astype(np.uint8)[None, :, None], shape)
    row = resize(np.ascontiguousarray(ramp), 8)[4, :, 0].astype(int)
    assert (np.diff(row) >= 0).all() and row[0] < row[-1]  # neither mirrored nor transposed


def test_files_and_arrays_are_resized_alike(tmp_path, write):
    pixels = write("a.png", (50, 33, 3))
    path = str(tmp_path / "a.png")
    np.testing.assert_array_equal(decode(path, path, False, 8), resize(pixels, 8))
    np.testing.assert_array_equal(folder(tmp_path, True, size=8).arrays[0][0], resize(pixels, 8))


def test_a_central_square_is_cut_out_before_resizing(tmp_path, write):
    """As CelebA at 64x64 is made of aligned images of 178x218: 140 pixels around the centre."""
    pixels = np.random.default_rng(3).integers(0, 256, (22, 18, 3)).astype(np.uint8)
    write("a.png", pixels=pixels)
    path = str(tmp_path / "a.png")
    square = pixels[4:18, 2:16]
    np.testing.assert_array_equal(resize(pixels, 14, crop=14), square)
    np.testing.assert_array_equal(resize(pixels, 7, crop=14), resize(square, 7))
    np.testing.assert_array_equal(decode(path, path, False, 7, crop=14), resize(square, 7))
    assert (resize(pixels, 7) != resize(square, 7)).any()
    with pytest.raises(ValueError, match=r"a\.png: .*it has 18x22 pixels, fewer than the 19 of --config\.data\.crop"):
        decode(path, path, False, 7, crop=19)


def test_the_config_crops_images_of_a_folder(tmp_path, write):
    from diffusion.config import default_config
    from diffusion.experiment import build

    pixels = np.random.default_rng(4).integers(0, 256, (22, 18, 3)).astype(np.uint8)
    for split in ("train", "test"):
        write(f"{split}/a.png", pixels=pixels)
    config = default_config()
    config.data.update(name=f"folder:{tmp_path}", size=7, crop=14)
    for train in (True, False):
        (image,) = build.source(config, train).read(np.array([0]))[0]
        np.testing.assert_array_equal(image, resize(pixels, 7, crop=14))
