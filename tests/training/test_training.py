"""Optimiser, moving average, step, sharding, feeds, checkpoints, writer and loop, on a network that compiles fast."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.commands import train
from diffusion.config import default_config
from diffusion.config.keys_with_legal_values import KEYS
from diffusion.data.dataset_identity import identity
from diffusion.data.dataset_interface import in_memory
from diffusion.data.digits import digits
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.nets.unet import UNet
from diffusion.runtime import format_numbers
from diffusion.runtime.signals import Stop
from diffusion.training import batch_feed, loop, optimizer, weight_averages
from diffusion.training.periodic_actions import Action, Moment, draw, perform
from diffusion.training.progress_lines_and_metrics import Progress
from diffusion.training.state import step_keys
from diffusion.training.step import train_step, train_steps
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.jsonl_and_tensorboard_writer import NullWriter, Writer
from tests.support import runs
from tests.support.networks import TwoConvolutions, using

pytestmark = pytest.mark.usefixtures("unoptimized")


def tiny(**overrides):
    config = default_config()
    config.update_from_flattened_dict(
        {
            "data.name": "digits",
            "data.flip": False,
            "diffusion.T": 50,
            "diffusion.beta_T": 0.3,
            "net.channels": 8,
            "net.multipliers": (1,),
            "net.blocks": 1,
            "net.attention": (),
            "optim.lr": 1e-3,
            "optim.warmup_steps": 2,
            "train.batch_size": 16,
            **overrides,
        }
    )
    return config


def mesh_of(n):
    return sharding.make_mesh(jax.devices()[:n])


def experiment_on(devices=1, network=TwoConvolutions, **overrides):
    with using(network):
        return build.experiment(tiny(**overrides), (8, 8, 1), 10, mesh_of(devices))


def run_steps(ours, steps, k=1, data=None):
    """The state and the loss of each dispatch after `steps` updates, k at a time."""
    source = data or digits(train=True)
    batches = ours.feed(source)
    stream = batches.batches(0)
    state, losses = ours.create_state(), []
    step = None
    for _ in range(steps // k):
        batch = batches.stack([next(stream) for _ in range(k)])
        step = step or loop.compile_steps(ours.task(), ours.update(), batches, state, batch)
        state, metrics = step(state, batches.data, batch)
        losses.append(float(metrics["loss"][0] / metrics["loss"][1]))
    return state, np.array(losses)


def leaves(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


# ---------------------------------------------------------------------------------------------- optimiser and average


def test_learning_rate_rises_from_zero_and_stays():
    rate = optimizer.learning_rate(2e-4, 5000)
    assert rate(0) == 0
    np.testing.assert_allclose([rate(1), rate(2500), rate(5000), rate(10**6)], [4e-8, 1e-4, 2e-4, 2e-4], rtol=1e-6)
    assert optimizer.learning_rate(1e-3, 0)(0) == 1e-3


def test_adam_with_clipping_is_the_published_recursion(rng):
    """Three updates against Kingma and Ba's recursion in float64, gradients scaled down to global norm 1."""
    lr, b1, b2, eps = 0.01, 0.9, 0.999, 1e-8
    params = {"a": rng.normal(size=(3, 2)), "b": rng.normal(size=4)}
    grads = [{k: 5 * rng.normal(size=v.shape) for k, v in params.items()} for _ in range(2)]
    grads.append({k: 1e-3 * rng.normal(size=v.shape) for k, v in params.items()})  # below the limit: left as it is
    adam = optimizer.adam(lr, warmup_steps=2, clip=1.0, beta_1=b1, beta_2=b2, eps=eps)
    ours = jax.tree.map(jnp.float32, params)
    state = adam.init(ours)
    m, v = ({k: np.zeros_like(p) for k, p in params.items()} for _ in range(2))
    for i, g in enumerate(grads):
        updates, state = adam.update(jax.tree.map(jnp.float32, g), state, ours)
        ours = jax.tree.map(jnp.add, ours, updates)
        norm = np.sqrt(sum((x**2).sum() for x in g.values()))
        for k in params:
            scaled = g[k] / max(norm, 1.0)
            m[k] = b1 * m[k] + (1 - b1) * scaled
            v[k] = b2 * v[k] + (1 - b2) * scaled**2
            m_hat, v_hat = m[k] / (1 - b1 ** (i + 1)), v[k] / (1 - b2 ** (i + 1))
            params[k] = params[k] - lr * min(i / 2, 1) * m_hat / (np.sqrt(v_hat) + eps)
    for k in params:
        np.testing.assert_allclose(ours[k], params[k], rtol=1e-5, atol=1e-7)


