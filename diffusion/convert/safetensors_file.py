"""Our own parameters as a safetensors file, in float16, with the training step: the weights of pretrained/."""

from pathlib import Path

import numpy as np

from diffusion.convert.name_mapping import Tensors


def read(path: Path) -> tuple[Tensors, int]:
    """Our parameters by dotted names, float32, and their step. Raises ValueError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            tensors = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
            return tensors, int(file.metadata()["step"])
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); restore it from the repository") from error


def write(path: Path, tensors: Tensors, step: int) -> None:
    """The file of our parameters by dotted names."""
    from safetensors.numpy import save_file

    save_file({name: x.astype(np.float16) for name, x in tensors.items()}, path, metadata={"step": str(step)})
    path.chmod(0o644)
