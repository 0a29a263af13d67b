"""The benchmark: windows on a fake clock, table and JSON, workers, a dry run; what keeps a step from waiting."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from diffusion.benchmarks import (
    comparison,
    convolutions,
    machine,
    products,
    saving,
    scaling,
    sizes,
    startup,
    table,
    timing,
    worker,
)
from diffusion.benchmarks import jax_workloads as our_side
from diffusion.benchmarks.timing import Timing
from diffusion.benchmarks.torch_baseline import modes
from diffusion.config import validation
from diffusion.data.embedded import digits
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.figures.scaling import scaling as draw
from diffusion.nets import dropout
from diffusion.nets.cpu import random_bits
from diffusion.training import feed as feeds
from diffusion.training import loop, profiling
from tests.support import runs
from tests.support.networks import TwoConvolutions, using
from tests.training.test_training import tiny

ROOT = Path(__file__).resolve().parents[2]


class Fake:
    """A contestant whose speed is known; `drift(k)` is the machine's slowness at its k-th call."""

    def __init__(self, name, seconds, log, quantum=1, drift=lambda k: 1.0):  # noqa: ARG005
        self.name, self.seconds, self.log, self.quantum, self.drift = name, seconds, log, quantum, drift

    def run(self, units):
        assert units % self.quantum == 0
        self.log.append((self.name, units))
        return units * self.seconds * self.drift(len(self.log))


# ------------------------------------------------------------------------------------------------------------- timing


def test_windows_alternate_and_fill_their_time():
    log = []
    sides = {"a": Fake("a", 0.01, log), "b": Fake("b", 0.025, log)}
    found = timing.alternate(sides, 4, 0.5)
    assert {name: t.units for name, t in found.items()} == {"a": 50, "b": 20}
    assert [t.seconds for t in found.values()] == pytest.approx([0.01, 0.025])
    windows = [name for name, units in log if units > 1]
    assert windows == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_a_window_is_whole_quanta_and_never_none():
    log = []
    found = timing.alternate({"a": Fake("a", 0.01, log, quantum=50)}, 1, 1.6)
    assert found["a"].units == 150
    assert timing.alternate({"a": Fake("a", 9.0, log, quantum=50)}, 2, 1.0)["a"].units == 50
    with pytest.raises(ValueError, match="at least 1"):
        timing.alternate({}, 0, 1.0)


def test_median_and_spread():
    found = Timing((1.0, 1.2, 5.0), 1)
    assert found.seconds == 1.2 and found.spread == pytest.approx(2 / 1.2)


