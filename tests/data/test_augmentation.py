"""Geometric transforms of training images, against matrices in float64 and images for which they have a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.config import default_config
from diffusion.config.validation import validate
from diffusion.core.reverse_process import network_input, network_time
from diffusion.data.augmentation import Transform, condition, draw, geometric, source, warp
from diffusion.experiment import build
from diffusion.experiment.registry_of_samplers_and_schedules import augment
from diffusion.training.state import step_keys

N, HEIGHT, WIDTH = 4000, 6, 10
PUBLISHED = 0.12
DRAWN = draw(jax.random.key(1), N, PUBLISHED, 1.0)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def matrix(x_flip, y_flip, scale, angle, stretch, axis, right, down) -> np.ndarray:
    """The map of points of the image, of the published table, as matrices of homogeneous coordinates with y down."""

    def turn(angle):  # counterclockwise as seen
        return np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

    mirrored = np.diag([1 - 2 * x_flip, 1 - 2 * y_flip, 1])
    larger = np.diag([2 ** (0.2 * scale), 2 ** (0.2 * scale), 1])
    stretched = turn(axis) @ np.diag([2 ** (0.2 * stretch), 2 ** (-0.2 * stretch), 1]) @ turn(-axis)
    moved = np.array([[1, 0, right * WIDTH / 8], [0, 1, down * HEIGHT / 8], [0, 0, 1]])
    return moved @ stretched @ turn(angle) @ larger @ mirrored


def one(**parts: float) -> Transform:
    """One transform of these parts."""
    return Transform(**{name: jnp.full(1, parts.get(name, 0.0), jnp.float32) for name in Transform._fields})


def test_a_transform_is_its_matrices():
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    columns, rows = np.meshgrid(np.arange(WIDTH) - middle[0], np.arange(HEIGHT) - middle[1])
    points = np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    everything = jax.tree.map(lambda part: part[:50], draw(jax.random.key(2), N, 1.0, 1.0))
    found = source(everything, HEIGHT, WIDTH)
    assert all(np.abs(part).max() > 0 for part in everything)
    for i, parts in enumerate(zip(*map(np.float64, everything), strict=True)):
        x, y, _ = np.linalg.inv(matrix(*parts)) @ points
        np.testing.assert_allclose(found[0][i].ravel(), y + middle[1], atol=2e-5)
        np.testing.assert_allclose(found[1][i].ravel(), x + middle[0], atol=2e-5)


def test_a_plane_stays_a_plane():
    """Linear interpolation is exact for an image that is linear in x and y, wherever it shows the inside."""
    a, b, c = 0.3, -0.7, 0.1
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = jnp.float32(np.stack([a * x + b * y + c, b * x], axis=-1))[None]
    some = jax.tree.map(lambda part: part[:100], draw(jax.random.key(3), N, 0.6, 0.6))
    rows, columns = map(np.asarray, source(some, HEIGHT, WIDTH))
    shown = np.asarray(warp(some, jnp.tile(image, (100, 1, 1, 1))))
    inside = (rows >= 0) & (rows <= HEIGHT - 1) & (columns >= 0) & (columns <= WIDTH - 1)
    assert 0.3 < inside.mean() < 1
    np.testing.assert_allclose(shown[inside][:, 0], (a * columns + b * rows + c)[inside], atol=1e-5)
    np.testing.assert_allclose(shown[inside][:, 1], (b * columns)[inside], atol=1e-5)
    assert np.abs(shown[..., 0]).max() <= np.abs(image[..., 0]).max() + 1e-6  # beyond the edges: mirrored, nothing new


def test_steps_of_whole_pixels_are_exact(rng):
    image = jnp.float32(rng.normal(size=(1, 8, 8, 2)))
    np.testing.assert_array_equal(warp(one(x_flip=1), image), image[:, :, ::-1])
    np.testing.assert_array_equal(warp(one(y_flip=1), image), image[:, ::-1])
    np.testing.assert_array_equal(warp(one(right=2), image)[:, :, 2:], image[:, :, :-2])
    np.testing.assert_array_equal(warp(one(down=3), image)[:, 3:], image[:, :-3])
    np.testing.assert_array_equal(warp(one(down=3), image)[:, :3], image[:, 3:0:-1])
    quarter = warp(one(angle=np.pi / 2), image)
    np.testing.assert_allclose(quarter[0], np.rot90(image[0]), atol=1e-5)
    wide = warp(one(stretch=5), image)  # twice as wide and half as high about the middle
    np.testing.assert_allclose(
        wide[0, 3, 3], image[0, 2:4, 3:5].mean((0, 1)) + 0.25 * (image[0, 2:4, 3] - image[0, 2:4, 4]).mean(0), atol=1e-5
    )


def test_nothing_is_done_where_the_condition_is_zero_and_only_there(rng):
    images = jnp.float32(rng.normal(size=(N, 4, 4, 1)))
    rare = draw(jax.random.key(4), N, 0.1, 0.1)
    zero = ~np.asarray(condition(rare)).any(axis=1)
    same = (np.asarray(warp(rare, images)) == images).all(axis=(1, 2, 3))
    assert 0.3 < zero.mean() < 0.8
    np.testing.assert_array_equal(zero, same)
    untouched, zeros = geometric(jax.random.key(5), images, 0.0, 0.0)
    np.testing.assert_array_equal(untouched, images)
    np.testing.assert_array_equal(zeros, np.zeros((N, 9)))


def test_the_condition_is_the_published_vector():
    """a_0 .. a_7 of the published table, the angles by their cosine and sine."""
    parts = one(x_flip=1, scale=0.5, angle=2.0, stretch=-1.5, axis=0.7, right=0.3, down=-0.4)
    turn, along = (np.cos(2.0) - 1, np.sin(2.0)), (-1.5 * np.cos(0.7), -1.5 * np.sin(0.7))
    np.testing.assert_allclose(condition(parts)[0], [1, 0, 0.5, *turn, *along, 0.3, -0.4], rtol=1e-6)


def test_each_part_is_drawn_as_published():
    """With probability p, independently: flips 0 or 1, scale, stretch and shifts standard normal, angles uniform."""
    parts = {name: np.asarray(part) for name, part in DRAWN._asdict().items()}
    shares = dict(x_flip=0.5, y_flip=PUBLISHED / 2, axis=PUBLISHED / 2)
    for name, part in parts.items():
        share = shares.get(name, PUBLISHED)
        assert (part != 0).mean() == pytest.approx(share, abs=4 * np.sqrt(share / N)), name
    assert set(parts["x_flip"]) | set(parts["y_flip"]) == {0, 1}
    for name in ("scale", "stretch", "right", "down"):
        own = parts[name][parts[name] != 0]
        assert own.mean() == pytest.approx(0, abs=4 / np.sqrt(len(own))), name
        assert own.std() == pytest.approx(1, abs=0.15), name
    for name in ("angle", "axis"):
        own = parts[name][parts[name] != 0]
        assert own.std() == pytest.approx(np.pi / np.sqrt(3), rel=0.1) and np.abs(own).max() < np.pi + 1e-6, name
    assert ((parts["right"] != 0) == (parts["down"] != 0)).all() and (
        (parts["axis"] != 0) <= (parts["stretch"] != 0)
    ).all()
    both = ((parts["scale"] != 0) & (parts["angle"] != 0)).mean()
    assert both == pytest.approx(PUBLISHED**2, abs=4 * PUBLISHED / np.sqrt(N))


@pytest.fixture(scope="module")
def experiments():
    """Without augmentation and with it; the network for points is the cheaper one, and has the same embedding."""
    config = default_config()
    config.update_from_flattened_dict(
        {"net.name": "mlp", "net.channels": 8, "diffusion.T": 20, "diffusion.beta_T": 0.6}
    )
    augmented = config.copy_and_resolve_references()
    augmented.data.augment = 0.5
    return [build.experiment(c, (4, 4, 1), 10) for c in (config, augmented)]


def test_the_network_is_given_the_condition_in_training_and_zeros_elsewhere(experiments, rng):
    plain, augmented = experiments
    fresh, without = jax.jit(augmented.init)(jax.random.key(0)), jax.jit(plain.init)(jax.random.key(0))
    weights = fresh.pop("condition")["kernel"]
    assert weights.shape == (9, 8)
    jax.tree.map(np.testing.assert_array_equal, fresh, without)  # no other parameter, nor value, depends on it
    params = jax.tree.map(
        lambda p: jnp.float32(p + 0.3 * rng.normal(size=p.shape)), {**fresh, "condition": {"kernel": weights}}
    )
    x, t, labels = jnp.float32(rng.normal(size=(3, 4, 4, 1))), jnp.array([1, 7, 20]), jnp.zeros(3, jnp.int32)

    @jax.jit
    def run(condition):
        inputs = network_input(augmented.process, x, t), network_time(augmented.process, t)
        return augmented.apply(params, *inputs, labels, condition=condition)

    sampled = jax.jit(augmented.denoise(params, labels, clip=False))(x, t).eps
    np.testing.assert_allclose(sampled, run(jnp.zeros((3, 9))), atol=1e-4)
    np.testing.assert_array_equal(run(None), run(jnp.zeros((3, 9))))
    assert np.abs(run(None) - run(jnp.ones((3, 9)))).max() > 1e-2
    keys, pixels = step_keys(jax.random.key(1), jnp.int32(0)), jnp.uint8(rng.integers(0, 256, (16, 4, 4, 1)))
    task, drawn = augmented.task(), condition(draw(keys.augment, 16, 0.5, 0.5))

    def apply(params, x, time, labels, condition, key):
        np.testing.assert_array_equal(condition, drawn)
        return task.apply(params, x, time, labels, condition, key)

    grads = task._replace(apply=apply).gradient(params, (), keys, pixels, jnp.zeros(16, jnp.int32)).grads
    assert np.abs(grads["condition"]["kernel"]).max() > 0


def test_the_unet_has_weights_for_the_condition_where_it_is_given_one():
    config = default_config()
    for p, expected in ((0.0, None), (0.1, (9, 32))):
        config.data.augment = p
        shapes = jax.eval_shape(build.experiment(config, (8, 8, 1), 10).init, jax.random.key(0))
        assert (shapes["condition"]["kernel"].shape if "condition" in shapes else None) == expected


def test_flips_of_the_data_are_given_to_a_network_that_is_given_any(rng):
    images, config = jnp.float32(rng.normal(size=(500, 4, 4, 1))), default_config()
    config.data.flip, config.data.augment = True, 1e-6
    shown, vector = augment(config.data)(jax.random.key(0), images)
    assert vector is not None and 0.4 < np.asarray(vector)[:, 0].mean() < 0.6 and not np.asarray(vector)[:, 1:].any()
    mirrored = np.asarray(vector)[:, 0, None, None, None] > 0
    np.testing.assert_array_equal(shown, np.where(mirrored, images[:, :, ::-1], images))
    config.data.augment = 0.0
    assert augment(config.data)(jax.random.key(0), images)[1] is None
    config.data.flip, config.data.name, config.data.augment = False, "toy:moons", 0.1
    with pytest.raises(ValueError, match=r"config.data.name: 'toy:moons' has points, .* data.augment to 0"):
        validate(config)
