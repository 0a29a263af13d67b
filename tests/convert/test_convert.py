"""Names and layouts of foreign weights: tables checked as a whole, in both directions, against an independent walk."""

import functools
import json
import re

import jax
import numpy as np
import pytest

from diffusion.convert import ddpm_tf, diffusers, diffusers_config, improved_diffusion, name_mapping
from diffusion.nets.unet import UNet
from tests.support.naming import FORMATS, foreign, made_up

MODULES = {"diffusers": diffusers, "improved_diffusion": improved_diffusion, "ddpm_tf": ddpm_tf}
NETS = {
    "ddpm": (UNet(channels=4, multipliers=(1, 2, 2), blocks=2, attention=(8,)), 16),
    "options": (
        UNet(channels=8, multipliers=(1, 3), blocks=1, attention=(8, 4), heads=4, scale_shift=True, out_channels=6),
        8,
    ),
    "one level": (UNet(channels=4, multipliers=(1,), blocks=1, attention=()), 4),
    "classes": (UNet(channels=4, multipliers=(1, 1), blocks=1, attention=(4,), heads=2, classes=10), 4),
}
CASES = [(kind, name) for kind in FORMATS for name in NETS if (kind, name) != ("ddpm_tf", "classes")]


@functools.cache
def shapes_of(net, size):
    x, t = jax.ShapeDtypeStruct((1, size, size, 3), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
    params = jax.eval_shape(net.init, jax.random.key(0), x, t, *((t,) if net.classes else ()))["params"]
    return {name: leaf.shape for name, leaf in name_mapping.flatten(params).items()}


def case(kind, name):
    """Our parameters, the same in a foreign layout by the independent walk, and the table."""
    net, size = NETS[name]
    shapes = shapes_of(net, size)
    params = made_up(shapes)
    attended = [level for level in range(len(net.multipliers)) if size >> level in net.attention]
    theirs = foreign(kind, params, len(net.multipliers), net.blocks, attended, net.heads)
    return params, theirs, name_mapping.rules(MODULES[kind].NAMING, shapes, net.heads), shapes


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]), name


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_both_directions_are_exact_and_name_what_an_independent_walk_names(kind, name):
    params, theirs, rules, shapes = case(kind, name)
    assert sum(x.size for x in theirs.values()) == sum(x.size for x in params.values())
    assert_same(name_mapping.write(rules, params), theirs)
    assert_same(name_mapping.read(rules, theirs, shapes), params)


def test_every_kind_of_layer_is_among_the_cases():
    found = [name_mapping.parse(name) for net in NETS.values() for name in shapes_of(*net)]
    assert {param.module for param in found} == set(diffusers.NAMING.modules) == set(improved_diffusion.NAMING.modules)
    assert {param.layer for param in found} == set(diffusers.NAMING.layers) == set(ddpm_tf.NAMING.layers)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_does_not_fit_is_listed_in_one_line_and_nothing_is_read(kind):
    _, theirs, rules, shapes = case(kind, "ddpm")
    names = sorted(theirs)
    cut = {name: value for name, value in theirs.items() if name not in names[:5]}
    with pytest.raises(ValueError, match=f"5 missing .*{names[0]}.* and 2 more") as error:
        name_mapping.read(rules, cut, shapes)
    assert "\n" not in str(error.value) and "unexpected" not in str(error.value)

    with pytest.raises(ValueError, match=r"1 unexpected .other"):
        name_mapping.read(rules, theirs | {"other": np.zeros(3, np.float32)}, shapes)
    with pytest.raises(ValueError, match=r"1 of another shape .*\(7, 7\) instead of"):
        name_mapping.read(rules, theirs | {names[3]: np.zeros((7, 7), np.float32)}, shapes)
    with pytest.raises(ValueError, match=r"1 missing .*, 1 unexpected .*, 1 of another shape"):
        renamed = {("renamed" if name == names[0] else name): value for name, value in theirs.items()}
        name_mapping.read(rules, renamed | {names[3]: np.zeros(1, np.float32)}, shapes)
    with pytest.raises(ValueError, match="1 not of floating point"):
        name_mapping.read(rules, theirs | {names[3]: theirs[names[3]].astype(np.int32)}, shapes)
    with pytest.raises(ValueError, match=f"1 not finite .{names[3]}"):
        name_mapping.read(rules, theirs | {names[3]: np.full_like(theirs[names[3]], np.nan)}, shapes)