@pytest.mark.parametrize("slope", [0.0, 0.02, 0.1])
def test_the_ratio_does_not_see_a_steady_drift(slope):
    """Both sides of a round slow down alike; medians of each alone would differ by as much as the machine drifts."""
    log = []
    drift = lambda k: 1 + slope * ((k - 1) // 2)  # noqa: E731  the two windows of a round are equally slow
    sides = {name: Fake(name, seconds, log, drift=drift) for name, seconds in (("a", 0.3), ("b", 0.4))}
    found = timing.alternate(sides, 9, 0.1)
    assert timing.ratio(found["a"], found["b"]) == pytest.approx(0.75)


# ------------------------------------------------------------------------------------------------------ table and JSON


def row(measure="train", batch=8, ours=0.5, rival=1.0, **facts):
    sides = {"ours": {"parameters": 7, "flop": 3e9, **facts}, "rival": {"parameters": 7, "mode": "eager"}}
    other = Timing((rival,) * 3, 2) if rival else None
    memory = {"ours": 2e9, "rival": 3e9} if measure == "train" else {}
    return comparison.Row("digits", measure, batch, Timing((ours,) * 3, 2), other, sides, 96e9, memory)


def test_a_row_counts_images_steps_and_share_of_peak():
    one = row()
    assert one.images(one.ours) == 16 and one.ratio == 0.5
    assert one.share == pytest.approx(3e9 * 8 / 0.5 / 96e9)
    chain = row("chain", steps=1000, estimated=True)
    assert chain.images(chain.ours) == pytest.approx(0.016) and chain.estimated
    assert row(rival=None).ratio is None


def test_table_and_json_hold_every_row(tmp_path):
    rows = [row(), row("chain", 1, 0.01, 0.02, steps=1000, estimated=True), row("chain", 16, 0.02, 0.02, steps=1000)]
    rows.append(row("elbo", 8, 0.25, None, steps=1000))
    starts = [startup.Start("digits", 128, 30.0, 6.0)]
    text = table.markdown(rows, starts, [0.5, 0.4, 0.6])
    lines = text.splitlines()
    assert len({len(line) for line in lines[:6]}) == 1
    assert "0.50" in lines[2] and "16" in lines[2] and "~0.1" in lines[3] and "16*" in lines[4]
    assert "30 s" in text and "500 ms" in text and "2.00 GB" in text and "3.00 GB" in text
    path = tmp_path / "new" / "bench.json"
    table.write(path, {"machine": machine.describe(), "settings": {"quick": True}}, rows, starts, [0.5])
    saved = json.loads(path.read_text())
    assert [r["batch"] for r in saved["rows"]] == [8, 1, 16, 8] and saved["rows"][0]["ratio"] == 0.5
    assert saved["rows"][0]["sides"]["rival"]["facts"]["mode"] == "eager" and "rival" not in saved["rows"][3]["sides"]
    assert saved["machine"]["cores"] >= 1 and saved["machine"]["libraries"]["jax"] and saved["settings"]["quick"]


def test_networks_with_other_parameters_are_not_compared():
    comparison.alike({"ours": {"parameters": 7}, "rival": {"parameters": 7}})
    comparison.alike({"ours": {"parameters": 7}})
    with pytest.raises(ValueError, match="differ"):
        comparison.alike({"ours": {"parameters": 7}, "rival": {"parameters": 8}})


def test_the_processor_is_named_or_its_kind(tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "model name : X 9\ncpu family : 6\nmodel : 2\nflags : sse avx2\n\nmodel name : Y\n"
    )
    assert machine.processor(tmp_path / "cpuinfo") == "X 9 (family 6, model 2), avx2"
    assert machine.processor(tmp_path / "none")


def test_every_measure_has_batches_everywhere():
    for size in (*sizes.SIZES.values(), *sizes.QUICK.values()):
        assert size.cpu.keys() == size.accelerator.keys() == sizes.MEASURES.keys()
        assert (ROOT / size.config).exists()


# ------------------------------------------------------------------------------------------------------------ a worker


def test_a_worker_answers_in_one_line_or_says_what_went_wrong():
    class Side:
        @staticmethod
        def make(request):
            if request["measure"] == "none":
                raise ValueError("no such\nmeasure")
            return worker.Workload(print, {"parameters": 3}, 5)

        @staticmethod
        def memory():
            return 17

    held = []
    made = worker.answer(Side, held, {"make": {"measure": "train"}})
    assert made == {"facts": {"parameters": 3}, "quantum": 5} and len(held) == 1
    assert worker.answer(Side, held, {"run": 10})["seconds"] >= 0
    assert worker.answer(Side, held, {"memory": True}) == {"bytes": 17}
    assert worker.answer(Side, held, {"make": {"measure": "none"}}) == {"error": "ValueError: no such measure"}


def test_a_worker_that_dies_is_said():
    process = worker.Worker("nobody")  # no such side: it ends with a KeyError
    with pytest.raises(ValueError, match="ended with status 1"):
        process.memory()
    process.close()


# ----------------------------------------------------------------------------------------------------------- a dry run


def benchmark(*args):
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *map(str, args)]
    env = {**os.environ, "XLA_FLAGS": ""}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1200)


@pytest.mark.slow
def test_dry_run(tmp_path):
    done = benchmark("--quick", "--size=digits", "--only=forward,ddim", f"--json={tmp_path / 'bench.json'}")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [r["measure"] for r in rows] == ["peak", "forward", "ddim"]
    assert all(r["sides"]["ours"]["seconds_per_unit"] > 0 for r in rows) and rows[0]["peak_flops"] > 0
    assert rows[2]["units_per_image"] == 50 and rows[2]["estimated"] and rows[1]["share_of_peak"] > 0
    assert "| DDIM, 50 steps" in done.stdout and "~" in done.stdout


@pytest.mark.parametrize("table", [sizes.SIZES, sizes.QUICK], ids=["whole", "dry run"])
def test_what_is_measured_is_a_legal_config(table):
    """Starts go by the command line, which refuses what is not; networks made within the process are not asked."""
    for size in table.values():
        request = {"config": size.config, "changes": size.changes, "batch": size.cpu["train"][0]}
        validation.validate(our_side.settings(request), size.shape[0])
        odd = our_side.settings({**request, "changes": {**size.changes, "net.attention": (3,)}})
        with pytest.raises(ValueError, match="3 is no height"):
            validation.validate(odd, size.shape[0])


