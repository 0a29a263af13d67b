"""Floating-point operations of the convolutions and matrix products in an optimised program."""

import math
import re

import numpy as np

from diffusion.planning.hlo import Computation, Instruction, Shape

LIBRARY = re.compile(r"gemm|matmul|dot", re.IGNORECASE)
"""Names of library calls that compute a matrix product."""
CONVOLUTION = "__cudnn$conv"
"""The start of cuDNN's calls."""


def operations(scope: Computation, op: Instruction) -> tuple[str, float]:
    """(type of the inputs, operations) of a convolution or matrix product; a multiply-add is two. Others count as 0.

    Positions of a kernel on padding or between dilated pixels are not counted.
    """
    inputs = [scope[name].shapes[0] for name in op.operands if name in scope and scope[name].shapes]
    if len(inputs) < 2 or not op.shapes:
        return "", 0.0
    lhs, rhs, out = inputs[0], inputs[1], op.shapes[0]
    if op.opcode == "dot":
        axes = [int(a) for a in op.attribute("lhs_contracting_dims").strip("{}").split(",") if a]
        return lhs.dtype, 2.0 * out.size * math.prod(lhs.dims[a] for a in axes)
    if op.opcode == "convolution":
        return lhs.dtype, _convolution(op, lhs, rhs, out)
    target = op.attribute("custom_call_target").strip('"') if op.opcode == "custom-call" else ""
    if target.startswith(CONVOLUTION):
        image, kernel, result = _roles(target, lhs, rhs, out)
        features = kernel.dims[op.attribute("dim_labels").partition("_")[2].partition("->")[0].index("o")]
        return lhs.dtype, 2.0 * result.size * kernel.size / features if image.size else 0.0
    if LIBRARY.search(target):
        shared = math.sqrt(lhs.size * rhs.size / out.size) if out.size else 0.0
        return lhs.dtype, 2.0 * out.size * shared
    return "", 0.0


def _roles(target: str, lhs: Shape, rhs: Shape, out: Shape) -> tuple[Shape, Shape, Shape]:
    """(image, kernel, result) of cuDNN's forward convolution that a call computes, or whose gradient it is."""
    if "BackwardInput" in target:
        return out, rhs, lhs
    return (lhs, out, rhs) if "BackwardFilter" in target else (lhs, rhs, out)


def _convolution(op: Instruction, lhs: Shape, rhs: Shape, out: Shape) -> float:
    image, kernel, result = re.split(r"_|->", op.attribute("dim_labels"))
    window = op.rest[op.rest.find("window={") :].partition("}")[0] if "window={" in op.rest else ""
    field = {key: value.split("x") for key, value in re.findall(r"(\w+)=([\d_x\-]+)", window)}
    pairs = 1.0
    for axis in range(sum(label.isdigit() for label in image)):
        n = lhs.dims[image.index(str(axis))]
        read = lambda key, default, axis=axis: field[key][axis] if key in field else default  # noqa: E731
        low = int(str(read("pad", "0_0")).split("_")[0])
        spread, hole, stride = (int(read(key, 1)) for key in ("lhs_dilate", "rhs_dilate", "stride"))
        o, k = np.arange(out.dims[result.index(str(axis))]), np.arange(rhs.dims[kernel.index(str(axis))])
        at = o[:, None] * stride + k * hole - low
        pairs *= int(((at >= 0) & (at <= (n - 1) * spread) & (at % spread == 0)).sum())
    outer = out.dims[result.index("b")] * out.dims[result.index("f")]
    return 2.0 * outer * rhs.dims[kernel.index("i")] * pairs
