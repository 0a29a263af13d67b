"""Updates that are not fit are not made, what is fit is made to the bit, and a run that has diverged says of what."""

import json
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffusion.config import default_config
from diffusion.config.validation import validate
from diffusion.core.timesteps import loss_second_moment
from diffusion.data.digits import digits
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.nets.unet import UNet
from diffusion.runtime import format_numbers
from diffusion.runtime.signals import Stop, Stopped
from diffusion.training import skipped_updates, weight_averages
from diffusion.training.batch_feed import Feed
from diffusion.training.optimizer import skipping
from diffusion.training.progress_lines_and_metrics import Diverged
from diffusion.training.skipped_updates import Guard
from diffusion.training.state import create, step_keys
from diffusion.training.step import HEALTH, Update, train_step, train_steps
from diffusion.workdir.checkpoint import Checkpoints
from tests.support import runs
from tests.support.networks import TwoConvolutions, using

pytestmark = pytest.mark.usefixtures("unoptimized")

BATCH = 8


def tiny(**overrides):
    config = default_config()
    small = {"data.name": "digits", "data.flip": False, "diffusion.T": 50, "diffusion.beta_T": 0.3, "net.channels": 8}
    net = {"net.multipliers": (1,), "net.blocks": 1, "net.attention": (), "optim.lr": 1e-3, "optim.warmup_steps": 2}
    config.update_from_flattened_dict({**small, **net, "train.batch_size": BATCH, **overrides})
    return config


def experiment(network=TwoConvolutions, **overrides):
    with using(network):
        return build.experiment(tiny(**overrides), (8, 8, 1), 10, sharding.make_mesh(jax.devices()[:1]))


def arrays(tree):
    plain = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves(tree)]
    return [np.asarray(x) for x in plain]


def leaves(tree):
    return jax.tree.leaves(tree)


def assert_same_bits(a, b):
    for x, y in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(x, y)


def learnt(state):
    """What an update changes."""
    return state.params, state.ema, state.opt_state, state.timesteps


# ------------------------------------------------------------------------------------------------------ nothing wrong


def unguarded(task, update, state, pixels, labels):
    """One step as it reads in the paper, without any guard."""
    found = task.gradient(state.params, state.timesteps, step_keys(state.key, state.step), pixels, labels)
    norm = jnp.sqrt(sum(skipped_updates.product_of_squares(leaf) for leaf in jax.tree.leaves(found.grads)))
    updates, opt_state = update.optimizer.update(found.grads, state.opt_state, state.params, norm=norm)
    params = optax.apply_updates(state.params, updates)
    average = weight_averages.update(
        state.ema, params, weight_averages.decay(state.step, update.ema_decay, update.ema_warmup)
    )
    return state._replace(
        step=state.step + 1, params=params, ema=average, opt_state=opt_state, timesteps=found.timesteps
    ), found.grads


@pytest.mark.slow
def test_finite_updates_are_those_of_a_step_without_guard():
    """Bit for bit, four steps of a real network. The guard costs less than 20 operations a parameter: 8e-5 of a step
    of the paper's CIFAR-10 network.
    """
    changes = {"objective.timesteps": "loss_second_moment", "net.dropout": 0.1, "optim.skip_spike": 5.0}
    ours = experiment(UNet, **changes)
    task, update = ours.task(), ours.update()
    assert update.guard == Guard(10, 5.0)
    pixels, labels = map(jnp.asarray, digits(train=True).read(np.arange(BATCH)))
    programs = []
    for step in (train_step, unguarded):
        run = jax.jit(lambda s, step=step: step(task, update, s, pixels, labels))
        programs.append(run.lower(ours.create_state()).compile())
    plain = guarded = ours.create_state()
    for _ in range(4):
        (guarded, metrics), (plain, grads) = (run(s) for run, s in zip(programs, (guarded, plain), strict=True))
        assert_same_bits(learnt(guarded), learnt(plain))
        assert float(metrics["grad_norm"][0]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-6)
    assert [int(x) for x in guarded.health[:4]] == [0, -1, 0, 0] and int(guarded.health.seen) == 4
    cost, plain_cost = (program.cost_analysis() for program in programs)
    assert cost["flops"] < plain_cost["flops"] + 20 * format_numbers.count(plain.params)