def test_a_transposed_square_matrix_would_show():
    """Shapes cannot tell a square matrix from its transpose: the values must."""
    params, theirs, rules, _ = case("diffusers", "ddpm")
    name = "mid_block.attentions.0.to_q.weight"
    assert theirs[name].shape[0] == theirs[name].shape[1]
    assert np.array_equal(theirs[name], params["middle_attention.q.kernel"].T)
    assert not np.array_equal(name_mapping.write(rules, params)[name], params["middle_attention.q.kernel"])


def test_heads_decide_where_a_fused_row_goes():
    params, theirs, _, shapes = case("improved_diffusion", "options")
    read = name_mapping.read(name_mapping.rules(improved_diffusion.NAMING, shapes, 2), theirs, shapes)
    assert read["middle_attention.q.bias"].shape == params["middle_attention.q.bias"].shape
    assert not np.array_equal(read["middle_attention.q.bias"], params["middle_attention.q.bias"])


def test_half_precision_and_float64_become_float32():
    params, theirs, rules, shapes = case("diffusers", "one level")
    half = name_mapping.read(rules, {name: x.astype(np.float16) for name, x in theirs.items()}, shapes)
    assert all(x.dtype == np.float32 for x in half.values())
    assert_same(name_mapping.read(rules, {name: x.astype(np.float64) for name, x in theirs.items()}, shapes), params)


def test_flatten_and_nest_are_inverse():
    tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert (
        name_mapping.flatten(tree) == {"a.b": 1, "a.c.d": 2, "e": 3}
        and name_mapping.nest(name_mapping.flatten(tree)) == tree
    )


# ------------------------------------------------------------------------------------------- configs of diffusers

CIFAR10 = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
FACES = CIFAR10 | {
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
    "sample_size": 256,
}
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_large",
}


def settings(unet, scheduler, height):
    """The config keys that two files determine for images of a height."""
    attended = diffusers_config.attended(unet)
    return diffusers_config.settings(unet, scheduler) | {"net.attention": tuple(height >> n for n in attended)}


def test_published_files_give_the_published_configs():
    from diffusion.config.config_dict import flatten
    from diffusion.config.config_files import ROOT, load

    published = (("cifar10", CIFAR10, "fixed_large", 32), ("celebahq256", FACES, "fixed_small", 256))
    for file, unet, variance, size in published:
        config = flatten(load(ROOT / "configs" / f"{file}.py"))
        found = settings(unet, SCHEDULER | {"variance_type": variance}, size)
        assert found == {key: config[key] for key in found}
        assert {"net.attention", "net.convention", "diffusion.variance", "diffusion.schedule"} <= found.keys()


def test_values_mean_what_the_library_means_by_them():
    """diffusers: schedulers/scheduling_ddpm.py, the docstring of DDPMScheduler."""
    for key, name, theirs, value in (
        ("prediction_type", "parameterization", "epsilon", "eps"),
        ("prediction_type", "parameterization", "sample", "x_0"),
        ("prediction_type", "parameterization", "v_prediction", "v"),
        ("beta_schedule", "schedule", "scaled_linear", "quad"),
        ("beta_schedule", "schedule", "squaredcos_cap_v2", "cosine"),
        ("variance_type", "variance", "fixed_small_log", "fixed_small"),
    ):
        assert settings(CIFAR10, SCHEDULER | {key: theirs}, 32)[f"diffusion.{name}"] == value
    cosine = settings(CIFAR10, SCHEDULER | {"beta_schedule": "squaredcos_cap_v2"}, 32)
    assert not {"diffusion.beta_1", "diffusion.beta_T"} & cosine.keys()


