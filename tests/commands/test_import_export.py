"""Runs made of foreign weights and pipelines made of runs, as the scripts do it, and what they refuse."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from diffusion.commands import export_weights, import_weights, train
from diffusion.config.config_dict import default_config, flatten
from diffusion.config.config_files import load
from diffusion.convert import diffusers, improved_diffusion, name_mapping
from diffusion.convert.contents_of_weight_file import ForeignWeights
from diffusion.experiment import build, load_run
from diffusion.workdir.run_config import read_run, write_config
from tests.convert.test_tensorflow_checkpoint import write_bundle
from tests.support.naming import foreign, made_up

ROOT = Path(__file__).resolve().parents[2]


def tiny(**changes):
    """Digits, with a width whose norms all have 32 groups."""
    config = default_config()
    given = {
        "data.name": "digits", "data.flip": False, "diffusion.T": 10, "diffusion.beta_T": 0.9, "net.channels": 64,
        "net.multipliers": (1,), "net.blocks": 1, "net.attention": (), "compilation_cache": "off",
    }  # fmt: skip
    config.update_from_flattened_dict(given | {key.replace("__", "."): value for key, value in changes.items()})
    return config


SMALL = {"net__channels": 8, "net__multipliers": (1, 2)}


def run_of(config, channels=1):
    return import_weights.Run(config, (8, 8, channels), 10)


def checkpoint(tmp_path, config):
    """A checkpoint of the original code for a config, its averaged and its raw parameters."""
    shapes = import_weights.shapes(run_of(config))
    ema, raw = made_up(shapes, 0), made_up(shapes, 1)
    levels = len(config.net.multipliers)
    theirs = foreign("ddpm_tf", raw, levels, config.net.blocks, [], 1)
    average = foreign("ddpm_tf", ema, levels, config.net.blocks, [], 1)
    variables = {f"model/{name}": value for name, value in theirs.items()}
    variables |= {f"model/{name}/ExponentialMovingAverage": value for name, value in average.items()}
    return write_bundle(tmp_path / "model.ckpt-790000", variables | {"global_step": np.int64(790_000)}), ema, raw


def assert_same(params, expected):
    flat = name_mapping.flatten(params)
    assert flat.keys() == expected.keys()
    for name, value in expected.items():
        assert np.array_equal(np.asarray(flat[name]), value), name


def lines():
    printed = []
    return printed, printed.append


def script(name, *args):
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, args)]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300)


def text(value):
    return ",".join(map(str, value)) or "()" if isinstance(value, tuple) else str(value).lower()


FLAGS = [f"--config.{key}={text(value)}" for key, value in flatten(tiny(**SMALL)).items()
         if value != flatten(load(ROOT / "configs" / "cifar10.py"))[key] and key != "compilation_cache"]  # fmt: skip


@pytest.mark.slow
def test_a_checkpoint_becomes_a_run_that_draws_samples(tmp_path):
    path, ema, raw = checkpoint(tmp_path, tiny(**SMALL))
    folder = tmp_path / "run"
    flags = ["--from=ddpm_tf", f"--file={path}", "--config=configs/cifar10.py", *FLAGS, f"--workdir={folder}"]
    done = script("import_weights.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "each used once" in done.stdout and "does not specify" in done.stdout and "step 790000" in done.stdout

    run = read_run(folder)
    assert run.shape == (8, 8, 1) and run.classes == 10
    for weights, expected in ((False, ema), (True, raw)):
        _, params, step = load_run.load(folder, run, raw=weights)
        assert step == 790_000
        assert_same(params, expected)
    origin = json.loads((folder / "imported.json").read_text())
    assert origin["from"] == "ddpm_tf" and origin["step"] == 790_000
    assert set(origin["sha256"]) == {"model.ckpt-790000.index", "model.ckpt-790000.data-00000-of-00001"}

    done = script("sample.py", f"--workdir={folder}", "--n=2", "--format=npz", f"--out={tmp_path / 'drawn.npz'}")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "drawn.npz")["arr_0"].shape == (2, 8, 8, 1)


@pytest.mark.slow
def test_a_run_goes_out_to_diffusers_and_comes_back_bit_by_bit(tmp_path):
    config = tiny(diffusion__schedule="const", diffusion__variance="fixed_small")
    path, ema, raw = checkpoint(tmp_path, config)
    printed, report = lines()
    import_weights.import_run(path, "ddpm_tf", config, tmp_path / "run", 5, report)
    with pytest.raises(ValueError, match="holds a run already"):
        import_weights.import_run(path, "ddpm_tf", config, tmp_path / "run", 5, report)

    export_weights.export_run(tmp_path / "run", tmp_path / "out", None, False, report)
    assert any("num_inference_steps=10" in line for line in printed)
    import_weights.import_run(tmp_path / "out", "diffusers", config, tmp_path / "back", None, report)
    run = read_run(tmp_path / "back")
    assert run.config == read_run(tmp_path / "run").config and run.shape == (8, 8, 1)
    _, params, step = load_run.load(tmp_path / "back", run)
    assert step == 0
    assert_same(params, ema)

    export_weights.export_run(tmp_path / "run", tmp_path / "raw", 5, True, report)
    shapes = import_weights.shapes(run)
    weights = diffusers.read(tmp_path / "raw")
    assert_same(
        name_mapping.nest(name_mapping.read(name_mapping.rules(weights.naming, shapes, 1), weights.ema, shapes)), raw
    )


def test_the_place_of_the_data_holds_from_any_folder(tmp_path, monkeypatch):
    """As in a run of scripts/train.py: else the run's data were looked for in another folder, or fetched again."""
    path, *_ = checkpoint(tmp_path, tiny(**SMALL))
    runs = []

    def write_run(folder, experiment, run, *rest):  # noqa: ARG001
        runs.append(run)
        return SimpleNamespace(ema={})

    monkeypatch.setattr(import_weights, "write_run", write_run)
    import_weights.import_run(path, "ddpm_tf", tiny(**SMALL, data__dir="here"), tmp_path / "run", 5, lines()[1])
    assert runs[0].config.data.dir == str(Path.cwd() / "here")