# ------------------------------------------------------------------------------------------------- a network that fails


NAN, NAN_SLOPE, HUGE_SLOPE = 1, 2, 3
"""Labels of images at which the loss is not a number; only the gradient of v is none; its square is infinite."""


def failing(params, x_t, time, labels, condition, key):  # noqa: ARG001
    """Two parameters, and a fault where a label asks for one."""
    label = labels[:, None, None, None]
    out = params["block"]["w"] * x_t + params["block"]["v"]
    bad_slope = jnp.sqrt(jnp.where(label == NAN_SLOPE, 0.0 * params["block"]["v"], 1.0))  # 0, with slope inf * 0
    big_slope = 1e25 * (params["block"]["v"] - jax.lax.stop_gradient(params["block"]["v"]))
    out = out + jnp.where(label == NAN_SLOPE, bad_slope, 0.0) + jnp.where(label == HUGE_SLOPE, big_slope, 0.0)
    return jnp.where(label == NAN, jnp.nan, out)


class World:
    """Steps of a cheap task whose images fail as told; `faults` has one label a step."""

    def __init__(self, **guard):
        ours = experiment(**{"diffusion.T": 4, "diffusion.beta_T": 0.9, "data.flip": True})
        self.task = ours.task()._replace(apply=failing, timesteps=loss_second_moment(4, history=2))
        self.update = Update(skipping(optax.adam(0.1)), ema_decay=0.5, guard=Guard(**guard))
        self.pixels = jnp.asarray(digits(train=True).read(np.arange(BATCH))[0])
        self.step = jax.jit(lambda s, labels: train_step(self.task, self.update, s, self.pixels, labels))

    def start(self):
        params = {"block": {"v": jnp.full((), 0.25), "w": jnp.full((1, 8, 8, 1), 0.5)}}
        return create(params, self.update.optimizer, self.task.timesteps, jax.random.key(3))

    def labels(self, fault):
        """One image of the batch is at fault."""
        return jnp.zeros(BATCH, jnp.int32).at[5].set(fault)

    def run(self, faults, state=None):
        """The states and the metrics after each step."""
        states, metrics = [self.start() if state is None else state], []
        for fault in faults:
            after, found = self.step(states[-1], self.labels(fault))
            states.append(after)
            metrics.append(found)
        return states, metrics


@pytest.fixture(scope="module")
def world():
    return World(patience=3)


@pytest.mark.parametrize(("fault", "culprit"), [(NAN, 0), (NAN_SLOPE, 1), (HUGE_SLOPE, 1)])
def test_a_bad_update_is_not_made_and_the_next_is_as_if_it_had_never_been(world, fault, culprit):
    """The oracle leaves the step out and only counts it: same parameters, moments, average and history, bit for bit."""
    states, metrics = world.run([0, fault, fault, 0, 0])
    assert_same_bits(learnt(states[3]), learnt(states[1]))
    after = world.run([0])[0][1]
    skipping = after._replace(step=jnp.int32(3), health=states[3].health)  # the average counts updates, not steps
    expected = world.run([0, 0], skipping)[0][-1]
    assert_same_bits(learnt(states[5]), learnt(expected))
    assert [int(s.step) for s in states] == [0, 1, 2, 3, 4, 5]
    assert [int(s.health.streak) for s in states] == [0, 0, 1, 2, 0, 0]
    assert [int(s.health.skipped) for s in states] == [0, 0, 1, 2, 2, 2]
    assert (int(states[-1].health.since), int(states[-1].health.culprit)) == (1, culprit)
    assert all(np.isfinite(x).all() for x in arrays(states[-1]) if x.dtype == np.float32)
    assert all(np.isfinite(x).all() for found in metrics for x in arrays(found))
    assert [float(found["loss"][1]) for found in metrics] == [1, 0, 0, 1, 1]
    assert not np.array_equal(arrays(states[5].params)[0], arrays(states[3].params)[0])


