"""Every key, every config file, every mistake: what is documented, what is refused, and in which words."""

import ast
import itertools
import json
import math
import os
import random
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import ConfigDict

from diffusion.config.config_dict import config_hash, default_config, differences, flatten, lookup, restore
from diffusion.config.config_files import load, title
from diffusion.config.key_types import Role
from diffusion.config.keys_with_legal_values import ADDED, CHOICES, KEYS, PAPERS, RESUMABLE, VE_SCHEDULES, VP_SCHEDULES
from diffusion.config.misspelt_names import closest_name
from diffusion.config.validation import RULES, SIGNAL_ENDS, remarks, validate
from diffusion.published.differences_of_config_from_paper import deviations
from diffusion.published.differences_of_config_from_paper import values as published_values
from diffusion.runtime import config_flag

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
VARIANTS = ("ve", "flow", "elementary", "edm", "conditional", "classifier")
NAMES = [*map(str, CONFIGS), *(f"configs/digits.py:{variant}" for variant in VARIANTS), "configs/mnist.py:edm"]


def changed(**values) -> ConfigDict:
    """The config of CIFAR-10 with keys set; a key's dots are written as two underscores."""
    config = load(ROOT / "configs" / "cifar10.py")
    config.paper = ""
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in values.items()})
    return config


def refused(config: ConfigDict, size: int | None = None) -> str:
    """The one line with which a config is refused."""
    with pytest.raises(ValueError) as caught:
        validate(config, size)
    line = str(caught.value)
    assert "\n" not in line and line.startswith("config.")
    return line


# ---------------------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("key", KEYS)
def test_key_is_documented_and_its_default_legal(key):
    doc = KEYS[key].doc
    assert doc[0].isupper() and doc.endswith(".") and "\n" not in doc and len(doc) >= 20
    assert KEYS[key].legal.accepts(KEYS[key].default)
    assert flatten(default_config())[key] == KEYS[key].default


def test_no_key_is_dead():
    files = [*(ROOT / "diffusion").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    trees = [ast.parse(f.read_text()) for f in files if f.stem not in ("config", "validation", "paper")]
    read = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {key for key in KEYS if key.rpartition(".")[2] not in read} <= {"paper"}


def test_choices_are_the_rows_of_build():
    from diffusion.experiment import registry_of_samplers_and_schedules

    assert tuple(registry_of_samplers_and_schedules.VP_SCHEDULES) == VP_SCHEDULES
    assert tuple(registry_of_samplers_and_schedules.VE_SCHEDULES) == VE_SCHEDULES
    assert tuple(registry_of_samplers_and_schedules.FLOW_SCHEDULES) == ("rectified",)
    tables = {
        "paper": PAPERS,
        "data.name": registry_of_samplers_and_schedules.SOURCES,
        "diffusion.schedule": registry_of_samplers_and_schedules.PROCESSES,
        "diffusion.parameterization": registry_of_samplers_and_schedules.PARAMETERIZATIONS,
        "diffusion.variance": registry_of_samplers_and_schedules.VARIANCES,
        "objective.name": registry_of_samplers_and_schedules.OBJECTIVES,
        "objective.timesteps": registry_of_samplers_and_schedules.TIMESTEPS,
        "net.name": registry_of_samplers_and_schedules.NETWORKS,
        "net.convention": registry_of_samplers_and_schedules.CONVENTIONS,
        "net.dtype": registry_of_samplers_and_schedules.DTYPES,
        "net.gradient_dtype": registry_of_samplers_and_schedules.DTYPES,
        "net.time": registry_of_samplers_and_schedules.TIMES,
        "train.sharding": registry_of_samplers_and_schedules.SHARDINGS,
        "sample.sampler": registry_of_samplers_and_schedules.SAMPLERS,
    }
    assert {key: set(names) for key, names in CHOICES.items()} == {key: set(table) for key, table in tables.items()}


def test_default_config_is_locked():
    with pytest.raises(AttributeError):
        default_config().optim.learnin_rate = 1.0
    with pytest.raises(TypeError):
        default_config().optim.lr = "fast"


def test_a_config_that_was_not_made_from_the_defaults_is_refused():
    with pytest.raises(ValueError, match=r"config\.compilation_cache is missing"):
        validate(ConfigDict({"seed": 0}))


# --------------------------------------------------------------------------------------------------- saving, comparing


def other(key: str):
    """Another value for a key, of its type."""
    value = KEYS[key].default
    if key in CHOICES:
        return next(name for name in CHOICES[key] if name != value)
    if isinstance(value, bool):
        return not value
    return {int: lambda v: v + 2, float: lambda v: v / 2 + 0.001, str: lambda v: v + "x", tuple: lambda v: (*v, 1)}[
        type(value)
    ](value)


@pytest.mark.parametrize("key", KEYS)
def test_hash_changes_with_what_is_computed_alone(key):
    config = default_config()
    config.update_from_flattened_dict({key: other(key)})
    assert (config_hash(config) == config_hash(default_config())) == (key in RESUMABLE)
    assert differences(default_config(), config) == [(key, KEYS[key].default, other(key))]


def test_keys_that_older_runs_lack_leave_their_hash():
    """Results of version 0.1 name their config by this hash."""
    older = {key: value for key, value in flatten(default_config()).items() if key not in ADDED}
    assert len(older) < len(KEYS) and config_hash(older) == config_hash(restore(older)) == config_hash(default_config())


def test_hash_is_stable_under_order_and_saving():
    flat = flatten(default_config())
    assert config_hash(dict(reversed(flat.items()))) == config_hash(default_config())
    assert config_hash(json.loads(json.dumps(flat))) == config_hash(default_config())


def test_resumable_keys_exist_and_leave_out_what_is_computed():
    assert KEYS.keys() >= RESUMABLE
    assert {"train.steps", "sample.n", "compilation_cache", "data.threads"} <= RESUMABLE
    assert not RESUMABLE & {"seed", "train.batch_size", "optim.lr", "data.name", "net.dtype", "diffusion.T"}


@pytest.mark.parametrize("form", ["nested", "flat"])
def test_saved_config_is_restored(form):
    config = changed(optim__lr=3e-4, net__attention=(16, 8), paper="cifar10", optim__clip=2.0)
    saved = json.loads(json.dumps(config.to_dict() if form == "nested" else flatten(config)))
    assert flatten(restore(saved)) == flatten(config)
    assert all(
        type(a) is type(b) for a, b in zip(flatten(restore(saved)).values(), flatten(config).values(), strict=True)
    )


@pytest.mark.parametrize(("old", "new"), [("constant", "ve_constant"), ("geometric", "ve_geometric")])
def test_schedules_of_older_runs_are_renamed(old, new):
    """Run folders of version 0.1 call the variance exploding schedules otherwise; const is another schedule."""
    saved = flatten(changed(diffusion__schedule=new, diffusion__parameterization="x_0"))
    assert flatten(restore(saved | {"diffusion.schedule": old})) == saved
    assert restore(saved | {"diffusion.schedule": "const"}).diffusion.schedule == "const"
    assert "is not one of" in refused(changed(diffusion__schedule=old))


def test_keys_of_the_machine_are_not_restored():
    ours = {"compilation_cache": "/tmp/planted", "data.threads": 1000, "deterministic": True}
    saved = flatten(changed(data__dir="/data/cifar10", **{k.replace(".", "__"): v for k, v in ours.items()}))
    assert {key for key, row in KEYS.items() if row.role is Role.MACHINE} == ours.keys()
    assert flatten(restore(saved)) == saved | {"compilation_cache": "auto", "data.threads": 8, "deterministic": False}


def test_restore_keeps_defaults_and_refuses_what_it_does_not_know():
    assert flatten(restore({"optim": {"lr": 0.5}})) == flatten(default_config()) | {"optim.lr": 0.5}
    with pytest.raises(ValueError, match=r"config\.optim\.lrate: no such key"):
        restore({"optim": {"lrate": 1e-3}})
    with pytest.raises(ValueError, match=r"config\.optim\.lr: 'fast' is not of the type float"):
        restore({"optim.lr": "fast"})


def test_differences_name_missing_keys():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}, "d": 3}) == [("a.c", 2, None), ("d", None, 3)]


