"""The loss, the accuracy and the checkpoints of a classifier of noised images, with stand-ins for its network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import schedules
from diffusion.core.forward_process import vp
from diffusion.training import classifier, state
from diffusion.training.classifier import Problem

T, SHAPE = 8, (4, 4, 1)
VP = vp(schedules.linear(T, 0.01, 0.3))
KEYS = state.step_keys(jax.random.key(3), jnp.int32(0))


def recorded(times, inputs):
    """A linear network that notes the times and inputs of each evaluation."""

    def apply(params, x, time, key):  # noqa: ARG001
        jax.debug.callback(lambda t, x: (times.append(t), inputs.append(x)), time, x)
        return x.reshape(len(x), -1)[:, :2] * params["w"][None] + params["b"][None]

    return Problem(VP, apply)


PARAMS = {"w": jnp.array([0.5, -1.0]), "b": jnp.array([0.1, 0.3])}


def test_the_loss_is_cross_entropy_at_t_in_1_to_T():
    """All steps are drawn, each as often as the others, and the network takes q_sample(x_0, t, eps) and t - 1."""
    times, inputs = [], []
    pixels = jnp.full((800, *SHAPE), 255, jnp.uint8)
    labels = jnp.arange(800) % 2
    found = recorded(times, inputs).gradient(PARAMS, (), KEYS, pixels, labels)
    jax.effects_barrier()
    t = np.round(times[0]).astype(int) + 1
    counts = np.bincount(t, minlength=T + 1)
    assert counts[0] == 0 and len(counts) == T + 1
    assert np.abs(counts[1:] - 100).max() < 4.5 * np.sqrt(100)
    eps = jax.random.normal(KEYS.noise, pixels.shape)
    x_t = VP.signal[t][:, None, None, None] + VP.noise[t][:, None, None, None] * eps
    np.testing.assert_allclose(inputs[0], x_t, rtol=1e-5, atol=1e-5)
    logits = np.float64(x_t.reshape(800, -1)[:, :2] * PARAMS["w"][None] + PARAMS["b"][None])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert float(found.loss) == pytest.approx(-log_p[np.arange(800), labels].mean(), rel=1e-5)
    error = np.exp(log_p) - np.eye(2)[np.asarray(labels)]
    np.testing.assert_allclose(found.grads["b"], error.mean(axis=0), rtol=1e-4, atol=1e-6)
    accuracy = (log_p.argmax(axis=1) == np.asarray(labels)).mean()
    assert float(found.metrics["accuracy"][0]) == pytest.approx(accuracy) and float(found.metrics["accuracy"][1]) == 1


def test_flips_follow_their_key():
    """Of images whose left half alone is white, without noise: the loss tells which were flipped."""
    apply = lambda params, x, time, key: x[:, 0, :2, 0] * params["w"][None]  # noqa: ARG005, E731
    problem = Problem(VP._replace(noise=jnp.zeros(T + 1)), apply, flip=True)
    pixels, labels = jnp.zeros((64, *SHAPE), jnp.uint8).at[:, :, :2].set(255), jnp.zeros(64, jnp.int32)
    keys = [KEYS, KEYS._replace(augment=jax.random.key(9))]
    one, other = (float(problem.gradient(PARAMS, (), key, pixels, labels).loss) for key in keys)
    assert one != other


@pytest.mark.parametrize("batch", [5, 16, 1000])
def test_accuracy_by_quarter_of_t_in_batches(batch):
    """Of a classifier that is right for the first half of 1..T alone; every t is met; batches have the given size."""
    sizes, times = [], []

    def apply(params, x, time, key):  # noqa: ARG001
        sizes.append(len(x))
        jax.debug.callback(times.append, time)
        right = time < T / 2
        return jnp.stack([right, ~right], axis=1).astype(jnp.float32)

    pixels, labels = np.zeros((6, *SHAPE), np.uint8), np.zeros(6, np.int32)
    found = classifier.accuracy_by_quartile(Problem(VP, apply), {}, jax.random.key(0), pixels, labels, 8, batch)
    jax.effects_barrier()
    assert found == [1, 1, 0, 0] and sizes == [batch]
    assert np.unique(np.concatenate(times)).tolist() == list(range(T))


def test_fewer_than_four_steps_have_an_accuracy_each():
    problem = Problem(vp(schedules.linear(3, 0.01, 0.3)), lambda params, x, time, key: jnp.ones((len(x), 1)))  # noqa: ARG005
    pixels, labels = np.zeros((6, *SHAPE), np.uint8), np.zeros(6, np.int32)
    assert classifier.accuracy_by_quartile(problem, {}, jax.random.key(0), pixels, labels, 8, 16) == [1, 1, 1]


@pytest.mark.parametrize("T", [1, 2, 3, 4, 10, 15, 1000])
def test_the_quarters_are_those_by_which_steps_are_counted(T):
    t = np.arange(1, T + 1)
    quartile = (t - 1) * 4 // T
    assert classifier.quarters(T) == [(t[quartile == q].min(), t[quartile == q].max()) for q in np.unique(quartile)]


def test_probabilities_sum_to_one():
    problem = recorded([], [])
    log_p = classifier.log_probs(problem, PARAMS, jnp.ones((2, *SHAPE)), jnp.array([1, T]))
    np.testing.assert_allclose(jnp.exp(log_p).sum(axis=1), 1, rtol=1e-6)
