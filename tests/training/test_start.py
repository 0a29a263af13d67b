"""What is made side by side before the first step, and the state that is known before it is there."""

import threading

import jax
import numpy as np
import pytest

from diffusion.config.config import default_config
from diffusion.data.embedded import digits
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.training import loop
from diffusion.training.course import Plan
from diffusion.training.start import aside, start
from tests.support.networks import TwoConvolutions, using

pytestmark = pytest.mark.usefixtures("unoptimized")

SMALL = {"net.channels": 32, "net.multipliers": (1,), "net.blocks": 1, "net.attention": ()}


def experiment(devices, **overrides):
    config = default_config()
    config.update_from_flattened_dict(
        {**SMALL, "train.batch_size": 8, "diffusion.T": 20, "diffusion.beta_T": 0.6, **overrides}
    )
    with using(TwoConvolutions):
        return build.experiment(config, (8, 8, 1), 10, sharding.make_mesh(jax.devices()[:devices]))


def plan(steps, per_dispatch=1):
    return Plan(steps, 8, per_dispatch, 0, 0, 0, 0)


def bits(tree):
    raw = [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in tree]
    return [np.asarray(x).tobytes() for x in raw]


def test_work_is_done_by_one_other_thread_in_the_order_given():
    done, gate = [], threading.Event()

    def work(number):
        gate.wait(10)
        done.append((number, threading.current_thread() is threading.main_thread()))
        return number

    with aside() as begin:
        results = [begin(lambda i=i: work(i)) for i in range(3)]
        assert done == []
        gate.set()
        assert [result() for result in results] == [0, 1, 2]
    assert done == [(0, False), (1, False), (2, False)]


def test_what_goes_wrong_is_raised_where_the_result_is_asked_for():
    def fail():
        raise MemoryError("no room")

    with aside() as begin:
        result = begin(fail)
        with pytest.raises(MemoryError, match="no room"):
            result()


def test_the_block_ends_when_the_work_has():
    done = []
    with aside() as begin:
        begin(lambda: done.append(threading.Event().wait(0.05)))
    assert done == [False]


def test_with_several_processes_all_is_done_at_once_by_the_thread_that_asks(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with aside() as begin:
        result = begin(threading.current_thread)
        assert result() is threading.current_thread()


@pytest.mark.parametrize("rules", ["replicated", "fsdp"])
def test_a_state_is_like_what_was_said_of_it(rules):
    fresh = experiment(8, **{"train.sharding": rules}).fresh()
    made = fresh.make()
    assert jax.tree.structure(made) == jax.tree.structure(fresh.like)
    for said, array in zip(jax.tree.leaves(fresh.like), jax.tree.leaves(made), strict=True):
        assert (said.shape, said.dtype) == (array.shape, array.dtype)
        assert said.sharding.is_equivalent_to(array.sharding, array.ndim)
    split = [x for x in jax.tree.leaves(made) if not x.sharding.is_fully_replicated]
    assert bool(split) == (rules == "fsdp")


@pytest.mark.parametrize("together", [1, 2])
def test_the_program_made_from_shapes_is_that_of_the_arrays(together):
    ours, calendar = experiment(1), plan(4, together)
    feed, (like, make) = ours.feed(digits(train=True)), ours.fresh()
    with start(ours.task(), ours.update(), feed, calendar, like, make, 0) as begun:
        programs, state = begun.programs(), begun.state()
    assert list(programs) == [together]
    batches = feed.batches(0)
    batch = feed.stack([next(batches) for _ in range(together)])
    plain = loop.compile_steps(ours.task(), ours.update(), feed, make(), batch)(make(), feed.data, batch)
    ahead = programs[together](state, feed.data, batch)
    assert bits(jax.tree.leaves(ahead)) == bits(jax.tree.leaves(plain))
    assert int(ahead[0].step) == together


def test_a_run_at_its_end_has_no_program_to_wait_for(monkeypatch):
    ours = experiment(1)
    monkeypatch.setattr(loop, "lower_steps", lambda *_: pytest.fail("traced a step that is never taken"))
    feed, state = ours.feed(digits(train=True)), ours.create_state()
    with start(ours.task(), ours.update(), feed, plan(5), state, lambda: state, 5) as begun:
        assert begun.programs() == {} and begun.state() is state