# --------------------------------------------------------------------------------------------------- ranges and rules


@pytest.mark.parametrize("key", [key for key, row in KEYS.items() if type(row.default) is float])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_numbers_are_finite_and_not_negative(key, value):
    if key == "objective.P_mean" and math.isfinite(value):  # a logarithm
        return validate(changed(**{key: value}))
    line = refused(changed(**{key: value}))
    assert line.startswith(f"config.{key}: {value!r} is not a number ") and "the default is" in line


@pytest.mark.parametrize("key", [key for key, row in KEYS.items() if type(row.default) is int])
@pytest.mark.parametrize("value", [-1, True, 2**32])
def test_integers_are_in_range_and_no_flags(key, value):
    assert f"config.{key}: {value!r} is not an " in refused(changed(**{key: value}))


@pytest.mark.parametrize("key", KEYS)
def test_no_key_is_empty(key):
    assert f"config.{key}: None is not " in refused(changed(**{key: None}))


@pytest.mark.parametrize("key", CHOICES)
def test_misspelt_choice_names_the_legal_ones_and_the_nearest(key):
    for name in CHOICES[key]:
        if name.endswith(":"):
            assert "is not one of" in refused(changed(**{key: name}))
            validate(changed(**{key: name + "x", "data.flip": False}))
            continue
        misspelt = name[:-1] + "_" + name[-1]
        line = refused(changed(**{key: misspelt}))
        assert f"config.{key}: {misspelt!r} is not one of " in line
        assert all(choice in line for choice in CHOICES[key])
        if len(name) > 2:
            assert line.endswith(f"did you mean {name!r}?")


OUT_OF_RANGE = (
    ("optim.lr", 0.0, "a number above 0"),
    ("optim.ema_decay", 1.0, "a number of at least 0 and below 1"),
    ("net.dropout", 1.0, "a number of at least 0 and below 1"),
    ("diffusion.beta_1", 0.0, "a number above 0 and below 1"),
    ("diffusion.beta_T", 1.0, "a number above 0 and below 1"),
    ("diffusion.T", 0, "an integer from 1 to 1000000"),
    ("train.batch_size", 0, "an integer from 1 to 1000000"),
    ("train.steps_per_dispatch", 0, "an integer from 1 to 10000"),
    ("net.channels", 33, "an even integer from 4 to 65536"),
    ("net.multipliers", (), "a list of integers from 1 to 256"),
    ("net.multipliers", (1, 0), "a list of integers from 1 to 256"),
    ("net.attention", (16.0,), "a list of integers from 1 to 8192"),
    ("data.dir", "a\0b", "a path"),
    ("data.channels", 4, "an integer from 0 to 3"),
    ("data.background", "whitish", "a colour"),
    ("data.background", "#fff", "a colour"),
)


