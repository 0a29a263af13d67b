"""A state whose trees are vectors: the same training, whole wherever it leaves the loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.data.digits import digits
from diffusion.training import loop, state_as_one_vector_on_gpu
from diffusion.training.optimizer import FUSED
from tests.support import runs
from tests.training.test_training import experiment_on, leaves

pytestmark = pytest.mark.usefixtures("unoptimized")


def tree(rng):
    random = lambda *shape: jnp.float32(rng.normal(size=shape))  # noqa: E731
    return {"kernel": random(3, 3, 4, 5), "bias": random(5), "last": {"kernel": random(5, 2), "scale": random()}}


def test_a_vector_holds_the_tree(rng):
    """Every number once, and a kernel as cuDNN reads it: output channel by output channel."""
    whole = tree(rng)
    packed = state_as_one_vector_on_gpu.pack(whole)
    assert packed.vector.shape == (180 + 5 + 10 + 1,) and state_as_one_vector_on_gpu.pack(packed) is packed
    np.testing.assert_array_equal(packed.vector[5:41].reshape(3, 3, 4), whole["kernel"][..., 0])
    back = state_as_one_vector_on_gpu.unpack(packed)
    assert jax.tree.structure(back) == jax.tree.structure(whole)
    jax.tree.map(np.testing.assert_array_equal, back, whole)


def packed(update):
    return update._replace(passes=FUSED, **state_as_one_vector_on_gpu.PACKED)


def test_training_is_the_same():
    """Three steps of two, in one dispatch and in several: up to the order in which squares are added up."""
    ours = experiment_on(**{"optim.clip": 0.5, "optim.power_ema": True})
    batches = ours.feed(digits(train=True))
    stream = batches.batches(0)
    batch = batches.stack([next(stream), next(stream)])
    found = []
    for update in (ours.update()._replace(passes=FUSED), packed(ours.update())):
        state, given = update.store(ours.create_state()), ours.create_state()
        like = update.store(ours.fresh().like)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), like) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
        program = loop.compile_steps(ours.task(), update, batches, like, batch)
        for _ in range(3):
            state, metrics = program(state, batches.data, batch)
        assert jax.tree.structure(update.whole(state)) == jax.tree.structure(given)
        found.append((update.whole(state), metrics))
    assert int(found[0][0].step) == 6
    for a, b in zip(*map(leaves, found), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_a_stored_state_takes_the_place_of_the_given_one():
    given = experiment_on().create_state()
    stored = state_as_one_vector_on_gpu.pack_state(given)
    assert all(x.is_deleted() for x in jax.tree.leaves(given)) and not stored.params.vector.is_deleted()
    assert {x.ndim for x in jax.tree.leaves((stored.params, stored.ema))} == {1}


def test_what_leaves_the_loop_is_whole(tmp_path):
    """A checkpoint of a packed run is that of any run, and the run resumes from it."""
    ours = experiment_on(**{"train.steps": 4, "train.checkpoint_every": 2, "train.log_every": 2})
    source = digits(train=True)

    def trained(folder, update, steps):
        c = ours.config.train.copy_and_resolve_references()
        c.steps = steps
        return runs.train(folder, ours.task(), update, ours.feed(source), ours.create_state(), c, lambda line: None)  # noqa: ARG005

    plain = trained(tmp_path / "plain", ours.update(), 4)
    first = trained(tmp_path / "packed", packed(ours.update()), 2)
    assert jax.tree.structure(first) == jax.tree.structure(plain)
    last = trained(tmp_path / "packed", packed(ours.update()), 4)
    for a, b in zip(leaves(last), leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