def test_times_are_the_numbers_of_the_steps():
    """Which is what rescaled times are for 1000 steps, and not for others."""
    for T, rescaled in ((1000, {}), (4000, {"net.rescale_time": False})):
        found = settings(CIFAR10, SCHEDULER | {"num_train_timesteps": T}, 32)
        assert {key: found[key] for key in ("net.rescale_time", "net.time") if key in found} == {
            "net.time": "steps"
        } | rescaled


def test_the_number_of_heads_is_that_of_their_width():
    assert settings(CIFAR10 | {"attention_head_dim": 64}, SCHEDULER, 32)["net.heads"] == 256 // 64


def test_missing_keys_have_the_defaults_of_the_library():
    given = {"attention_head_dim": None}
    assert settings(given, {"_class_name": "DDIMScheduler"}, 64) == {
        "net.channels": 224, "net.multipliers": (1, 2, 3, 4), "net.blocks": 2, "net.attention": (32, 16, 8),
        "net.heads": 1, "net.scale_shift": False, "net.class_conditional": False, "net.convention": "improved",
        "diffusion.T": 1000, "diffusion.parameterization": "eps", "diffusion.schedule": "linear",
        "diffusion.beta_1": 1e-4, "diffusion.beta_T": 0.02, "sample.clip": True,
        "net.time": "steps", "diffusion.sigma_data": 1.0,
    }  # fmt: skip
    assert not any(key.startswith("diffusion") for key in settings(given, {}, 64))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"act_fn": "relu"}, "act_fn is 'relu'"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type is 'fourier'"),
        ({"center_input_sample": True}, "center_input_sample is True"),
        ({"down_block_types": ["SkipDownBlock2D"] * 4}, "a block's type is 'SkipDownBlock2D'"),
        ({"up_block_types": ["AttnUpBlock2D"] * 4}, "attention elsewhere"),
        ({"block_out_channels": [128, 192, 256, 256]}, "not multiples of the first"),
        ({"norm_eps": 1e-5}, "norm_eps 1e-05, .*supported only together"),
        ({"flip_sin_to_cos": True}, "flip_sin_to_cos True, .*supported only together"),
        ({"downsample_padding": 1}, "downsample_padding 1.*supported only together"),
        ({"freq_shift": 0}, "freq_shift 0, .*supported only together"),
        ({"attention_head_dim": 8, "block_out_channels": [128, 128, 256, 256]}, "different numbers of heads"),
        ({"attention_head_dim": 7}, "different numbers of heads"),
        ({"attn_norm_num_groups": 16}, "norm of the attention"),
        ({"resnet_time_scale_shift": "scale_shift"}, "norm of the attention"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift is 'spatial'"),
    ],
)
def test_a_network_that_is_not_ours_is_refused(change, line):
    with pytest.raises(ValueError, match=line) as error:
        settings(CIFAR10 | change, SCHEDULER, 32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"variance_type": "learned"}, "variance_type is 'learned'"),
        ({"variance_type": "fixed_large_log"}, "variance_type is 'fixed_large_log'"),
        ({"beta_schedule": "laplace"}, "beta_schedule is 'laplace'"),
        ({"prediction_type": "flow"}, "prediction_type is 'flow'"),
        ({"thresholding": True}, "thresholding is True"),
        ({"clip_sample_range": 2.0}, "clip_sample_range is 2.0"),
    ],
)
def test_a_diffusion_that_is_not_ours_is_refused(change, line):
    with pytest.raises(ValueError, match=line):
        settings(CIFAR10, SCHEDULER | change, 32)