@pytest.mark.parametrize(("key", "value", "legal"), OUT_OF_RANGE)
def test_ends_of_ranges(key, value, legal):
    assert refused(changed(**{key: value})).startswith(f"config.{key}: {value!r} is not {legal}")


GUIDED = {"net.class_conditional": True, "net.label_dropout": 0.1, "sample.guidance": 1.0}

IMPOSSIBLE = (
    (
        {"diffusion.variance": "learned"},
        "'learned' would never be trained, since objective 'simple' has no term for it",
    ),
    ({"diffusion.variance": "learned_range", "objective.name": "mu_mse"}, "use objective hybrid or vlb"),
    ({"objective.name": "hybrid"}, "variance 'fixed_large' has nothing to train; use variance learned_range"),
    ({"diffusion.schedule": "jsd"}, "'jsd' ends without signal, which does not go with parameterization eps"),
    ({"diffusion.schedule": "rectified"}, "'rectified' ends without signal"),
    (
        {"diffusion.schedule": "rectified", "diffusion.parameterization": "velocity", "objective.name": "min_snr"},
        "objectives p2 and min_snr",
    ),
    ({"diffusion.schedule": "ve_geometric", "diffusion.sigma_1": 60.0}, "60.0 must be below sigma_T = 50.0"),
    ({"diffusion.schedule": "ve_karras", "diffusion.sigma_T": 0.01}, "0.01 must be below sigma_T = 0.01"),
    (
        {"diffusion.schedule": "jsd", "diffusion.parameterization": "edm", "net.time": "log_noise"},
        "net.time log_noise",
    ),
    ({"data.size": 64}, "'cifar10' has images of a size of their own"),
    ({"data.size": 32, "data.crop": 16}, "set data.size and data.crop to 0"),
    ({"data.name": "folder:x", "data.crop": 64}, "64 is the square that images are resized from; set data.size"),
    ({"data.channels": 1}, "1 does not apply to 'cifar10'; use 1 or 3 for folder:PATH"),
    ({"data.name": "folder:x", "data.channels": 2}, "2 does not apply to 'folder:x'; use 1 or 3 for folder:PATH"),
    ({"data.name": "toy:moons"}, "has points, which are not to be mirrored"),
    ({"data.name": "toy:moons", "data.flip": False, "data.augment": 0.1}, "data.size and data.augment to 0"),
    ({"train.accumulate": 3}, "3 parts do not divide train.batch_size = 128"),
    ({"optim.skip_spike": 0.5}, "most updates would be skipped"),
    ({"sample.guidance": 1.0}, "needs a network that was trained with labels and without"),
    ({"sample.guidance": 1.0, "net.label_dropout": 0.1}, "needs a network that was trained with labels and without"),
    (GUIDED | {"sample.guidance_from": 0.5, "sample.guidance_to": 0.5}, "0.5 must be below sample.guidance_to = 0.5"),
    ({"diffusion.T": 4, "sample.guidance_to": 0.1}, "a step of T = 4 lie between these shares"),
    (
        {"diffusion.schedule": "jsd", "diffusion.parameterization": "v"}
        | {"sample.guidance": 1.0, "sample.classifier": "runs/classifier"},
        "a classifier that guides the last step (set sample.guidance_to below 1)",
    ),
    (
        {"sample.sampler": "edm", "sample.churn": 30.0, "sample.churn_from": 5.0, "sample.churn_to": 0.05},
        "5.0 is above sample.churn_to = 0.05: no level lies between them",
    ),
)


@pytest.mark.parametrize(("values", "reason"), IMPOSSIBLE)
def test_impossible_combinations(values, reason):
    config = changed(**values)
    assert reason in refused(config)
    assert sum(rule.broken(config) for rule in RULES) == 1


@pytest.mark.parametrize(("last", "legal"), [(0.9, True), (0.9996, False), (1.0, False)])
def test_a_classifier_may_guide_the_steps_that_have_signal(last, legal):
    """Of 1,000: to step 900; 0.9996 rounds to the last, which has none."""
    values = {"diffusion.schedule": "rectified", "diffusion.parameterization": "velocity", "sample.guidance": 1.0}
    config = changed(**values, **{"sample.classifier": "runs/classifier", "sample.guidance_to": last})
    if legal:
        validate(config)
    else:
        assert "set sample.guidance_to below 1" in refused(config)


def test_every_rule_has_its_case():
    assert all(any(rule.broken(changed(**values)) for values, _ in IMPOSSIBLE) for rule in RULES)


def test_exactly_the_trainable_methods_are_accepted():
    axes = ("diffusion.schedule", "diffusion.parameterization", "diffusion.variance", "objective.name")
    accepted = 0
    for schedule, parameterization, variance, objective in itertools.product(*(CHOICES[axis] for axis in axes)):
        config = changed(**dict(zip(axes, (schedule, parameterization, variance, objective), strict=True)))
        fixed = variance.startswith("fixed")
        possible = objective == "vlb" or (objective == "hybrid") != fixed
        if schedule in SIGNAL_ENDS:
            possible &= parameterization != "eps" and objective not in ("p2", "min_snr")
        if possible:
            validate(config)
            accepted += 1
        else:
            refused(config)
    # vlb, hybrid, five squared errors; without signal at T one parameterisation and two squared errors less
    assert accepted == 10 * 6 * (4 + 2 + 5 * 2) + 2 * 5 * (4 + 2 + 3 * 2)


