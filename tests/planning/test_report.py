"""Targets, times from published peaks, the report, and the lines for what cannot be compiled."""

import json
import math

import pytest

from diffusion.commands import plan
from diffusion.config import default_config
from diffusion.config.config_dict import flatten
from diffusion.config.config_files import load
from diffusion.planning import compile_for_target, hlo, report, report_csv, targets
from diffusion.planning.collectives import Collective
from diffusion.planning.compile_for_target import Compiled, Data, Job
from diffusion.planning.hlo import Memory
from diffusion.planning.kernel_and_byte_counts import Cost, Kernel
from diffusion.planning.memory_and_time import estimate

COPY = Kernel("jit(run)/swap", 2.0, 10**6, {}, True, True, "f32[8, 8]")
SUM = {"all-reduce f32": Collective(2.0, 8e7, 1e8, True)}
WORK = Cost(1234.0, {"bf16": 1.97e12, "f32": 1.97e11}, 16.38e9, SUM, [COPY])


HELD = Memory(2 * 10**9, 3 * 10**9)


def on(name, memory=HELD):
    return estimate(targets.parse(name), WORK, memory, 360_000)


@pytest.mark.parametrize(
    ("name", "model", "count", "chips"),
    [
        *(("tpu:v5e:4x4", "tpu:v5e", 16, 16), ("tpu:v3:2x2", "tpu:v3", 8, 4), ("tpu:v4:2x2x2", "tpu:v4", 16, 8)),
        *(("tpu:v5e", "tpu:v5e", 1, 1), ("gpu:h100:8", "gpu:h100", 8, 8), ("cpu", "cpu", 1, 1), ("cpu:4", "cpu", 4, 4)),
    ],
)
def test_targets_name_hardware_and_how_much_of_it(name, model, count, chips):
    target = targets.parse(name)
    assert (target.model, target.count, target.chips, target.name) == (model, count, chips, name)


def test_unknown_targets_are_named_with_what_is_legal():
    wrong = {
        "tpu:v5q": "no such hardware; --target=. lists tpu:v2",
        "h100": "--target=. lists tpu:v2",
        "tpu:v5e:4y4": "'4y4' is not 1 or a topo",
    }
    wrong |= {"gpu:h100:0": "'0' is not a number", "tpu:v5e:0x2": "'0x2' is not", "gpu:h100:8:8": "no such hardware"}
    for name, said in wrong.items():
        with pytest.raises(ValueError, match=f"^--target={name}: .*{said}"):
            targets.parse(name)


def test_more_devices_are_the_next_topologies():
    following = {"tpu:v5e": ["2x2", "2x4"], "tpu:v5e:2x4": ["4x4", "4x8"], "tpu:v4": ["2x2x1", "2x2x2"]}
    following |= {"tpu:v4:2x2x1": ["2x2x2", "2x2x4"], "gpu:h100:8": ["16", "32"], "cpu": ["2", "4"]}
    for name, extents in following.items():
        model = targets.parse(name).model
        assert targets.wider(targets.parse(name)) == [f"{model}:{extent}" for extent in extents]
        assert all(targets.parse(wide) for wide in targets.wider(targets.parse(name)))


def test_times_are_work_over_published_peaks():
    """1.97 TFLOP in bfloat16 and a tenth in float32 at 197 TFLOP/s; 16.38 GB at 819 GB/s; 100 MB at 100 GB/s."""
    e = on("tpu:v5e:4x4")
    assert e.arithmetic == pytest.approx(0.011) and e.traffic == pytest.approx(0.02) and e.links == pytest.approx(1e-3)
    assert e.binds == "memory" and e.shortest == pytest.approx(0.02) and e.longest == pytest.approx(0.011 / 0.35 + 1e-3)
    assert e.hours() == pytest.approx((2.0, 100 * (0.011 / 0.35 + 1e-3)))
    assert e.price(2.0) == pytest.approx([2 * 16 * hours for hours in e.hours()])
    v3 = on("tpu:v3:2x2")
    assert v3.price(1.0)[0] == pytest.approx(4 * v3.hours()[0]), "chips are paid for, not cores"
    h100 = on("gpu:h100")
    assert h100.arithmetic == pytest.approx(1.97 / 989.5 + 0.197 / 494.7), "float32 has half the peak on a GPU"
    assert not e._replace(memory=Memory(0, 17 * 10**9)).fits and e.fits