def base(**changes):
    from diffusion.config.config_dict import flatten
    from diffusion.config.config_files import ROOT, load

    return flatten(load(ROOT / "configs" / "cifar10.py")) | {
        key.replace("__", "."): value for key, value in changes.items()
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"net__convention": "improved", "diffusion__variance": "learned_range", "diffusion__schedule": "cosine"},
        {"diffusion__schedule": "quad", "diffusion__parameterization": "v", "sample__clip": False},
        {"diffusion__schedule": "sigmoid", "diffusion__parameterization": "x_0", "net__scale_shift": True},
        {"diffusion__schedule": "const", "diffusion__variance": "fixed_small", "net__class_conditional": True},
    ],
)
def test_a_config_written_and_read_is_that_config(changes):
    config = base(**changes)
    classes = 10 * config["net.class_conditional"]
    beta = np.linspace(0.1, 0.3, 1000)
    widths = {"attention_head_dim": None, "norm_num_groups": 32, "attn_norm_num_groups": 32}
    unet = diffusers_config.unet(config, (32, 32, 3), 3, classes) | widths
    scheduler = diffusers_config.scheduler(config, beta)
    unet, scheduler = json.loads(json.dumps(unet)), json.loads(json.dumps(scheduler))
    found = settings(unet, scheduler, 32)
    assert found == {key: config[key] for key in found}
    listed = diffusers_config.betas(scheduler)
    assert (listed is not None) == ("diffusion.schedule" not in found) == (config["diffusion.schedule"] == "const")
    assert listed is None or np.array_equal(listed, beta)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"diffusion__parameterization": "mu"}, "'mu' cannot be exported; diffusers has only eps, x_0, v"),
        ({"diffusion__variance": "learned"}, "'learned' cannot be exported"),
        (
            {"net__rescale_time": True, "diffusion__T": 4000},
            "rescale_time is True in the config, which cannot be exported",
        ),
        ({"net__time": "log_noise"}, "net.time is 'log_noise' in the config"),
        ({"diffusion__sigma_data": 0.5}, "sigma_data is 0.5 in the config"),
    ],
)
def test_what_diffusers_cannot_express_is_refused(changes, line):
    with pytest.raises(ValueError, match=line) as error:
        diffusers_config.scheduler(base(**changes), np.zeros(1))
    assert "\n" not in str(error.value)


def test_networks_that_diffusers_cannot_express_are_refused():
    with pytest.raises(ValueError, match="does not begin with 1"):
        diffusers_config.unet(base(net__multipliers=(2, 2)), (32, 32, 3), 3, 0)
    with pytest.raises(ValueError, match="block_size is 2 in the config"):
        diffusers_config.unet(base(net__block_size=2), (32, 32, 3), 3, 0)


# ------------------------------------------------------------------------------------------- folders of diffusers


def folder(tmp_path, name="ddpm", **changes):
    """A folder written for a network, and its parameters."""
    net, size = NETS[name]
    shapes = shapes_of(net, size)
    params = made_up(shapes)
    config = base(
        net__channels=net.channels, net__multipliers=net.multipliers, net__blocks=net.blocks, net__heads=net.heads,
        net__attention=net.attention, net__scale_shift=net.scale_shift, **changes,
    )  # fmt: skip
    out = tmp_path / name
    diffusers.write(out, params, diffusers.configs(config, shapes, (size, size, 3), np.linspace(0.1, 0.3, 1000)))
    return out, params, shapes


@pytest.fixture
def uniform(monkeypatch):
    """Tiny widths differ in the number of groups that they get; these tests are about something else."""
    monkeypatch.setattr(diffusers, "groups", lambda width: 2)  # noqa: ARG005