FITTING = {"net.heads": 2, "net.block_size": 2, "net.attention": (16, 8)}
"""Other values that suit the default U-Net."""


@pytest.mark.parametrize("key", [key for key, row in KEYS.items() if row.read_by])
def test_key_that_nothing_reads_is_remarked_on(key):
    """Each is accepted, and the start-up report says where it has no effect."""
    reader, values = KEYS[key].read_by
    if not values:
        value, unset = other(key), KEYS[reader].default
        config = changed(**{key: value})
        validate(config)
        assert remarks(config) == [f"{key} = {value!r} has no effect where {reader} is {unset!r}"]
        config.update_from_flattened_dict({reader: other(reader)})
        assert not any(line.startswith(key) for line in remarks(config))
    for choice in CHOICES.get(reader, ()):
        value = FITTING.get(key, other(key))
        config = changed(**{reader: choice, key: value})
        line = f"{key} = {value!r} has no effect where {reader} is {choice!r}"
        assert (line in remarks(config)) == (choice not in values)
        if choice == "hybrid":
            config.diffusion.variance = "learned_range"
        if choice not in SIGNAL_ENDS:
            validate(config)


def test_nothing_is_remarked_on_in_shipped_configs():
    assert [line for name in NAMES for line in remarks(load(name))] == []


EDM = {
    "diffusion.schedule": "ve_karras",
    "diffusion.sigma_1": 0.002,
    "diffusion.sigma_T": 80.0,
    "diffusion.sigma_data": 0.5,
    "diffusion.parameterization": "edm",
    "net.time": "log_noise",
    "objective.name": "edm",
    "sample.grid": "karras18",
}
"""Where EDM differs from the defaults: Karras et al. 2022, table 1."""


def test_variants_change_what_they_say():
    base = flatten(load("configs/digits.py"))
    sets = {
        name: dict((k, v) for k, v in flatten(load(f"configs/digits.py:{name}")).items() if v != base[k])
        for name in VARIANTS
    }
    assert sets["ve"] == {
        "diffusion.schedule": "ve_geometric",
        "diffusion.sigma_T": 10.0,
        "sample.sampler": "predictor_corrector",
    }
    assert sets["flow"] == {
        "diffusion.schedule": "rectified",
        "diffusion.parameterization": "velocity",
        "sample.sampler": "ddim",
        "sample.grid": "100",
        "sample.clip": False,
    }
    assert sets["elementary"] == {
        "diffusion.schedule": "ve_constant",
        "diffusion.sigma_T": 5.0,
        "diffusion.parameterization": "x_0",
        "objective.name": "min_snr",
    }
    assert sets["edm"] == EDM | {"objective.timesteps": "lognormal", "sample.sampler": "edm", "sample.clip": False}
    mnist = {
        k: v for k, v in flatten(load("configs/mnist.py:edm")).items() if v != flatten(load("configs/mnist.py"))[k]
    }
    assert mnist == sets["edm"]
    cifar10 = flatten(load("configs/cifar10_edm.py"))
    assert {key: cifar10[key] for key in sets["edm"]} == sets["edm"]
    assert cifar10["optim.ema_decay"] == pytest.approx(0.9992904)
    assert sets["conditional"] == {"net.class_conditional": True, "net.label_dropout": 0.1, "sample.n": 100}
    assert sets["classifier"] == {
        "net.channels": 16,
        "net.dropout": 0.2,
        "optim.weight_decay": 0.05,
        "train.checkpoint_every": 500,
    }
    for name in VARIANTS:
        validate(load(f"configs/digits.py:{name}"))
    assert title("configs/digits.py:ve") == "digits_ve" and title("configs/cifar10.py") == "cifar10"


def test_variants_that_do_not_exist():
    with pytest.raises(ValueError, match=r"there is no variant 'vee'; choose from ve, flow, elementary"):
        load("configs/digits.py:vee")
    with pytest.raises(ValueError, match=r"there is no variant 've'; choose edm"):
        load("configs/mnist.py:ve")
    with pytest.raises(ValueError, match=r"cifar10.py: TypeError: get_config\(\) takes 0 positional arguments but 1"):
        load("configs/cifar10.py:ve")


def test_another_schedule_over_a_variant_is_an_experiment():
    flag = config_flag.ConfigFlag("configs/digits.py")
    flag.parse("train.py", ["--config=configs/digits.py:ve", "--config.diffusion.schedule=linear"])
    assert flag.value.diffusion.schedule == "linear" and flag.name == "digits_ve"
    assert remarks(flag.value) == ["diffusion.sigma_T = 10.0 has no effect where diffusion.schedule is 'linear'"]


def test_levels_suit_the_size_of_the_images():
    assert "multiple of 8, and the images have 28 pixels; use fewer levels" in refused(changed(data__name="mnist"))
    assert "multiple of 8, and the images have 100 pixels" in refused(changed(data__name="folder:x"), size=100)
    validate(changed(data__name="folder:x"))
    validate(changed(data__name="folder:x"), size=64)
    assert "multiple of 24, and the images have 64 pixels" in refused(
        changed(data__name="folder:x", net__block_size=3), size=64
    )
    blocks = changed(data__name="mnist", net__block_size=2, net__multipliers=(1, 2, 2), net__attention=())
    assert "3 levels need a size that is a multiple of 8" in refused(blocks)


