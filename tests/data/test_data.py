"""Sources, the scaling of pixels, the embedded digits, and which examples make up which batch."""

import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.config import default_config
from diffusion.data import batch_order
from diffusion.data.dataset_interface import Source, hold_out, in_memory, load
from diffusion.data.digits import digits
from diffusion.data.transforms import random_flip, to_image, to_pixels
from diffusion.experiment import build, registry_of_samplers_and_schedules

LEVELS = jnp.arange(256, dtype=jnp.uint8).reshape(4, 8, 8, 1)


def numbered(n: int) -> Source:
    """A set whose image i has every pixel i."""
    return in_memory("numbered", np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 3, 1)))


def lazy(source: Source, read) -> Source:
    return source._replace(read=read, arrays=None)


# --- sources ---


def test_a_source_in_memory_reads_what_was_put_in(rng):
    pixels, labels = rng.integers(0, 256, (9, 4, 6, 3), dtype=np.uint8), rng.integers(0, 5, 9)
    source = in_memory("noise", pixels, labels, classes=5)
    assert (source.size, source.shape, source.classes) == (9, (4, 6, 3), 5)
    order = np.array([8, 0, 0, 3])
    got, got_labels = source.read(order)
    assert got.dtype == np.uint8 and got_labels.dtype == np.int32
    np.testing.assert_array_equal(got, pixels[order])
    np.testing.assert_array_equal(got_labels, labels[order])
    got[:] = 0
    np.testing.assert_array_equal(source.read(order)[0], pixels[order])


def test_a_source_without_labels_has_zeros():
    source = numbered(4)
    assert source.classes == 0
    np.testing.assert_array_equal(source.read(np.arange(4))[1], np.zeros(4, np.int32))


