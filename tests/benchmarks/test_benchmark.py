"""The benchmark: windows on a fake clock, table and JSON, processes, a dry run; what keeps a step from waiting."""

import json
import os
import subprocess
import sys
import types
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from diffusion.benchmarks import (
    benchmarked_networks,
    compare_with_baseline,
    jax_workloads,
    results_table,
    scaling_measurements,
    timing,
)
from diffusion.benchmarks.timing import Timing
from diffusion.benchmarks.torch_baseline import compile_modes
from diffusion.benchmarks.workload_subprocess import WorkloadProcess
from diffusion.commands import benchmark
from diffusion.config import validation
from diffusion.data.digits import digits
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.figures.curve_figures import cost_growth
from diffusion.training import batch_feed as feeds
from diffusion.training import loop, profiling
from tests.support import runs
from tests.support.networks import TwoConvolutions, using
from tests.training.test_training import tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clock(monkeypatch):
    """The clock of the windows, which stands still but for what workloads add to it."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def fake(clock, name, seconds, log, quantum=1, drift=lambda k: 1.0):  # noqa: ARG005
    """A workload whose speed is known; `drift(k)` is the machine's slowness at its k-th call."""

    def run(units):
        assert units % quantum == 0
        log.append((name, units))
        clock[0] += units * seconds * drift(len(log))

    return timing.Workload(run, quantum=quantum)


# ------------------------------------------------------------------------------------------------------------- timing


def test_windows_alternate_and_fill_their_time(clock):
    log = []
    sides = {"a": fake(clock, "a", 0.01, log), "b": fake(clock, "b", 0.025, log)}
    found = timing.alternate(sides, 4, 0.5)
    assert {name: t.units for name, t in found.items()} == {"a": 50, "b": 20}
    assert [t.seconds for t in found.values()] == pytest.approx([0.01, 0.025])
    windows = [name for name, units in log if units > 1]
    assert windows == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_a_window_is_whole_quanta_and_never_none(clock):
    log = []
    found = timing.alternate({"a": fake(clock, "a", 0.01, log, quantum=50)}, 1, 1.6)
    assert found["a"].units == 150
    assert timing.alternate({"a": fake(clock, "a", 9.0, log, quantum=50)}, 2, 1.0)["a"].units == 50


def test_median_and_spread():
    found = Timing((1.0, 1.2, 5.0), 1)
    assert found.seconds == 1.2 and found.spread == pytest.approx(2 / 1.2)


