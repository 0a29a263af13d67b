"""Sets of TFDS: prepared here without TensorFlow, which has no part in reading them either."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion.data import tfds as module
from diffusion.data.cifar10 import cifar10
from diffusion.data.image_decoder import resize
from diffusion.data.tfds import prepared, tfds

LABELS = 3


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (46, 8, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory, images):
    """A TFDS data folder with `raw_set` (arrays) and `coded_set` (PNGs of several sizes): 40 train, 6 test.

    TFDS encodes images with TensorFlow only, but stores them as it stores a string: so `coded_set` is prepared with
    strings and its features are declared to be images afterwards.
    """
    import tensorflow_datasets as library
    from tensorflow_datasets import features

    root = tmp_path_factory.mktemp("tensorflow_datasets")

    def png(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    kind = features.ClassLabel(num_classes=LABELS)
    picture = features.Tensor(shape=(8, 6, 3), dtype=np.uint8)
    raw = {"id": features.Text(), "picture": picture, "kind": kind}
    coded = {"image": features.Text(), "a": features.ClassLabel(num_classes=2), "label": kind}

    class Base(library.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = library.core.Version("1.0.0")

        def _info(self):
            return library.core.DatasetInfo(builder=self, features=features.FeaturesDict(self.stored()))

        def _split_generators(self, _):
            return {"train": self._generate_examples(range(40)), "test": self._generate_examples(range(40, 46))}

        def _generate_examples(self, part):
            for i in part:
                yield i, self.example(i)

    class RawSet(Base):
        def stored(self):
            return raw

        def example(self, i):
            return {"id": str(i), "picture": images[i], "kind": i % LABELS}

    class CodedSet(Base):
        def stored(self):
            return coded

        def example(self, i):
            return {"image": png(images[i, :, : 3 + i % 3]), "a": 0, "label": i % LABELS}

    class HiddenSet(RawSet):
        """With a test split whose labels are not published, as ImageNet has one."""

        def _split_generators(self, _):
            hidden = ((i, {**self.example(i), "kind": -1}) for i in range(40, 43))
            return {
                "test": hidden,
                "train": self._generate_examples(range(40)),
                "validation": self._generate_examples([43]),
            }

    for builder in (RawSet, CodedSet, HiddenSet):
        builder(data_dir=str(root), file_format="array_record").download_and_prepare()
    declared = coded | {"image": features.Image(shape=(None, None, 3))}
    features.FeaturesDict(declared).save_config(str(root / "coded_set" / "1.0.0"))
    assert "tensorflow" not in sys.modules
    return root


@pytest.fixture
def copy(home, tmp_path):
    """Copies a prepared set to another place in a folder of its own."""

    def to(place, name="raw_set"):
        shutil.copytree(home / name / "1.0.0", tmp_path / place)
        return tmp_path

    return to


def change_info(folder: Path, **changes):
    path = folder / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def error_of(name, root) -> str:
    with pytest.raises(ValueError) as error:
        tfds(name, True, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def sorted_by_content(pixels, labels):
    order = np.lexsort(pixels.reshape(len(pixels), -1).T)
    return pixels[order], labels[order]


@pytest.mark.parametrize("name", ["raw_set", "raw_set:1.0.0"])
def test_arrays_are_read_with_their_labels(home, images, name):
    for train, part in ((True, np.arange(40)), (False, np.arange(40, 46))):
        source = tfds(name, train, str(home))
        assert (source.name, source.shape, source.classes) == (f"tfds:{name}", (8, 6, 3), LABELS)
        for got, expected in zip(
            sorted_by_content(*source.arrays), sorted_by_content(images[part], part % LABELS), strict=True
        ):
            np.testing.assert_array_equal(got, expected)
    assert "tensorflow" not in sys.modules


def test_encoded_images_are_resized_like_those_of_a_folder(home, images):
    source = tfds("coded_set", False, home, size=4)
    assert source.shape == (4, 4, 3) and source.classes == LABELS  # `label`, not `a`
    expected = np.stack([resize(images[i, :, : 3 + i % 3], 4) for i in range(40, 46)])
    for got, wanted in zip(
        sorted_by_content(*source.arrays), sorted_by_content(expected, np.arange(40, 46) % LABELS), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(
        np.sort(tfds("raw_set", False, home, size=4).arrays[0], axis=0),
        np.sort(np.stack([resize(image, 4) for image in images[40:]]), axis=0),
    )


def test_images_of_several_sizes_need_a_size(home):
    message = error_of("coded_set", home)
    assert "example" in message and "--config.data.size" in message


def test_large_sets_are_read_as_they_are_asked_for(home, monkeypatch):
    whole = tfds("raw_set", True, home)
    monkeypatch.setattr(module, "load", lambda source: source)
    source = tfds("raw_set", True, home)
    assert source.arrays is None
    index = np.array([39, 0, 7, 7])
    for got, expected in zip(source.read(index), whole.arrays, strict=True):
        np.testing.assert_array_equal(got, expected[index])


def test_a_set_without_a_test_split_gives_up_every_twentieth(copy, images):
    root = copy("raw_set/1.0.0")
    info = json.loads((root / "raw_set/1.0.0/dataset_info.json").read_text())
    change_info(root / "raw_set/1.0.0", splits=[split for split in info["splits"] if split["name"] == "train"])
    train, test = tfds("raw_set", True, root), tfds("raw_set", False, root)
    assert (train.size, test.size) == (38, 2)
    everything = np.concatenate([train.arrays[0], test.arrays[0]])
    np.testing.assert_array_equal(np.sort(everything, axis=0), np.sort(images[:40], axis=0))


def test_the_validation_split_stands_in_for_a_missing_test_split(copy):
    root = copy("raw_set/1.0.0")
    folder = root / "raw_set/1.0.0"
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        split["name"] = {"test": "validation"}.get(split["name"], split["name"])
    change_info(folder, splits=info["splits"])
    for file in folder.glob("*-test.*"):
        file.rename(folder / file.name.replace("-test.", "-validation."))
    assert (tfds("raw_set", True, root).size, tfds("raw_set", False, root).size) == (40, 6)


def test_the_validation_split_is_taken_where_labels_of_the_test_split_are_hidden(home, images):
    source = tfds("hidden_set", False, home)
    assert source.size == 1 and source.arrays is not None
    np.testing.assert_array_equal(source.arrays[0], images[43:44])
    assert source.arrays[1].tolist() == [43 % LABELS]


def test_training_images_are_held_out_where_the_only_test_split_has_no_labels(copy):
    """-1 would be read as the last class, or as no class."""
    root = copy("hidden_set/1.0.0", "hidden_set")
    info = json.loads((root / "hidden_set/1.0.0/dataset_info.json").read_text())
    kept = [split for split in info["splits"] if split["name"] != "validation"]
    change_info(root / "hidden_set/1.0.0", splits=kept)
    train, test = tfds("hidden_set", True, root), tfds("hidden_set", False, root)
    assert (train.size, test.size) == (38, 2) and test.arrays is not None and min(test.arrays[1]) >= 0


def test_the_newest_version_is_taken(copy):
    root = copy("raw_set/1.0.0")
    copy("raw_set/10.0.0")
    copy("raw_set/9.1.0")
    copy("raw_set/11.0.0.incompleteABC")
    assert prepared("raw_set", root) == root / "raw_set/10.0.0"
    assert prepared("raw_set:9.1.0", root) == root / "raw_set/9.1.0"
    assert prepared("raw_set:2.0.0", root) is None
    change_info(root / "raw_set/10.0.0", fileFormat="tfrecord")
    assert prepared("raw_set", root) == root / "raw_set/9.1.0"


def test_one_of_several_configs_must_be_named(copy):
    root = copy("raw_set/large/1.0.0")
    assert tfds("raw_set", True, root).size == 40
    copy("raw_set/small/1.0.0")
    message = error_of("raw_set", root)
    assert "raw_set/large" in message and "raw_set/small" in message
    assert tfds("raw_set/small", True, root).size == tfds("raw_set/small:1.0.0", True, root).size == 40


def test_a_set_that_is_not_prepared_as_array_record_says_what_to_run(copy, tmp_path):
    root = copy("raw_set/1.0.0")
    change_info(root / "raw_set/1.0.0", fileFormat="tfrecord")
    for name in ("raw_set", "cifar100"):
        message = error_of(name, root)
        assert "pip install tensorflow" in message
        assert f"t.builder('{name}', data_dir='{tmp_path}', file_format='array_record')" in message


def test_damaged_records_are_named(copy):
    root = copy("raw_set/1.0.0")
    folder = root / "raw_set/1.0.0"
    records = next(folder.glob("*-train.array_record*"))
    whole = records.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"x" * len(whole)):
        records.write_bytes(broken)
        assert str(folder) in error_of("raw_set", root)
    records.unlink()
    assert str(folder) in error_of("raw_set", root)
    (folder / "features.json").write_text("{")
    assert str(folder) in error_of("raw_set", root)


def test_a_set_without_images_is_refused(copy):
    from tensorflow_datasets import features

    root = copy("raw_set/1.0.0")
    declared = {"kind": features.ClassLabel(num_classes=LABELS), "sound": features.Tensor(shape=(9,), dtype=np.uint8)}
    features.FeaturesDict(declared).save_config(str(root / "raw_set/1.0.0"))
    message = error_of("raw_set", root)
    assert "no feature" in message and "kind, sound" in message


def test_cifar10_is_taken_from_prepared_records(copy, monkeypatch, tmp_path, images):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    root = copy("records/cifar10/3.0.2") / "records"
    given = cifar10(False, root, download=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    for source in (given, cifar10(False, download=False)):
        assert (source.name, source.size, source.classes) == ("cifar10", 6, LABELS)
        np.testing.assert_array_equal(np.sort(source.arrays[0], axis=0), np.sort(images[40:], axis=0))
    change_info(root / "cifar10/3.0.2", fileFormat="tfrecord")
    with pytest.raises(ValueError, match="not on this machine"):
        cifar10(False, download=False)