@pytest.mark.parametrize(
    "pixels, labels, classes, complaint",
    [
        (np.zeros((2, 4, 4, 3), np.float32), None, 0, "float32"),
        (np.full((2, 4, 4, 3), np.nan), None, 0, "float64"),
        (np.zeros((2, 4, 4), np.uint8), None, 0, r"\[2, 4, 4\]"),
        (np.zeros((2, 4, 4, 2), np.uint8), None, 0, r"\[2, 4, 4, 2\]"),
        (np.zeros((0, 4, 4, 3), np.uint8), None, 0, "no image"),
        (np.zeros((2, 0, 4, 3), np.uint8), None, 0, "no image"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.int64), 0, "labels"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2), 2, "float64"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 7]), 7, "label 7 of image 1"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.array([-1, 0]), 7, "label -1 of image 0"),
    ],
)
def test_arrays_that_are_no_images_are_refused(pixels, labels, classes, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        in_memory("bad", pixels, labels, classes)
    assert str(error.value).startswith("bad: ") and "\n" not in str(error.value)


def test_load_brings_a_lazy_source_into_memory_unless_it_is_too_large(rng):
    pixels, labels = rng.integers(0, 256, (201, 2, 2, 3), dtype=np.uint8), rng.integers(0, 9, 201)
    whole = in_memory("noise", pixels, labels, 9)
    source = lazy(whole, whole.read)
    assert load(source, 201 * 12 - 1) is source
    loaded = load(source, 201 * 12)
    assert loaded.classes == 9 and loaded.name == "noise"
    np.testing.assert_array_equal(loaded.arrays[0], pixels)
    np.testing.assert_array_equal(loaded.arrays[1], labels)
    assert load(loaded) is loaded


def test_load_passes_an_error_of_the_reader_on():
    def read(index):
        if 150 in index:
            raise ValueError("x.png: broken")
        return numbered(200).read(index)

    with pytest.raises(ValueError, match=r"^x\.png: broken$"):
        load(lazy(numbered(200), read))


@pytest.mark.parametrize("n", [20, 21, 59, 400])
def test_hold_out_divides_a_set(n):
    train, test = hold_out("set", n, True), hold_out("set", n, False)
    assert sorted([*train, *test]) == list(range(n))
    assert len(test) == n // 20 >= 1


def test_nothing_can_be_held_out_of_a_handful():
    assert len(hold_out("set", 19, True)) == 19
    with pytest.raises(
        ValueError, match="set: 19 images are too few to hold some out for a test split; supply at least 20"
    ):
        hold_out("set", 19, False)


# --- pixels and images ---


@pytest.mark.parametrize("convert", [to_image, jax.jit(to_image)])
def test_pixels_become_images_in_minus_one_to_one(convert):
    image = np.asarray(convert(LEVELS)).ravel()
    assert image.dtype == np.float32
    assert image[0] == -1 and image[255] == 1
    np.testing.assert_array_equal(image, -image[::-1])  # so 127.5 is at 0
    np.testing.assert_allclose(image, np.arange(256) / 127.5 - 1, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(image, np.asarray(to_image(LEVELS)).ravel())


@pytest.mark.parametrize("convert", [to_pixels, jax.jit(to_pixels)])
def test_every_level_survives_the_round_trip(convert):
    assert convert(to_image(LEVELS)).dtype == jnp.uint8
    for shift in (-0.49, 0, 0.49):  # of a level: rounding, not truncation
        np.testing.assert_array_equal(convert(to_image(LEVELS) + shift / 127.5), LEVELS)


def test_truncation_goes_down_to_the_level_below():
    image = to_image(LEVELS)
    for part in (0.01, 0.5, 0.99):
        np.testing.assert_array_equal(to_pixels(image[:-1] + part / 127.5, truncate=True), LEVELS[:-1])
    np.testing.assert_array_equal(to_pixels(image[1:] - 0.01 / 127.5, truncate=True), LEVELS[1:] - 1)


def test_what_lies_outside_is_clipped():
    image = jnp.array([-jnp.inf, -7.0, -1.001, 1.001, 7.0, jnp.inf, jnp.nan]).reshape(7, 1, 1, 1)
    for truncate in (False, True):
        assert to_pixels(image, truncate).ravel().tolist() == [0, 0, 0, 255, 255, 255, 0]


def test_flips_mirror_half_of_the_images_left_to_right(rng):
    n = 2000
    pixels = jnp.asarray(rng.integers(0, 256, (n, 3, 4, 3), dtype=np.uint8))
    flipped = np.asarray(random_flip(jax.random.key(1), pixels))
    same = (flipped == np.asarray(pixels)).all((1, 2, 3))
    mirrored = (flipped == np.asarray(pixels)[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert abs(mirrored.sum() - n / 2) < 5 * np.sqrt(n / 4)
    # Neighbours flip independently: the four pairs (flipped, flipped) ... are equally frequent.
    pairs = np.bincount(2 * mirrored[::2] + mirrored[1::2], minlength=4)
    assert (abs(pairs - n / 8) < 5 * np.sqrt(n / 2 * 3 / 16)).all()


def test_flips_depend_on_the_key_alone():
    image, pixels = jax.random.normal(jax.random.key(0), (64, 2, 4, 1)), jnp.tile(LEVELS, (16, 1, 1, 1))
    np.testing.assert_array_equal(random_flip(jax.random.key(5), image), random_flip(jax.random.key(5), image))
    assert (random_flip(jax.random.key(5), image) != random_flip(jax.random.key(6), image)).any()
    np.testing.assert_array_equal(
        to_image(random_flip(jax.random.key(5), pixels)), random_flip(jax.random.key(5), to_image(pixels))
    )


# --- the embedded digits ---


def test_the_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data = load_digits()
    train, test = digits(True), digits(False)
    assert (train.size, test.size) == (1500, 297)
    pixels = np.concatenate([train.arrays[0], test.arrays[0]])
    assert pixels.shape == (1797, 8, 8, 1)
    assert sorted(np.unique(pixels)) == [round(x * 255 / 16) for x in range(17)]
    np.testing.assert_array_equal(np.rint(pixels[..., 0] / 255 * 16), data.images)
    np.testing.assert_array_equal(np.concatenate([train.arrays[1], test.arrays[1]]), data.target)
    for source in (train, test):
        assert source.classes == 10 and set(source.arrays[1]) == set(range(10))


# --- batches ---

SIZES = [(10, 3), (7, 7), (5, 12), (1, 4), (64, 16), (100, 7)]


def stream_of_indices(seed: int, batch_size: int, n: int, steps: int) -> np.ndarray:
    return np.concatenate([batch_order.indices(seed, step, batch_size, n) for step in range(steps)])


@pytest.mark.parametrize("n, batch_size", SIZES)
def test_an_epoch_is_a_permutation(n, batch_size):
    stream = stream_of_indices(3, batch_size, n, -(-4 * n // batch_size))
    assert stream.dtype == np.int64
    epochs = stream[: 4 * n].reshape(4, n)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(n), (4, 1)))
    if n >= 10:
        assert all((a != b).any() for a, b in itertools.combinations(epochs, 2))


@pytest.mark.parametrize("n", [10, 64])
def test_the_stream_does_not_depend_on_the_batch_size(n):
    streams = [stream_of_indices(3, batch_size, n, 240 // batch_size) for batch_size in (1, 5, 48, 240)]
    for other in streams[1:]:
        np.testing.assert_array_equal(streams[0], other)


def test_a_batch_depends_on_seed_and_step_alone():
    batch = batch_order.indices(0, 17, 8, 50)
    for seed, step in itertools.product((1, 2), range(40)):  # fills and empties the cache of permutations
        batch_order.indices(seed, step, 8, 50)
    np.testing.assert_array_equal(batch_order.indices(0, 17, 8, 50), batch)
    assert (batch_order.indices(1, 17, 8, 50) != batch).any()
    batch[:] = 0
    assert batch_order.indices(0, 17, 8, 50).any()


def test_the_order_of_the_data_is_the_same_for_ever():
    """A run resumed under a later NumPy must see what it would have seen, which NumPy itself does not promise."""
    epochs = [[4, 6, 2, 7, 3, 5, 9, 0, 8, 1], [9, 1, 3, 8, 7, 6, 0, 4, 2, 5]]
    assert batch_order.indices(0, 0, 20, 10).reshape(2, 10).tolist() == epochs


@pytest.mark.parametrize("n, batch_size", SIZES)
@pytest.mark.parametrize("threads", [0, 1, 4])
def test_the_stream_reads_what_the_indices_say(n, batch_size, threads):
    whole = numbered(n)

    def read(index):  # finishes out of order
        time.sleep(0.004 * (index[0] % 3))
        return whole.read(index)

    batches = batch_order.stream(lazy(whole, read), 3, batch_size, threads=threads)
    for step, (pixels, labels) in enumerate(itertools.islice(batches, 6)):
        np.testing.assert_array_equal(pixels[:, 0, 0, 0], batch_order.indices(3, step, batch_size, n))
        assert pixels.shape == (batch_size, 2, 3, 1) and labels.shape == (batch_size,)


@pytest.mark.parametrize("start", [0, 1, 5, 1_000_000_007])
def test_a_resumed_stream_goes_on_where_it_would_have_been(start):
    resumed = batch_order.stream(numbered(37), 1, 8, start_step=start, threads=2)
    for step, (pixels, _) in zip(range(start, start + 4), resumed, strict=False):
        np.testing.assert_array_equal(pixels[:, 0, 0, 0], batch_order.indices(1, step, 8, 37))


def test_hosts_read_disjoint_parts_of_one_batch():
    whole = batch_order.stream(numbered(37), 1, 8)
    hosts = [batch_order.stream(numbered(37), 1, 8, rows=slice(4 * host, 4 * host + 4)) for host in range(2)]
    for (pixels, _), *parts in itertools.islice(zip(whole, *hosts, strict=True), 6):
        np.testing.assert_array_equal(pixels, np.concatenate([part for part, _ in parts]))


@pytest.mark.parametrize("threads", [0, 4])
def test_a_broken_example_spoils_only_the_batch_that_holds_it(threads):
    whole = numbered(40)
    spoilt = next(step for step in range(100) if 7 in batch_order.indices(0, step, 4, 40))

    def read(index):
        if 7 in index:
            raise ValueError("seven.png: not a readable image")
        return whole.read(index)

    batches = batch_order.stream(lazy(whole, read), 0, 4, threads=threads)
    assert len(list(itertools.islice(batches, spoilt))) == spoilt
    with pytest.raises(ValueError) as error:
        next(batches)
    assert str(error.value) == "seven.png: not a readable image"


def test_reading_ahead_is_bounded_and_ends_with_the_stream():
    whole, reads, lock = numbered(40), [], threading.Lock()

    def read(index):
        with lock:
            reads.append(index)
        return whole.read(index)

    batches = batch_order.stream(lazy(whole, read), 0, 4, threads=3)
    next(batches)
    time.sleep(0.1)
    assert 1 <= len(reads) <= 1 + 2 * 3
    batches.close()
    count = len(reads)
    time.sleep(0.1)
    assert len(reads) == count


def test_splits_of_different_sizes_are_no_data_set(monkeypatch):
    def read(c, rest):  # noqa: ARG001
        return lambda train: in_memory("digits", np.zeros((20, 8, 8 if train else 6, 1), np.uint8))

    monkeypatch.setitem(registry_of_samplers_and_schedules.SOURCES, "digits", read)
    config = default_config()
    config.data.name = "digits"
    with pytest.raises(ValueError, match="digits: training images of 8x8x1 and held-out ones of 8x6x1 are not of one"):
        build.sources(config)