def test_eps_stands_outside_the_root():
    """Kingma & Ba 2015, Algorithm 1: g / (|g| + eps) at the first update, with an eps that is not small."""
    gradient, eps = jnp.array([0.5, -2.0, 1e-3]), 0.1
    adam = optimizer.scale_by_adam(0.9, 0.999, eps)
    updates, _ = adam.update(gradient, adam.init(gradient))
    np.testing.assert_allclose(updates, gradient / (jnp.abs(gradient) + eps), rtol=1e-4)


def test_moving_average_closed_form(rng):
    """After n updates: sum_k (1 - d) d^(n-k) p_k + d^(n-1) p_1, the first update having decay 0."""
    d, n = 0.9, 12
    params = rng.normal(size=(n, 5))
    average = jnp.zeros(5)
    for step, p in enumerate(params):
        average = weight_averages.update(
            average, jnp.float32(p), weight_averages.decay(jnp.int32(step), d, warmup=False)
        )
    weights = np.array([(1 - d) * d ** (n - 1 - k) for k in range(n)])
    weights[0] = d ** (n - 1)
    np.testing.assert_allclose(weights.sum(), 1)
    np.testing.assert_allclose(average, weights @ params, rtol=1e-5, atol=1e-6)


def test_moving_average_warm_up_and_precision():
    decays = [float(weight_averages.decay(jnp.int32(s), 0.9999, warmup=True)) for s in (0, 1, 90, 10**7)]
    np.testing.assert_allclose(decays, [0, 2 / 11, 91 / 100, 0.9999], rtol=1e-6)
    assert weight_averages.update(jnp.zeros(2), jnp.ones(2, jnp.bfloat16), jnp.float32(0.5)).dtype == jnp.float32


# ---------------------------------------------------------------------------------------------------------- the step


def test_the_gradient_is_that_of_algorithm_1():
    """With a linear network: its input is sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, its target eps."""
    times, inputs = [], []

    def apply(params, x, time, labels, condition, key):  # noqa: ARG001
        jax.debug.callback(lambda t, x: (times.append(t), inputs.append(x)), time, x)
        return params["w"] * x

    experiment = experiment_on(1)
    task, keys = experiment.task()._replace(apply=apply), step_keys(jax.random.key(4), jnp.int32(2))
    pixels, labels = map(jnp.asarray, digits(train=True).read(np.arange(16)))
    found = task.gradient({"w": jnp.float32(0.3)}, (), keys, pixels, labels)
    jax.effects_barrier()
    t, eps = np.asarray(times[0]).round().astype(int) + 1, np.asarray(jax.random.normal(keys.noise, (16, 8, 8, 1)))
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.3, 50))[t - 1][:, None, None, None]
    x_t = np.sqrt(alpha_bar) * (np.asarray(pixels) / 127.5 - 1) + np.sqrt(1 - alpha_bar) * eps
    np.testing.assert_allclose(inputs[0], x_t, rtol=1e-4, atol=1e-4)
    assert len(set(t)) > 8 and t.min() >= 1 and t.max() <= 50
    assert float(found.loss) == pytest.approx(np.mean((eps - 0.3 * x_t) ** 2), rel=1e-4)
    assert float(found.grads["w"]) == pytest.approx(np.mean(-2 * x_t * (eps - 0.3 * x_t)), rel=1e-3)


@pytest.fixture(scope="module")
def one_device():
    return run_steps(experiment_on(1), 5)