@pytest.mark.parametrize("slope", [0.0, 0.02, 0.1])
def test_the_ratio_does_not_see_a_steady_drift(clock, slope):
    """Both sides of a round slow down alike; medians of each alone would differ by as much as the machine drifts."""
    log = []
    drift = lambda k: 1 + slope * ((k - 1) // 2)  # noqa: E731  the two windows of a round are equally slow
    sides = {name: fake(clock, name, seconds, log, drift=drift) for name, seconds in (("a", 0.3), ("b", 0.4))}
    found = timing.alternate(sides, 9, 0.1)
    assert timing.ratio(found["a"], found["b"]) == pytest.approx(0.75)


# ------------------------------------------------------------------------------------------------------ table and JSON


def row(measure="train", batch=8, seconds=0.5, baseline=1.0, **facts):
    sides = {"jax": {"parameters": 7, "flop": 3e9, **facts}, "baseline": {"parameters": 7, "mode": "eager"}}
    timings = {"jax": Timing((seconds,) * 3, 2), **({"baseline": Timing((baseline,) * 3, 2)} if baseline else {})}
    memory = {"jax": 2e9, "baseline": 3e9} if measure == "train" else {}
    return compare_with_baseline.Row("digits", measure, batch, timings, sides, 96e9, memory)


def test_a_row_counts_images_steps_and_share_of_peak():
    one = row()
    assert one.images("jax") == 16 and one.images("baseline") == 8 and one.ratio == 0.5
    assert one.share == pytest.approx(3e9 * 8 / 0.5 / 96e9)
    chain = row("chain", steps=1000)
    assert chain.images("jax") == pytest.approx(0.016)
    assert row(baseline=None).ratio is None


def test_table_and_json_hold_every_row(monkeypatch, tmp_path):
    rows = [row("peak", 2048, flop=0.0, baseline=None), row(), row("chain", 1, 0.01, 0.02, steps=1000)]
    rows += [row("chain", 16, 0.02, 0.02, steps=1000), row("elbo", 8, 0.25, None, steps=1000)]
    monkeypatch.setattr(benchmark, "compare", lambda *_: iter(rows))
    path = tmp_path / "new" / "bench.json"
    shown = []
    sizes, settings = {"digits": benchmarked_networks.SIZES["digits"]}, compare_with_baseline.Settings(["train"])
    benchmark.measure_speed(sizes, settings, path, shown.append, print)
    (text,) = shown
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert "96 GFLOP/s" in lines[2] and lines[3][-1] == "0.50" and "16" in lines[3] and "500 ms ±0%" in lines[3]
    assert "0.1" in lines[4] and "1" in lines[4] and "16*" in lines[5] and lines[6][-1] == "-"
    assert "2.00 GB" in text and "3.00 GB" in text
    saved = json.loads(path.read_text())
    assert [r["batch"] for r in saved["rows"]] == [2048, 8, 1, 16, 8] and saved["rows"][1]["ratio"] == 0.5
    assert saved["rows"][1]["sides"]["baseline"]["facts"]["mode"] == "eager"
    assert "baseline" not in saved["rows"][4]["sides"] and saved["settings"]["windows"] == 7
    assert saved["machine"]["cores"] >= 1 and saved["machine"]["libraries"]["jax"]


def test_peak_memory_is_that_of_training(monkeypatch):
    """Matrices of a product may be larger than a small network's training: the process that made them has ended."""
    alive = []

    class Process(WorkloadProcess):
        def __init__(self, module, env):
            assert not alive, "an accelerator's memory is held by one process"
            self.made = alive
            assert env == {} and module == compare_with_baseline.MODULES["jax"]
            alive.append("a process")

        def make(self, request):
            self.made.append(request["measure"])
            return timing.Workload(float, {"platform": "gpu", "flop": 1.0, "dtype": "bfloat16", "side": 2})

        def memory(self):
            return len(self.made)

        def close(self):
            alive.clear()

    monkeypatch.setattr(compare_with_baseline, "WorkloadProcess", Process)
    size, settings = benchmarked_networks.SIZES["digits"], compare_with_baseline.Settings(["train"], 1, 1.0)
    rows = list(compare_with_baseline.compare("digits", size, settings, lambda _: None, []))
    assert [(r.measure, dict(r.memory)) for r in rows] == [("peak", {}), ("train", {"jax": 2}), ("train", {"jax": 3})]


def test_a_row_that_cannot_be_measured_is_left_out(monkeypatch):
    class Process(WorkloadProcess):
        def __init__(self, *_):
            pass

        def make(self, request):
            if request["batch"] == 1024:
                raise RuntimeError("RESOURCE_EXHAUSTED: 9 GiB")
            return timing.Workload(float, {"platform": "gpu", "flop": 1.0, "dtype": "bfloat16", "side": 2})

        def memory(self):
            return 1

        def close(self):
            pass

    monkeypatch.setattr(compare_with_baseline, "WorkloadProcess", Process)
    size, settings = benchmarked_networks.SIZES["digits"], compare_with_baseline.Settings(["train", "forward"], 1, 1.0)
    failed, said = [], []
    rows = list(compare_with_baseline.compare("digits", size, settings, said.append, failed))
    assert [(r.measure, r.batch) for r in rows] == [("peak", 2), ("train", 128), ("forward", 128)]
    names = [f"digits: {name}, batch 1024: RESOURCE_EXHAUSTED: 9 GiB" for name in ("training step", "forward")]
    assert failed == names and [line for line in said if "left out" in line] == [f"left out    {n}" for n in names]


def test_what_was_measured_is_shown_and_written_before_the_rest_is_named(monkeypatch, tmp_path):
    def compare(name, size, settings, report, failed):  # noqa: ARG001
        failed.append(f"{name}: forward: no memory")
        yield row()
        if name == "cifar10":
            raise RuntimeError("the device is gone")

    monkeypatch.setattr(benchmark, "compare", compare)
    shown, path = [], tmp_path / "bench.json"
    arguments = (benchmarked_networks.SIZES, compare_with_baseline.Settings(["train"]))
    with pytest.raises(
        ValueError, match=r"^not measured: digits: forward: no memory; cifar10: .*; cifar10: the device"
    ):
        benchmark.measure_speed(*arguments, path, shown.append, print)
    saved = json.loads(path.read_text())
    assert shown[0].count("training step") == 2 and len(saved["rows"]) == 2 and len(saved["left_out"]) == 3
    with pytest.raises(OSError):
        benchmark.measure_speed(*arguments, path / "x.json", shown.append, print)
    assert shown[1] == shown[0], "a file that cannot be written costs no table"


def test_without_any_row_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(benchmark, "compare", lambda *_: iter([][1]))
    with pytest.raises(ValueError, match=r"^not measured: digits: list index out of range"):
        sizes = {"digits": benchmarked_networks.SIZES["digits"]}
        benchmark.measure_speed(sizes, compare_with_baseline.Settings([]), None, print, print)
    monkeypatch.setenv("DIFFUSION_TRACEBACK", "1")
    with pytest.raises(IndexError):  # a traceback is wanted
        benchmark.measure_speed(sizes, compare_with_baseline.Settings([]), None, print, print)


@pytest.mark.parametrize("name", ["torch", "diffusers"])
def test_a_baseline_without_its_libraries_is_refused_at_once(monkeypatch, name):
    monkeypatch.setattr(compile_modes, "find_spec", lambda other: other != name or None)
    with pytest.raises(ValueError, match=f"^--baseline=torch needs {name}, .*pip install -r requirements-benchmark"):
        benchmark.choose_settings(["train"], None, None, True, False)


def test_networks_with_other_parameters_are_not_compared():
    compare_with_baseline.check_parameters({"jax": {"parameters": 7}, "baseline": {"parameters": 7}})
    compare_with_baseline.check_parameters({"jax": {"parameters": 7}})
    with pytest.raises(ValueError, match="differ"):
        compare_with_baseline.check_parameters({"jax": {"parameters": 7}, "baseline": {"parameters": 8}})


def test_the_processor_is_named_or_its_architecture(tmp_path):
    (tmp_path / "cpuinfo").write_text("cpu family : 6\nmodel name\t: X 9\nflags : sse\n\nmodel name : Y\n")
    assert results_table.processor(tmp_path / "cpuinfo") == "X 9"
    assert results_table.processor(tmp_path / "none")


def test_every_measure_has_batches_everywhere():
    for size in benchmarked_networks.SIZES.values():
        for one in (size, benchmarked_networks.quick(size)):
            assert one.cpu.keys() == one.accelerator.keys() == benchmarked_networks.MEASURES.keys()
        assert (ROOT / size.config).exists()


# ----------------------------------------------------------------------------------------------------------- a process

SIDE = """
import os
from diffusion.benchmarks.timing import Workload

def make(request):
    if request["measure"] == "none":
        raise ValueError("no such measure")
    if request["measure"] == "death":
        os._exit(3)
    return Workload(lambda units: print(units), {"colour": os.environ["COLOUR"]}, 5)

def memory():
    return 17
"""


def test_a_process_runs_workloads_and_hands_back_errors(tmp_path, monkeypatch, capfd):
    (tmp_path / "a_side.py").write_text(SIDE)
    monkeypatch.syspath_prepend(tmp_path)
    with closing(WorkloadProcess("a_side", {"COLOUR": "red"})) as process:
        workload = process.make({"measure": "train"})
        assert (workload.facts, workload.quantum) == ({"colour": "red"}, 5)
        workload.run(10)
        assert process.memory() == 17
        with pytest.raises(ValueError, match="no such measure"):
            process.make({"measure": "none"})
        with pytest.raises(ValueError, match="the process of a_side has ended"):
            process.make({"measure": "death"})
        assert process.make({"measure": "train"}).facts == {"colour": "red"}, "the next call has a new process"
    assert not capfd.readouterr().out


# ----------------------------------------------------------------------------------------------------------- a dry run


def script(*args):
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *map(str, args)]
    env = {**os.environ, "XLA_FLAGS": ""}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1200)


