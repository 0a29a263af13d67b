"""diffusers' UNet2DModel of a config, and the tables of its process."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from diffusion.benchmarks.torch_baseline.compile_modes import torch
from diffusion.config import config_files
from diffusion.config.config_dict import flatten
from diffusion.convert import diffusers_config
from diffusion.core import respacing
from diffusion.core.respacing import Grid
from diffusion.experiment.build import levels


class Subject(NamedTuple):
    """A network on its device, with its config."""

    config: Any
    model: Any
    device: str
    dtype: str

    def autocast(self) -> Callable[[], Any]:
        """A factory of the autocast context of the network's type; of an empty context in float32.

        Call it outside compiled functions: reading settings inside one would split its graph.
        """
        t, device, kind = torch(), self.device, getattr(torch(), self.dtype)
        if kind == t.float32:
            return contextlib.nullcontext
        return lambda: t.autocast(device, kind)

    def images(self, *shape: int) -> Any:
        """Noise, NHWC in memory."""
        x = torch().randn(*shape, device=self.device)
        return x.contiguous(memory_format=torch().channels_last)

    def tables(self, grid: Grid = respacing.full) -> dict[str, Any]:
        """The process's tables on the device, on a grid of its steps; deviation: of the noise of fixed_large."""
        process = levels(self.config, grid)
        tables = {name: getattr(process, name) for name in ("signal", "noise", "c_x_0", "c_x_t")}
        tables |= {"deviation": np.exp(0.5 * process.log_beta), "base_t": np.int64(process.base_t)}
        return {name: torch().tensor(np.array(table), device=self.device) for name, table in tables.items()}

    def facts(self, mode: str, tried: dict[str, Any]) -> dict[str, Any]:
        """Parameters, compilation modes and versions."""
        parameters = sum(p.numel() for p in self.model.parameters())
        versions = {"torch": torch().__version__, "diffusers": __import__("diffusers").__version__}
        return {"parameters": parameters, "mode": mode, "tried": tried, "versions": versions}


def make_subject(request: Mapping[str, Any]) -> Subject:
    """The network that a run of the config would be exported as, with PyTorch's initial weights."""
    import diffusers  # pyright: ignore[reportMissingImports]

    config = config_files.load(request["config"])
    config.update_from_flattened_dict(request["changes"])
    shape = request["shape"]
    entry = diffusers_config.unet(flatten(config), shape, shape[-1], 0)
    heads = {"attention_head_dim": None, "norm_num_groups": min(32, config.net.channels // 2)}
    device = "cuda" if torch().cuda.is_available() else "cpu"
    named = {key: value for key, value in (entry | heads).items() if not key.startswith("_")}
    model: Any = diffusers.UNet2DModel(**named)
    model = model.to(device).to(memory_format=torch().channels_last)
    return Subject(config, model, device, config.net.dtype)
