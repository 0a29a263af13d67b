"""Command lines for the fuzz of configs: a tiny experiment, and values that are legal, nearly legal and absurd."""

import random

from diffusion.config.keys_with_legal_values import CHOICES, KEYS

BASE = [
    "--config=configs/digits.py",
    "--config.data.download=false",
    "--config.diffusion.T=4",
    "--config.diffusion.beta_T=0.9",
    "--config.net.channels=4",
    "--config.net.multipliers=1",
    "--config.net.attention=()",
    "--config.optim.warmup_steps=0",
    "--config.train.batch_size=4",
    "--config.train.steps=2",
    "--config.train.log_every=1",
    "--config.train.sample_every=0",
    "--config.train.eval_every=0",
    "--config.train.checkpoint_every=0",
    "--config.sample.n=1",
    "--config.sample.preview_steps=2",
    "--config.eval.final=false",
    "--config.eval.n=1",
    "--config.eval.quick_n=1",
    "--config.eval.quick_steps=2",
]
"""The digits, in seconds."""

WHOLE = (-1, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 16, 64, 100, 1000, 2**15, 2**31 - 2, 2**31 - 1, 2**31, 2**32, 10**30)
NUMBERS = ("-1", "-1e-9", "0", "-0.0", "1e-300", "1e-12", "1e-4", "0.1", "0.5", "0.999999999", "1", "1.000001", "2")
LARGE = ("50", "1e4", "1e9", "1e38", "1e39", "1e300", "1e400", "nan", "inf", "-inf", "1_0", "0x10")
LISTS = ("()", "", "1", "1,1", "1,2", "(1,2)", "[2,1]", "0", "-1", "8", "4,8", "8,4,2", "3", "1,1,1,1", "7" * 40)
WRONG = ("fast", "None", "[]", "(", "1.5", "1e3", "true", "1,,2", "é", "１２", "a\nb", "9" * 5000, "''", " 1", "{}")
TEXTS = ("", "here", "../..", "/nonexistent/x", "~", "a b", "é", "\x01", "off", "auto", "x" * 300)
GRIDS = ("2", "4", "1", "0", "5", "2,2", "1,1,1", "ddim2", "ddim3", "ddim4", "quad2", "quad9", "full", "2,", "ddim")
SETS = ("folder:", "folder:here", "folder:.", "folder:/nonexistent", "tfds:", "tfds:mnist", "mnist", "cifar-10")
FLAGS = ("true", "false", "1", "0", "yes", "no", "t", "2", "maybe", "TRUE", "")


def value(draw: random.Random, key: str) -> str:
    """A text for a key: of its type or of another, legal or not."""
    if draw.random() < 0.12:
        return draw.choice(WRONG)
    default = KEYS[key].default
    if key in CHOICES:
        names = [name for name in CHOICES[key] if not name.endswith(":")]
        name, others = draw.choice(names), SETS if key == "data.name" else ()
        return draw.choice([*names, *names, name.upper(), name[:-1], name + "s", "", *others])
    if key == "sample.grid":
        return draw.choice(GRIDS)
    near = (str(default), *(str(default + step) for step in (-1, 1) if isinstance(default, int)))
    of_type = {
        bool: FLAGS,
        int: (*map(str, WHOLE), *near),
        float: (*NUMBERS, *NUMBERS, *LARGE, *near),
        str: TEXTS,
        tuple: LISTS,
    }
    return draw.choice(of_type[type(default)])


def misspelt(draw: random.Random, key: str) -> str:
    """A key that is none, or hardly one."""
    i = draw.randrange(len(key))
    section, _, name = key.rpartition(".")
    return draw.choice(
        [
            *(key[:i] + key[i + 1 :], key[:i] + draw.choice("aeT_.") + key[i:], key.upper(), name + "s", section),
            *("", ".", f"{key}.x", f"optim.{name}", f"data.{name}", key.replace(".", "/"), key[::-1]),
        ]
    )


def one(draw: random.Random, key: str) -> list[str]:
    """An override of a key, in one of the ways of writing it."""
    text = value(draw, key)
    kind = draw.random()
    if kind < 0.08:
        return [f"--config.{misspelt(draw, key)}={text}"]
    if kind < 0.12:
        return [f"--config.{key}"]
    if kind < 0.16:
        return [f"--noconfig.{key}" + draw.choice(("", "", f"={text}"))]
    if kind < 0.20:
        return [f"--config.{key}", text]
    if kind < 0.22:
        return [f"-config.{key}={text}"]
    return [f"--config.{key}={text}"]


def some(draw: random.Random, case: int) -> list[str]:
    """One to four overrides. The first is of each key in turn, so that every key has its share."""
    keys = [list(KEYS)[case % len(KEYS)], *draw.choices(list(KEYS), k=draw.choice((0, 0, 0, 1, 1, 2, 3)))]
    return [argument for key in keys for argument in one(draw, key)]
