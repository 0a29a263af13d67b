"""The gradient noise scale, on a model whose gradients have a known mean and covariance."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffusion.commands import previews_during_training
from diffusion.config import default_config
from diffusion.core import parameterization, schedules, variance, weighting
from diffusion.core.forward_process import vp
from diffusion.core.objective import Objective
from diffusion.core.reverse_process import Diffusion
from diffusion.core.timesteps import History, Timesteps, loss_second_moment, probabilities, uniform
from diffusion.data.digits import digits
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.training import gradient_noise_scale
from diffusion.training.state import create
from diffusion.training.step import Task
from tests.support.worlds import standard_errors

T, SHAPE = 5, (4, 2, 1)
D = 8
W = np.linspace(-1, 2, D).reshape(SHAPE)
RMS = np.array([0.2, 5.0, 1.0, 1.0, 3.0])
UNEVEN = History(jnp.tile(jnp.float32(RMS)[:, None], (1, 10)), jnp.full(T, 10, jnp.int32))


def task(timesteps: Timesteps) -> Task:
    """The output is the parameter w, whatever goes in: the loss mean_dims (eps - w)^2 has the gradient 2 (w - eps) / D.

    So G = 2 w / D, and Sigma = 4 / D^2 I for t that is drawn uniformly.
    """

    def apply(params, x_t, time, labels, condition, key):  # noqa: ARG001
        return jnp.broadcast_to(params["w"], x_t.shape)

    process = vp(schedules.linear(T, 0.1, 0.99))
    objective = Objective(weighting.native, vlb=0.0)
    return Task(Diffusion(process, parameterization.eps, variance.fixed_small), objective, timesteps, apply)


def measured(timesteps: Timesteps, state, parts: int, size: int, repeats: int):
    """Independent estimates of tr(Sigma) and |G|^2, from `parts` batches of `size` images each."""
    train_state = create({"w": jnp.float32(W)}, optax.sgd(1.0), timesteps, jax.random.key(0))._replace(timesteps=state)
    pixels = jnp.full((parts, size, *SHAPE), 7, jnp.uint8), jnp.zeros((parts, size), jnp.int32)

    def one(key):
        return gradient_noise_scale.measure(task(timesteps), lambda data, batch: batch, train_state, key, (), pixels)  # noqa: ARG005

    return [np.float64(x) for x in jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(parts), repeats))]


@pytest.mark.parametrize(("parts", "size"), [(2, 32), (16, 4)])
def test_known_covariance_in_any_partition(parts, size):
    """tr(Sigma) = 4 / D and |G|^2 = 4 |w|^2 / D^2, both without bias, however 64 images are cut into parts."""
    trace, square = measured(uniform(T), (), parts, size, 600)
    norm = np.sum(W**2)
    assert standard_errors(trace, 4 / D) < 4
    assert standard_errors(square, 4 * norm / D**2) < 4
    ratio = [gradient_noise_scale.ratio(*both) for both in zip(trace, square, strict=True)]
    assert abs(np.median(ratio) / (D / norm) - 1) < 0.15
    assert (square > 0).all()


def test_importance_weights_are_part_of_the_gradient():
    """g = weight 2 (w - eps) / D: the same mean, and E[weight^2] times the second moment.

    The history does not fit the losses, so this is far noisier than uniform t.
    """
    second = np.sum(1 / np.float64(probabilities(UNEVEN, 0.001))) / T**2
    norm = np.sum(W**2)
    trace, square = measured(loss_second_moment(T), UNEVEN, 8, 16, 600)
    expected = second * 4 / D**2 * (norm + D) - 4 * norm / D**2
    assert second > 2
    assert standard_errors(trace, expected) < 4
    assert standard_errors(square, 4 * norm / D**2) < 4


def test_the_two_batch_sizes_of_the_paper(rng):
    """|G|^2 and tr(Sigma) from McCandlish et al., appendix A.1, written with batch sizes b and B."""
    b, parts = 3, 5
    grads = {"a": rng.normal(size=(parts, 4)), "c": rng.normal(size=(parts, 2, 3))}
    small = np.mean([sum(np.sum(g[i] ** 2) for g in grads.values()) for i in range(parts)])
    mean = {name: g.mean(axis=0) for name, g in grads.items()}
    large, B = sum(np.sum(g**2) for g in mean.values()), b * parts
    trace, square = gradient_noise_scale.estimate(jax.tree.map(jnp.float32, mean), jnp.float32(small), parts, b)
    np.testing.assert_allclose(square, (B * large - b * small) / (B - b), rtol=1e-5)
    np.testing.assert_allclose(trace, (small - large) / (1 / b - 1 / B), rtol=1e-5)


def test_a_hidden_mean_has_an_infinite_scale():
    assert gradient_noise_scale.ratio(2.0, -0.1) == np.inf
    assert gradient_noise_scale.ratio(2.0, 0.5) == 4.0


class Constant:
    """A network that outputs its one parameter; it compiles at once."""

    classes = 0

    def init(self, key, x, t, label, condition):  # noqa: ARG002
        return {"params": {"w": jnp.full(x.shape[1:], 0.5)}}

    def apply(self, variables, x_t, time, label, **mode):  # noqa: ARG002
        return jnp.broadcast_to(variables["params"]["w"], x_t.shape)


def test_a_training_run_measures_it_on_any_number_of_devices():
    """From the next training batches of a run: tr(Sigma) = 4 / D and |G|^2 = 4 |w|^2 / D^2 again, now with D = 64."""
    config = default_config()
    config.data.update(name="digits", flip=False)
    config.train.batch_size = 16
    config.eval.update(noise_scale=True, noise_scale_batches=16)
    found = []
    for devices in (1, 8):
        mesh = sharding.make_mesh(jax.devices()[:devices])
        ours = build.experiment(config, (8, 8, 1), 10, mesh)._replace(net=Constant())
        noise = previews_during_training.gradient_noise(ours, ours.feed(digits(train=True)))
        found.append(noise(ours.create_state()))
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-4)
    assert found[0]["grad_trace"] == pytest.approx(4 / 64, rel=5 / np.sqrt(2 * 16 * 64))
    assert found[0]["grad_square"] == pytest.approx(64 / 64**2, rel=0.3)
    assert found[0]["noise_scale"] == pytest.approx(found[0]["grad_trace"] / found[0]["grad_square"], rel=1e-4)