def test_a_config_that_does_not_fit_is_refused_with_the_remedy(tmp_path):
    path, _, _ = checkpoint(tmp_path, tiny(**SMALL))
    folder = tmp_path / "run"

    def refusal(config, kind="ddpm_tf", file=path):
        with pytest.raises(ValueError) as error:
            import_weights.import_run(file, kind, config, folder, None, print)
        assert "\n" not in str(error.value) and not folder.exists()
        return str(error.value)

    assert "of another shape" in refusal(tiny(**SMALL | {"net__channels": 16}))
    assert "missing (down_0/block_1/" in refusal(tiny(**SMALL, net__blocks=2))
    assert "net.convention is 'improved' in the config and 'original' in the file" in refusal(
        tiny(**SMALL, net__convention="improved")
    )
    for key, ours, theirs in (("net.time", "log_noise", "steps"), ("diffusion.sigma_data", 0.5, 1.0)):
        line = refusal(tiny(**SMALL, **{key.replace(".", "__"): ours}))  # EDM's: its tensors are the same
        assert f"{key} is {ours!r} in the config and {theirs!r} in the file" in line
    assert "1 channels, the config's 'cifar10' for (32, 32, 3)" in refusal(tiny(**SMALL, data__name="cifar10"))
    assert "add --config.data.size" in refusal(tiny(**SMALL, data__name="folder:x"))
    assert "no such file" in refusal(tiny(**SMALL), file=tmp_path / "absent")
    for kind in ("diffusers", "improved_diffusion"):
        assert refusal(tiny(**SMALL), kind, tmp_path / "model.ckpt-790000.index")


def test_a_network_of_points_is_in_no_file(tmp_path):
    path, _, _ = checkpoint(tmp_path, tiny(**SMALL))
    with pytest.raises(ValueError, match=r"^config\.net\.name: 'mlp' has no form in other projects; only 'unet' has"):
        import_weights.import_run(path, "ddpm_tf", tiny(**SMALL, net__name="mlp"), tmp_path / "run", None, print)


def test_a_step_that_no_name_gives_is_asked_for(tmp_path, monkeypatch):
    unnamed = ForeignWeights({}, {}, improved_diffusion.NAMING, {}, channels=1, step=None, unspecified="")
    monkeypatch.setitem(import_weights.READERS, "improved_diffusion", lambda path: unnamed)  # noqa: ARG005
    with pytest.raises(ValueError, match=r"x\.pt: neither .* add --step="):
        import_weights.import_run(Path("x.pt"), "improved_diffusion", tiny(**SMALL), tmp_path / "run", None, print)
    with pytest.raises(ValueError, match="does not fit the config"):
        import_weights.import_run(Path("x.pt"), "improved_diffusion", tiny(**SMALL), tmp_path / "run", 7, print)


