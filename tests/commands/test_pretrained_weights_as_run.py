"""Weights that come with the repository: packed from a run, listed, and unpacked as a run with the same weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from diffusion.commands import export_weights, import_weights, pretrained_weights_as_run, train
from diffusion.config import default_config
from diffusion.convert import diffusers, name_mapping
from diffusion.experiment import build
from diffusion.experiment.load_run import load
from diffusion.figures import catalogue
from diffusion.figures.flags_and_run_for_figures import Inputs
from diffusion.runtime import bucket_path
from diffusion.training import compare_with_recorded_curve
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.run_config import Run, read_run

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """The run of the shipped digits, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / pretrained_weights_as_run.unpack("digits", [].append)


def test_shipped_weights_become_a_run_and_a_run_becomes_weights(unpacked, tmp_path, monkeypatch):
    from safetensors.numpy import load_file

    _, params, step = load(unpacked, read_run(unpacked))
    assert step == 1000 and unpacked == tmp_path / "runs" / "digits_pretrained"
    shipped = load_file(ROOT / "pretrained" / "digits" / "weights.safetensors")
    found = {".".join(k.key for k in path): leaf for path, leaf in jax.tree.flatten_with_path(params)[0]}
    assert found.keys() == shipped.keys()
    for name, leaf in found.items():
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(leaf, np.float16), shipped[name])

    lines = []
    pretrained_weights_as_run.pack(unpacked, tmp_path / "home" / "again", None, False, lines.append)
    again = load_file(tmp_path / "home" / "again" / "weights.safetensors")
    for name, leaf in shipped.items():
        np.testing.assert_array_equal(again[name], leaf)
    monkeypatch.setattr(compare_with_recorded_curve, "HOME", tmp_path / "home")
    assert pretrained_weights_as_run.names() == {"again": "again: step 1000 of digits"}
    with pytest.raises(ValueError, match="again exists already: give an --out that does not"):
        pretrained_weights_as_run.pack(unpacked, tmp_path / "home" / "again", None, False, lines.append)
    (tmp_path / "home" / "again" / "weights.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged .* restore it from the repository"):
        pretrained_weights_as_run.unpack("again", lines.append)
    assert not (tmp_path / "runs" / "again_pretrained").exists()


def test_shipped_weights_go_out_to_diffusers(unpacked, tmp_path):
    """What `make demo` trains: one number of groups in all norms, and every weight."""
    from safetensors.numpy import load_file

    export_weights.export_run(unpacked, tmp_path / "out", None, False, [].append)
    described = json.loads((tmp_path / "out" / "unet" / "config.json").read_text())
    assert (described["norm_num_groups"], described["block_out_channels"]) == (17, [34, 68])
    run = read_run(unpacked)
    shapes, weights = import_weights.shapes(run), diffusers.read(tmp_path / "out")
    rules = name_mapping.rules(weights.naming, shapes, 1)
    back = name_mapping.read(rules, weights.ema, shapes)
    shipped = load_file(ROOT / "pretrained" / "digits" / "weights.safetensors")
    assert back.keys() == shipped.keys()
    for name, leaf in back.items():
        np.testing.assert_array_equal(np.asarray(leaf, np.float16), shipped[name])


def test_a_folder_of_another_version_is_not_taken_for_these(tmp_path, monkeypatch):
    """Neither where the weights are other ones nor where the config is, such as its sampler."""
    monkeypatch.chdir(tmp_path)
    folder, shipped = Path("runs") / "digits_pretrained", ROOT / "pretrained"
    (folder / "checkpoints" / "1000").mkdir(parents=True)
    (folder / "checkpoints" / "1000" / "manifest.json").touch()

    def unpack(weights, config):
        sources = {"weights.safetensors": weights, "config.json": config}
        digests = {file: manifest.hash_file(shipped / name / file) for file, name in sources.items()}
        (folder / "imported.json").write_text(json.dumps({"sha256": digests}))
        return pretrained_weights_as_run.unpack("digits", [].append)

    for names in (("mnist", "digits"), ("digits", "mnist")):
        with pytest.raises(ValueError, match=r"digits_pretrained was made of other weights than .*: move it away"):
            unpack(*names)
    assert unpack("digits", "digits") == folder
    (folder / "imported.json").write_text("{}")
    with pytest.raises(ValueError, match="move it away"):
        pretrained_weights_as_run.unpack("digits", [].append)