def test_the_step_after_a_bad_one_draws_what_it_would_have_drawn(world):
    """The count of t by quartile, which only the random numbers of (seed, step) decide, is that of a healthy run."""
    quartiles = [f"mse_t_quartile_{q}" for q in (1, 2, 3, 4)]
    runs = [world.run(faults)[1] for faults in ([0, 0, 0], [0, NAN, 0])]
    counts = [[float(metrics[2][q][1]) for q in quartiles] for metrics in runs]
    assert counts[0] == counts[1] and sum(counts[0]) == pytest.approx(BATCH)


def test_the_average_starts_from_the_first_parameters_that_were_updated(world):
    states, _ = world.run([NAN, 0, 0])
    assert_same_bits(states[1].ema, states[0].params)
    assert_same_bits(states[2].ema, states[2].params)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, states[2].params, states[3].params)
    for a, b in zip(arrays(states[3].ema), arrays(mean), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_after_a_streak_nothing_is_updated_any_more(world):
    """However late the host reads it: a finite step after the third bad one changes nothing."""
    states, _ = world.run([0, NAN, 0, NAN_SLOPE, NAN, NAN, 0, 0])
    assert_same_bits(learnt(states[8]), learnt(states[3]))
    last = states[8].health
    assert (int(last.streak), int(last.since), int(last.culprit), int(last.skipped)) == (5, 3, 1, 6)
    again = World(patience=9).run([0, 0], states[8])[0]  # more patience, and the run goes on
    assert int(again[1].health.streak) == 0 and not np.array_equal(
        arrays(again[1].params)[1], arrays(states[8].params)[1]
    )


def test_bad_steps_inside_one_dispatch(world):
    """Five steps in one scan are the five steps one by one; the health of the last is among the metrics."""
    faults = [0, NAN, 0, NAN_SLOPE, 0]
    batches = jnp.stack([world.labels(fault) for fault in faults])
    gather = lambda data, labels: (data, labels)  # noqa: E731
    run = jax.jit(lambda s, d, b: train_steps(world.task, world.update, gather, s, d, b))
    state, metrics = run(world.start(), world.pixels, batches)
    states, each = world.run(faults)
    for a, b in zip(arrays(state), arrays(states[-1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert_same_bits(metrics[HEALTH], state.health)
    assert_same_bits(metrics[HEALTH], states[-1].health)
    assert float(metrics["loss"][1]) == 3
    np.testing.assert_allclose(metrics["loss"][0], sum(float(m["loss"][0]) for m in each), rtol=1e-5)


# --------------------------------------------------------------------------------------------------------------- spikes


def judged(guard, norms):
    """Whether each of a series of gradients with these norms is fit, and the counters at the end."""

    def body(counters, norm):
        grads = {"w": jnp.stack([0.6 * norm, 0.8 * norm])}
        fit, _, _, health = skipped_updates.check(guard, counters, jnp.int32(0), jnp.float32(1), grads)
        return health, fit

    end, fit = jax.lax.scan(body, skipped_updates.start(), jnp.float32(norms))
    return np.asarray(fit), end


def test_spikes_are_skipped_by_the_bias_corrected_mean(rng):
    """Against the recursion in float64."""
    norms = rng.uniform(1, 3, size=400)
    norms[[50, 150, 151, 250, 399]] = [90, 40, np.nan, 11.9, 9.5]
    fit, end = judged(Guard(10, 4.0), norms)
    mean, seen, expected = 0.0, 0, []
    for norm in norms:
        if not np.isfinite(norm):
            expected.append(False)
            continue
        limit = 4.0 * mean / (1 - 0.99**seen) if seen else 0.0
        settled = seen >= 100
        expected.append(not (settled and norm > limit))
        mean, seen = 0.99 * mean + 0.01 * (min(norm, limit) if settled else norm), seen + 1
    assert list(fit) == expected and not fit[[150, 151, 250]].any() and fit[50]
    assert int(end.skipped) == len(norms) - sum(expected) and int(end.streak) == 0
    assert float(end.norm) == pytest.approx(mean, rel=1e-4) and int(end.seen) == 399


def test_a_lasting_rise_is_followed():
    """A hundred times the norm for good: skipped for a while, then taken for what it is."""
    fit, end = judged(Guard(10, 5.0), [1.0] * 200 + [100.0] * 400)
    assert fit[:200].all() and not fit[200:230].any() and fit[450:].all()
    assert int(end.streak) == 0, "spikes are finite: they never end a run"


def test_neither_a_zero_mean_nor_a_steady_norm_skips():
    fit, end = judged(Guard(10, 1.5), [1.0] * 300)
    assert fit.all() and int(end.skipped) == 0
    fit, _ = judged(Guard(10, 5.0), [0.0] * 150 + [1.0] * 300)
    assert fit[:151].all() and fit[-100:].all(), "a mean of 0 is no limit, and the rise from it is followed"


def test_without_the_key_no_spike_is_looked_for():
    fit, end = judged(Guard(10, 0.0), [1.0] * 200 + [1e6])
    assert fit.all() and int(end.seen) == 0 and float(end.norm) == 0


# ------------------------------------------------------------------------------------------------------------- the loop


def train(world, faults, folder, log_every=2):
    """The loop over scripted steps, resumed where the folder has a checkpoint: (error, lines, metrics, checkpoints)."""

    def batches(first):
        yield from [np.asarray(world.labels(fault)) for fault in faults][first:]

    mesh = sharding.make_mesh(jax.devices()[:1])
    feed = Feed(world.pixels, lambda data, labels: (data, labels), batches, mesh)
    state = jax.device_put(world.start(), sharding.replicated(mesh))
    periods, said, error = runs.periods(len(faults), log=log_every, checkpoint=4), [], None
    try:
        runs.train(folder, world.task, world.update, feed, state, periods, said.append)
    except Diverged as found:
        error = str(found)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        kept = {step: checkpoints.restore(step, world.start()) for step in checkpoints.steps()}
    return error, said, [line for line in lines if "train/skipped" in line], kept


def test_a_run_with_bad_steps_goes_on_counts_and_warns(world, tmp_path):
    error, said, lines, kept = train(world, [0, NAN, 0, NAN, NAN, 0, NAN, 0], tmp_path)
    assert error is None
    assert [line["train/skipped"] for line in lines] == [1, 2, 3, 4]
    assert all(np.isfinite(line["train/loss"]) for line in lines)
    warnings = [line for line in said if line.startswith("WARNING")]
    assert warnings == [
        f"WARNING     the loss was not finite at step {step}; updates are skipped, and 3 in a row end the run"
        for step in (2, 4)
    ]
    assert sorted(kept) == [0, 4, 8]
    assert [int(x) for x in kept[8].health[:4]] == [0, 6, 0, 4]


def test_the_counters_go_on_after_a_restart(world, tmp_path):
    """Stopped in the middle of a streak: its end, and the metrics, are those of a run that was not stopped."""
    faults = [0, NAN, 0, NAN, NAN, 0, NAN, 0]
    straight = train(world, faults, tmp_path / "a")
    train(world, faults[:4], tmp_path / "b")
    again = train(world, faults, tmp_path / "b")
    assert_same_bits(again[3][8], straight[3][8])
    clean = [[{k: v for k, v in line.items() if "perf" not in k} for line in run[2]] for run in (straight, again)]
    assert clean[0] == clean[1]
    error, _, _, _ = train(world, [*faults[:3], NAN, NAN, NAN, 0, 0], tmp_path / "c")
    train(world, [*faults[:3], NAN], tmp_path / "d")
    assert train(world, [*faults[:3], NAN, NAN, NAN, 0, 0], tmp_path / "d")[0] == error is not None


def test_a_run_that_has_diverged_stops_and_names_what_and_when(world, tmp_path):
    error, _, lines, kept = train(world, [0, 0, 0, NAN_SLOPE] + [NAN] * 16, tmp_path, log_every=3)
    assert error == (
        "the gradient was not finite at step 4, the first of 3 in a row: training has diverged and stops "
        "with the parameters of step 3, which are saved; start again with a lower optim.lr, or with optim.clip above "
        "0, in another folder"
    )
    assert lines[-1]["step"] <= 9, "at the first look after the streak"
    assert "train/loss" not in lines[-1], "an interval without one finite loss has no mean"
    for state in kept.values():
        assert all(np.isfinite(x).all() for x in arrays(state) if x.dtype == np.float32)


@pytest.mark.parametrize("log_every", [1, 3])
def test_the_last_good_state_is_saved_and_goes_on(world, tmp_path, log_every):
    """As it was after the last good step, to the bit. Started again, it ends at once; given patience, it goes on."""
    faults, folder = [0, 0, 0, NAN_SLOPE, *[NAN] * 5, *[0] * 11], tmp_path / "run"
    good = train(world, faults[:3], tmp_path / "good", log_every)[3][3]
    error, _, lines, kept = train(world, faults, folder, log_every)
    assert error is not None and "with the parameters of step 3, which are saved" in error
    assert max(kept) == lines[-1]["step"] == 6
    assert_same_bits(learnt(kept[max(kept)]), learnt(good))
    before = (folder / "metrics.jsonl").read_bytes()
    again = train(world, faults, folder, log_every)
    assert again[0] == error and sorted(again[3]) == sorted(kept) and not any("step" in line for line in again[1])
    assert (folder / "metrics.jsonl").read_bytes() == before
    patient = World(patience=30)
    straight = train(patient, faults, tmp_path / "straight", log_every)
    more = train(patient, faults, folder, log_every)
    assert (straight[0], more[0], max(more[3])) == (None, None, len(faults))
    assert_same_bits(more[3][20], straight[3][20])
    clean = [[{k: v for k, v in line.items() if "perf" not in k} for line in run[2]] for run in (straight, more)]
    assert clean[0] == clean[1]


def test_a_diverged_run_that_was_stopped_ends_at_the_next_start(world, tmp_path):
    """A signal comes between the streak and the end of its interval: the state is saved, and then reported."""
    stop = Stop()

    def batches(first):
        for step in range(first, 20):
            stop._number = 15 if step == 4 else 0
            yield np.asarray(world.labels(NAN if step else 0))

    mesh = sharding.make_mesh(jax.devices()[:1])
    feed = Feed(world.pixels, lambda data, labels: (data, labels), batches, mesh)
    state = jax.device_put(world.start(), sharding.replicated(mesh))
    how = tmp_path, world.task, world.update, feed, state, runs.periods(20, log=6), print
    with pytest.raises(Stopped):
        runs.train(*how, stop=stop)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [0, 5]
    with pytest.raises(Diverged, match="not finite at step 2, the first"):
        runs.train(*how)


# ------------------------------------------------------------------------------------------------------------ the keys


def test_keys_of_the_guard(world):
    assert experiment(**{"train.bad_steps": 4}).update().guard == Guard(4, 0.0)
    assert experiment(**{"train.steps": 7}).update().guard == Guard(3, 0.0), "half of a run that is shorter than that"
    assert world.update.guard.patience == 3
    validate(tiny(**{"optim.skip_spike": 10.0}))
    for value in (0.5, 1.0):
        with pytest.raises(ValueError, match=r"config.optim.skip_spike: .* is no spike.*; use a number above 1"):
            validate(tiny(**{"optim.skip_spike": value}))
