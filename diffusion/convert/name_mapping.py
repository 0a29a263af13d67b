"""Tables between the tensors of a file and our parameters, checked as a whole before any value is used.

A format is a `Naming`: templates of names and the layout of its kernels. `rules` spells it out for one network; `read`
and `write` follow the rules. Our parameters have dotted names here, such as "down_0_block_1.conv_1.kernel".
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

Tensors = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

SHOWN = 3
"""Names listed of each kind of mismatch; the rest is counted."""

NUMBERED = re.compile(r"(down|up)_(\d+)_(block|attention|downsample|upsample)(?:_(\d+))?")
DOWN_BLOCK, DOWN_ATTENTION, NORM, KERNEL = "down_block", "down_attention", "norm", "kernel"


class Form(NamedTuple):
    """How a tensor of a file holds one parameter of ours, or several."""

    read: Callable[[np.ndarray], list[np.ndarray]]
    write: Callable[[list[np.ndarray]], np.ndarray]


SAME = Form(lambda x: [x], lambda xs: xs[0])
TRANSPOSED = Form(lambda x: [x.T], lambda xs: xs[0].T)
"""[out, in] in the file, [in, out] in our network."""
CONVOLUTION = Form(lambda x: [x.transpose(2, 3, 1, 0)], lambda xs: xs[0].transpose(3, 2, 0, 1))
"""[out, in, height, width] in the file, [height, width, in, out] in our network."""


def pointwise(axes: int) -> Form:
    """A 1x1 convolution of images with this many axes: [out, in, 1, ...] in the file, [in, out] in our network."""
    ones = (1,) * axes
    return Form(lambda x: [x.reshape(x.shape[:2]).T], lambda xs: xs[0].T.reshape(xs[0].T.shape + ones))


def fused(heads: int) -> Form:
    """One tensor [3C, ...] for query, key and value: by head first, then by which of the three.

    A weight [3C, C, 1] holds three kernels [C, C], a bias [3C] three biases [C].
    """

    def read(x: np.ndarray) -> list[np.ndarray]:
        parts = x.reshape(heads, 3, -1, *x.shape[1:2])
        return [parts[:, i].reshape(-1, *x.shape[1:2]).T for i in range(3)]

    def write(xs: list[np.ndarray]) -> np.ndarray:
        rows = np.stack([x.T.reshape(heads, -1, *x.shape[:-1]) for x in xs], axis=1)
        return rows.reshape(-1, *xs[0].shape[:-1], *(1,) * (xs[0].ndim - 1))

    return Form(read, write)


class Naming(NamedTuple):
    """The names of a format: module, layer and leaf of a parameter, joined by the separator where they are not empty.

    Modules are templates of these numbers; a level has `blocks` blocks on the way down and one more on the way up:

        {level} {index}     of the block in our names; a change of resolution has the index after the last block
        {depth}             of the level, counted from the deepest
        {input}             of all input blocks: 1 + level (blocks + 1) + index; the first convolution is 0
        {output}            of all output blocks: depth (blocks + 1) + index
        {after}             1, or 2 at a level with attention: the place of what follows a block and its attention
    """

    modules: Mapping[str, str]
    """By our module: its own name, such as "conv_in", or "down_block", "up_attention", ... for the numbered ones."""
    layers: Mapping[str, str]
    """By our layer within a module, "" where the module is one; several layers of one name share a tensor, in order."""
    leaves: Mapping[str, str]
    """By our leaf, "norm.scale" and "norm.bias" in a normalisation."""
    separator: str
    kernels: Mapping[str | int, Form]
    """By layer, else by number of axes; other kernels, and all other parameters, are laid out as in our network."""


class Rule(NamedTuple):
    """One tensor of a file and the parameters that it holds."""

    theirs: str
    ours: tuple[str, ...]
    form: Form


class Param(NamedTuple):
    """One of our parameters: its place in the network."""

    module: str
    level: int
    index: int | None
    layer: str
    leaf: str


def parse(name: str) -> Param:
    """The place of a parameter, from its dotted name."""
    module, *layers, leaf = name.split(".")
    layer = ".".join(layers)
    leaf = f"{NORM}.{leaf}" if (layer or module).startswith(NORM) else leaf
    if found := NUMBERED.fullmatch(module):
        return Param(f"{found[1]}_{found[3]}", int(found[2]), int(found[4]) if found[4] else None, layer, leaf)
    return Param(module, 0, 0, layer, leaf)


def rules(naming: Naming, shapes: Shapes, heads: int) -> tuple[Rule, ...]:
    """The tensors of a format for a network with parameters of these shapes and this many attention heads."""
    params = {name: parse(name) for name in shapes}
    blocks = 1 + max(p.index or 0 for p in params.values() if p.module == DOWN_BLOCK)
    deepest = max(p.level for p in params.values() if p.module == DOWN_BLOCK)
    attended = {p.level for p in params.values() if p.module == DOWN_ATTENTION}

    def theirs(p: Param) -> str:
        index, depth = blocks if p.index is None else p.index, deepest - p.level
        module = naming.modules[p.module].format(
            level=p.level,
            index=index,
            depth=depth,
            input=1 + p.level * (blocks + 1) + index,
            output=depth * (blocks + 1) + index,
            after=1 + (p.level in attended),
        )
        return naming.separator.join(filter(None, (module, naming.layers[p.layer], naming.leaves[p.leaf])))

    def form(names: list[str]) -> Form:
        if len(names) > 1:
            return fused(heads)
        (name,) = names
        kernel = naming.kernels.get(params[name].layer) or naming.kernels.get(len(shapes[name]), SAME)
        return kernel if params[name].leaf == KERNEL else SAME

    tensors: dict[str, list[str]] = {}
    order = list(naming.layers)
    for name in sorted(params, key=lambda name: order.index(params[name].layer)):
        tensors.setdefault(theirs(params[name]), []).append(name)
    return tuple(Rule(tensor, tuple(names), form(names)) for tensor, names in tensors.items())


def mismatches(tensors: Mapping[str, np.ndarray], expected: Shapes) -> list[str]:
    """How tensors differ from those expected, a phrase for each kind: names, shapes, types, values that are not finite.

    Empty where they are those expected.
    """
    common = [name for name in expected if name in tensors]
    kinds = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": sorted(tensors.keys() - expected.keys()),
        "of another shape": [
            f"{name} of shape {tensors[name].shape} instead of {expected[name]}"
            for name in common
            if tensors[name].shape != expected[name]
        ],
        "not of floating point": [name for name in common if tensors[name].dtype.kind != np.dtype(float).kind],
    }
    if not any(kinds.values()):
        kinds["not finite"] = [name for name in common if not np.isfinite(tensors[name]).all()]
    return [f"{len(names)} {kind} ({first(names)})" for kind, names in kinds.items() if names]


def first(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name[:200] for name in names[:SHOWN]) + more


def faults(rules: Iterable[Rule], tensors: Mapping[str, np.ndarray], shapes: Shapes) -> list[str]:
    """What keeps the tensors of a file from filling our parameters exactly; see `mismatches`."""
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    return mismatches(tensors, {r.theirs: r.form.write([zeros[name] for name in r.ours]).shape for r in rules})


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


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of nested parameters by their dotted names."""
    return flatten_dict(tree, sep=".")


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of flatten."""
    return unflatten_dict(flat, sep=".")