def test_weights_trained_with_augmentation_leave_its_condition_out(tmp_path, monkeypatch):
    config = default_config()
    config.update_from_flattened_dict({"data.augment": 0.1, "net.channels": 8, "net.multipliers": (1,)})
    run = Run(config, (8, 8, 1), 10)
    experiment = build.experiment(config, run.shape, run.classes)
    params = name_mapping.nest({name: np.ones(shape, np.float32) for name, shape in import_weights.shapes(run).items()})
    import_weights.write_run(tmp_path / "a", experiment, run, 7, params, params, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare_with_recorded_curve, "HOME", tmp_path / "home")
    pretrained_weights_as_run.pack(tmp_path / "a", tmp_path / "home" / "b", None, False, [].append)
    _, found, step = load(folder := pretrained_weights_as_run.unpack("b", [].append), read_run(folder))
    assert step == 7 and "condition.kernel" in name_mapping.flatten(found)
    jax.tree.map(np.testing.assert_array_equal, {**found, "condition": None}, {**params, "condition": None})


def test_a_run_in_a_bucket_keeps_its_curve(tmp_path, monkeypatch):
    """Its metrics are in parts, not in metrics.jsonl."""
    (tmp_path / "run" / "metrics").mkdir(parents=True)
    shutil.copy(ROOT / "pretrained" / "digits" / "config.json", tmp_path / "run")
    lines = [json.dumps({"step": step, "train/mse": 1 / step}) + "\n" for step in range(1, 7)]
    (tmp_path / "run" / "metrics" / "000000.jsonl").write_text("".join(lines))
    folder = bucket_path.at("memory://bucket/runs/packed")
    folder.upload(tmp_path / "run")
    shapes = import_weights.shapes(read_run(ROOT / "pretrained" / "digits"))
    params = name_mapping.nest({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    monkeypatch.setattr(pretrained_weights_as_run.load_run, "load", lambda *_: (None, params, 6))
    pretrained_weights_as_run.pack(folder, tmp_path / "out", None, False, [].append)
    assert [row["step"] for row in compare_with_recorded_curve.read(tmp_path / "out" / "curve.csv")] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_processes_that_unpack_at_once_share_one_run(tmp_path):
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from diffusion.commands import pretrained_weights_as_run\n"
        "print('ready', flush=True), sys.stdin.readline()\n"
        "print(pretrained_weights_as_run.unpack('digits', print))"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate() for process in both]
    folder = "runs/digits_pretrained"
    made = f"weights     pretrained/digits, step 1000: {folder}\n"
    assert sorted(out for out, _ in ends) == [f"{folder}\n", f"{made}{folder}\n"]
    assert not any("Traceback" in said for _, said in ends)
    assert [path.name for path in (tmp_path / folder / "checkpoints").iterdir()] == ["1000"]
    assert manifest.fault(tmp_path / folder / "checkpoints" / "1000") == ""


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    from safetensors.numpy import load_file, save_file

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare_with_recorded_curve, "HOME", tmp_path / "home")
    shutil.copytree(ROOT / "pretrained" / "digits", tmp_path / "home" / "digits")
    path = tmp_path / "home" / "digits" / "weights.safetensors"
    tensors = load_file(path)
    tensors["conv_in.bias"] = tensors["conv_in.bias"][:-1]
    save_file(tensors, path, metadata={"step": "1"})
    with pytest.raises(ValueError, match="the weights are not those of its config"):
        pretrained_weights_as_run.unpack("digits", [].append)


def legend(folder: Path) -> list[str]:
    """The entries of the legend of --figure=curves."""
    figure = catalogue.FIGURES["curves"](Inputs(folder))
    return [entry.get_text() for entry in figure.legends[0].get_texts()]