@pytest.mark.slow
def test_dry_run(tmp_path):
    done = script("--quick", "--size=digits", "--only=forward,ddim", f"--json={tmp_path / 'bench.json'}")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [r["measure"] for r in rows] == ["peak", "forward", "ddim", "ddim"]
    assert all(r["sides"]["jax"]["seconds"] > 0 for r in rows) and rows[0]["peak"] > 0
    assert rows[2]["steps"] == 50 and rows[1]["share"] > 0
    assert "| DDIM, 50 steps" in done.stdout


@pytest.mark.parametrize("adapt", [lambda size: size, benchmarked_networks.quick], ids=["whole", "dry run"])
def test_what_is_measured_is_a_legal_config(adapt):
    for size in map(adapt, benchmarked_networks.SIZES.values()):
        request = {**size.request(), "batch": size.cpu["train"][0]}
        validation.validate(jax_workloads.make_config(request), size.shape[0])
        odd = jax_workloads.make_config({**request, "changes": {**size.changes, "net.attention": (3,)}})
        with pytest.raises(ValueError, match="3 is no height"):
            validation.validate(odd, size.shape[0])


def test_the_mode_of_the_baseline_is_chosen_by_ratios(clock, monkeypatch):
    """A machine that grows slower with every call, and one mode that fails."""
    calls = [0]
    costs = {"eager": 3.0, "default": 4.0, "max-autotune": 2.0}

    def compiled(function, *, dynamic, mode=None, options=None):
        assert not dynamic and function is plain
        return mode or next(iter(options))

    def call(made, units):
        assert units == 1
        if made not in (plain, *costs):
            raise RuntimeError("no such mode")
        calls[0] += 1
        clock[0] += (1 + 0.2 * calls[0]) * costs[made if isinstance(made, str) else "eager"]

    freed: list[str] = []
    calls_of_cuda = {name: partial(freed.append, name) for name in ("empty_cache", "reset_peak_memory_stats")}
    cuda = types.SimpleNamespace(is_available=lambda: True, **calls_of_cuda)
    dynamo = types.SimpleNamespace(reset=partial(freed.append, "programs"))
    fake = types.SimpleNamespace(_dynamo=dynamo, cuda=cuda, compile=compiled)
    monkeypatch.setattr(compile_modes, "torch", lambda: fake)
    plain = lambda: None  # noqa: E731
    made, name, tried = compile_modes.fastest(plain, ("max-autotune", "frozen", "default", "eager"), call)
    assert (made, name) == ("max-autotune", "max-autotune") and "no such mode" in tried["frozen"]
    assert tried["max-autotune"] < tried["eager"] < tried["default"]
    assert freed == ["programs", "empty_cache", "reset_peak_memory_stats"], "peak memory is of the chosen mode alone"
    assert compile_modes.fastest(plain, ("eager", "default"), call)[:2] == (plain, "eager")
    with pytest.raises(ValueError, match="ran in no mode"):
        compile_modes.fastest(plain, ("frozen",), call)