@pytest.mark.usefixtures("uniform")
def test_a_folder_is_read_as_it_was_written_and_under_the_old_names(tmp_path):
    out, params, shapes = folder(tmp_path)
    assert not list(tmp_path.glob("*.tmp"))
    index = json.loads((out / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DModel"]
    weights = diffusers.read(out)
    assert weights.size == (16, 16) and weights.channels == 3 and weights.beta is None and not weights.unspecified
    assert_same(name_mapping.read(name_mapping.rules(weights.naming, shapes, 1), weights.ema, shapes), params)

    from safetensors.numpy import load_file, save_file

    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    for new, name in old.items():
        tensors = {key.replace(f".{new}.", f".{name}."): value for key, value in tensors.items()}
    assert any("query" in key for key in tensors)
    flat = tmp_path / "flat"
    flat.mkdir()
    save_file(tensors, flat / "diffusion_pytorch_model.safetensors")
    (flat / "config.json").write_text((out / "unet" / "config.json").read_text())
    weights = diffusers.read(flat / "diffusion_pytorch_model.safetensors")
    assert_same(name_mapping.read(name_mapping.rules(weights.naming, shapes, 1), weights.ema, shapes), params)
    assert "scheduler_config.json" in weights.unspecified


@pytest.mark.usefixtures("uniform")
def test_the_condition_of_augmented_images_is_left_out(tmp_path):
    _, params, shapes = folder(tmp_path)
    config = base(net__channels=shapes["conv_in.kernel"][-1])
    contents = diffusers.configs(config, shapes, (16, 16, 3), np.linspace(0.1, 0.3, 1000))
    diffusers.write(tmp_path / "augmented", params | {"condition.kernel": np.ones((9, 8), np.float32)}, contents)
    assert_same(diffusers.read(tmp_path / "augmented").ema, diffusers.read(tmp_path / "ddpm").ema)


@pytest.mark.usefixtures("uniform")
def test_an_existing_folder_is_left_alone(tmp_path):
    out, _, _ = folder(tmp_path)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="exists already"):
        folder(tmp_path)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_unequal_groups_and_heads_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="in a UNet2DModel they have one number of groups"):
        folder(tmp_path)
    monkeypatch.setattr(diffusers, "groups", lambda width: 2)  # noqa: ARG005
    with pytest.raises(ValueError, match=r"4 heads at widths \[8, 24\] cannot be exported"):
        folder(tmp_path, "options")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("uniform")
@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("unet/config.json", b"{", "config.json is damaged"),
        ("unet/config.json", b"[" * 200_000, "nested too deeply"),
        ("unet/config.json", b"\xff\xfe", "config.json is damaged"),
        ("unet/config.json", None, "no such file; give the folder of a pipeline"),
        ("scheduler/scheduler_config.json", b"no", "scheduler_config.json is damaged"),
        ("scheduler/scheduler_config.json", b"[]", "scheduler_config.json is damaged: it holds no JSON object"),
        ("unet/config.json", b"[]", "unet/config.json is damaged: it holds no JSON object"),
        ("unet/diffusion_pytorch_model.safetensors", b"\x10\0\0\0\0\0\0\0{", "safetensors is damaged"),
        ("unet/diffusion_pytorch_model.safetensors", b"", "safetensors is damaged"),
        ("unet/diffusion_pytorch_model.safetensors", None, "has neither .*safetensors nor .*bin"),
    ],
)
def test_broken_folders_are_refused_in_one_line(tmp_path, file, content, line):
    out, _, _ = folder(tmp_path)
    (out / file).unlink() if content is None else (out / file).write_bytes(content)
    with pytest.raises(ValueError, match=line) as error:
        diffusers.read(out)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("uniform")
@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        *(("unet/config.json", "block_out_channels", value) for value in (128, ["a"], [0], [])),
        *(("unet/config.json", "attention_head_dim", value) for value in ([8], "8")),
        *(("unet/config.json", key, ["silu"]) for key in ("act_fn", "norm_num_groups", "num_class_embeds")),
        *(("unet/config.json", key, value) for key, value in (("in_channels", "3"), ("sample_size", {"a": 1}))),
        ("scheduler/scheduler_config.json", "beta_schedule", ["linear"]),
        ("scheduler/scheduler_config.json", "num_train_timesteps", None),
        *(("scheduler/scheduler_config.json", "trained_betas", value) for value in ("a", {}, [[1], [2, 3]])),
    ],
)
def test_values_of_the_wrong_type_are_refused_with_the_name_of_their_file(tmp_path, file, key, value):
    out, _, _ = folder(tmp_path)
    (out / file).write_text(json.dumps(json.loads((out / file).read_text()) | {key: value}))
    with pytest.raises(ValueError, match=re.escape(f"{out / file}: ")) as error:
        diffusers.read(out)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("uniform")
