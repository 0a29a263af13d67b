"""Settings that reduce the memory of a training step; scripts/plan.py --fit compiles each of them."""

from typing import Any

from ml_collections import ConfigDict

from diffusion.config.config_dict import unread

EFFECTS = {
    "train.accumulate": "the same result",
    "net.remat": "the same result, about a third slower",
    "train.sharding": "the same result",
    "net.dtype": "rounded more",
    "train.batch_size": "another experiment",
}
"""key -> what else its change does, in the order in which changes are proposed."""


def settings(config: ConfigDict, devices: int) -> list[tuple[str, Any]]:
    """(key, value) of each change that is possible; those that do not change the result come first."""
    c = config.train
    share = c.batch_size // devices
    finer = next((n for n in range(2 * c.accumulate, share + 1) if share % n == 0), None)
    split = {"replicated": ["fsdp", "zero1"], "zero1": ["fsdp"], "fsdp": []}[c.sharding]
    possible: dict[str, list[Any]] = {
        "train.accumulate": [finer] if finer else [],
        "net.remat": [] if config.net.remat else [True],
        "train.sharding": split if devices > 1 else [],
        "net.dtype": ["bfloat16"] if config.net.dtype == "float32" else [],
        "train.batch_size": [share // 2 * devices] if share > 1 else [],
    }
    return [(key, value) for key in EFFECTS if key not in unread(config) for value in possible[key]]


def advice(config: ConfigDict, devices: int) -> str:
    """The end of the error line of a run that does not fit: up to three changes, and how to compare them."""
    options = [f"config.{key}={str(value).lower()} ({EFFECTS[key]})" for key, value in settings(config, devices)[:3]]
    if not options:
        return "use a smaller network or more devices"
    return f"set {' or '.join(options)}; scripts/plan.py --fit compiles each of them"
