"""Folders of images: what they hold, how it is split and resized, and what is said about a bad file."""

import hashlib
import os
import socket
import threading

import numpy as np
import pytest
from PIL import Image

from diffusion.data import image_folder as module
from diffusion.data import list_image_files
from diffusion.data.dataset_interface import require_labels
from diffusion.data.image_decoder import decode, header, resize


def folder(path, train, size=0, **options):
    """One split of a folder."""
    return module.folder(path, size, **options)(train)


def in_order(names):
    """Paths in the order of a folder's images: that of their SHA-256."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


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


def test_images_come_in_the_order_of_a_hash_of_their_paths(tmp_path, write):
    names = ["b/2.png", "b/10.png", "a/z/x.PNG", "c.png", "a.png"]
    pixels = {name: write(name) for name in names}
    write(".hidden/1.png")
    write("b/._2.png")
    (tmp_path / "notes.txt").write_text("not an image")
    source = folder(str(tmp_path), train=True)
    assert (source.size, source.shape, source.classes) == (5, (8, 8, 3), 0)
    assert source.name == f"folder:{tmp_path}"
    np.testing.assert_array_equal(source.arrays[0], [pixels[name] for name in in_order(names)])


def test_jpeg_is_read_as_pillow_reads_it(tmp_path, write):
    for name in ("a.jpg", "b.JPEG"):
        write(name)
    expected = [np.asarray(Image.open(tmp_path / name)) for name in in_order(("a.jpg", "b.JPEG"))]
    np.testing.assert_array_equal(folder(tmp_path, train=True).arrays[0], expected)


def test_about_one_image_in_twenty_is_held_out(tmp_path, write):
    names = [f"{i:03d}.png" for i in range(100)]
    pixels = {name: write(name, (2, 2, 3)) for name in names}
    held_out = dict(zip(names, module.is_held_out(names), strict=True))
    assert [name for name in names if held_out[name]] == ["041.png", "048.png", "095.png"]  # for ever: a resumed run
    for train in (True, False):  # must not train on them
        expected = [pixels[name] for name in in_order(names) if held_out[name] != train]
        np.testing.assert_array_equal(folder(tmp_path, train).arrays[0], expected)
    shares = module.is_held_out([f"{i}.png" for i in range(20_000)])
    assert 900 < shares.sum() < 1100


def test_what_is_held_out_stays_so_when_images_are_added():
    names = [f"a/{i}.png" for i in range(400)]
    before = {name for name, is_so in zip(names, module.is_held_out(names), strict=True) if is_so}
    more = sorted([*names, *(f"a/{i}b.png" for i in range(400)), "0/first.png"])
    after = {name for name, is_so in zip(more, module.is_held_out(more), strict=True) if is_so}
    assert len(before) > 9 and after & set(names) == before


def test_pairs_of_images_are_not_held_out_by_kind():
    """Every 20th of sorted day and night pictures would be a night."""
    names = [f"{i:03d}_{when}.png" for i in range(200) for when in ("day", "night")]
    chosen = [name for name, is_so in zip(names, module.is_held_out(names), strict=True) if is_so]
    assert {"day" in name for name in chosen} == {True, False}


def test_a_small_set_holds_out_one_image_at_least(tmp_path, write):
    for seed in range(40):
        names = [f"{seed}_{i}.png" for i in range(20)]
        assert 1 <= module.is_held_out(names).sum() <= 6
    for i in range(20):
        write(f"{i}.png", (2, 2, 3))
    sizes = [folder(tmp_path, train).size for train in (True, False)]
    assert sum(sizes) == 20 and min(sizes) >= 1


def test_train_and_test_folders_are_the_splits(tmp_path, write):
    train = {name: write(name) for name in ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png")}
    test = {name: write(name) for name in ("test/cat/1.png", "test/dog/1.png")}
    write("loose.png", (4, 4, 3))  # in neither
    for source, pixels in ((folder(tmp_path, True), train), (folder(tmp_path, False), test)):
        assert source.classes == 2
        np.testing.assert_array_equal(source.arrays[0], [pixels[name] for name in in_order(pixels)])
        np.testing.assert_array_equal(source.arrays[1], ["dog" in name for name in in_order(pixels)])


def test_the_first_images_are_of_all_classes(tmp_path, write):
    """Estimates and references of the first n images would otherwise be of the first classes alone."""
    for split in ("train", "test"):
        for i in range(40):
            write(f"{split}/{'abcd'[i // 10]}/{i}.png", (2, 2, 3))
    for train in (True, False):
        assert set(folder(tmp_path, train).arrays[1][:16].tolist()) == {0, 1, 2, 3}


def test_an_empty_split_is_named(tmp_path, write):
    write("train/1.png")
    (tmp_path / "test").mkdir()
    assert str(tmp_path / "test") in error_of(tmp_path, train=False)


@pytest.mark.parametrize(
    "names, labels",
    [
        (["a/1", "b/1", "b/2", "c/1"], [0, 1, 1, 2]),  # in the order of the names
        (["train/1", "trams/1"], [0, 1]),
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
    expected = dict(zip((f"{name}.png" for name in names), labels or [0] * len(names), strict=True))
    assert source.arrays[1].tolist() == [expected[name] for name in in_order(expected)]


def test_grey_images_stay_grey_if_all_are(tmp_path, write):
    grey = write("a.png", (8, 8))
    Image.fromarray(grey > 127).save(tmp_path / "b.png")  # one bit a pixel
    source = folder(tmp_path, True)
    assert source.shape == (8, 8, 1)
    pixels = {"a.png": grey, "b.png": 255 * (grey > 127)}
    np.testing.assert_array_equal(source.arrays[0][..., 0], [pixels[name] for name in in_order(pixels)])
    colour = write("c.png")
    source = folder(tmp_path, True)
    assert source.shape == (8, 8, 3)
    order = in_order((*pixels, "c.png"))
    np.testing.assert_array_equal(source.arrays[0][order.index("a.png")], np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(source.arrays[0][order.index("c.png")], colour)


def test_one_image_in_colour_makes_both_splits_colour(tmp_path, write):
    write("train/1.png", (8, 8))
    write("test/1.png", (8, 8, 3))
    assert folder(tmp_path, True).shape == folder(tmp_path, False).shape == (8, 8, 3)


def test_non_square_images_of_one_size_are_kept(tmp_path, write):
    pixels = {f"{i}.png": write(f"{i}.png", (4, 6, 3)) for i in range(2)}
    source = folder(tmp_path, True)
    assert source.shape == (4, 6, 3)
    np.testing.assert_array_equal(source.arrays[0], [pixels[name] for name in in_order(pixels)])


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
        assert "BytesIO" not in error_of(tmp_path)
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
    written = {name: write(name) for name in (f"{'ab'[i % 2]}/{i}.png" for i in range(6))}
    order = in_order(written)
    pixels = np.stack([written[name] for name in order])
    whole = folder(tmp_path, True)
    monkeypatch.setattr(module, "load", lambda source: source)
    source = folder(tmp_path, True)
    assert source.arrays is None and source.classes == 2
    index = np.array([5, 0, 3, 3])
    np.testing.assert_array_equal(source.read(index)[0], pixels[index])
    np.testing.assert_array_equal(source.read(index)[1], whole.arrays[1][index])
    (tmp_path / "b" / "3.png").write_bytes((tmp_path / "b" / "3.png").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"b/3\.png: not a readable image"):
        source.read(np.array([order.index("b/3.png")]))


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
        (image,) = build.splits(config)(train).read(np.array([0]))[0]
        np.testing.assert_array_equal(image, resize(pixels, 7, crop=14))


# --- what is left out or read as something else is reported ---


def notes_of(path, **options) -> list[str]:
    return list(folder(path, True, **options).notes)


def test_a_plain_folder_has_nothing_to_report(tmp_path, write):
    for name in ("a/1.png", "b/2.png", ".hidden.txt", ".cache/3.xyz"):
        write(name) if name.endswith("png") else (tmp_path / name).parent.mkdir(exist_ok=True)
    assert notes_of(tmp_path) == []


def test_endings_are_read_in_any_case(tmp_path, write):
    names = ["a.PNG", "b.Bmp", "c.tif", "d.TIFF", "e.png"]
    pixels = {name: write(name) for name in names}
    write("f.WebP", lossless=True)
    write("g.JPG")
    source = folder(tmp_path, True)
    assert source.size == 7 and source.notes == ()
    order = in_order((*names, "f.WebP", "g.JPG"))
    read = source.arrays[0][[order.index(name) for name in names]]
    np.testing.assert_array_equal(read, [pixels[name] for name in names])


def test_files_of_other_endings_are_counted(tmp_path, write):
    write("1.png")
    for name in ("a.heic", "b.HEIC", "c.gif", "list.txt", "README", "d.png.part"):
        (tmp_path / name).write_bytes(b"")
    (note,) = notes_of(tmp_path)
    assert note.startswith("left out 6 files by ending: 2 .heic, ")
    assert sorted(note.partition(": ")[2].split(", ")) == ["1 .gif", "1 .part", "1 .txt", "1 no ending", "2 .heic"]


def test_what_the_decoder_changes_is_counted(tmp_path, write, rng):
    exif = Image.Exif()
    exif[0x0112] = 3
    for i in range(3):
        write(f"{i}.png", exif=exif)
    write("a.png", (8, 8, 4))
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).quantize(9).save(tmp_path / "p.png")
    assert notes_of(tmp_path, background="black") == [
        "3 images turned upright as their EXIF orientation says",
        "1 image with transparency, flattened on black (data.background)",
        "1 image with a palette, read as RGB",
    ]
    alone = folder(tmp_path, True, background="#102030").arrays[0][3]
    assert (alone != folder(tmp_path, True).arrays[0][3]).any()


def test_grey_images_stored_as_colour_are_named_and_read_on_request(tmp_path, write, rng):
    grey = rng.integers(0, 256, (8, 8, 1), dtype=np.uint8)
    for name in ("1.png", "2.png"):
        write(name, pixels=np.repeat(grey, 3, axis=-1))
    assert "all images are grey, read as RGB; --config.data.channels=1" in notes_of(tmp_path)[0]
    source = folder(tmp_path, True, channels=1)
    assert source.shape == (8, 8, 1) and source.notes == ()
    np.testing.assert_array_equal(source.arrays[0], [grey, grey])
    assert notes_of(tmp_path, channels=3) == []
    write("3.png")
    assert notes_of(tmp_path) == [] and folder(tmp_path, True).shape == (8, 8, 3)


def test_grey_files_are_read_in_colour_on_request(tmp_path, write):
    grey = write("1.png", (8, 8))
    source = folder(tmp_path, True, channels=3)
    np.testing.assert_array_equal(source.arrays[0], np.stack([grey] * 3, axis=-1)[None])


def test_links_to_folders_are_followed_once(tmp_path, write):
    """Classes may lie elsewhere; what would be read twice is not, whatever the order of the names."""
    write("store/cat/1.png")
    write("store/dog/1.png")
    write("store/dog/2.png")
    root = tmp_path / "pics"
    root.mkdir()
    for name in ("cat", "dog"):
        (root / name).symlink_to(tmp_path / "store" / name)
    source = folder(root, True)
    assert (source.size, source.class_names, source.notes) == (3, ("cat", "dog"), ())
    (root / "also").symlink_to(tmp_path / "store" / "dog")
    (root / "loop").symlink_to(tmp_path)
    (root / "cat" / "up").symlink_to(root)
    source = folder(root, True)
    assert source.size == 3 and "left out 3 links to a folder that is read already" in source.notes[0]


def test_a_link_yields_to_the_folder_that_it_leads_to(tmp_path, write):
    write("zebra/1.png")
    write("dog/1.png")
    (tmp_path / "alias").symlink_to(tmp_path / "zebra")
    source = folder(tmp_path, True)
    assert source.class_names == ("dog", "zebra") and str(tmp_path / "alias") in source.notes[0]


def test_links_to_files_are_read(tmp_path, write):
    pixels = write("store/1.png")
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "x.png").symlink_to(tmp_path / "store" / "1.png")
    np.testing.assert_array_equal(folder(tmp_path / "pics", True).arrays[0], [pixels])
    (tmp_path / "pics" / "y.png").symlink_to(tmp_path / "nowhere.png")
    assert error_of(tmp_path / "pics").startswith(f"{tmp_path / 'pics' / 'y.png'}: cannot be read")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, write, monkeypatch):
    write("a/1.png")
    write("b/1.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert error_of(tmp_path) == f"{tmp_path / 'b'}: this folder cannot be read (Permission denied)"


def test_what_is_no_file_is_named(tmp_path, write):
    """To open a pipe would wait for ever; a socket stands for it, so that this test ends where the check is missing."""
    write("1.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "2.png"))
    assert error_of(tmp_path) == f"{tmp_path / '2.png'}: a pipe, a socket or a device is no image file; remove it"
    for read in (lambda path: decode(path, path, False), lambda path: header(path, path)):
        with pytest.raises(ValueError, match=r"2\.png: a pipe"):
            read(str(tmp_path / "2.png"))


def test_a_folder_without_images_is_named(tmp_path, write):
    """A class whose images were moved away is no longer one."""
    write("cat/1.png")
    write("emu/1.png")
    (tmp_path / "dog").mkdir()
    assert notes_of(tmp_path) == [f"1 folder without an image, such as {tmp_path / 'dog'}"]
    (tmp_path / "emu" / "1.png").rename(tmp_path / "emu" / "1.gif")
    assert f"2 folders without an image, such as {tmp_path / 'dog'}" in notes_of(tmp_path)


def test_why_a_set_has_no_labels_is_part_of_the_refusal(tmp_path, write):
    for name in ("cat/1", "dog/1", "loose"):
        write(f"{name}.png")
    with pytest.raises(ValueError, match=r"some.key: .* has no labels \(no classes, since .*: loose.png\); use others"):
        require_labels(folder(tmp_path, True), "some.key", "use others")


@pytest.mark.parametrize("alone, other", [("Val", "train"), ("train", "test")])
def test_half_of_a_split_is_named(tmp_path, write, alone, other):
    write(f"{alone}/1.png")
    write("cat/1.png")
    source = folder(tmp_path, True)
    assert source.notes == (f"{alone}/ is no split, since there is no folder {other}/ beside it",)
    assert len(source.class_names) == 2


def test_few_held_out_images_are_remarked_on(tmp_path, write):
    names = [f"{i:03d}.png" for i in range(100)]
    for name in names:
        write(name, (2, 2, 3))
    (note,) = notes_of(tmp_path)
    assert note.startswith("only 3 held out")
    for i in range(10):
        write(f"test/{i}.png", (2, 2, 3))
    write("train/1.png", (2, 2, 3))
    assert not [note for note in notes_of(tmp_path) if "held out" in note]


@pytest.mark.parametrize("pair", [("train", "val"), ("Train", "Validation"), ("TRAIN", "Test"), ("training", "valid")])
def test_folders_of_a_split_are_no_classes(tmp_path, write, pair):
    for split in pair:
        for name in ("cat", "dog"):
            write(f"{split}/{name}/1.png")
    train, held_out = folder(tmp_path, True), folder(tmp_path, False)
    assert (train.size, held_out.size) == (2, 2) and train.class_names == held_out.class_names == ("cat", "dog")
    assert train.notes == ()


def test_of_two_held_out_folders_the_test_set_is_taken_and_the_other_named(tmp_path, write):
    for name in ("train/1", "test/1", "val/1", "val/2", "loose"):
        write(f"{name}.png")
    source = folder(tmp_path, False)
    assert source.size == 1
    assert source.notes == ("left out 3 of 5 images outside train/ and test/, such as loose.png",)


def test_two_folders_of_one_name_are_refused(tmp_path, write):
    for name in ("train/1", "Train/1", "val/1"):
        write(f"{name}.png")
    assert "has the folders Train and train; rename or join them" in error_of(tmp_path)


def test_train_beside_other_classes_is_a_class(tmp_path, write):
    for name in ("train/1", "plane/1", "ship/1"):
        write(f"{name}.png")
    assert folder(tmp_path, True).class_names == ("plane", "ship", "train")


def test_a_class_that_is_never_trained_is_named(tmp_path, write):
    for name in ("train/cat/1", "train/dog/1", "test/cat/1", "test/emu/1"):
        write(f"{name}.png")
    assert notes_of(tmp_path) == ["no training image of class emu"]


@pytest.mark.parametrize(
    "names, note",
    [
        (["a/1", "b/1", "loose"], "no classes, since 1 image lies beside the folders (a, b, ...): loose.png"),
        (["a/1", "b/x/1"], "no classes, since folders lie in folders: b/x/1.png"),
    ],
)
def test_why_there_are_no_classes_is_reported(tmp_path, write, names, note):
    for name in names:
        write(f"{name}.png")
    assert notes_of(tmp_path) == [note]


def test_numbers_are_sorted_as_numbers(tmp_path, write):
    for name in ("10", "9", "2", "-1", "0.5", "x", "Y", "1e3", "nan"):
        write(f"{name}/1.png")
    assert folder(tmp_path, True).class_names == ("-1", "0.5", "2", "9", "10", "1e3", "Y", "nan", "x")


def test_headers_are_read_once_for_both_splits(tmp_path, write, monkeypatch):
    for i in range(30):
        write(f"{i}.png")
    opened, content = [], list_image_files._content
    monkeypatch.setattr(list_image_files, "_content", lambda path, name: opened.append(path) or content(path, name))
    monkeypatch.setattr(module, "load", lambda source: source)
    split = module.folder(tmp_path)
    split(True), split(False)
    assert len(opened) == 30


def test_headers_are_read_in_threads(tmp_path, write, monkeypatch):
    for i in range(130):
        write(f"{i}.png", (2, 2, 3))
    meet = threading.Barrier(2, timeout=10)
    content = list_image_files._content

    def slow(path, name):
        if path.endswith(("/0.png", "/99.png")):
            meet.wait()
        return content(path, name)

    monkeypatch.setattr(list_image_files, "_content", slow)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert module.folder(tmp_path)(True).size > 100