def test_convolutions_of_the_published_network_are_counted():
    """Two 3x3 convolutions in each of 22 residual blocks, the first and the last; the three after upsampling are none
    where CPUs compute (nets/cpu/upsampling.py)."""
    request = {"config": "configs/cifar10.py", "changes": {}, "shape": (32, 32, 3), "batch": 1}
    found = our_side.make({**request, "measure": "convolutions"}).facts["convolutions"]
    upsampled = 0 if jax.default_backend() == "cpu" else 3
    assert sum(count for *_, count in found) == 2 * 22 + upsampled + 2
    assert [32, 32, 3, 128, 1] in found and [32, 32, 128, 3, 1] in found


def test_what_the_host_took_is_told(tmp_path):
    """Of 400 ticks between two readings 100 were stolen; systems that do not tell count as undisturbed."""
    stat = tmp_path / "stat"
    readings = []
    for line in ("cpu  10 0 0 80 0 0 0 10 0 0", "cpu  200 5 5 165 5 5 5 110 7 0\ncpu0 1 2 3", "cpu  1 2 3", "what"):
        stat.write_text(line)
        readings.append(machine.ticks(stat))
    assert readings == [(10, 100), (110, 500), (0, 0), (0, 0)] and machine.ticks(tmp_path / "none") == (0, 0)
    assert machine.stolen(*readings[:2]) == 0.25 and machine.stolen(*readings[2:]) == 0.0
    row = comparison.Row("digits", "train", 8, Timing((0.1,), 1), None, {"ours": {}}, stolen=0.25)
    text = table.markdown([row, row._replace(measure="forward", stolen=0.0)], [], [])
    assert text.endswith("took away: 12.5%, median over the rows; at most 25.0% (digits, training step, batch 8)")
    assert "took away" not in table.markdown([row._replace(stolen=0.0)], [], [])
    assert table.content(row)["stolen"] == 0.25
    one = convolutions.Pass("digits", "train", 8, {"ours": row.ours, "products": row.ours}, {}, 0.25)
    assert "at most 25.0%" in convolutions.passes([], [one]) and convolutions.pass_content(one)["stolen"] == 0.25