def test_loss_starts_at_one(one_device):
    """A fresh network outputs 0 and the target is standard normal noise: the squared error is 1 up to sampling error.

    16 images of 64 pixels: a mean of 1024 squared normals, with standard deviation sqrt(2 / 1024) = 0.044.
    """
    assert abs(one_device[1][0] - 1) < 4 * 0.044


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("rules", ["replicated", "fsdp"])
def test_devices_and_sharding_do_not_change_the_losses(one_device, devices, rules):
    state, losses = run_steps(experiment_on(devices, **{"train.sharding": rules}), 5)
    np.testing.assert_allclose(losses, one_device[1], rtol=1e-5)
    for a, b in zip(leaves(state), leaves(one_device[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)  # Adam divides by tiny second moments
    split = [x for x in jax.tree.leaves(state.opt_state) if not x.sharding.is_fully_replicated]
    assert bool(split) == (rules == "fsdp")


def test_sharded_kernels_take_less_memory():
    state = experiment_on(8, **{"train.sharding": "fsdp"}).create_state()
    kernel = state.params["conv_in"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 8
    assert state.ema["conv_in"]["kernel"].sharding == kernel.sharding


@pytest.mark.parametrize("rules", ["replicated", "fsdp"])
def test_the_abstract_first_state_is_like_the_real_one(rules):
    """Shapes, types and shardings, by which a checkpoint is restored without drawing weights first."""
    abstract, initialise = experiment_on(8, **{"train.sharding": rules}).fresh()
    state = initialise()
    assert jax.tree.structure(state) == jax.tree.structure(abstract)
    for shape, array in zip(jax.tree.leaves(abstract), jax.tree.leaves(state), strict=True):
        assert (shape.shape, shape.dtype) == (array.shape, array.dtype)
        assert shape.sharding.is_equivalent_to(array.sharding, array.ndim)
    split = [x for x in jax.tree.leaves(state) if not x.sharding.is_fully_replicated]
    assert bool(split) == (rules == "fsdp")


def test_several_steps_in_one_dispatch_are_the_same_steps(one_device):
    state, losses = run_steps(experiment_on(1), 4, k=2)
    np.testing.assert_allclose(losses, one_device[1][:4].reshape(2, 2).mean(axis=1), rtol=1e-5)
    assert int(state.step) == 4


def test_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"train.batch_size = 12 does not divide over 8 devices; use 8 or 16"):
        experiment_on(8, **{"train.batch_size": 12}).feed(digits(train=True))
    with pytest.raises(ValueError, match=r"use 8$"):
        sharding.check_batch(3, mesh_of(8))


def test_quartile_metrics_partition_the_batch():
    ours = experiment_on(1)
    pixels, labels = map(jnp.asarray, digits(train=True).read(np.arange(16)))
    _, metrics = jax.jit(lambda s, p, y: train_step(ours.task(), ours.update(), s, p, y))(
        ours.create_state(), pixels, labels
    )
    parts = np.array([metrics[f"mse_t_quartile_{q}"] for q in (1, 2, 3, 4)])
    assert parts[:, 1].sum() == 16
    np.testing.assert_allclose(parts[:, 0].sum() / 16, metrics["mse"][0], rtol=1e-5)


def test_a_step_depends_on_seed_and_step_alone():
    """The same state and batch give the same result; another step number, other noise."""
    ours = experiment_on(1)
    pixels, labels = map(jnp.asarray, digits(train=True).read(np.arange(16)))
    step = jax.jit(lambda s: train_step(ours.task(), ours.update(), s, pixels, labels))
    state = ours.create_state()
    first, again = step(state)[1], step(state)[1]
    other = step(state._replace(step=jnp.int32(1)))[1]
    assert float(first["loss"][0]) == float(again["loss"][0]) != float(other["loss"][0])


SLOWLY = (
    {"diffusion.variance": "learned", "objective.name": "vlb", "diffusion.parameterization": "mu"},
    {"net.class_conditional": True, "diffusion.parameterization": "v", "objective.timesteps": "antithetic"},
    {"diffusion.schedule": "ve_geometric", "net.dtype": "bfloat16", "net.remat": True, "data.flip": True},
    {"net.dropout": 0.5, "net.heads": 2, "net.scale_shift": True, "optim.weight_decay": 0.01, "optim.clip": 0.0},
)


@pytest.mark.parametrize(
    "overrides",
    [
        {"diffusion.variance": "learned_range", "objective.name": "hybrid"},
        *(pytest.param(options, marks=pytest.mark.slow) for options in SLOWLY),
    ],
    ids=lambda o: " ".join(map(str, o.values())),
)
def test_options_train(overrides):
    """Losses stay finite, and after some steps every kind of parameter has moved."""
    ours = experiment_on(1, UNet, **overrides)
    start = leaves(ours.create_state().params)
    state, losses = run_steps(ours, 4)
    assert np.isfinite(losses).all()
    assert all(np.isfinite(x).all() for x in leaves(state))
    moved = [not np.array_equal(a, b) for a, b in zip(start, leaves(state.params), strict=True)]
    assert np.mean(moved) > 0.9


def test_dropout_uses_the_step_key():
    """With dropout on, the loss of the same batch changes with the step key once last layers are not zero."""
    ours = experiment_on(1, UNet, **{"net.dropout": 0.5})
    task = ours.task()
    params = jax.tree.map(lambda p: p + 0.05, ours.create_state().params)
    x, time, labels = jnp.ones((2, 8, 8, 1)), jnp.zeros(2), jnp.zeros(2, jnp.int32)
    apply = jax.jit(task.apply)
    a, b = (apply(params, x, time, labels, None, jax.random.key(i)) for i in (0, 1))
    assert not np.allclose(a, b)
    np.testing.assert_array_equal(a, apply(params, x, time, labels, None, jax.random.key(0)))


# --------------------------------------------------------------------------------------------------------------- feeds


def test_streamed_and_resident_batches_are_the_same():
    source = digits(train=True)
    mesh = mesh_of(2)
    feeds = [batch_feed.resident(source, 3, 16, mesh), batch_feed.streamed(source, 3, 16, mesh, threads=2)]
    streams = [f.batches(92) for f in feeds]  # step 93 straddles the first epoch's end at 1500 / 16
    for _ in range(4):
        pixels = []
        for f, stream in zip(feeds, streams, strict=True):
            batch = f.stack([next(stream)])
            row = jax.tree.map(lambda x: x[0], batch)
            pixels.append([np.asarray(a) for a in f.gather(f.data, row)])
        np.testing.assert_array_equal(pixels[0][0], pixels[1][0])
        np.testing.assert_array_equal(pixels[0][1], pixels[1][1])


def test_what_lives_on_the_device():
    source = digits(train=True)
    assert batch_feed.fits(source, 1) and not batch_feed.fits(source, 0)
    assert not batch_feed.fits(source._replace(arrays=None), 1000)


def test_streamed_training_equals_resident_training(one_device):
    _, losses = run_steps(experiment_on(1, **{"data.resident_mb": 0}), 5)
    np.testing.assert_allclose(losses, one_device[1], rtol=1e-6)


# ------------------------------------------------------------------------------------------- checkpoints, writer, loop


def test_checkpoint_round_trip(tmp_path, one_device):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    state = one_device[0]
    for step in (1, 2, 3):
        checkpoints.save(step, state._replace(step=jnp.int32(step)))
    checkpoints.close()
    again = Checkpoints(tmp_path / "c", keep=2)
    assert again.steps() == [2, 3]
    restored = again.restore(3, experiment_on(1).create_state())
    assert type(restored) is type(state) and int(restored.step) == 3
    for a, b in zip(leaves(restored), leaves(state._replace(step=jnp.int32(3))), strict=True):
        np.testing.assert_array_equal(a, b)
    again.close()


def test_checkpoint_goes_to_other_devices(tmp_path, one_device):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(5, one_device[0])
    checkpoints.close()
    again = Checkpoints(tmp_path / "c")
    restored = again.restore(5, experiment_on(8, **{"train.sharding": "fsdp"}).create_state())
    assert len(restored.params["conv_in"]["kernel"].sharding.device_set) == 8
    for a, b in zip(leaves(restored), leaves(one_device[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    again.close()


def test_checkpoint_of_another_network_is_refused(tmp_path, one_device):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(5, one_device[0])
    checkpoints.wait()
    with pytest.raises(ValueError, match=r"cannot be restored .*steps present: \[5\]"):
        checkpoints.restore(5, experiment_on(1, **{"net.channels": 16}).create_state())
    checkpoints.close()


def test_writer_drops_what_a_resumed_run_will_write_again(tmp_path, caplog):
    writer = Writer(tmp_path, 0)
    for step in (1, 2, 3):
        writer.scalars(step, {"train/loss": 1.0 / step, "bad": float("nan")})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train')  # a line cut short by a crash
    Writer(tmp_path, 2).close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[0]["bad"] is None and lines[1]["train/loss"] == 0.5
    assert caplog.records == [], "TensorBoard's library complains of numbers that are not finite"


def test_a_dispatch_ends_where_something_is_due():
    training = loop.Training(None, None, None, steps=100, steps_per_dispatch=10)
    together = [training.together(step, [30, 0, 45]) for step in (0, 20, 21, 30, 36, 80, 90, 91)]
    assert together == [10, 10, 1, 10, 1, 10, 10, 1]


def test_few_dispatches_wait_for_the_device(tmp_path, monkeypatch):
    """However slow it is: all that were made have to be computed before the state of a stopped run can be saved."""
    made, waited, real, block = [], set(), loop.compile_steps, jax.block_until_ready

    def watched(*args):
        program = real(*args)

        def dispatch(*args):
            assert sum(id(metrics) not in waited for metrics in made) <= loop.AHEAD
            state, metrics = program(*args)
            made.append(metrics)
            return state, metrics

        return dispatch

    monkeypatch.setattr(loop, "compile_steps", watched)
    monkeypatch.setattr(loop.memory_of_a_step, "describe", lambda *_: "")
    monkeypatch.setattr(jax, "block_until_ready", lambda tree: [waited.add(id(tree)), block(tree)][1])
    run_loop(tmp_path, 8, **{"train.log_every": 8, "train.checkpoint_every": 0, "train.eval_every": 0})
    assert len(made) == 8


def test_when_an_action_is_due():
    def at(**how):
        return [step for step in range(11) if Action(act=print, **how).due(step, 10)]

    assert at(period=4) == [4, 8, 10] and at(period=0) == [10]
    assert (
        at(period=4, first=True) == [0, 4, 8, 10]
        and at(period=4, last=False) == [4, 8]
        and at(period=0, last=False) == []
    )
    for name in ("sample_every", "eval_every"):
        assert KEYS[f"train.{name}"].doc.endswith("0: only at the end.")  # train.py has both at the last step


def test_an_action_that_cannot_write_is_reported_and_the_next_is_performed():
    def fail(moment):  # noqa: ARG001
        raise OSError(28, "No space left on device")

    lines, moments = [], []
    perform([Action(1, fail), Action(1, moments.append)], Moment(3, None, {}), lines.append)
    assert lines == ["WARNING     a report could not be written (No space left on device); training continues"]
    assert [moment.step for moment in moments] == [3]


def test_a_grid_without_room_does_not_keep_a_process_from_computing_the_next_one():
    """Process 0 alone writes, and all processes compute every grid together."""

    class Full(NullWriter):
        def grid(self, *_):
            raise OSError(28, "No space left on device")

    drawn, lines, state = [], [], SimpleNamespace(ema="average", params="raw")
    draw(drawn.append, Full(), lines.append, Stop())(Moment(3, state, {}))
    assert drawn == ["average", "raw"] and len(lines) == 2 and "No space left" in lines[0]


def run_loop(folder, steps, **overrides):
    """The loop with previews and estimates that cost nothing, in a folder that may hold an earlier run."""
    periods = {"train.log_every": 2, "train.checkpoint_every": 3, "train.eval_every": 2, "train.sample_every": 4}
    experiment = experiment_on(1, **{"train.steps": steps, **periods, **overrides})
    lines = []
    state = runs.train(
        folder,
        experiment.task(),
        experiment.update(),
        experiment.feed(digits(train=True)),
        experiment.create_state(),
        experiment.config.train,
        lines.append,
        preview=lambda params: np.full((4, 4, 1), 100 * bool(params), np.uint8),
        estimate=lambda state: {"norm": float(sum(np.abs(x).sum() for x in leaves(state.ema)))},
    )
    return state, lines


def deterministic_lines(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]


def test_interrupted_and_uninterrupted_runs_are_the_same(tmp_path):
    """4 steps, a new start, 4 more, against 8 in one go: the same state bit for bit and the same metrics file."""
    straight, lines = run_loop(tmp_path / "a", 8)
    run_loop(tmp_path / "b", 4)
    resumed, _ = run_loop(tmp_path / "b", 8)
    for a, b in zip(leaves(straight), leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert deterministic_lines(tmp_path / "a") == deterministic_lines(tmp_path / "b")
    steps = [line["step"] for line in deterministic_lines(tmp_path / "a") if "train/loss" in line]
    assert steps == [2, 4, 6, 8]
    names = sorted(p.name for p in (tmp_path / "a" / "samples").iterdir())
    assert names == [f"step_000000{s}{raw}.png" for s in (4, 8) for raw in ("", "_raw")]
    assert sorted(int(p.name) for p in (tmp_path / "a" / "checkpoints").iterdir()) == [0, 3, 6, 8]
    assert any("compilation included" in line for line in lines)
    assert any(line.startswith("speed") and line.endswith("left") for line in lines)
    assert any(line.startswith("memory      about") for line in lines)


# -------------------------------------------------------------------------------------------------------------- report


def test_no_speed_and_no_remaining_time_are_shown_before_they_are_measured():
    lines = []
    progress = Progress(249, 1000, 128, lines.append)
    progress.after_dispatch(250, jnp.zeros(()))
    progress.show(250, 0.1)
    progress.after_dispatch(251, jnp.zeros(()))
    progress.show(251, 0.1)
    assert lines[1] == "step 250/1000  loss 0.1000"
    assert lines[2].startswith("step 251/1000  loss 0.1000  ") and lines[2].endswith(" left")


def test_durations_and_quantities():
    assert [format_numbers.rate(x) for x in (0.0123, 71.66, 1334.0)] == [
        "0.0123 images/s",
        "71.7 images/s",
        "1,330 images/s",
    ]
    assert [format_numbers.duration(s) for s in (0.4, 59.0, 200.0, 3 * 3600 + 301.0, 86400 * 3.0)] == [
        "0 s",
        "59 s",
        "3 min 20 s",
        "3 h 5 min",
        "3 d",
    ]
    amounts = {12.4e9: "12.4 G", 1.0: "1 ", 0.087: "87 m", 870e-6: "870 u", 0.0: "0 "}
    assert {value: format_numbers.quantity(value, "FLOP") for value in amounts} == {
        value: f"{text}FLOP" for value, text in amounts.items()
    }


def test_start_up_report_counts(one_device):
    ours = experiment_on(1)
    state = one_device[0]
    assert format_numbers.count(state.params) == format_numbers.count(state.ema)
    assert format_numbers.size(state.params) == 4 * format_numbers.count(state.params)
    forward = train.forward_flops(ours)
    assert forward == train.afford(ours).forward
    feed = ours.feed(digits(train=True))
    source, held_out = digits(train=True), digits(train=False)
    lines = train.describe(ours, source, held_out, identity(source, held_out), state, feed, forward)
    assert f"{format_numbers.count(state.params):,} parameters" in " ".join(lines)
    assert "1500 train and 297 held-out" in lines[0]
    taps = 22 * 22  # of 3 rows and 3 columns at each of 8 x 8 pixels, those within the image
    assert 2 * 2 * taps * 8 < forward < 1.3 * 2 * 2 * taps * 8  # a product and a sum, two convolutions, 8 channels


def test_folder_of_one_image_trains():
    """A set smaller than the batch: positions run through many epochs of it."""
    source = in_memory("one", np.full((1, 8, 8, 1), 200, np.uint8))
    _, losses = run_steps(experiment_on(1), 2, data=source)
    assert np.isfinite(losses).all()


def test_train_steps_sums_metrics():
    ours = experiment_on(1)
    f = ours.feed(digits(train=True))
    stream = f.batches(0)
    batch = f.stack([next(stream), next(stream)])
    _, metrics = jax.jit(lambda s, d, b: train_steps(ours.task(), ours.update(), f.gather, s, d, b))(
        ours.create_state(), f.data, batch
    )
    assert float(metrics["loss"][1]) == 2.0
