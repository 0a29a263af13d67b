"""Configs: made from the table of keys_with_legal_values.py, looked up in it, flattened, saved, compared and hashed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from diffusion.config.key_types import Key, Role
from diffusion.config.keys_with_legal_values import ADDED, KEYS, RESUMABLE
from diffusion.config.misspelt_names import closest_name

FOLDER = "folder:"
"""The prefix of a folder's path in data.name."""

Config = ConfigDict | Mapping[str, Any]
"""A config, or what was saved of one: nested, or flat with dotted keys."""


def default_config() -> ConfigDict:
    """A config with every key at its default, locked: a key that is not in the table cannot be set."""
    config = ConfigDict(nested({key: row.default for key, row in KEYS.items()}))
    config.lock()
    return config


def nested(config: Config) -> dict[str, Any]:
    """A config as plain dictionaries, sections within."""
    result: dict[str, Any] = {}
    for key, value in flatten(config).items():
        section, _, name = key.rpartition(".")
        (result.setdefault(section, {}) if section else result)[name] = value
    return result


def lookup(key: str) -> Key:
    """The row of a key. Raises ValueError, with the keys of its section and the closest name, if there is none."""
    if key in KEYS:
        return KEYS[key]
    section, best = key.partition(".")[0], closest_name(key, KEYS)
    names = [name.removeprefix(section + ".") for name in KEYS if name.startswith(section + ".")]
    legal = f"config.{section} has {', '.join(names)}" if names else "--explain lists all keys"
    raise ValueError(f"config.{key}: no such key; {legal}" + (f"; did you mean config.{best}?" if best else ""))


def flatten(config: Config) -> dict[str, Any]:
    """{"diffusion.T": 1000, ...}, sorted by key, from a config or from what was saved of one (lists become tuples)."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[name] = tuple(value) if isinstance(value, list) else value
    return dict(sorted(flat.items()))


RENAMED = {"diffusion.schedule": {"constant": "ve_constant", "geometric": "ve_geometric"}}
"""key -> name of a choice in run folders of version 0.1 -> its name now."""


def restore(saved: Config) -> ConfigDict:
    """The config of a run from its saved form, nested or flat; younger keys, which it lacks, keep their default.

    So do keys about the machine (Role.MACHINE): a run's folder must not steer the process that reads it. Raises
    ValueError for a key or a type that this version does not know.
    """
    config = default_config()
    for key, value in flatten(saved).items():
        if lookup(key).role is Role.MACHINE:
            continue
        try:
            config.update_from_flattened_dict({key: RENAMED.get(key, {}).get(value, value)})
        except TypeError as error:
            kind = type(KEYS[key].default).__name__
            raise ValueError(f"config.{key}: {value!r} is not of the type {kind}") from error
    return config


def unread(config: Config) -> frozenset[str]:
    """The keys that nothing reads, given the other values of the config, such as sigma_T with a linear schedule."""
    flat = flatten(config)

    def reads(reader: str, values: tuple[str, ...]) -> bool:
        return flat[reader] in values if values else bool(flat[reader])

    return frozenset(key for key, row in KEYS.items() if row.read_by and not reads(*row.read_by))


def placeless(key: str, value: Any) -> Any:
    """A key's value without the place of a folder of images: where data lie is no part of what a run computes."""
    return FOLDER if key == "data.name" and str(value).startswith(FOLDER) else value


def config_hash(config: Config) -> str:
    """12 hex digits that name what a run computes: equal for configs that differ in RESUMABLE keys alone."""
    computed = {
        key: placeless(key, value)
        for key, value in flatten(config).items()
        if key not in RESUMABLE and not (key in ADDED and value == KEYS[key].default)
    }
    return hashlib.sha256(json.dumps(computed, sort_keys=True).encode()).hexdigest()[:12]


def differences(a: Config, b: Config) -> list[tuple[str, Any, Any]]:
    """(key, value in a, value in b) wherever two configs differ; None stands for a key that one of them lacks."""
    flat_a, flat_b = flatten(a), flatten(b)
    rows = [(key, flat_a.get(key), flat_b.get(key)) for key in sorted(flat_a | flat_b)]
    return [row for row in rows if row[1] != row[2]]