def test_truncated_weights_are_refused(tmp_path):
    out, _, _ = folder(tmp_path)
    path = out / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="is damaged"):
        diffusers.read(out)


def test_groups_other_than_ours_are_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(diffusers, "groups", lambda width: 2)  # noqa: ARG005
        out, _, _ = folder(tmp_path)
    with pytest.raises(ValueError, match="norms of 8 channels have 2 groups in the file and 4 in our network"):
        diffusers.read(out)


def test_bin_files_are_read_where_there_are_no_safetensors(tmp_path, monkeypatch, uniform):  # noqa: ARG001
    out, params, shapes = folder(tmp_path)
    tensors = diffusers.read(out).ema
    (out / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (out / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"")
    monkeypatch.setattr(diffusers.torch_file, "read", lambda path: tensors if path.suffix == ".bin" else {})
    weights = diffusers.read(out)
    assert_same(name_mapping.read(name_mapping.rules(weights.naming, shapes, 1), weights.ema, shapes), params)


# ------------------------------------------------------------------------------------------- improved-diffusion


@pytest.mark.parametrize(("name", "learned", "classes"), [("options", True, 0), ("classes", False, 10)])
def test_settings_of_a_state_dict(tmp_path, monkeypatch, name, learned, classes):
    params, theirs, _, shapes = case("improved_diffusion", name)
    monkeypatch.setattr(improved_diffusion.torch_file, "read", lambda path: theirs)  # noqa: ARG005
    weights = improved_diffusion.read(tmp_path / "ema_0.9999_500000.pt")
    assert weights.step == 500_000 and weights.channels == 3 and weights.classes == classes
    given = {"net.convention": "improved", "net.time": "steps", "diffusion.sigma_data": 1.0}
    assert given.items() <= weights.config(32).items()
    assert weights.config(32).get("net.label_dropout") == (0.0 if classes else None)
    assert ("diffusion.variance" in weights.config(32)) == learned
    assert ("variance" in weights.unspecified) == (not learned) and "heads" in weights.unspecified
    assert_same(
        name_mapping.read(name_mapping.rules(weights.naming, shapes, NETS[name][0].heads), weights.ema, shapes), params
    )


@pytest.mark.parametrize(
    ("stem", "step"),
    [
        *(("ema_0.9999_500000", 500_000), ("model000000", 0), ("model1500000", 1_500_000)),
        *(("cifar10_uncond_50M_500K", 500_000), ("lsun_uncond_100M_2400K_bs64", 2_400_000)),
        *(("imagenet64_uncond_vlb_100M_1500K", 1_500_000), ("cifar10_uncond", None), ("model_bs64", None)),
        *(("x_50M", None), ("x_1.5K", None), ("500", None), ("cifar10", None), ("x_64K5", None)),
    ],
)
def test_the_step_is_read_of_plain_names_only(stem, step):
    assert improved_diffusion.step_of(stem) == step


def test_a_state_dict_of_something_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(improved_diffusion.torch_file, "read", lambda path: {"layer1.weight": np.zeros((3, 3))})  # noqa: ARG005
    with pytest.raises(ValueError, match=r"no tensor input_blocks.0.0.weight .*it holds layer1.weight"):
        improved_diffusion.read(tmp_path / "resnet.pt")


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path):
    import pickle

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"input_blocks.0.0.weight": Hostile()}))
    with pytest.raises(ValueError) as error:
        improved_diffusion.read(path)
    assert "\n" not in str(error.value) and not (tmp_path / "executed").exists()
