"""A pass of a network reduced to its convolutions and matrix products: what no arrangement around them can save."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from diffusion.benchmarks.comparison import FORWARD
from diffusion.benchmarks.convolutions import CONVOLUTION, PRODUCT, equations
from diffusion.benchmarks.worker import Workload
from diffusion.core.types import Array, Image
from diffusion.experiment.registry import DTYPES


def traced(ours: Any, batch: int, kind: str) -> Any:
    """The network's evaluation of a batch (FORWARD), or that in training mode and its gradient, as a jaxpr."""
    params = jax.eval_shape(ours.init, jax.random.key(0))
    x, t = jax.ShapeDtypeStruct((batch, *ours.shape), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    if kind == FORWARD:
        return jax.make_jaxpr(ours.apply)(params, x, t, labels).jaxpr
    apply, key = ours.task().apply, jax.eval_shape(jax.random.key, 0)
    gradient = jax.grad(lambda *given: jnp.sum(jnp.square(apply(*given))))
    return jax.make_jaxpr(gradient)(params, x, t, labels, key).jaxpr


def alone(jaxpr: Any) -> tuple[Callable[..., list[Any]], list[list[Any]]]:
    """(call, arguments): call(arguments) computes each convolution and product of a traced function and nothing else.

    Each has inputs of its own, noise, so that none can be left out for being the same as another.
    """
    found = list(equations(jaxpr, CONVOLUTION, PRODUCT))
    keys = iter(jax.random.split(jax.random.key(0), sum(len(one.invars) for one in found)))
    arguments = [
        [jax.random.normal(next(keys), operand.aval.shape, operand.aval.dtype) for operand in one.invars]
        for one in found
    ]

    def call(arguments: list[list[Any]]) -> list[Any]:
        return [one.primitive.bind(*operands, **one.params) for one, operands in zip(found, arguments, strict=True)]

    return call, arguments


def convolution(request: Mapping[str, Any]) -> Workload:
    """One 3x3 convolution in one of its roles: forward, or a gradient of it."""
    (height, width, inputs, outputs), n = request["convolution"], request["batch"]
    dtype = DTYPES[request["changes"].get("net.dtype", "float32")]
    keys = jax.random.split(jax.random.key(0), 3)
    x, g = (
        jax.random.normal(key, (n, height, width, c), dtype) for key, c in zip(keys[:2], (inputs, outputs), strict=True)
    )
    kernel = jax.random.normal(keys[2], (3, 3, inputs, outputs), dtype)

    def forward(x: Image, kernel: Array) -> Image:
        window = ((1, 1), (1, 1))
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), window, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    roles = {
        "forward": lambda x, kernel, g: forward(x, kernel),  # noqa: ARG005
        "input": lambda x, kernel, g: jax.vjp(lambda x: forward(x, kernel), x)[1](g)[0],
        "kernel": lambda x, kernel, g: jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](g)[0],
    }
    call = jax.jit(roles[request["role"]])

    def run(units: int) -> None:
        jax.block_until_ready([call(x, kernel, g) for _ in range(units)][-1])

    return Workload(run, {"flop": 18.0 * height * width * inputs * outputs})