def test_the_report_is_one_screen():
    assert report.lines(on("tpu:v5e:4x4"), "a training step") == [
        f"target       tpu:v5e:4x4: 16 x tpu:v5e; a training step, {report.NOTE}",
        "memory       fits, 5 GB of 16.9 GB, 11.9 GB to spare: 2 GB of state and data, 3 GB of temporaries on each "
        "device",
        "work         2.17 TFLOP of convolutions and products, 16.4 GB of memory traffic on each device, 1,234 kernels",
        "time         arithmetic 11 ms, memory 20 ms, links 1 ms; longest: memory",
        "collective   2 all-reduce f32, 80 MB in all, some in a loop",
        "copy         2 x 1 MB f32[8, 8] jit(run)/swap",
        "speed        30.8 to 50 steps/s (35% of peak to roofline): 360,000 steps take 2 h to 3 h 14 min",
    ]
    assert report.row("a", on("cpu"), 1.0)[-2:] == ("", ""), "no figures, no price"
    cpu = report.lines(on("cpu", memory=Memory(10**9, 0)), "a step")
    assert "holds 1 GB: 1 GB of state" in cpu[1] and not any(line.startswith(("time", "speed")) for line in cpu)
    large = report.lines(on("tpu:v5e", memory=Memory(10**10, 10**10)), "a step")[1]
    assert "does not fit, 20 GB of 16.9 GB, 3.09 GB too much" in large
    assert report.between(480.4, 1423.0) == "480-1,420" and report.between(0.5, 3.21) == "0.5-3.21"


def test_json_has_every_number_of_the_report():
    facts = json.loads(json.dumps(report.as_json("a", on("tpu:v5e:4x4"), "a step"), allow_nan=False))
    assert facts["memory"] == {"total": 5e9, "arguments": 2e9, "temporaries": 3e9, "usable": 15.75 * 2**30}
    assert facts["flop"] == WORK.flop and facts["bytes"] == 16.38e9 and facts["kernels"] == 1234
    assert facts["fits"] is True and facts["devices"] == 16 and facts["copies"][0]["bytes"] == 10**6
    assert facts["collectives"]["all-reduce f32"] == SUM["all-reduce f32"]._asdict()
    assert facts["steps_per_second"] == pytest.approx([30.84, 50.0], rel=1e-3)
    json.dumps(report.as_json("a", on("cpu"), "a step"), allow_nan=False)


def line_of(name="cifar10", what="train", target="tpu:v5e:4x4", change="", images=None, **keys):
    """The line of a program, by its config's name and the keys set over it."""
    config = load(f"configs/{name}.py")
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in keys.items()})
    job = Job(flatten(config), plan.data(config, images), target, what)
    return report_csv.record(name, job, change, on(target))


def test_a_program_has_one_line_of_the_table(tmp_path):
    path, written = tmp_path / "new" / "table.csv", line_of()
    others = [line_of(what="sample"), line_of(change="train.accumulate=2", train__accumulate=2), line_of(target="cpu")]
    for line in (written._replace(memory=1.0), *others, written):
        report_csv.put(path, line)
    *first, last = report_csv.read(path)
    assert [line.program for line in first] == [line.program for line in others]
    assert last == written._replace(usable=last.usable) and last.usable == pytest.approx(written.usable, rel=1e-5)
    assert last.memory == 5e9 and last.flop == pytest.approx(2.167e12) and last.links == 1e-3 and last.chips == 16