def test_attention_is_reached():
    assert "use some of 28, 14, 7, or ()" in refused(changed(data__name="mnist", net__multipliers=(1, 2, 2)))
    validate(changed(data__name="mnist", net__multipliers=(1, 2, 2), net__attention=(14, 7)))
    validate(changed(net__attention=()))
    assert "24 is no height" in refused(changed(net__attention=(16, 24)))
    assert "16 is no height" in refused(changed(data__name="folder:x"), size=8)


def test_heads_divide_the_channels_of_attention_blocks():
    assert "3 heads do not divide the 256 channels" in refused(changed(net__heads=3))
    validate(changed(net__heads=4))
    # At 16 pixels the width is 32 * 2, in the middle 32 * 3; the widths without attention do not count.
    widths = {"net.channels": 32, "net.multipliers": (1, 2, 3)}
    validate(changed(**widths, net__heads=32))
    assert "64 heads do not divide the 96 channels" in refused(changed(**widths, net__heads=64))
    assert "3 heads do not divide the 64 channels" in refused(changed(**widths, net__heads=3))
    validate(changed(**widths, net__heads=3, net__attention=()))


@pytest.mark.parametrize(
    ("name", "choices", "best"),
    [
        ("cosin", VP_SCHEDULES, "cosine"),
        ("lr", KEYS, "optim.lr"),
        ("optim.lrr", KEYS, "optim.lr"),
        ("otpim.lr", KEYS, "optim.lr"),
        ("train.ema_decay", KEYS, "optim.ema_decay"),
        ("net.DROPOUT", KEYS, "net.dropout"),
        ("xyzzy", KEYS, None),
        ("a", (), None),
    ],
)
def test_closest_name(name, choices, best):
    assert closest_name(name, choices) == best


@pytest.mark.parametrize("key", KEYS)
def test_key_is_found_from_a_slip(key):
    section, dot, name = key.rpartition(".")
    slipped = f"{section}{dot}{name[0]}{name}"
    with pytest.raises(ValueError, match=rf"config\.{slipped}: no such key; .*did you mean config\.{key}\?"):
        lookup(slipped)


# -------------------------------------------------------------------------------------------------- files and the paper


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_file_is_a_documented_difference(path):
    config = load(path)
    validate(config)
    tree = ast.parse(path.read_text())
    doc = ast.get_docstring(tree) or ""
    assert all(word in doc for word in ("Paper row:", "Score:", "Cost:"))
    assert re.search(rf"python scripts/train(_classifier)?\.py --config=configs/{path.name}", doc)
    assert len(doc.splitlines()[0]) <= 100 and doc.splitlines()[0].endswith(".")


STATED = {
    "data.name": ("cifar10", "section 4"),
    "data.flip": (True, "appendix B"),
    "diffusion.schedule": ("linear", "section 4"),
    "diffusion.T": (1000, "section 4"),
    "diffusion.beta_1": (0.0001, "section 4"),
    "diffusion.beta_T": (0.02, "section 4"),
    "diffusion.parameterization": ("eps", "eq. 11"),
    "diffusion.variance": ("fixed_large", "section 3.2"),
    "objective.name": ("simple", "eq. 14"),
    "objective.timesteps": ("uniform", "algorithm 1"),
    "net.name": ("unet", "appendix B"),
    "net.multipliers": ((1, 2, 2, 2), "appendix B"),
    "net.blocks": (2, "appendix B"),
    "net.attention": ((16,), "section 4"),
    "net.dropout": (0.1, "appendix B"),
    "net.scale_shift": (False, "appendix B"),
    "optim.lr": (0.0002, "appendix B"),
    "optim.beta_1": (0.9, "appendix B"),
    "optim.beta_2": (0.999, "appendix B"),
    "optim.eps": (1e-8, "appendix B"),
    "optim.ema_decay": (0.9999, "appendix B"),
    "train.batch_size": (128, "appendix B"),
    "train.steps": (800_000, "appendix B"),
    "sample.sampler": ("ancestral", "algorithm 2"),
    "sample.grid": ("", "section 4"),
    # the published code alone
    "net.channels": (128, "code"),
    "net.heads": (1, "code"),
    "net.convention": ("original", "code"),
    "optim.warmup_steps": (5000, "code"),
    "optim.clip": (1.0, "code"),
    "sample.clip": (True, "code"),
}
"""What Ho et al. 2020 state about CIFAR-10, and where; a lower bound of what configs/cifar10.py has to name."""

