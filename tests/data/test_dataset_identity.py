"""The identity of a data set: what changes it, what does not, and how a change and a label are written."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from diffusion.data import list_image_files, toy_points
from diffusion.data.cifar10 import CLASSES
from diffusion.data.dataset_identity import (
    changes,
    class_names,
    digest,
    from_json,
    identity,
    label_number,
    listed,
    of_copies,
)
from diffusion.data.dataset_interface import in_memory
from diffusion.data.digits import digits
from diffusion.data.image_folder import folder


def of(path, **options):
    split = folder(path, **options)
    return identity(split(True), split(False))


@pytest.fixture
def pictures(tmp_path, rng):
    """A folder of two classes of 40 images each."""
    root = tmp_path / "d"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(40):
            Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def test_an_identity_is_what_it_states(pictures):
    found = of(pictures)
    held_out = folder(pictures)(False).size
    assert found[:4] == (80 - held_out, held_out, (4, 4, 1), ("cat", "dog")) and found.of == "content and file names"
    size = f"{80 - held_out} + {held_out} images of 4x4x1 in 2 classes, digest of content and file names"
    assert str(found) == f"{size} {found.digest}" and len(found.digest) == 16
    assert from_json(json.loads(json.dumps(found._asdict()))) == found and from_json(None) is None
    with pytest.raises(KeyError):
        from_json({"images": 3})


def test_the_place_of_a_folder_is_no_part_of_it(pictures, tmp_path, monkeypatch):
    here = of(pictures)
    shutil.copytree(pictures, tmp_path / "elsewhere" / "e", copy_function=shutil.copy)
    (tmp_path / "link").symlink_to(pictures)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "elsewhere" / "e", "d", "./d", "d/", "link", "elsewhere/../d"):
        assert of(path) == here


CHANGED = {
    "a class added": (
        lambda d: shutil.copytree(d / "cat", d / "bird"),
        "classes cat, dog then and bird, cat, dog now",
    ),
    "a class renamed": (lambda d: (d / "dog").rename(d / "Adog"), "classes cat, dog then and Adog, cat now"),
    "images removed": (lambda d: [(d / "cat" / f"{i}.png").unlink() for i in range(20)], "training images then and"),
    "other pictures": (
        lambda d: Image.fromarray(np.full((4, 4), 7, np.uint8)).save(d / "cat" / "1.png"),
        "the same number of images, but other content",
    ),
    "another size": (
        lambda d: [Image.new("L", (6, 4)).save(file) for file in d.rglob("*.png")],
        "images of [4, 4, 1] then and [4, 6, 1] now",
    ),
    "an image moved to another class": (lambda d: (d / "cat" / "1.png").rename(d / "dog" / "x.png"), "other content"),
    "two images exchanged": (lambda d: exchange(d / "cat" / "1.png", d / "cat" / "2.png"), "other content"),
}


def exchange(a, b):
    content = a.read_bytes(), b.read_bytes()
    a.write_bytes(content[1]), b.write_bytes(content[0])


@pytest.mark.parametrize("change", CHANGED)
def test_every_change_is_one_line(pictures, change):
    before = of(pictures)
    action, words = CHANGED[change]
    action(pictures)
    assert words in "; ".join(changes(before, of(pictures)))


def test_what_changes_no_image_changes_nothing(pictures):
    """Other files, times, the order in which a file system lists them."""
    before = of(pictures)
    (pictures / "notes.txt").write_text("x")
    for file in sorted(pictures.rglob("*.png"), reverse=True):
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    assert changes(before, of(pictures)) == []


def test_how_images_are_read_is_part_of_it(pictures):
    seen = {of(pictures, **how).digest for how in ({}, {"size": 2}, {"size": 2, "crop": 3}, {"channels": 3})}
    assert len(seen) == 4


def test_very_large_folders_are_known_by_names_sizes_and_times(pictures, monkeypatch):
    whole = of(pictures)
    monkeypatch.setattr(list_image_files, "WHOLE", 100)
    large = of(pictures)
    assert large.of == "file names, sizes and times" and large.digest != whole.digest and large[:4] == whole[:4]
    assert of(pictures) == large
    file = pictures / "cat" / "1.png"
    content = file.read_bytes()
    file.write_bytes(content + b"\0")
    assert changes(large, of(pictures)) == ["the same number of images, but other file names, sizes and times"]
    file.write_bytes(content)
    file.rename(pictures / "cat" / "1b.png")
    assert changes(large, of(pictures))


@pytest.mark.parametrize("memory", [True, False])
def test_copies_on_several_machines_differ_in_the_times_of_files_alone(rng, memory):
    """Images that are in memory on every device must be equal, although their files are known by times."""
    pixels = rng.integers(0, 256, (4, 2, 2, 1), dtype=np.uint8)

    def copy(pixels, times):
        source = in_memory("a", pixels)._replace(digest=times, digest_of="file names, sizes and times")
        source = source if memory else source._replace(arrays=None)
        return of_copies(identity(source, source), source, source)

    assert copy(pixels, "monday") == copy(pixels, "tuesday")
    assert (copy(pixels, "monday") == copy(255 - pixels, "monday")) == (not memory)
    plain = in_memory("a", pixels)
    assert of_copies(identity(plain, plain), plain, plain) == identity(plain, plain)


def test_arrays_are_known_by_all_of_their_pixels_and_labels(rng):
    pixels, labels = rng.integers(0, 256, (96, 4, 4, 1), dtype=np.uint8), np.arange(96) % 3
    first = digest(in_memory("a", pixels, labels, 3))
    assert first == digest(in_memory("b", pixels.copy(), labels, 3))
    for i in (0, 17, 95):
        other = pixels.copy()
        other[i, 2, 2] ^= 1
        assert digest(in_memory("a", other, labels, 3)) != first
    assert digest(in_memory("a", pixels, np.roll(labels, 1), 3)) != first
    assert digest(in_memory("a", pixels.reshape(96, 2, 8, 1), labels, 3)) != first


def test_the_last_image_of_a_large_set_counts(rng):
    pixels = rng.integers(0, 256, (3000, 2, 2, 1), dtype=np.uint8)
    first = digest(in_memory("a", pixels))
    pixels[-1, 1, 1] ^= 1
    assert digest(in_memory("a", pixels)) != first


def test_classes_have_names():
    assert class_names(digits(True)) == tuple("0123456789")
    assert (
        class_names(toy_points.toy("moons", True)) == ("0", "1") and class_names(toy_points.toy("spiral", True)) == ()
    )
    assert CLASSES[3] == "cat" and len(CLASSES) == 10
    assert listed([]) == "none" and listed([str(i) for i in range(12)]).endswith("9, ... (12)")


@pytest.mark.parametrize(
    "text, names, number",
    [
        ("dog", ("cat", "dog"), 1),
        ("1", ("cat", "dog"), 1),
        ("3", tuple("0123456789"), 3),
        ("5", ("1", "5", "10"), 1),  # a name before a number
        ("3", (), 3),  # of a run whose classes are not known
        ("big cat", ("big cat", "dog"), 0),
    ],
)
def test_a_label_is_a_name_or_a_number(text, names, number):
    assert label_number(text, names) == number


@pytest.mark.parametrize(
    "text, names",
    [("bird", ("cat", "dog")), ("2", ("cat", "dog")), ("2", ("1", "5", "10")), ("-1", ("cat",)), ("x", ())],
)
def test_what_is_no_label_is_refused_with_the_classes(text, names):
    with pytest.raises(ValueError, match=f"--label={text} is no label of this run") as error:
        label_number(text, names)
    assert all(name in str(error.value) for name in names)
    assert ("or a number of" in str(error.value)) == bool(names and not any(name.isdigit() for name in names))
