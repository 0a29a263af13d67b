"""diffusers' UNet2DModel of a config, and the tables of its process."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from diffusion.benchmarks.torch_baseline.compile_modes import torch
from diffusion.config import files
from diffusion.config.config_values import flatten
from diffusion.convert import diffusers_config
from diffusion.core import respacing, schedules


class Subject(NamedTuple):
    """A network on its device, with its config."""

    config: Any
    model: Any
    device: str
    dtype: str

    def autocast(self) -> Callable[[], Any]:
        """A factory of the autocast context of the network's type; of an empty context in float32.

        Call it outside compiled functions: reading settings inside one would split its graph."""
        t, device, kind = torch(), self.device, getattr(torch(), self.dtype)
        if kind == t.float32:
            return contextlib.nullcontext
        return lambda: t.autocast(device, kind)

    def images(self, *shape: int) -> Any:
        """Noise, NHWC in memory."""
        x = torch().randn(*shape, device=self.device)
        return x.contiguous(memory_format=torch().channels_last)

    def tables(self, grid: respacing.Grid = respacing.full) -> dict[str, Any]:
        """The linear schedule's tables on the device, on a grid of its steps."""
        c = self.config.diffusion
        return {k: torch().tensor(v, device=self.device) for k, v in tables(c.T, c.beta_1, c.beta_T, grid).items()}

    def facts(self, mode: str, tried: dict[str, Any]) -> dict[str, Any]:
        """Parameters, compilation modes and versions."""
        parameters = sum(p.numel() for p in self.model.parameters())
        versions = {"torch": torch().__version__, "diffusers": __import__("diffusers").__version__}
        return {"parameters": parameters, "mode": mode, "tried": tried, "versions": versions}


def tables(T: int, beta_1: float, beta_T: float, grid: respacing.Grid) -> dict[str, np.ndarray]:
    """Float32 tables of length T + 1 by index t, as in process.vp, but computed without jax."""
    ts = grid(np.arange(T + 1.0))
    alpha_bar = schedules.linear(T, beta_1, beta_T)[ts]
    before = np.concatenate([[1.0], alpha_bar[:-1]])
    alpha = alpha_bar / before
    left = np.maximum(1.0 - alpha_bar, 1e-20)
    found = {
        "signal": np.sqrt(alpha_bar),
        "noise": np.sqrt(left),
        "c_x_0": np.sqrt(before) * (1.0 - alpha) / left,
        "c_x_t": np.sqrt(alpha) * (1.0 - before) / left,
        "deviation": np.sqrt(1.0 - alpha),
    }
    return {name: table.astype(np.float32) for name, table in found.items()} | {"base_t": ts.astype(np.int64)}


def make_subject(request: Mapping[str, Any]) -> Subject:
    """The network that a run of the config would be exported as, with PyTorch's initial weights."""
    import diffusers  # pyright: ignore[reportMissingImports]

    config = files.load(files.find(request["config"]))
    config.update_from_flattened_dict(
        {k: tuple(v) if isinstance(v, list) else v for k, v in request["changes"].items()}
    )
    shape = tuple(request["shape"])
    entry = diffusers_config.unet(flatten(config), shape, shape[-1], 0)
    heads = {"attention_head_dim": None, "norm_num_groups": min(32, config.net.channels // 2)}
    device = "cuda" if torch().cuda.is_available() else "cpu"
    named = {key: value for key, value in (entry | heads).items() if not key.startswith("_")}
    model: Any = diffusers.UNet2DModel(**named)
    model = model.to(device).to(memory_format=torch().channels_last)
    return Subject(config, model, device, config.net.dtype)
