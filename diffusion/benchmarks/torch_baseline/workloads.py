"""Workloads of the PyTorch baseline, one for one with those of jax_workloads.py."""

import resource
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from diffusion.benchmarks.timing import Workload
from diffusion.benchmarks.torch_baseline.compile_modes import GPU, INFERENCE, TRAINING, fastest, torch
from diffusion.benchmarks.torch_baseline.network import Subject, make_subject
from diffusion.core import respacing


def make(request: Mapping[str, Any]) -> Workload:
    """The workload of a request, as jax_workloads.make; `modes`: the compilation modes to try, by default all."""
    return MEASURES[request["measure"]](request)


def memory() -> int:
    """Peak bytes of the device, or of the process."""
    if torch().cuda.is_available():
        return int(torch().cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def workload(
    request: Mapping[str, Any],
    subject: Subject,
    function: Callable[..., Any],
    once: Callable[[Any], Any],
    modes: Mapping[str, tuple[str, ...]],
    facts: Mapping[str, Any] = {},
) -> Workload:
    """`once(compiled)` as a unit, with `function` compiled in the fastest mode."""

    def run(compiled: Any, units: int) -> None:
        for _ in range(units):
            once(compiled)
        if subject.device.startswith("cuda"):
            torch().cuda.synchronize()

    compiled, mode, tried = fastest(function, request.get("modes") or modes.get(subject.device, GPU), run)
    return Workload(partial(run, compiled), {**subject.facts(mode, tried), **facts})


def train(request: Mapping[str, Any]) -> Workload:
    """Indices, flip, t, noise, forward, backward, clipping, Adam, average: the work of the JAX step."""
    t, subject, n = torch(), make_subject(request), request["batch"]
    c = subject.config
    model, tables, autocast = subject.model.train(), subject.tables(), subject.autocast()
    parameters = list(model.parameters())
    average = [p.detach().clone() for p in parameters]
    adam = t.optim.Adam(parameters, lr=c.optim.lr, betas=(c.optim.beta_1, c.optim.beta_2), eps=c.optim.eps, fused=True)
    height, width, channels = request["shape"]
    # Look-ups in the config would break the compiled function.
    device, T, flip = subject.device, c.diffusion.T, c.data.flip
    pixels = t.randint(0, 256, (request["images"], channels, height, width), dtype=t.uint8, device=subject.device)

    def loss(index: Any) -> Any:
        x_0 = (pixels[index].float() / 127.5 - 1.0).contiguous(memory_format=t.channels_last)
        if flip:
            mirrored = t.rand(n, 1, 1, 1, device=device) < 0.5
            x_0 = t.where(mirrored, x_0.flip(3), x_0)
        step = t.randint(1, T + 1, (n,), device=device)
        eps = t.randn_like(x_0)
        signal, noise = (tables[k][step].view(-1, 1, 1, 1) for k in ("signal", "noise"))
        with autocast():
            out = model(signal * x_0 + noise * eps, step - 1, return_dict=False)[0]
        return t.nn.functional.mse_loss(out.float(), eps)

    def update(compiled: Any) -> None:
        adam.zero_grad(set_to_none=True)
        compiled(t.randint(0, len(pixels), (n,), device=subject.device)).backward()
        t.nn.utils.clip_grad_norm_(parameters, c.optim.clip or float("inf"), foreach=True)
        adam.step()
        t._foreach_lerp_(average, parameters, 1.0 - c.optim.ema_decay)

    return workload(request, subject, loss, update, TRAINING)


def forward(request: Mapping[str, Any]) -> Workload:
    """The network in evaluation mode on one batch."""
    t, subject, n = torch(), make_subject(request), request["batch"]
    model, shape = subject.model.eval(), request["shape"]
    x, step = subject.images(n, shape[-1], *shape[:2]), t.arange(n, device=subject.device) % subject.config.diffusion.T
    autocast = subject.autocast()

    def evaluate(x: Any, step: Any) -> Any:
        with autocast():
            return model(x, step, return_dict=False)[0]

    return workload(request, subject, evaluate, t.inference_mode()(lambda compiled: compiled(x, step)), INFERENCE)


def chain(request: Mapping[str, Any], grid: str, eta: float) -> Workload:
    """A step of the chain as one function: network, x_0 clipped, the mean, noise. eta 1: ancestral; 0: DDIM.

    The step's number is a tensor on the device, and so are the tables.
    """
    t, subject, n = torch(), make_subject(request), request["batch"]
    model, shape = subject.model.eval(), request["shape"]
    tables = subject.tables(respacing.parse(grid) if grid else respacing.full)
    T = len(tables["signal"]) - 1
    x_T, autocast = subject.images(n, shape[-1], *shape[:2]), subject.autocast()
    held = {"x": x_T.clone(), "t": t.full((1,), T, device=subject.device)}

    def step(x: Any, i: Any) -> Any:
        base = (tables["base_t"][i] - 1).expand(n)
        with autocast():
            eps = model(x, base, return_dict=False)[0].float()
        signal, noise = tables["signal"][i], tables["noise"][i]
        x_0 = ((x - noise * eps) / signal).clamp(-1.0, 1.0)
        if eta == 0.0:
            eps = (x - signal * x_0) / noise
            new = tables["signal"][i - 1] * x_0 + tables["noise"][i - 1] * eps
        else:
            mean = tables["c_x_0"][i] * x_0 + tables["c_x_t"][i] * x
            new = mean + tables["deviation"][i] * (i > 1) * t.randn_like(x)
        return new, t.where(i > 1, i - 1, T)

    @t.inference_mode()
    def once(compiled: Any) -> None:
        new, i = compiled(held["x"], held["t"])
        held["x"], held["t"] = new.clone(), i.clone()

    return workload(request, subject, step, once, INFERENCE, {"steps": T})


MEASURES = {
    "train": train,
    "forward": forward,
    "chain": partial(chain, grid="", eta=1.0),
    "ddim": partial(chain, grid="50", eta=0.0),
}
