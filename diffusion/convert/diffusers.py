"""Folders of the diffusers library: a DDPMPipeline of a UNet2DModel and a DDPMScheduler, in and out."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.convert import diffusers_config, name_mapping, torch_file
from diffusion.convert.contents_of_weight_file import ForeignWeights
from diffusion.convert.name_mapping import CONVOLUTION, TRANSPOSED, Naming, Shapes, Tensors, pointwise
from diffusion.nets.blocks import groups
from diffusion.runtime.atomic_files import atomic_path, read_json, write_json
from diffusion.runtime.short_error_text import reason

STEM = "diffusion_pytorch_model"
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the maps of attention before 2023, as in the files of google/ddpm-*."""
ATTENTION = re.compile(r"(.*attentions\.\d+\.)(\w+)(\.\w+)")
NORM = re.compile(r".*norm\w*\.weight")
EXTENSIONS = frozenset({"bfloat16"})
Configs = dict[str, dict[str, Any]]
"""Path in a pipeline's folder -> what that JSON file holds."""

NAMING = Naming(
    modules={
        "time_1": "time_embedding.linear_1",
        "time_2": "time_embedding.linear_2",
        "label": "class_embedding",
        "conv_in": "conv_in",
        "down_block": "down_blocks.{level}.resnets.{index}",
        "down_attention": "down_blocks.{level}.attentions.{index}",
        "down_downsample": "down_blocks.{level}.downsamplers.0",
        "middle_block_1": "mid_block.resnets.0",
        "middle_attention": "mid_block.attentions.0",
        "middle_block_2": "mid_block.resnets.1",
        "up_block": "up_blocks.{depth}.resnets.{index}",
        "up_attention": "up_blocks.{depth}.attentions.{index}",
        "up_upsample": "up_blocks.{depth}.upsamplers.0",
        "norm_out": "conv_norm_out",
        "conv_out": "conv_out",
    },
    layers={
        **{"": "", "conv": "conv", "norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj": "to_out.0"},
        **{"norm_1": "norm1", "conv_1": "conv1", "time": "time_emb_proj", "norm_2": "norm2", "conv_2": "conv2"},
        "shortcut": "conv_shortcut",
    },
    leaves={"kernel": "weight", "embedding": "weight", "bias": "bias", "norm.scale": "weight", "norm.bias": "bias"},
    separator=".",
    kernels={"shortcut": pointwise(2), 4: CONVOLUTION, 2: TRANSPOSED},
)
INDEX = {
    "_class_name": "DDPMPipeline",
    "unet": ["diffusers", "UNet2DModel"],
    "scheduler": ["diffusers", "DDPMScheduler"],
}