def test_a_pipeline_is_compared_with_the_config(tmp_path):
    config = tiny(diffusion__schedule="warmup10")
    shapes = import_weights.shapes(run_of(config))
    contents = diffusers.configs(flatten(config), shapes, (8, 8, 1), import_weights.beta(config))
    diffusers.write(tmp_path / "out", made_up(shapes), contents)

    def refusal(**changes):
        with pytest.raises(ValueError) as error:
            config = tiny(**{"diffusion__schedule": "warmup10"} | changes)
            import_weights.import_run(tmp_path / "out", "diffusers", config, tmp_path / "new", None, print)
        assert not (tmp_path / "new").exists()
        return str(error.value)

    line = refusal(diffusion__variance="fixed_small", diffusion__T=20, sample__clip=False)
    for key, ours, theirs in (("T", 20, 10), ("variance", "'fixed_small'", "'fixed_large'")):
        assert f"diffusion.{key} is {ours} in the config and {theirs} in the file" in line
    assert "lists its own betas, from 0.0001 to 0.9 in 10 steps" in refusal(diffusion__schedule="linear")
    wanted = f"for images of (8, 8) and 1 channels, the config's 'folder:{Path('x').absolute()}' for (16, 16)"
    assert wanted in refusal(data__name="folder:x", data__size=16)


@pytest.mark.parametrize(("dropout", "classes"), [(0.1, 10), (0.0, 11)])
def test_the_null_label_is_no_class(dropout, classes):
    """Of 11 rows of labels in a file for data whose classes it alone gives."""
    conditional = {"net__class_conditional": True, "net__label_dropout": dropout}
    config = tiny(data__name="folder:x", data__size=8, **conditional)
    shapes = import_weights.shapes(import_weights.Run(config, (8, 8, 1), classes))
    params = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    tensors = name_mapping.write(name_mapping.rules(diffusers.NAMING, shapes, 1), params)
    assert tensors["class_embedding.weight"].shape[0] == 11
    weights = ForeignWeights(tensors, tensors, diffusers.NAMING, {}, 1, 0, "", classes=11)
    run = import_weights.data(config, weights)
    assert run.classes == classes and import_weights.faults(run, weights, import_weights.shapes(run)) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"diffusion__schedule": "ve_geometric", "diffusion__beta_T": 0.02},
            "'ve_geometric' is not variance preserving",
        ),
        ({"diffusion__parameterization": "mu"}, "'mu' cannot be exported"),
        ({"net__rescale_time": True}, "rescale_time is True in the config, which cannot be exported"),
        ({"net__channels": 8}, "norms of 8 to 16 channels have 4 to 8 groups"),
        ({"net__name": "mlp"}, "^config.net.name: 'mlp' has no form in other projects; only 'unet' has"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_written(tmp_path, changes, line):
    write_config(tmp_path / "run", run_of(tiny(**changes)), "a test")
    with pytest.raises(ValueError, match=line) as error:
        export_weights.export_run(tmp_path / "run", tmp_path / "out", None, False, print)
    assert "\n" not in str(error.value) and [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"net__channels": 8}, "a multiple of 64 can"),
        ({}, ""),
        ({"diffusion__schedule": "rectified", "diffusion__parameterization": "velocity"}, "variance preserving"),
    ],
)
def test_a_run_that_cannot_be_exported_is_told_at_its_start(changes, line):
    """Norms of 8 and 16 channels have 4 and 8 groups."""
    ours = build.experiment(tiny(**changes), (8, 8, 1), 0)
    told = train.not_exportable(ours, jax.eval_shape(ours.init, jax.random.key(0)))
    assert [line in one and "cannot be exported to diffusers" in one for one in told] == [True] * bool(line)


@pytest.mark.parametrize("variant", ["", ":edm", ":conditional"])
def test_the_demo_can_be_exported_unless_its_noise_is_not_that_of_diffusers(variant):
    """34 channels: 17 groups in every norm, of 34, 68, 102 and 136 channels."""
    ours = build.experiment(load(f"{ROOT / 'configs' / 'digits.py'}{variant}"), (8, 8, 1), 10)
    told = train.not_exportable(ours, jax.eval_shape(ours.init, jax.random.key(0)))
    assert told == [] or (variant == ":edm" and len(told) == 1 and "variance preserving" in told[0])


def test_scripts_explain_mistakes_in_one_line(tmp_path):
    hostile = tmp_path / "model.pt"
    hostile.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "executed").encode() + b"'\ntR.")
    for name, flags, line in (
        ("import_weights.py", ["--from=improved_diffusion", f"--file={hostile}"], "model.pt"),
        ("import_weights.py", ["--from=ddpm_tf", f"--file={hostile}", "--step=3000000000"], "--step=3000000000"),
        ("export_weights.py", [f"--workdir={tmp_path}", f"--out={tmp_path / 'o'}"], "holds no run"),
    ):
        done = script(name, *flags)
        assert done.returncode == 2 and line in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "executed").exists()