def test_a_run_is_compared_with_the_curve_of_its_config(tmp_path, monkeypatch):
    config = default_config()
    config.diffusion.schedule = "cosine"
    config.diffusion.T, config.net.channels, config.net.multipliers = 20, 4, (1,)
    config.train.steps, config.train.batch_size, config.train.log_every = 6, 8, 1
    config.train.sample_every = config.train.eval_every = config.train.checkpoint_every = 0
    config.sample.n, config.eval.final = 1, False
    config.data.dir = str(tmp_path)
    train.run(config, tmp_path / "a", [].append)
    monkeypatch.setattr(compare_with_recorded_curve, "HOME", tmp_path / "home")
    assert compare_with_recorded_curve.recorded(config) is None
    assert "expected" not in legend(tmp_path / "a")
    pretrained_weights_as_run.pack(tmp_path / "a", tmp_path / "home" / "tiny", None, False, [].append, [tmp_path / "a"])
    assert read_run(tmp_path / "home" / "tiny").config.data.dir == ""
    path = tmp_path / "home" / "tiny" / "curve.csv"
    table = compare_with_recorded_curve.read(path)
    assert [row["step"] for row in table] == [1, 2, 3, 4, 5, 6] and all(r["low"] < r["mse"] < r["high"] for r in table)

    other_seed, other_config = config.copy_and_resolve_references(), config.copy_and_resolve_references()
    other_seed.seed, other_config.optim.lr = 1, 0.5
    assert compare_with_recorded_curve.recorded(other_seed).name == "tiny"
    assert compare_with_recorded_curve.recorded(other_config) is None

    compare_with_recorded_curve.write(
        path, [{**row, "low": row["low"] / 10, "high": row["high"] / 10} for row in table]
    )
    lines = []
    train.run(other_config, tmp_path / "two" / "a", [].append)
    assert "expected" not in legend(tmp_path / "two")
    with pytest.raises(ValueError, match=r"^--seeds: .*two/a and .*/a differ in config\.optim\.lr: leave it out"):
        pretrained_weights_as_run.pack(tmp_path / "a", tmp_path / "no", None, False, print, [tmp_path / "two" / "a"])
    assert not (tmp_path / "no").exists()
    train.run(other_seed, tmp_path / "two" / "b", lines.append)
    (tmp_path / "two" / "an_exported_pipeline").mkdir()
    (tmp_path / "two" / "an_exported_pipeline" / "config.json").write_text("{}")
    assert "expected" in legend(tmp_path / "two")
    pretrained_weights_as_run.pack(tmp_path / "a", tmp_path / "both", None, False, print, [tmp_path / "two" / "b"])
    assert [line for line in lines if "above the band" in line and "at step 2" in line and "pretrained/tiny" in line]


def sample(*flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "sample.py"), *flags]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_flag(tmp_path):
    listed = sample("--pretrained=?", cwd=tmp_path)
    assert listed.returncode == 0 and "\ndigits: 8x8 digits, 0.8 M parameters" in listed.stdout
    drawn = sample("--pretrained=digits", "--n=2", "--sampler=ddim", "--steps=2", "--out=two.png", cwd=tmp_path)
    assert (drawn.returncode, drawn.stdout.strip()) == (0, "two.png") and (tmp_path / "two.png").stat().st_size > 0
    wrong = sample("--pretrained=digit", cwd=tmp_path)
    line = "sample.py: --pretrained=digit: no such weights come with the repository; did you mean digits?\n"
    assert (wrong.returncode, wrong.stderr) == (2, line)
    both = sample("--pretrained=digits", "--workdir=x", cwd=tmp_path)
    assert both.returncode == 2 and "are two runs; give one of them" in both.stderr


def test_what_is_shipped_is_small_and_has_a_card():
    assert set(pretrained_weights_as_run.names()) == {"cifar10_cpu", "digits", "mnist"}
    assert set(pretrained_weights_as_run.names()) == {path.name for path in compare_with_recorded_curve.HOME.iterdir()}
    assert sum(path.stat().st_size for path in compare_with_recorded_curve.HOME.rglob("*") if path.is_file()) < 12e6
    for name in pretrained_weights_as_run.names():
        run = read_run(compare_with_recorded_curve.HOME / name)
        assert (
            str(Path.home()) not in (compare_with_recorded_curve.HOME / name / "config.json").read_text()
            and not run.config.data.dir
        )