@pytest.mark.slow
def test_dry_run_of_everything_beside_the_baseline(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    done = script("--quick", "--baseline=torch", f"--json={tmp_path / 'bench.json'}")
    assert done.returncode == 0, done.stderr
    trained = [r for r in json.loads((tmp_path / "bench.json").read_text())["rows"] if r["measure"] == "train"]
    assert len(trained) == 2 and all(r["ratio"] > 0 and r["memory"]["baseline"] > 0 for r in trained)
    for r in trained:
        assert r["sides"]["jax"]["facts"]["parameters"] == r["sides"]["baseline"]["facts"]["parameters"] > 0


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--only=trian"], "--only=trian is no measure; did you mean train?"),
        (["--baseline=tensorflow"], "baseline"),
        (["--size=imagenet"], "size"),
        (["--json=."], "--json=. is a folder"),
        (["--scaling", "--only=train"], "leave out --only and --baseline"),
        (["--scaling", "--baseline=torch"], "leave out --only and --baseline"),
        (["--windows=0"], "windows"),
    ],
)
def test_wrong_input_is_one_line(args, line):
    done = script(*args)
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
    square = scaling_measurements.Curve("s", (1, 2, 4, 8), (1.0, 4.0, 16.0, 64.0))
    assert square.exponent == pytest.approx(2)
    late = scaling_measurements.Curve("s", (1, 2, 4, 8), (5.0, 5.0, 10.0, 20.0))  # a constant cost at the start
    assert late.exponent == pytest.approx(1)
    assert cost_growth({"n": square, "m": late}).axes
    panel = cost_growth({"n": scaling_measurements.Curve("s", (1_000, 20_000), (0.5, 1_000_000.0))}).axes[0]
    assert [panel.xaxis.get_major_formatter()(float(x)) for x in panel.get_xticks()] == ["1k", "20k"]
    assert [panel.yaxis.get_major_formatter()(y) for y in (0.05, 1024.0, 3e6)] == ["0.05", "1024", "3M"]