DIFFERENCES = {
    "celebahq256": {
        "data.size": 256,
        "diffusion.variance": "fixed_small",
        "net.multipliers": (1, 1, 2, 2, 4, 4),
        "net.dropout": 0.0,
        "optim.lr": 2e-5,
        "train.batch_size": 64,
        "train.steps": 500_000,
    },
    "lsun_bedroom": {"data.name": "tfds:lsun/bedroom", "data.flip": False, "train.steps": 2_400_000},
    "lsun_church": {"data.name": "tfds:lsun/church_outdoor", "train.steps": 1_200_000},
    "lsun_cat": {"data.name": "tfds:lsun/cat", "train.steps": 1_800_000},
    "cifar10_improved": {
        "data.flip": False,
        "diffusion.schedule": "cosine",
        "diffusion.T": 4000,
        "diffusion.variance": "learned_range",
        "objective.name": "hybrid",
        "objective.vlb_weight": 0.001,
        "net.blocks": 3,
        "net.attention": (16, 8),
        "net.heads": 4,
        "net.scale_shift": True,
        "net.convention": "improved",
        "net.dropout": 0.3,
        "net.rescale_time": True,
        "optim.lr": 1e-4,
        "optim.warmup_steps": 0,
        "optim.clip": 0.0,
        "train.steps": 500_000,
    },
    "cifar10_improved_vlb": {"objective.name": "vlb", "objective.timesteps": "loss_second_moment"},
    "imagenet64": {"data.size": 64, "net.multipliers": (1, 2, 3, 4), "net.dropout": 0.0, "train.steps": 1_500_000},
    "celeba64": {
        "data.crop": 140,
        "data.size": 64,
        "objective.timesteps": "antithetic",
        "net.multipliers": (1, 2, 2, 2, 4),
        "optim.warmup_steps": 0,
        "train.steps": 500_000,
    },
}
"""What the papers state about other experiments where it differs from the config that theirs builds on."""

PLACE = r"(section|appendix|algorithm|eq\.) ?[\dA-C]|code"


def assignments(name: str) -> dict[str, tuple[object, str]]:
    """Every key that a config file sets, with its value and the comment of its line."""
    found = {}
    for line in (ROOT / "configs" / f"{name}.py").read_text().splitlines():
        if match := re.match(r"    config\.([\w.]+) = ([^#]*)(?:# (.*))?", line):
            found[match[1]] = (ast.literal_eval(match[2].strip()), match[3] or "")
    return found


def test_cifar10_names_every_hyper_parameter_of_the_paper():
    named = assignments("cifar10")
    assert not STATED.keys() - named.keys()
    for key, (value, place) in STATED.items():
        assert named[key][0] == value and place in named[key][1], key
    assert len((ROOT / "configs" / "cifar10.py").read_text().splitlines()) <= 66  # one screen


@pytest.mark.parametrize("name", DIFFERENCES)
def test_published_config_shows_what_differs_from_its_base(name):
    named = assignments(name)
    for key, value in DIFFERENCES[name].items():
        assert named[key][0] == value and re.search(PLACE, named[key][1]), key
    reporting = ("paper", "sample.n", "sample.batch_size", "eval.")
    assert {key for key in named if not key.startswith(reporting)} <= DIFFERENCES[name].keys() | {"data.name"}


@pytest.mark.parametrize("name", PAPERS)
def test_published_configs_depart_from_nothing(name):
    config = load(ROOT / "configs" / f"{name}.py")
    assert config.paper == name
    assert deviations(config) == []
    shown = STATED if name == "cifar10" else DIFFERENCES[name]
    assert published_values(name).keys() >= shown.keys()


COSTS = [path for path in sorted((ROOT / "configs").glob("*.py")) if "Cost: " in path.read_text()]


@pytest.mark.parametrize("path", COSTS, ids=lambda path: path.stem)
def test_docstrings_state_the_steps_and_the_batch_of_the_config(path):
    config = load(path)
    for steps, images in re.findall(r"Cost: ([\d,]+) steps of (\d+) images", path.read_text()):
        assert (int(steps.replace(",", "")), int(images)) == (config.train.steps, config.train.batch_size)


def test_deviations_name_key_value_and_the_papers():
    config = load(ROOT / "configs" / "cifar10.py")
    config.optim.lr, config.data.flip = 1e-3, False
    assert deviations(config) == ["data.flip = False (paper: True)", "optim.lr = 0.001 (paper: 0.0002)"]
    assert deviations(changed(optim__lr=1e-3)) == []
    small = deviations(load(ROOT / "configs" / "cifar10_small.py"))
    assert "net.channels = 64 (paper: 128)" in small and "train.steps = 20000 (paper: 800000)" in small
    folder = load(ROOT / "configs" / "lsun_cat.py")
    folder.data.name = "folder:cats"
    assert deviations(folder) == []


# ----------------------------------------------------------------------------------------------------- the command line

