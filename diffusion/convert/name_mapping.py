"""Tables between the tensors of a file and our parameters, checked as a whole before any value is used.

A format states its names as a Naming; `rules` spells it out for one network, and `read` and `write` follow the rules.
Our parameters have dotted names here, such as "down_0_block_1.conv_1.kernel".
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

Tensors = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

SHOWN = 3
"""Names listed of each kind of fault; the rest is counted."""

PLACED = re.compile(r"(down|up)_(\d+)_(block|attention|downsample|upsample)(?:_(\d+))?")
NORMS = re.compile(r"norm.*")
DOWN_BLOCK, DOWN_ATTENTION = "down_block", "down_attention"


class Form(NamedTuple):
    """How a tensor of a file holds one parameter of ours, or several."""

    read: Callable[[np.ndarray], list[np.ndarray]]
    write: Callable[[list[np.ndarray]], np.ndarray]


SAME = Form(lambda x: [x], lambda xs: xs[0])
TRANSPOSED = Form(lambda x: [x.T], lambda xs: xs[0].T)
"""[out, in] in the file, [in, out] in ours."""
CONVOLUTION = Form(lambda x: [x.transpose(2, 3, 1, 0)], lambda xs: xs[0].transpose(3, 2, 0, 1))
"""[out, in, height, width] in the file, [height, width, in, out] in ours."""


def pointwise(axes: int) -> Form:
    """A 1x1 convolution of images with this many axes: [out, in, 1, ...] in the file, [in, out] in ours."""
    ones = (1,) * axes
    return Form(lambda x: [x.reshape(x.shape[:2]).T], lambda xs: xs[0].T.reshape(xs[0].T.shape + ones))


class Param(NamedTuple):
    """One of our parameters: where in the network it stands, and what of which layer it is."""

    name: str
    shape: tuple[int, ...]
    part: str
    """What kind of module: "down_block", "up_attention", ..., or the module's own name, such as "conv_in"."""
    level: int
    index: int
    layer: str
    """The layer within the module, "" where the module is one."""
    leaf: str
    norm: bool
    """Whether it belongs to a normalisation."""


class Layout(NamedTuple):
    """The structure that numbered names depend on."""

    levels: int
    blocks: int
    attended: frozenset[int]
    """Levels with attention after every block."""


class Naming(NamedTuple):
    """The names of a format: module, layer and leaf of a parameter, joined by a separator where they are not empty."""

    modules: Mapping[str, Callable[[Param, Layout], str]]
    layers: Mapping[str, str]
    leaf: Callable[[Param], str]
    form: Callable[[Param], Form]
    separator: str


class Rule(NamedTuple):
    """One tensor of a file and the parameters that it holds."""

    theirs: str
    ours: tuple[str, ...]
    form: Form


def parse(name: str, shape: tuple[int, ...]) -> Param:
    """What the dotted name of a parameter tells."""
    module, *layers, leaf = name.split(".")
    layer = ".".join(layers)
    norm = NORMS.fullmatch(layer or module) is not None
    if found := PLACED.fullmatch(module):
        part, level, index = f"{found[1]}_{found[3]}", int(found[2]), int(found[4] or 0)
        return Param(name, shape, part, level, index, layer, leaf, norm)
    return Param(name, shape, module, 0, 0, layer, leaf, norm)


def layout(shapes: Shapes) -> Layout:
    """The structure of a network, from the names of its parameters."""
    found = [parse(name, shape) for name, shape in shapes.items()]
    blocks = [p for p in found if p.part == DOWN_BLOCK]
    attended = frozenset(p.level for p in found if p.part == DOWN_ATTENTION)
    return Layout(1 + max(p.level for p in blocks), 1 + max(p.index for p in blocks), attended)


def rules(naming: Naming, shapes: Shapes) -> tuple[Rule, ...]:
    """One rule for each of our parameters."""
    structure = layout(shapes)

    def rule(param: Param) -> Rule:
        parts = (naming.modules[param.part](param, structure), naming.layers[param.layer], naming.leaf(param))
        return Rule(naming.separator.join(filter(None, parts)), (param.name,), naming.form(param))

    return tuple(rule(parse(name, shape)) for name, shape in shapes.items())


def faults(rules: Iterable[Rule], tensors: Mapping[str, np.ndarray], shapes: Shapes) -> list[str]:
    """What keeps tensors from filling our parameters exactly, a phrase for each kind of fault; empty where they do."""
    rules = list(rules)
    assert sorted(name for rule in rules for name in rule.ours) == sorted(shapes), "the table names each parameter once"
    expected = {rule.theirs: _shape(rule, shapes) for rule in rules}
    assert len(expected) == len(rules), "the table names each tensor once"
    wrong = [
        f"{name} of shape {tensors[name].shape} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    kinds = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "of another shape": wrong,
        "not of floating point": [n for n in expected if n in tensors and tensors[n].dtype.kind not in _FLOATS],
    }
    if not any(kinds.values()):
        kinds["not finite"] = [name for name in expected if not np.isfinite(tensors[name]).all()]
    return [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names]


def read(rules: Iterable[Rule], tensors: Mapping[str, np.ndarray], shapes: Shapes) -> Tensors:
    """Our parameters, float32, from the tensors of a file.

    Every tensor must be used exactly once and every parameter filled. Raises ValueError, which lists what is missing,
    unexpected, of another shape or not finite, before anything is converted.
    """
    rules = list(rules)
    if found := faults(rules, tensors, shapes):
        raise ValueError(f"the tensors do not fit the network: {', '.join(found)}")
    params: Tensors = {}
    for rule in rules:
        values = rule.form.read(tensors[rule.theirs])
        params |= {name: np.ascontiguousarray(v, np.float32) for name, v in zip(rule.ours, values, strict=True)}
    return params


def write(rules: Iterable[Rule], params: Mapping[str, np.ndarray]) -> Tensors:
    """The tensors of a file, float32, from our parameters."""
    return {
        rule.theirs: np.ascontiguousarray(rule.form.write([params[name] for name in rule.ours]), np.float32)
        for rule in rules
    }


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested parameters by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of flatten."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, leaf = name.split(".")
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[leaf] = value
    return tree


_FLOATS = frozenset("f")


def _shape(rule: Rule, shapes: Shapes) -> tuple[int, ...]:
    return rule.form.write([np.broadcast_to(np.float32(0), shapes[name]) for name in rule.ours]).shape


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
