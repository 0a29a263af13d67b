"""Our U-Net against diffusers' and against a PyTorch statement of improved-diffusion's, same weights, same output.

Skipped where torch, or diffusers, is not installed. All weights are such that every norm sees deviations of some 3e-3:
with an epsilon of 1e-5 instead of 1e-6 the outputs would differ by tens of percent.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.commands.import_weights import beta
from diffusion.config.config_dict import default_config, flatten
from diffusion.config.config_files import ROOT, load
from diffusion.convert import diffusers, improved_diffusion, name_mapping
from diffusion.core.forward_process import vp
from diffusion.core.reverse_process import from_network, reverse
from diffusion.experiment.registry_of_samplers_and_schedules import PARAMETERIZATIONS, VARIANCES, VP_SCHEDULES
from diffusion.nets.conventions_of_ddpm_and_improved_unets import IMPROVED, ORIGINAL
from diffusion.nets.unet import UNet
from tests.support.naming import made_up

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

CONVENTIONS = {"original": ORIGINAL, "improved": IMPROVED}
QUICK = {"xla_backend_optimization_level": 0}
TIMES = (0, 1, 417, 999)
LAYOUTS = {
    # google/ddpm-cifar10-32 at half the width
    "cifar10": (dict(channels=64, multipliers=(1, 2, 2, 2), attention=(8,)), 16, {}),
    # google/ddpm-celebahq-256 and its kin: six levels, attention at the fifth
    "256": (dict(channels=64, multipliers=(1, 1, 2, 2, 4, 4), blocks=1, attention=(2,)), 32, {}),
    "improved": (
        dict(channels=64, multipliers=(1, 2), blocks=2, attention=(4,), heads=4, scale_shift=True, out_channels=6),
        8,
        {"net.convention": "improved", "diffusion.variance": "learned_range"},
    ),
    "classes": (dict(channels=64, multipliers=(1, 1), blocks=1, attention=(), heads=2, classes=10), 8, {}),
}


def network(name):
    """The network of a layout, the size of its images, its flat config, its shapes and parameters."""
    fields, size, changes = LAYOUTS[name]
    config = flatten(load(ROOT / "configs" / "cifar10.py")) | {"net.convention": "original"} | changes
    keys = {f"net.{key}": value for key, value in fields.items()}
    config |= {key: value for key, value in keys.items() if key in config}
    net = UNet(**fields, convention=CONVENTIONS[config["net.convention"]])
    shapes = shapes_of(net, size)
    return net, size, config, shapes, made_up(shapes, scale=3e-3)


def shapes_of(net, size):
    x, t = jax.ShapeDtypeStruct((1, size, size, 3), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
    params = jax.eval_shape(net.init, jax.random.key(0), x, t, *((t,) if net.classes else ()))["params"]
    return {name: leaf.shape for name, leaf in name_mapping.flatten(params).items()}


def images(size):
    return np.random.default_rng(5).standard_normal((len(TIMES), size, size, 3)).astype(np.float32)


def ours(net, params, x, label=None):
    run = jax.jit(lambda p, *args: net.apply({"params": p}, *args), compiler_options=QUICK)
    return np.asarray(
        run(name_mapping.nest(params), jnp.asarray(x), jnp.asarray(TIMES), *([] if label is None else [label]))
    )


def theirs(model, x, **kwargs):
    with torch.no_grad():
        out = model(torch.from_numpy(x).permute(0, 3, 1, 2), torch.tensor(TIMES), **kwargs)
    return (out if torch.is_tensor(out) else out.sample).permute(0, 2, 3, 1).numpy()


def assert_close(a, b, tolerance=1e-5):
    assert a.shape == b.shape and np.std(a) > 0.1
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def labels(net):
    """The label arguments of both."""
    if not net.classes:
        return None, {}
    label = np.array([0, 3, 9, 5])
    return jnp.asarray(label), {"class_labels": torch.from_numpy(label)}


def written(tmp_path, name, **changes):
    net, size, config, shapes, params = network(name)
    config |= {key.replace("__", "."): value for key, value in changes.items()}
    out = tmp_path / name
    nested = default_config()
    nested.update_from_flattened_dict({key: value for key, value in config.items() if key in flatten(nested)})
    diffusers.write(out, params, diffusers.configs(config, shapes, (size, size, 3), beta(nested)))
    return out, net, size, params, nested


# ------------------------------------------------------------------------------------------- diffusers


@pytest.mark.parametrize("name", LAYOUTS)
def test_our_weights_give_our_output_in_diffusers(tmp_path, name):
    library = pytest.importorskip("diffusers")
    out, net, size, params, _ = written(tmp_path, name)
    model, report = library.UNet2DModel.from_pretrained(out / "unet", output_loading_info=True)
    assert not any(report.values())
    label, kwargs = labels(net)
    x = images(size)
    assert_close(theirs(model.eval(), x, **kwargs), ours(net, params, x, label))


@pytest.mark.parametrize("name", LAYOUTS)
def test_weights_of_diffusers_give_their_output_here(tmp_path, name):
    library = pytest.importorskip("diffusers")
    net, size, config, shapes, _ = network(name)
    widths = [net.channels * m for m in net.multipliers]
    attended = [size >> level in net.attention for level in range(len(widths))]
    details = {
        "original": dict(norm_eps=1e-6, flip_sin_to_cos=False, freq_shift=1, downsample_padding=0),
        "improved": {},  # the library's defaults
    }
    model = library.UNet2DModel(
        sample_size=size,
        out_channels=net.out_channels,
        block_out_channels=widths,
        layers_per_block=net.blocks,
        down_block_types=[("DownBlock2D", "AttnDownBlock2D")[flag] for flag in attended],
        up_block_types=[("UpBlock2D", "AttnUpBlock2D")[flag] for flag in reversed(attended)],
        attention_head_dim=None if net.heads == 1 else widths[-1] // net.heads,
        resnet_time_scale_shift="scale_shift" if net.scale_shift else "default",
        attn_norm_num_groups=32,
        num_class_embeds=net.classes or None,
        **details[config["net.convention"]],
    ).eval()
    randomise(model)
    model.save_pretrained(tmp_path / "unet")
    weights = diffusers.read(tmp_path)
    found = weights.config(size)
    assert found == {key: config[key] for key in found} | {"net.class_conditional": net.classes > 0}
    params = name_mapping.read(name_mapping.rules(weights.naming, shapes, net.heads), weights.ema, shapes)
    label, kwargs = labels(net)
    x = images(size)
    assert_close(ours(net, params, x, label), theirs(model, x, **kwargs))

    model.save_pretrained(tmp_path / "unet", safe_serialization=False)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    again = diffusers.read(tmp_path).ema
    assert again.keys() == weights.ema.keys() and all(np.array_equal(again[k], weights.ema[k]) for k in again)


def randomise(model):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in model.parameters():
            z = torch.randn(value.shape, generator=generator)
            fan = math.prod(value.shape[1:]) if value.ndim > 1 else 1
            norm = value.ndim == 1 and bool((value == 1).all())
            value.copy_(1 + 0.3 * z if norm else z / fan**0.5 if value.ndim > 1 else 0.3 * z)


@pytest.mark.parametrize(
    ("parameterization", "variance", "schedule"),
    [
        ("eps", "fixed_large", "linear"),
        ("eps", "fixed_small", "quad"),
        ("x_0", "fixed_small", "sigmoid"),
        ("v", "fixed_large", "cosine"),
        ("eps", "fixed_small", "warmup10"),
        ("eps", "learned_range", "linear"),
    ],
)
@pytest.mark.parametrize("clip", [True, False])
def test_a_step_of_the_exported_scheduler_is_ours(tmp_path, parameterization, variance, schedule, clip):
    """All of mean, variance and clipping, at the same noise; at the last step neither adds any."""
    library = pytest.importorskip("diffusers")
    out, *_, config = written(
        tmp_path, "classes", diffusion__parameterization=parameterization, diffusion__variance=variance,
        diffusion__schedule=schedule, sample__clip=clip,
    )  # fmt: skip
    pipeline = library.DDPMPipeline.from_pretrained(out)
    assert type(pipeline.scheduler).__name__ == "DDPMScheduler" and pipeline.unet.config.num_class_embeds == 10
    learned = VARIANCES[variance][1] == 2
    rng = np.random.default_rng(3)
    process = vp(VP_SCHEDULES[schedule](config.diffusion))
    for t in (1, 2, 30, 600, 1000):
        x_0 = rng.uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)
        noise = rng.standard_normal(x_0.shape).astype(np.float32)
        signal, scale = float(process.signal[t]), float(process.noise[t])
        x_t = signal * x_0 + scale * noise
        exact = {"eps": noise, "x_0": x_0, "v": signal * noise - scale * x_0}[parameterization]
        output = exact + 0.05 * rng.standard_normal(x_0.shape).astype(np.float32)
        if learned:
            output = np.concatenate([output, rng.uniform(-1, 1, x_0.shape).astype(np.float32)], axis=-1)

        z = torch.randn((2, 3, 4, 4), generator=torch.Generator().manual_seed(0))
        args = [torch.from_numpy(v).permute(0, 3, 1, 2) for v in (output, x_t)]
        generator = torch.Generator().manual_seed(0)
        step = pipeline.scheduler.step(args[0], t - 1, args[1], generator=generator)

        steps = jnp.full(2, t)
        denoise = from_network(process, PARAMETERIZATIONS[parameterization], lambda x, time, o=output: jnp.asarray(o))  # noqa: ARG005
        prediction = denoise(jnp.asarray(x_t), steps)
        if clip:
            prediction = prediction._replace(x_0=jnp.clip(prediction.x_0, -1, 1))
        p = reverse(process, VARIANCES[variance][0], prediction, jnp.asarray(x_t), steps)
        expected = np.asarray(p.mean)
        if t > 1:
            expected = expected + np.exp(0.5 * np.asarray(p.log_var)) * z.permute(0, 2, 3, 1).numpy()
        # their tables are float32 throughout: at the second step 1 - alpha_bar, some 1e-4, has three digits left
        bound = {2: 1e-4}.get(t, 1e-5)
        assert np.abs(step.prev_sample.permute(0, 2, 3, 1).numpy() - expected).max() < bound, t


def test_the_exported_pipeline_draws_images(tmp_path):
    library = pytest.importorskip("diffusers")
    out, _, size, _, _ = written(tmp_path, "improved", diffusion__T=10, diffusion__beta_T=0.9)
    drawn = library.DDPMPipeline.from_pretrained(out)(batch_size=2, num_inference_steps=10, output_type="np").images
    assert drawn.shape == (2, size, size, 3) and np.isfinite(drawn).all() and drawn.std() > 0.01


# ------------------------------------------------------------------------------------------- improved-diffusion


class Residual(nn.Module):
    """Residual block: scale and shift, or addition, by the embedding."""

    def __init__(self, inputs, outputs, emb, scale_shift):
        super().__init__()
        self.scale_shift = scale_shift
        self.in_layers = nn.Sequential(nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, (1 + scale_shift) * outputs))
        last = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(32, outputs), nn.SiLU(), nn.Dropout(0.0), last)
        self.skip_connection = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, emb):
        h, told = self.in_layers(x), self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + told)
        return self.skip_connection(x) + h


class Attention(nn.Module):
    """The heads are split before queries, keys and values are; both of the former get the fourth root of the width."""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.GroupNorm(32, channels), nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, emb):  # noqa: ARG002
        flat = x.flatten(2)
        n, channels, pixels = flat.shape
        size = channels // self.heads
        by_head = self.qkv(self.norm(flat)).reshape(n, self.heads, 3, size, pixels)
        q, k, v = by_head.unbind(2)
        logits = torch.einsum("nhcq,nhck->nhqk", q / size**0.25, k / size**0.25)
        h = torch.einsum("nhqk,nhck->nhcq", logits.softmax(-1), v)
        return x + self.proj_out(h.reshape(n, channels, pixels)).reshape(x.shape)


class Resample(nn.Module):
    """A convolution with stride 2 named op, or one after nearest-neighbour enlargement named conv."""

    def __init__(self, channels, down):
        super().__init__()
        self.down = down
        setattr(self, "op" if down else "conv", nn.Conv2d(channels, channels, 3, stride=2 if down else 1, padding=1))

    def forward(self, x, emb):  # noqa: ARG002
        return self.op(x) if self.down else self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Improved(nn.Module):
    """The network of improved-diffusion."""

    def __init__(self, channels, multipliers, blocks, attended, heads, scale_shift, classes, outputs):
        super().__init__()
        emb, width, deepest = 4 * channels, channels, len(multipliers) - 1
        self.channels = channels
        self.time_embed = nn.Sequential(nn.Linear(channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        if classes:
            self.label_emb = nn.Embedding(classes, emb)
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, channels, 3, padding=1)])])
        skips = [width]
        for level, m in enumerate(multipliers):
            for _ in range(blocks):
                layers = [Residual(width, m * channels, emb, scale_shift)]
                width = m * channels
                layers += [Attention(width, heads)] if level in attended else []
                self.input_blocks.append(nn.ModuleList(layers))
                skips.append(width)
            if level < deepest:
                self.input_blocks.append(nn.ModuleList([Resample(width, True)]))
                skips.append(width)
        ends = [Residual(width, width, emb, scale_shift) for _ in range(2)]
        self.middle_block = nn.ModuleList([ends[0], Attention(width, heads), ends[1]])
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(multipliers))):
            for i in range(blocks + 1):
                layers = [Residual(width + skips.pop(), m * channels, emb, scale_shift)]
                width = m * channels
                layers += [Attention(width, heads)] if level in attended else []
                layers += [Resample(width, False)] if level and i == blocks else []
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, outputs, 3, padding=1))

    def forward(self, x, t, y=None):
        half = self.channels // 2
        angle = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)[None]
        emb = self.time_embed(torch.cat([angle.cos(), angle.sin()], dim=1))
        if y is not None:
            emb = emb + self.label_emb(y)
        h = self.input_blocks[0][0](x)
        skips = [h]
        for layers in self.input_blocks[1:]:
            for layer in layers:
                h = layer(h, emb)
            skips.append(h)
        for layer in self.middle_block:
            h = layer(h, emb)
        for layers in self.output_blocks:
            h = torch.cat([h, skips.pop()], dim=1)
            for layer in layers:
                h = layer(h, emb)
        return self.out(h)


@pytest.mark.parametrize(
    ("multipliers", "blocks", "attention", "heads", "scale_shift", "classes", "outputs", "size"),
    [
        ((1, 2, 2, 2), 3, (8, 4), 4, True, 0, 6, 16),  # cifar10_uncond
        ((1, 2, 3, 4), 1, (4, 2), 4, True, 0, 6, 16),  # imagenet64
        ((1, 1), 1, (4,), 1, False, 10, 3, 8),  # without scale and shift, with classes
    ],
    ids=["cifar10", "imagenet64", "added"],
)
def test_weights_of_improved_diffusion_give_their_output_here(
    tmp_path, multipliers, blocks, attention, heads, scale_shift, classes, outputs, size
):
    attended = [level for level in range(len(multipliers)) if size >> level in attention]
    model = Improved(64, multipliers, blocks, attended, heads, scale_shift, classes, outputs).eval()
    net = UNet(
        channels=64, multipliers=multipliers, blocks=blocks, attention=attention, heads=heads, scale_shift=scale_shift,
        classes=classes, out_channels=outputs, convention=IMPROVED,
    )  # fmt: skip
    shapes = shapes_of(net, size)
    params = made_up(shapes, scale=3e-3)

    # there
    tensors = name_mapping.write(name_mapping.rules(improved_diffusion.NAMING, shapes, heads), params)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    label = np.array([0, 3, 9, 5]) if classes else None
    x = images(size)
    out = theirs(model, x, **({"y": torch.from_numpy(label)} if classes else {}))
    assert_close(out, ours(net, params, x, None if label is None else jnp.asarray(label)))

    # and back, through a file as torch writes it
    torch.save(model.state_dict(), tmp_path / "ema_0.9999_500000.pt")
    weights = improved_diffusion.read(tmp_path / "ema_0.9999_500000.pt")
    assert (weights.classes, weights.step) == (classes, 500_000)
    back = name_mapping.read(name_mapping.rules(weights.naming, shapes, heads), weights.ema, shapes)
    assert all(np.array_equal(back[name], params[name]) for name in params)