def test_table_of_convolutions_adds_them_up():
    """The sums are over all of a network's convolutions, each as often as it occurs."""
    timed = lambda ours, rival: {"ours": Timing((ours,), 1), "rival": Timing((rival,), 1)}  # noqa: E731
    roles = dict.fromkeys(convolutions.ROLES, timed(0.002, 0.001))
    first = convolutions.Line("digits", 8, convolutions.Shape(8, 8, 4, 6), 3, roles)
    second = convolutions.Line(
        "digits", 8, convolutions.Shape(4, 4, 6, 6), 1, dict.fromkeys(roles, timed(0.001, 0.004))
    )
    lines = convolutions.markdown([first, second]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "2 ms, 2.00" in lines[2] and "4 to 6" in lines[2] and "1 ms, 0.25" in lines[3]
    assert "7 ms, 1.00" in lines[4] and "| 4 " in lines[4]
    alone = first._replace(found={role: {"ours": sides["ours"]} for role, sides in roles.items()})
    assert "2 ms, -" in convolutions.markdown([alone])
    assert convolutions.content(first)["windows"]["input"] == {"ours": [0.002], "rival": [0.001]}


def test_what_convolutions_and_products_take_of_a_pass():
    """Ours take 3 x 2 ms of 10 ms forward, and 6 ms in each of three roles of 40 ms in training; the rival's half.
    All products of a pass take 7 ms, which is 7/8 of the rival's pass; over two rounds the ratio is that of rounds."""
    sides = {"ours": Timing((0.002,), 1), "rival": Timing((0.001,), 1)}
    line = convolutions.Line("digits", 8, convolutions.Shape(8, 8, 4, 6), 3, dict.fromkeys(convolutions.ROLES, sides))
    times = lambda **seconds: {name: Timing(found, 1) for name, found in seconds.items()}  # noqa: E731
    found = times(ours=(0.010, 0.020), products=(0.007, 0.014), rival=(0.008, 0.016))
    forward = convolutions.Pass("digits", "forward", 8, found, {})
    train = convolutions.Pass("digits", "train", 8, times(ours=(0.040,), products=(0.02,), rival=(0.036,)), {})
    other = line._replace(net="cifar10")
    first, second = (
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in convolutions.passes([line, other], [forward, train]).splitlines()[2:]
    )
    assert first == ["digits", "forward", "8", "15 ms", "6 ms", "10.5 ms", "12 ms", "3 ms", "1.25", "0.88"]
    assert second[3:] == ["40 ms", "18 ms", "20 ms", "36 ms", "9 ms", "1.11", "0.56"]
    alone = train._replace(found=times(ours=(0.040,), products=(0.02,)))
    assert "18 ms" in convolutions.passes([line], [alone]) and "| - " in convolutions.passes([line], [alone])
    assert convolutions.pass_content(train)["windows"]["products"] == [0.02]


def test_a_pass_reduced_to_its_products():
    """Of a convolution within a jitted call, a product, and what is around them, the two remain, each computed from
    inputs of its own."""

    def function(x, kernel, w):
        h = jax.jit(lambda x: jax.lax.conv(jnp.tanh(x), kernel, (1, 1), "SAME"))(x)
        return jnp.exp(h.reshape(2, -1)) @ w

    jaxpr = jax.make_jaxpr(function)(np.ones((2, 3, 4, 4)), np.ones((5, 3, 3, 3)), np.ones((80, 7))).jaxpr
    call, arguments = products.alone(jaxpr)
    assert [[a.shape for a in pair] for pair in arguments] == [[(2, 3, 4, 4), (5, 3, 3, 3)], [(2, 80), (80, 7)]]
    first, second = jax.jit(call)(arguments)
    np.testing.assert_allclose(first, jax.lax.conv(*arguments[0], (1, 1), "SAME"), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(second, np.asarray(arguments[1][0]) @ np.asarray(arguments[1][1]), rtol=1e-4, atol=1e-4)
    lowered = jax.jit(call).lower(arguments).as_text()
    assert lowered.count("stablehlo.convolution") == 1 and lowered.count("stablehlo.dot_general") == 1
    assert "exponential" not in lowered and "tanh" not in lowered


def test_training_takes_three_convolutions_for_each_but_the_first():
    """Nobody asks for the gradient of the image that goes in."""
    request = {"config": "configs/digits.py", "changes": {"net.channels": 8}, "shape": (8, 8, 1), "batch": 2}
    ours = our_side.subject(request)
    counts = {
        kind: len(list(convolutions.equations(products.traced(ours, 2, kind), convolutions.CONVOLUTION)))
        for kind in ("forward", "train")
    }
    assert counts["train"] == 3 * counts["forward"] - 1
    run = our_side.make({**request, "measure": "products", "pass": "forward"}).run
    run(1)


def test_the_rivals_mode_is_chosen_by_ratios_not_by_the_moment(monkeypatch):
    """A machine that slows down tenfold while the faster mode is tried, and one mode that fails."""
    clock, slow, compilations = [0.0], [1.0], []
    costs = {None: 3.0, "default": 4.0, "max-autotune": 2.0}
    fake = types.SimpleNamespace(_dynamo=types.SimpleNamespace(reset=lambda: None))
    fake._inductor = types.SimpleNamespace(config=types.SimpleNamespace(freezing=False))

    def compiled(_, mode, dynamic):
        assert not dynamic
        compilations.append(mode)
        if mode == "max-autotune-no-cudagraphs":
            raise RuntimeError("no such mode")
        slow[0] = 10.0 if mode == "max-autotune" else 1.0
        return mode

    fake.compile = compiled

    def call(made):
        clock[0] += slow[0] * costs[made if isinstance(made, str) else None]

    monkeypatch.setattr(modes, "torch", lambda: fake)
    monkeypatch.setattr(modes.time, "perf_counter", lambda: clock[0])
    plain = lambda: None  # noqa: E731
    tried = ("eager", "max-autotune", "max-autotune-no-cudagraphs", "default")
    made, name, found = modes.fastest(plain, tried, call)
    assert (made, name) == ("max-autotune", "max-autotune")
    assert found["max-autotune"] == 20.0 and found["default"] == 4.0 and "no such mode" in found[tried[2]]
    assert modes.fastest(plain, ("eager", "default"), call)[:2] == (plain, "eager")
    compilations.clear()  # the best one is made anew where a failure came after it
    assert modes.fastest(plain, tried[:3], call)[:2] == ("max-autotune", "max-autotune")
    assert compilations == [*tried[1:3], "max-autotune"]


def test_steps_beside_a_save_are_told_from_those_alone():
    """A save that takes three steps: three are counted, and the state that is written is that of the last step."""

    class Slow:
        def __init__(self):
            self.left, self.kept = 0, []

        def save(self, step, state):
            self.left = 3
            self.kept.append((step, state))

        def writing(self):
            return self.left > 0

    checkpoints, made = Slow(), []

    def step():
        checkpoints.left -= 1
        made.append(len(made))
        return made[-1]

    found = saving.measure(step, checkpoints)
    assert len(found["alone"]) == saving.ROUNDS * saving.ALONE and len(found["during"]) == 3 * saving.ROUNDS
    assert len(found["written"]) == saving.ROUNDS
    assert checkpoints.kept == [(i + 1, saving.ALONE * (i + 1) + 3 * i) for i in range(saving.ROUNDS)]


def test_table_of_saves():
    one = saving.Saving("digits", 8, (0.2, 0.2), (0.3, 0.3, 0.3), (0.01,), (1.0,))
    assert one.ratio == pytest.approx(1.5)
    line = saving.markdown([one]).splitlines()[2]
    assert "200 ms" in line and "300 ms" in line and "1.50" in line and "10 ms" in line
    assert one._replace(during=()).ratio == 1.0


@pytest.mark.slow
def test_dry_run_of_convolutions(tmp_path):
    path = tmp_path / "conv.json"
    done = benchmark("--quick", "--convolutions", "--size=digits", f"--json={path}")
    assert done.returncode == 0, done.stderr
    assert all(line["windows"]["kernel"]["ours"] for line in json.loads(path.read_text())["convolutions"])


@pytest.mark.slow
def test_dry_run_of_everything_with_the_rival(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    done = benchmark("--quick", "--rival=torch", f"--json={tmp_path / 'bench.json'}")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    trained = [r for r in found["rows"] if r["measure"] == "train"]
    assert len(trained) == 2 and all(r["ratio"] > 0 and r["memory_bytes"]["rival"] > 0 for r in trained)
    for r in trained:
        assert r["sides"]["ours"]["facts"]["parameters"] == r["sides"]["rival"]["facts"]["parameters"] > 0
    assert len(found["startup"]) == 2 and found["help_seconds"]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--only=trian"], "--only=trian is no measure; did you mean train?"),
        (["--rival=tensorflow"], "rival"),
        (["--size=imagenet"], "size"),
        (["--json=."], "--json=. is no file to write"),
        (["--windows=0"], "windows"),
    ],
)
def test_wrong_input_is_one_line(args, line):
    done = benchmark(*args)
    assert done.returncode == 2 and line in done.stderr and len(done.stderr.splitlines()) == 1


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv = ['x', '--help']; import runpy\n" + (
        "try: runpy.run_path('scripts/benchmark.py', run_name='__main__')\n"
        "except SystemExit: print(*{n.split('.')[0] for n in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"jax", "torch", "flax", "sklearn", "matplotlib"} & set(done.stderr.split()) == set()


# ------------------------------------------------------------------------------------------------------------- scaling


def test_the_power_of_a_curve():
    square = scaling.Curve("n", "s", (1, 2, 4, 8), (1.0, 4.0, 16.0, 64.0))
    assert square.exponent == pytest.approx(2)
    late = scaling.Curve(
        "n", "s", (1, 2, 4, 8), (5.0, 5.0, 10.0, 20.0)
    )  # a constant cost at the start does not hide it
    assert late.exponent == pytest.approx(1)
    assert draw({"n": (square.x, square.seconds, square.cost), "m": (late.x, late.seconds, late.cost)}).axes
    panel = draw({"n": ((1_000, 20_000), (0.5, 1_000_000.0), "s")}).axes[0]
    assert [panel.xaxis.get_major_formatter()(float(x)) for x in panel.get_xticks()] == ["1k", "20k"]
    assert [panel.yaxis.get_major_formatter()(y) for y in (0.05, 1024.0, 3e6)] == ["0.05", "1024", "3M"]
    with pytest.raises(ValueError, match="logarithmic"):
        draw({"n": ((0, 1), (1.0, 2.0), "s")})
    with pytest.raises(ValueError, match="no cost"):
        draw({})


def test_opening_a_folder_is_timed():
    assert 0 < scaling.folder(10) < 60


# ---------------------------------------------------------------------------- the fast dropout is the plain one's equal


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 5, 4), (128, 64)])
def test_random_bits_are_those_of_jax(shape):
    both = jax.jit(lambda key: (random_bits.random_bits(key, shape), jax.random.bits(key, shape)))
    for seed in (0, 7, 2**31):
        for key in (jax.random.key(seed), jax.random.split(jax.random.key(seed))[1]):
            np.testing.assert_array_equal(*both(key))