def read(path: Path) -> ForeignWeights:
    """A pipeline's folder, with unet/ and scheduler/ or with both their files in it; safetensors, or .bin.

    Raises ValueError, naming the file, where files are missing or damaged, or hold values of the wrong type, and for a
    network or a diffusion that is not ours.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; give the folder of a pipeline")
    folder = path if path.is_dir() else path.parent
    inner = folder / "unet" if (folder / "unet").is_dir() else folder
    described = inner / "config.json"
    unet = _json(described)
    beside = [place / "scheduler_config.json" for place in (folder / "scheduler", folder)]
    schedule = next((path for path in beside if path.is_file()), None)
    scheduler = _json(schedule) if schedule else {}
    c = diffusers_config.REST | unet
    with _of(described):
        diffusers_config.settings(unet, {})
        attended = diffusers_config.attended(unet)
        channels, classes, size = index(c["in_channels"]), index(c["num_class_embeds"] or 0), c["sample_size"]
        height, width = size if isinstance(size, list) else (size, size)
        size = None if height is None else (index(height), index(width))
    with _of(schedule or described):
        settings, beta = diffusers_config.settings(unet, scheduler), diffusers_config.betas(scheduler)
    tensors = {_renamed(name): value for name, value in _tensors(inner).items()}

    norms = {value.shape[0] for name, value in tensors.items() if NORM.fullmatch(name) and value.ndim == 1}
    unlike = sorted(n for n in norms if groups(n) != c["norm_num_groups"])
    if unlike:
        raise ValueError(
            f"{inner}: norms of {unlike[0]} channels have {c['norm_num_groups']} groups in the file and "
            f"{groups(unlike[0])} in our network"
        )
    return ForeignWeights(
        ema=tensors,
        raw=tensors,
        naming=NAMING,
        settings=settings,
        attended=attended,
        size=size,
        channels=channels,
        classes=classes,
        beta=beta,
        step=0,
        unspecified="" if scheduler else "the schedule and the variance, since there is no scheduler_config.json",
    )


def configs(config: Mapping[str, Any], shapes: Shapes, shape: tuple[int, int, int], beta: np.ndarray) -> Configs:
    """The JSON files of a pipeline, by their paths, for a flat config, our parameters' shapes, that of the images H, W,
    C, and beta[1..T]. Raises ValueError where diffusers has no such network or no such diffusion.
    """
    outputs, classes = shapes["conv_out.bias"][0], shapes.get("label.embedding", (0,))[0]
    return {
        "scheduler/scheduler_config.json": diffusers_config.scheduler(config, beta),
        "unet/config.json": diffusers_config.unet(config, shape, outputs, classes)
        | _widths(shapes, config["net.heads"]),
        "model_index.json": INDEX,
    }


def write(folder: Path, params: Tensors, contents: Configs) -> None:
    """A pipeline's folder from our parameters by dotted names and its JSON files; complete, or not there.

    Weights of the condition of data.augment are left out: it is 0 for images as they are. Raises ValueError where the
    folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists already: give an --out that does not")
    params = {name: value for name, value in params.items() if not name.startswith("condition.")}
    rules = name_mapping.rules(NAMING, {name: value.shape for name, value in params.items()}, 1)

    from safetensors.numpy import save_file

    with atomic_path(folder) as temporary:
        for name, content in contents.items():
            write_json(temporary / name, content)
        save_file(
            name_mapping.write(rules, params), temporary / "unet" / f"{STEM}.safetensors", metadata={"format": "pt"}
        )


def _widths(shapes: Shapes, heads: int) -> dict[str, Any]:
    """Groups and width of heads: a UNet2DModel has one of each. Raises ValueError where our network has several."""
    norms = {shape[0] for name, shape in shapes.items() if name.endswith(".scale")}
    numbers = {groups(width) for width in norms}
    if len(numbers) > 1:
        raise ValueError(
            f"config.net.channels: norms of {min(norms)} to {max(norms)} channels have {min(numbers)} to {max(numbers)}"
            " groups, and in a UNet2DModel they have one number of groups: it cannot be exported; a multiple of 64 can"
        )
    attended = {shape[-1] for name, shape in shapes.items() if name.endswith(".q.kernel")}
    if heads > 1 and len(attended) > 1:
        raise ValueError(
            f"config.net.heads: {heads} heads at widths {sorted(attended)} cannot be exported; a UNet2DModel has one "
            "width of heads for all attention blocks"
        )
    (number,) = numbers
    return {
        "attention_head_dim": attended.pop() // heads if heads > 1 else None,
        "norm_num_groups": number,
        "attn_norm_num_groups": number,
    }


def _renamed(name: str) -> str:
    found = ATTENTION.fullmatch(name)
    return found[1] + OLD[found[2]] + found[3] if found and found[2] in OLD else name


@contextmanager
def _of(path: Path) -> Iterator[None]:
    """Errors about the content of a file, which are raised as ValueError and name it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (TypeError, IndexError, KeyError, ZeroDivisionError) as error:
        raise ValueError(f"{path}: a value is of the wrong type: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the folder of a pipeline, with unet/config.json or config.json")
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return content


def _tensors(folder: Path) -> Tensors:
    whole, old = folder / f"{STEM}.safetensors", folder / f"{STEM}.bin"
    if not whole.is_file():
        if not old.is_file():
            raise ValueError(f"{folder} has neither {whole.name} nor {old.name}")
        return torch_file.read(old)
    from safetensors.numpy import load_file

    try:
        tensors = load_file(whole)
    except Exception as error:  # safetensors raises errors of many kinds
        raise ValueError(f"{whole} is damaged: {reason(error)}") from error
    return {n: x.astype(np.float32) if x.dtype.name in EXTENSIONS else x for n, x in tensors.items()}