def test_what_alters_a_program_gives_it_a_line_of_its_own(tmp_path):
    """Names alone tell configs of no paper apart; what the other kind of program reads does not count."""
    programs = [line_of(name) for name in ("digits", "mnist", "cifar10_small")]
    programs += [line_of(net__channels=64), line_of(train__accumulate=2), line_of(net__remat=True), line_of(images=9)]
    programs += [line_of(what="sample"), line_of(what="sample", sample__grid="uniform:10")]
    programs += [line_of(what="sample", sample__sampler="ddim")]
    for line in programs:
        report_csv.put(tmp_path / "table.csv", line)
    assert [line.program for line in report_csv.read(tmp_path / "table.csv")] == [line.program for line in programs]
    assert line_of(sample__sampler="ddim").program == line_of().program
    assert line_of(what="sample", optim__lr=0.1).program == line_of(what="sample").program
    idle = {"seed": 3, "data__dir": "here", "train__log_every": 7, "train__steps": 9, "train__keep": 1}
    assert line_of(**idle).program == line_of().program


def test_the_lines_of_the_documentation_are_of_its_configs():
    for line in report_csv.read(report_csv.TABLE):
        keys = {"net__dtype": line.dtype, "train__sharding": line.sharding, f"{line.what}__batch_size": line.batch}
        if line.change:
            assert line.change == "train.accumulate=2"
            keys["train__accumulate"] = 2
        assert line_of(line.config, line.what, line.target, line.change, **keys).program == line.program


def test_a_table_of_an_earlier_version_is_read(tmp_path):
    names = report_csv.Record._fields[:-2]
    old = dict(zip(names, line_of(), strict=False))
    (tmp_path / "old.csv").write_text(",".join(names) + "\n" + ",".join(map(str, old.values())) + "\n")
    assert report_csv.read(tmp_path / "old.csv") == [line_of()._replace(config="", settings="")]
    report_csv.put(tmp_path / "old.csv", line_of())
    assert [line.config for line in report_csv.read(tmp_path / "old.csv")] == ["", "cifar10"]


@pytest.mark.parametrize(
    "content", ["a,b\n1,2\n", "hello", "paper,chips\n,x\n", "paper,what\n,train\n", "paper,chips\nx"]
)
def test_a_file_that_cannot_hold_the_results_is_refused_before_compiling(monkeypatch, tmp_path, content):
    monkeypatch.setattr(compile_for_target, "compile_in_child", lambda *_: pytest.fail("compiled"))
    config, table = load("configs/cifar10.py"), tmp_path / "table.csv"
    table.write_text(content)
    with pytest.raises(ValueError, match=rf"^--csv={table} is another kind of file: give a table"):
        plan.run(config, ["cpu"], print, csv=table)
    assert table.read_text() == content
    for flag in ("csv", "json"):
        with pytest.raises(ValueError, match=rf"^--{flag}={tmp_path} is a folder: name a file in it"):
            plan.run(config, ["cpu"], print, **{flag: tmp_path})
        with pytest.raises(ValueError, match=rf"^--{flag}={table}/a/b: {table} cannot be written to; give another"):
            plan.run(config, ["cpu"], print, **{flag: table / "a" / "b"})


def test_the_table_of_hardware_states_figures_and_sources():
    table, notes = report.hardware().split("\n\n")
    rows = table.splitlines()
    assert all(targets.parse(name.strip(";,.")).count > 1 for name in notes.split() if name.count(":") == 2)
    assert len(rows) == 2 + len(targets.HARDWARE) and "197 TFLOP/s" in rows[5] and "819 GB/s" in rows[5]
    assert all(facts.source and math.prod(facts[:4]) > 0 for name, facts in targets.HARDWARE.items() if name != "cpu")