SCRIPT = '''"""A script for tests: prints its config."""

import sys
import warnings

sys.path.insert(0, {root!r})

from absl import flags

from diffusion.runtime import command_line as cli, config_flag
from diffusion.config.config_dict import flatten

CONFIG = config_flag.define_config("configs/digits.py")
NUMBER = flags.DEFINE_integer("number", 1, "which way to end")


def main():
    if NUMBER.value == 3:
        int("seven")
    if NUMBER.value == 4:
        raise RuntimeError("a bug")
    if NUMBER.value == 5:
        return 7
    if NUMBER.value == 6:
        open("/nonexistent/file")
    if NUMBER.value == 7:
        bytearray(2**62)
    if NUMBER.value == 8:
        warnings.warn("noise", stacklevel=1)
        with warnings.catch_warnings():  # as libraries do
            warnings.simplefilter("always")
            warnings.warn("noise", stacklevel=1)
    if NUMBER.value == 9:
        print("Fr\\u00e9chet")
    print(CONFIG.name, flatten(CONFIG.value))


if __name__ == "__main__":
    cli.run(main)
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT.format(root=str(ROOT)))
    return path


def call(script: Path, *args: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs the script from its own folder, where no config file lies."""
    env = os.environ | environment
    command = [sys.executable, str(script), *args]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True, env=env, timeout=60)


def one_line(done: subprocess.CompletedProcess, status: int = 2) -> str:
    """The single line on stderr of a run that failed without a traceback."""
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.startswith("script.py: ") and done.stderr.count("\n") == 1
    return done.stderr.removeprefix("script.py: ").strip()


def test_a_letter_that_the_console_lacks_ends_no_script(script):
    done = call(script, "--number=9", PYTHONIOENCODING="koi8-r")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("Fr?chet\n")


MISTAKES = (
    (["--config.optim.learnin_rate=1"], "config.optim.learnin_rate: no such key; config.optim has lr, warmup_steps, "),
    (["--config.optim.lrr=1"], "did you mean config.optim.lr?"),
    (["--config.lr=1"], "did you mean config.optim.lr?"),
    (["--config.optim=1"], "config.optim: no such key; config.optim has lr, "),
    (["--config.optim.lr.x=1"], "config.optim.lr.x: no such key"),
    (["--config.=1"], "config.: no such key"),
    (["--config.optim.lr=fast"], "flag --config.optim.lr=fast: could not convert string to float: 'fast'"),
    (["--config.optim.lr=nan"], "config.optim.lr: nan is not a number above 0"),
    (["--config.train.steps=1e5"], "flag --config.train.steps=1e5: invalid literal for int() with base 10: '1e5'"),
    (["--config.train.steps=99999999999999999999"], "is not an integer of at least 1"),
    (["--config.data.flip=maybe"], "flag --config.data.flip=maybe: ('Non-boolean argument to boolean flag', 'maybe')"),
    (
        ["--config.net.attention=four"],
        "config.net.attention: ('four',) is not a list of integers from 1 to 8192, such as 16 or 16,8",
    ),
    (["--config.optim.lr"], "Missing value for flag --config.optim.lr"),
    (["--noconfig.optim.lr"], "Unknown command line flag 'noconfig.optim.lr'"),
    (["--noconfig.data.flip=no"], "--noconfig.data.flip=no does not take an argument"),
    (["--noexplain=no"], "--noexplain=no does not take an argument"),
    ([f"--config.data.flip={'9' * 5000}"], "99999... ('Non-boolean argument to boolean flag', '99999"),
    (["--config.diffusion.schedule=cosin"], "did you mean 'cosine'?"),
    (["--config.diffusion.variance=learned"], "would never be trained"),
    (["--config.net.attention=16"], "use some of 8, 4, or ()"),
    (["--config=configs/cifar11.py"], "--config=configs/cifar11.py: no such file; did you mean configs/cifar10.py?"),
    (["--config=configs/digits.py:vee"], "there is no variant 'vee'; choose from ve, flow"),
    (["--config=cifr10"], "--config=cifr10: no such file; did you mean configs/cifar10.py?"),
    (["--config=configs/inpainting.py"], "--config=configs/inpainting.py: no such file; there are configs/"),
    (["--config=xyz"], "--config=xyz: no such file; there are configs/"),
    (["--config="], "--config=: no such file"),
    (["--config"], "Missing value for flag --config"),
    (["--numbr=1"], "Unknown command line flag 'numbr'. Did you mean: number ?"),
    (["--batch_size=1"], "Unknown command line flag 'batch_size'"),
    (["--zzzzzz"], "Unknown command line flag 'zzzzzz'"),
    (["--number=one"], "flag --number=one: invalid literal"),
    (["configs/digits.py"], "'configs/digits.py' is not a flag"),
    (["--flagfile=/nonexistent"], "/nonexistent"),
)


@pytest.mark.parametrize(("args", "expected"), MISTAKES, ids=lambda v: str(v)[:40])
def test_mistake_ends_in_one_line(script, args, expected):
    line = one_line(call(script, *args))
    assert expected in line and len(line) < 1000


FAULTY_FILES = (
    ("def get_config(:\n", "line 1: invalid syntax"),
    ("x = 1\nimport nonesuch\n", "line 2: ModuleNotFoundError: No module named 'nonesuch'"),
    ("x = 1\n", "get_config() must return a config"),
    ("def get_config():\n    return {'optim': {'lr': 1}}\n", "get_config() must return a config"),
    ("get_config = 3\n", "TypeError: 'int' object is not callable"),
    ("def get_config():\n    raise ValueError('two\\nlines')\n", "line 2: ValueError: two lines"),
    ("{start}    c.optim.learn_rate = 1.0\n    return c\n", "line 4: 'learn_rate' is not a config key"),
    (
        "{start}    c.optim.lrr = 1.0\n    return c\n",
        "line 4: 'lrr' is not a config key; did you mean config.optim.lr?",
    ),
    ("{start}    c.optim.lr = 2 * c.optim.lrr\n    return c\n", "line 4: 'lrr' is not a config key"),
    ("{start}    c.optim.lr = 'fast'\n    return c\n", "line 4: TypeError: Could not override field 'lr'"),
    ("{start}    c.optim.lr = -1.0\n    return c\n", "config.optim.lr: -1.0 is not a number above 0"),
    ("{start}    with c.unlocked():\n        c.optim.lrr = 1.0\n    return c\n", "did you mean config.optim.lr?"),
)


@pytest.mark.parametrize(("text", "expected"), FAULTY_FILES, ids=range(len(FAULTY_FILES)))
def test_faulty_config_file_names_its_line(tmp_path, text, expected):
    start = "from diffusion.config.config_dict import default_config\ndef get_config():\n    c = default_config()\n"
    path = tmp_path / "faulty.py"
    path.write_text(text.replace("{start}", start))
    with pytest.raises(ValueError) as caught:
        validate(load(path))
    line = str(caught.value)
    assert expected in line and "\n" not in line
    assert line.startswith((str(path), "config."))


def test_faulty_config_file_ends_in_one_line(script):
    (script.parent / "faulty.py").write_text("def get_config():\n    return 1 / 0\n")
    assert one_line(call(script, "--config=faulty.py")) == "faulty.py, line 2: ZeroDivisionError: division by zero"


def test_overrides_in_every_spelling(script):
    (script.parent / "flags").write_text("--config.optim.clip=0.5\n")
    args = ["--config.optim.lr", "5e-4", "-config.net.blocks=3", "--config=configs/cifar10.py", "--noconfig.data.flip"]
    args += ["--config.net.remat", "--config.net.attention=(16, 8)", "--config.seed=1", "--config.seed=2"]
    args += ["--config.net.multipliers=1,1", "-config.net.multipliers", "1,3,2", "--config.net.attention=16,8"]
    args += ["--config.optim.ema_warmup=true", "--flagfile=flags", "--config.data.dir=a=b"]
    done = call(script, *args)
    assert (done.returncode, done.stderr) == (0, "")
    name, _, printed = done.stdout.partition(" ")
    set_here = {
        "optim.lr": 5e-4,
        "net.blocks": 3,
        "data.flip": False,
        "net.remat": True,
        "net.attention": (16, 8),
        "net.multipliers": (1, 3, 2),
        "seed": 2,
        "optim.ema_warmup": True,
        "optim.clip": 0.5,
        "data.dir": "a=b",
    }
    assert name == "cifar10"
    assert ast.literal_eval(printed) == flatten(load(ROOT / "configs" / "cifar10.py")) | set_here


def overridden(key: str, text: str) -> ConfigDict:
    """The default config with one override, as the command line reads it."""
    flag = config_flag.ConfigFlag(None)
    assert flag.parse("script.py", [f"--config.{key}={text}"]) == []
    return flag.value


@pytest.mark.parametrize(
    ("text", "value"), [("16", (16,)), ("16,8", (16, 8)), ("(16,)", (16,)), ("[16, 8]", (16, 8)), ("()", ()), ("", ())]
)
def test_lists_in_every_spelling(text, value):
    assert overridden("net.attention", text).net.attention == value


def test_random_overrides_are_accepted_or_refused_in_one_line():
    numbers = ["0", "1", "-1", "2", "1e9", "nan", "inf", "9" * 99]
    words = [*numbers, "", "true", "none", "1,2", "(1,2,2)", "((", "eps", "é", "a\nb"]
    draw, outcomes = random.Random(0), [0, 0]
    for _ in range(1000):
        key = draw.choice([*KEYS, *KEYS, "optim", "optim.lrr", ""])
        try:
            validate(overridden(key, draw.choice([*words, *CHOICES.get(key, ())])))
            outcomes[0] += 1
        except (ValueError, flags.Error) as error:
            assert str(error).startswith(("config.", "flag --config.", "Unable to parse"))
            outcomes[1] += 1
    assert min(outcomes) > 100


def test_main_ends_the_script_with_its_status(script):
    assert call(script).returncode == 0
    assert call(script, "--number=5").returncode == 7


def test_errors_out_of_main(script):
    """What the user did not give shows its traceback: a bug, or a ValueError that another library raised."""
    missing = one_line(call(script, "--number=6"))
    assert missing.startswith("FileNotFoundError") and missing.endswith("(DIFFUSION_TRACEBACK=1 shows where)")
    assert one_line(call(script, "--number=7")).startswith("MemoryError")
    for number, kind in ((4, "RuntimeError: a bug"), (3, "ValueError: invalid literal for int()")):
        bug = call(script, f"--number={number}")
        assert bug.returncode == 1 and "Traceback" in bug.stderr and kind in bug.stderr


def test_traceback_on_request(script):
    done = call(script, "--config.optim.lr=fast", DIFFUSION_TRACEBACK="1")
    assert done.returncode == 1 and "Traceback" in done.stderr and "could not convert string" in done.stderr


def test_a_warning_is_one_line_and_printed_once(script):
    done = call(script, "--number=8")
    assert (done.returncode, done.stderr) == (0, "WARNING     noise\n")


def test_explain_prints_every_key(script):
    done = call(script, "--explain", "--config.optim.lr=0.125")
    assert (done.returncode, done.stderr) == (0, "")
    page = " ".join(done.stdout.split())
    assert "optim.lr = 0.125 * default 0.001" in page
    for key, row in KEYS.items():
        assert f" {key} = " in page and row.doc in page


def test_a_closed_pipe_is_no_error(script):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(script), "--explain"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("name", ["script.py", "train.py", "sample.py"])
def test_help_is_a_page_and_immediate(script, name):
    path = script if name == script.name else ROOT / "scripts" / name
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert " ".join(done.stdout.split()).startswith(" ".join(doc.split())) and "Flags:" in done.stdout
    if "define_config" in path.read_text():
        assert all(word in done.stdout for word in ("--explain", "configs/", "--config.optim.lr=1e-4"))
    # Processor time, which does not grow when other programs run beside.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