def test_masks_are_those_of_bernoulli():
    shares = [0.0, 1e-7, 0.1, 0.5, 0.7, 0.9, 1.0 - 2**-24, 1.0]
    masks = jax.jit(
        lambda key: [(random_bits.kept(key, p, (64, 8)), jax.random.bernoulli(key, p, (64, 8))) for p in shares]
    )
    for key in (jax.random.key(3), jax.random.key(3, impl="rbg")):
        for ours, plain in masks(key):
            np.testing.assert_array_equal(ours, plain)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, h, train):
        return nn.Dropout(0.1)(h, deterministic=not train)


class Fast(nn.Module):
    @nn.compact
    def __call__(self, h, train):
        return dropout.Dropout(0.1)(h, deterministic=not train)


@pytest.mark.parametrize("train", [False, True])
def test_dropout_and_its_gradient_are_those_of_flax(train, key):
    h = jax.random.normal(key, (4, 6, 6, 8))

    def found(module):
        def loss(h):
            out = module.apply({}, h, train, rngs={"dropout": key})
            return (out**3).sum(), out

        return jax.jit(jax.grad(loss, has_aux=True))(h)

    for fast, plain in zip(found(Fast()), found(Plain()), strict=True):
        np.testing.assert_array_equal(fast, plain)


# --------------------------------------------------------------------------------------------- no step waits; a trace