def test_several_targets_become_a_table_with_the_cheapest_that_fits(monkeypatch, tmp_path):
    """v5p is faster and dearer, v2 too small; the compiler is replaced by a fixed program."""
    said, jobs = [], []

    def compiled(job, limit, tick):  # noqa: ARG001
        jobs.append(job)
        tick(1.0)
        if job.target == "gpu:h100":
            raise ValueError("--target=gpu:h100: compiling for it needs the plugin")
        return Compiled(hlo.parse(TEXT), Memory(10**9, 11 * 10**9))

    monkeypatch.setattr(compile_for_target, "compile_in_child", compiled)
    config = load("configs/cifar10.py")
    prices, file = plan.parse_prices(["tpu:v5e=1", "tpu:v5p=100", "tpu:v2=.1"]), tmp_path / "plan.json"
    plan.run(config, ["tpu:v5e", "tpu:v5p", "tpu:v2", "gpu:h100"], said.append, json=file, prices=prices)
    assert said[-1].startswith("cheapest     tpu:v5e: ")
    assert [facts["name"] for facts in json.loads(file.read_text())] == ["tpu:v5e", "tpu:v5p", "tpu:v2"]
    assert said[-2].splitlines()[0].split()[-1] == "price"
    rows = [line for line in said[-2].splitlines() if line.startswith(("tpu", "gpu"))]
    assert [row.split()[0] for row in rows] == ["tpu:v5e", "tpu:v5p", "tpu:v2", "gpu:h100"]
    assert [row.split()[3] for row in rows[:3]] == ["yes", "yes", "no"] and "not measured" in rows[3]
    assert "--target=gpu:h100: compiling for it needs the plugin" in said and "\rcompiling for tpu:v5e: 1 s" in said
    assert jobs[0] == Job(flatten(config), Data((32, 32, 3), 50_000, 10, True), "tpu:v5e", "train")
    said.clear()
    with pytest.raises(ValueError, match="needs the plugin"):
        plan.run(config, ["gpu:h100"], said.append)
    assert set(said) == {"\rcompiling for gpu:h100: 1 s"}, "the command itself prints the error"


def test_prices_are_read_or_refused():
    assert plan.parse_prices(["tpu:v5e=1.2", "gpu:h100=3"]) == {"tpu:v5e": 1.2, "gpu:h100": 3.0}
    for text in ("tpu:v5e", "tpu:v5e=nan", "tpu:v9=1"):
        with pytest.raises(ValueError, match=f"^--price={text}: give MODEL=NUMBER"):
            plan.parse_prices([text])
    assert "nothing that has a price fits" in plan.cheapest([("a", on("tpu:v5e"))], {"gpu:h100": 1.0})