def test_growth_is_measured_of_every_quantity_and_drawn(monkeypatch, tmp_path):
    requests, lines = [], []
    monkeypatch.setattr(scaling_measurements, "cost", lambda request, _: requests.append(request) or 1.0)
    size, out = benchmarked_networks.SIZES["digits"], tmp_path / "scaling.png"
    benchmark.measure_growth(size, compare_with_baseline.Settings([]), False, out, tmp_path / "a.json", lines.append)
    assert out.exists() and len(json.loads((tmp_path / "a.json").read_text())["curves"]) == 5
    assert [r["shape"] for r in requests if r["measure"] == "forward"] == [(n, n, 1) for n in (8, 16, 32, 64)]
    assert [r["devices"] for r in requests if "devices" in r] == [1, 2, 4, 8]
    assert {r["changes"].get("diffusion.T") for r in requests} == {None, 100, 200, 500, 1000}
    assert lines[0] == "T: seconds of a chain: 100 1, 200 1, 500 1, 1000 1; power 0.00"


def test_the_cost_of_a_chain_is_that_of_the_whole(monkeypatch, clock):
    log = []
    chain = fake(clock, "chain", 0.01, log)._replace(facts={"steps": 20})
    process = types.SimpleNamespace(make=lambda _: chain, close=lambda: None)
    monkeypatch.setattr(scaling_measurements, "WorkloadProcess", lambda *_: process)
    settings = compare_with_baseline.Settings([], seconds=0.01)
    assert scaling_measurements.cost({"measure": "chain"}, settings) == pytest.approx(0.2)
    assert {units for _, units in log} == {20}


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


def test_the_host_reads_metrics_once_an_interval(small, tmp_path, monkeypatch):
    """Between two reads the device does not wait; nothing is moved implicitly by a dispatch (the guard is on)."""
    ours, feed = small
    events = []
    a_run(9, 3, feed, ours, tmp_path, monkeypatch, events)
    reads = [i for i, event in enumerate(events) if event == "read 3"]
    assert [events[:i].count("dispatch") for i in reads] == [3, 6, 9] and events.count("dispatch") == 9


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