def a_run(steps, log_every, feed, ours, folder, monkeypatch, events):
    """Trains with every dispatch and every read of results noted."""
    compile_steps, device_get = loop.compile_steps, jax.device_get

    def compiled(*args):
        program = compile_steps(*args)

        def dispatch(*args):
            events.append("dispatch")
            with jax.transfer_guard("disallow"):
                return program(*args)

        dispatch.memory_analysis = program.memory_analysis
        return dispatch

    def read(tree):
        if isinstance(tree, list) and tree:
            events.append(f"read {len(tree)}")
        return device_get(tree)

    monkeypatch.setattr(loop, "compile_steps", compiled)
    monkeypatch.setattr(jax, "device_get", read)
    periods, parts = runs.periods(steps, log=log_every), (ours.task(), ours.update(), feed, ours.create_state())
    return runs.train(folder, *parts, periods, lambda _: None)


@pytest.fixture(scope="module")
def small():
    config = tiny(**{"train.batch_size": 8})
    mesh = sharding.make_mesh(jax.devices()[:1])
    with using(TwoConvolutions):
        ours = build.experiment(config, (8, 8, 1), 10, mesh)
    return ours, feeds.resident(digits(train=True), 0, 8, mesh)


def test_no_step_waits_for_the_host(small, tmp_path, monkeypatch):
    """Metrics of an interval are read after the next dispatch; nothing is moved implicitly by one (the guard is on)."""
    ours, feed = small
    events = []
    a_run(9, 3, feed, ours, tmp_path, monkeypatch, events)
    reads = [i for i, event in enumerate(events) if event == "read 3"]
    dispatched = [events[:i].count("dispatch") for i in reads]
    assert events.count("dispatch") == 9
    assert dispatched[0] > 3 and dispatched[1] > 6 and len(reads) == 3


def test_a_trace_of_a_few_steps(small, tmp_path, monkeypatch):
    ours, feed = small
    said = []
    traced = profiling.traced(feed, tmp_path / "profile", said.append, first=2, steps=2)
    state = a_run(6, 3, traced, ours, tmp_path, monkeypatch, [])
    assert int(state.step) == 6 and len(said) == 1
    assert list((tmp_path / "profile").rglob("perfetto_trace.json.gz")) and list(tmp_path.rglob("*.xplane.pb"))
    batches = profiling.traced(feed, tmp_path / "short", said.append, first=1, steps=9).batches(0)
    same = feed.batches(0)
    for _ in range(3):
        np.testing.assert_array_equal(next(batches), next(same))
    batches.close()
    assert len(said) == 2 and list((tmp_path / "short").rglob("*.xplane.pb"))