TEXT = """HloModule m
ENTRY %main (x: f32[1024,1024]) -> f32[1024,1024] {
  %x = f32[1024,1024]{1,0} parameter(0)
  ROOT %y = f32[1024,1024]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""


def test_fit_compiles_every_change_that_reduces_memory(monkeypatch):
    said, seen = [], []

    def compiled(job, limit, tick):  # noqa: ARG001
        seen.append((job.target, {k: v for k, v in job.config.items() if flatten(config)[k] != v}))
        return Compiled(hlo.parse(TEXT), Memory(10**9, 10**9))

    monkeypatch.setattr(compile_for_target, "compile_in_child", compiled)
    config = load("configs/cifar10.py")
    plan.run(config, ["tpu:v5e:2x2"], said.append, fit=True)
    here = "tpu:v5e:2x2"
    changes = [{}, {"train.accumulate": 2}, {"net.remat": True}, {"train.sharding": "fsdp"}]
    changes += [{"train.sharding": "zero1"}, {"net.dtype": "bfloat16"}]
    changes.append({"train.batch_size": 64})
    assert seen == [*((here, change) for change in changes), ("tpu:v5e:2x4", {}), ("tpu:v5e:4x4", {})]
    assert "+ net.remat=True" in said[-1]


def test_data_are_known_without_reading_them():
    config = default_config()
    shapes = lambda **keys: plan.data(changed(config, **keys), None)  # noqa: E731
    assert shapes(**{"data.name": "cifar10"}) == Data((32, 32, 3), 50_000, 10, True)
    assert not shapes(**{"data.name": "cifar10", "data.resident_mb": 100}).on_device
    assert shapes(**{"data.name": "digits"}).shape == (8, 8, 1) and shapes(**{"data.name": "toy:moons"}).shape == (
        1,
        2,
        1,
    )
    large = {"data.name": "tfds:lsun/bedroom", "data.size": 256}
    assert shapes(**large) == Data((256, 256, 3), 0, plan.CLASSES, False)
    assert plan.data(changed(config, **large), 1000).on_device
    grey = {"data.name": "folder:/nowhere", "data.size": 64, "data.channels": 1}
    assert shapes(**grey).shape == (64, 64, 1)
    with pytest.raises(ValueError, match=r"set --config\.data\.size"):
        shapes(**{"data.name": "folder:/nowhere"})


def changed(config, **keys):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(keys)
    return config


def test_a_missing_compiler_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(compile_for_target, "find_spec", lambda name: name == "jax" or None)
    job = Job({}, Data((8, 8, 1), 10, 0, True), "tpu:v5e", "train")
    for name in ("tpu:v5e", "gpu:a100"):
        with pytest.raises(ValueError, match=f"^--target={name}: .*pip install -r requirements-plan.txt"):
            compile_for_target.compile_in_child(job._replace(target=name), 1.0, print)
    compile_for_target.require_compiler(targets.parse("cpu"))


def test_what_the_compiler_refuses_is_one_line(tmp_path):
    """A flag, a topology, and a program that does not fit: what XLA prints, and what becomes of it."""
    job = Job({}, Data((8, 8, 1), 10, 0, True), "tpu:v5e:3x3", "train")
    flag = "F0000 parse_flags_from_env.cc:234] Unknown flag in XLA_FLAGS: --xla_nonsense=1\n*** Check failure stack\n"
    with pytest.raises(
        ValueError, match=r"^--target=tpu:v5e:3x3: refused: Unknown flag in XLA_FLAGS: --xla_nonsense=1$"
    ):
        compile_for_target._refused(job, tmp_path, flag)
    layout = (
        "E0000 INVALID_ARGUMENT: unexpected worker hostname\nTraceback ...\n"
        'jax.errors.JaxRuntimeError: INVALID_ARGUMENT: Topology layout "v5e:3x3" is not divisible\nlearning/x.cc:327\n'
    )
    with pytest.raises(ValueError, match=r"refused: INVALID_ARGUMENT: Topology layout"):
        compile_for_target._refused(job, tmp_path, layout)
    used = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm. Exceeded by 4.25G."
    (tmp_path / "module_1.jit_run.x.after_optimizations_before_buffer_assignment.txt").write_text(TEXT)
    found = compile_for_target._refused(job, tmp_path, used)
    assert found.memory == Memory(4 * 2**20, 20 * 2**30 - 4 * 2**20) and found.program.entry == "main"


def test_the_step_that_trains_is_compiled_in_a_child():
    """What a child says of a small network is what jax says of the program here; too short a limit is one line."""
    from diffusion.distributed import sharding
    from diffusion.experiment import build
    from diffusion.training import batch_feed, loop

    config = changed(default_config(), **{"data.name": "toy:moons", "net.name": "mlp", "train.batch_size": 16})
    job = Job(flatten(config), Data((1, 2, 1), 100, 2, True), "cpu:4", "train")
    with pytest.raises(ValueError, match=r"^--target=cpu:4: not compiled within 0 s; raise --timeout$"):
        compile_for_target.compile_in_child(job, 0.0, print)
    found = compile_for_target.compile_in_child(job, 120.0, lambda seconds: None)  # noqa: ARG005
    import jax

    experiment = build.experiment(config, (1, 2, 1), 2, sharding.make_mesh(jax.devices()[:4]))
    like, inputs = experiment.fresh().like, batch_feed.shapes((1, 2, 1), 100, 16, experiment.mesh, True)
    here = loop.compile_steps(experiment.task(), experiment.update(), inputs.feed, like, inputs.batch)
    assert found.memory.arguments == here.memory_analysis().argument_size_in_bytes
    assert found.program.aliased == len(jax.tree.leaves(like)), "the whole state is donated"
