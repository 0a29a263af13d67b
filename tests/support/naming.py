"""The three foreign layouts of a U-Net, written down by walking the network, for tests of the conversions.

`pairs` gives (their name, our name(s), how the values move) independently of diffusion.convert.
"""

import numpy as np

FORMATS = ("diffusers", "improved_diffusion", "ddpm_tf")
BLOCK = (
    ("norm_1", "norm1", "in_layers.0", "norm1"),
    ("conv_1", "conv1", "in_layers.2", "conv1"),
    ("time", "time_emb_proj", "emb_layers.1", "temb_proj"),
    ("norm_2", "norm2", "out_layers.0", "norm2"),
    ("conv_2", "conv2", "out_layers.3", "conv2"),
    ("shortcut", "conv_shortcut", "skip_connection", "nin_shortcut"),
)


def modules(levels, blocks, attended):
    """(kind, ours, diffusers, improved, original) in the order in which the network is built."""
    rows = [
        ("layer", "time_1", "time_embedding.linear_1", "time_embed.0", "temb/dense0"),
        ("layer", "time_2", "time_embedding.linear_2", "time_embed.2", "temb/dense1"),
        ("layer", "label", "class_embedding", "label_emb", ""),
        ("layer", "conv_in", "conv_in", "input_blocks.0.0", "conv_in"),
    ]
    n = 0
    for level in range(levels):
        for i in range(blocks):
            n += 1
            there = f"down_blocks.{level}"
            rows.append(("block", f"down_{level}_block_{i}", f"{there}.resnets.{i}", f"input_blocks.{n}.0",
                         f"down_{level}/block_{i}"))  # fmt: skip
            if level in attended:
                rows.append(("attention", f"down_{level}_attention_{i}", f"{there}.attentions.{i}",
                             f"input_blocks.{n}.1", f"down_{level}/attn_{i}"))  # fmt: skip
        if level < levels - 1:
            n += 1
            rows.append(("layer", f"down_{level}_downsample.conv", f"{there}.downsamplers.0.conv",
                         f"input_blocks.{n}.0.op", f"down_{level}/downsample/conv"))  # fmt: skip
    rows += [
        ("block", "middle_block_1", "mid_block.resnets.0", "middle_block.0", "mid/block_1"),
        ("attention", "middle_attention", "mid_block.attentions.0", "middle_block.1", "mid/attn_1"),
        ("block", "middle_block_2", "mid_block.resnets.1", "middle_block.2", "mid/block_2"),
    ]
    n = -1
    for up, level in enumerate(reversed(range(levels))):
        there = f"up_blocks.{up}"
        for i in range(blocks + 1):
            n, inner = n + 1, 1
            rows.append(("block", f"up_{level}_block_{i}", f"{there}.resnets.{i}", f"output_blocks.{n}.0",
                         f"up_{level}/block_{i}"))  # fmt: skip
            if level in attended:
                rows.append(("attention", f"up_{level}_attention_{i}", f"{there}.attentions.{i}",
                             f"output_blocks.{n}.1", f"up_{level}/attn_{i}"))  # fmt: skip
                inner = 2
        if level > 0:
            rows.append(("layer", f"up_{level}_upsample.conv", f"{there}.upsamplers.0.conv",
                         f"output_blocks.{n}.{inner}.conv", f"up_{level}/upsample/conv"))  # fmt: skip
    return [
        *rows,
        ("layer", "norm_out", "conv_norm_out", "out.0", "norm_out"),
        ("layer", "conv_out", "conv_out", "out.2", "conv_out"),
    ]


def foreign(kind, params, levels, blocks, attended, heads):
    """The tensors of a file of this kind for our parameters, both by dotted names."""
    column = 2 + FORMATS.index(kind)
    out = {}
    for row in modules(levels, blocks, attended):
        ours, theirs = row[1], row[column]
        if row[0] == "layer":
            _layer(out, kind, params, ours, theirs)
        elif row[0] == "block":
            for names in BLOCK:
                _layer(out, kind, params, f"{ours}.{names[0]}", _join(kind, theirs, names[column - 1]))
        elif kind == "improved_diffusion":
            _layer(out, kind, params, f"{ours}.norm", f"{theirs}.norm")
            _fused(out, params, ours, theirs, heads)
            _layer(out, kind, params, f"{ours}.proj", f"{theirs}.proj_out")
        else:
            norm, proj = {"diffusers": ("group_norm", "to_out.0"), "ddpm_tf": ("norm", "proj_out")}[kind]
            _layer(out, kind, params, f"{ours}.norm", _join(kind, theirs, norm))
            for name in "qkv":
                there = {"diffusers": f"to_{name}", "ddpm_tf": name}[kind]
                _layer(out, kind, params, f"{ours}.{name}", _join(kind, theirs, there))
            _layer(out, kind, params, f"{ours}.proj", _join(kind, theirs, proj))
    return out


def _join(kind, *parts):
    return ("/" if kind == "ddpm_tf" else ".").join(parts)


def _layer(out, kind, params, ours, theirs):
    kernel, scale = params.get(f"{ours}.kernel"), params.get(f"{ours}.scale")
    if f"{ours}.embedding" in params:
        out[f"{theirs}.weight"] = params[f"{ours}.embedding"]
    if kernel is None and scale is None:
        return
    weight, bias = {"ddpm_tf": {True: ("W", "b"), False: ("gamma", "beta")}}.get(
        kind, dict.fromkeys((True, False), ("weight", "bias"))
    )[scale is None]
    out[_join(kind, theirs, bias)] = params[f"{ours}.bias"]
    if scale is not None:
        out[_join(kind, theirs, weight)] = scale
    elif kind == "ddpm_tf":
        out[_join(kind, theirs, weight)] = kernel
    elif kernel.ndim == 4:
        out[f"{theirs}.{weight}"] = np.einsum("hwio->oihw", kernel)
    else:
        matrix = np.einsum("io->oi", kernel)
        axes = 2 if "shortcut" in theirs or "skip" in theirs else "proj_out" in theirs
        out[f"{theirs}.{weight}"] = matrix[(...,) + (None,) * axes]


def _fused(out, params, ours, theirs, heads):
    """Queries, keys and values of the first head, then of the second, ..."""
    weight, bias = [], []
    size = params[f"{ours}.q.bias"].size // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for name in "qkv":
            weight += list(params[f"{ours}.{name}.kernel"].T[part])
            bias += list(params[f"{ours}.{name}.bias"][part])
    out[f"{theirs}.qkv.weight"] = np.stack(weight)[:, :, None]
    out[f"{theirs}.qkv.bias"] = np.array(bias)


def made_up(shapes, seed=0, scale=1.0):
    """Random parameters by dotted names: kernels that keep deviations, scales around 1, biases that matter.

    scale below 1 makes every norm see deviations of that size, so that its epsilon shows in the output.
    """
    rng = np.random.default_rng(seed)
    quiet = {"conv_in": 2, "conv_1": 2, "conv_2": 2, "time": 2, "proj": 2, "conv": 1, "shortcut": 1}

    def draw(name, shape):
        layer, leaf = name.split(".")[-2:]
        z = rng.standard_normal(shape).astype(np.float32)
        z = {"kernel": z / np.sqrt(np.prod(shape[:-1])), "scale": 1 + 0.3 * z}.get(leaf, 0.3 * z)
        return (z * scale if quiet.get(layer, 0) > (leaf == "kernel") else z).astype(np.float32)

    return {name: draw(name, shape) for name, shape in shapes.items()}
