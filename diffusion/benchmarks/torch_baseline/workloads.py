"""Workloads of the PyTorch baseline, one for one with those of jax_workloads.py."""

import resource
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from diffusion.benchmarks.torch_baseline.compile_modes import GPU, INFERENCE, TRAINING, chosen, fastest, torch
from diffusion.benchmarks.torch_baseline.network import Subject, make_subject
from diffusion.benchmarks.worker import Workload
from diffusion.core import respacing
from diffusion.core.respacing import parse

DDIM_STEPS = "50"


def make(request: Mapping[str, Any]) -> Workload:
    """The workload of a request, as jax_workloads.make, with `modes`: how many compilation modes are tried (0: all).

    Raises ValueError where torch is not installed or the baseline does not have the measure.
    """
    torch()
    if request["measure"] not in MEASURES:
        raise ValueError(f"the PyTorch baseline has no {request['measure']}")
    return MEASURES[request["measure"]](request)


def memory() -> int:
    """Peak bytes of the device, or of the process."""
    if torch().cuda.is_available():
        return int(torch().cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def wait(subject: Subject) -> None:
    """Waits for the device."""
    if subject.device.startswith("cuda"):
        torch().cuda.synchronize()


def train(request: Mapping[str, Any]) -> Workload:
    """Indices, flip, t, noise, forward, backward, clipping, Adam, average: the work of the JAX step."""
    t, subject, n = torch(), make_subject(request), request["batch"]
    c = subject.config
    model, tables, autocast = subject.model.train(), subject.tables(), subject.autocast()
    parameters = list(model.parameters())
    average = [p.detach().clone() for p in parameters]
    adam = t.optim.Adam(parameters, lr=c.optim.lr, betas=(c.optim.beta_1, c.optim.beta_2), eps=c.optim.eps, fused=True)
    height, width, channels = request["shape"]
    device, T, flip = (
        subject.device,
        c.diffusion.T,
        c.data.flip,
    )  # a config's look-ups would break the compiled function
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

    def call(compiled: Any) -> None:
        update(compiled)
        wait(subject)

    compiled, mode, tried = fastest(loss, chosen(request, TRAINING.get(subject.device, GPU)), call)

    def run(units: int) -> None:
        for _ in range(units):
            update(compiled)
        wait(subject)

    return Workload(run, subject.facts(mode, tried))


def forward(request: Mapping[str, Any]) -> Workload:
    """The network in evaluation mode on one batch."""
    t, subject, n = torch(), make_subject(request), request["batch"]
    model, shape = subject.model.eval(), request["shape"]
    x, step = subject.images(n, shape[-1], *shape[:2]), t.arange(n, device=subject.device) % subject.config.diffusion.T

    autocast = subject.autocast()

    def evaluate(x: Any, step: Any) -> Any:
        with autocast():
            return model(x, step, return_dict=False)[0]

    return inference(request, subject, evaluate, lambda compiled: compiled(x, step))


def inference(
    request: Mapping[str, Any],
    subject: Subject,
    function: Callable[..., Any],
    once: Callable[[Any], Any],
    facts: dict[str, Any] | None = None,
    quantum: int = 1,
) -> Workload:
    """`once(compiled)` as a unit, in the fastest mode."""
    t = torch()

    def call(compiled: Any) -> None:
        with t.inference_mode():
            once(compiled)
        wait(subject)

    modes = chosen(request, INFERENCE.get(subject.device, GPU))
    compiled, mode, tried = fastest(function, modes, call)

    def run(units: int) -> None:
        with t.inference_mode():
            for _ in range(units):
                once(compiled)
        wait(subject)

    return Workload(run, subject.facts(mode, tried) | (facts or {}), quantum)


def chain(request: Mapping[str, Any], grid: str, eta: float) -> Workload:
    """A step of the chain as one function: network, x_0 clipped, the mean, noise. eta 1: ancestral; 0: DDIM.

    The step's number is a tensor on the device, and so are the tables.
    """
    t, subject, n = torch(), make_subject(request), request["batch"]
    model, shape = subject.model.eval(), request["shape"]
    tables = subject.tables(parse(grid) if grid else respacing.full)
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

    def once(compiled: Any) -> None:
        new, i = compiled(held["x"], held["t"])
        held["x"], held["t"] = new.clone(), i.clone()

    whole = bool(request["whole"])
    facts = {"steps": T, "estimated": not whole}
    return inference(request, subject, step, once, facts, T if whole else 1)


MEASURES = {
    "train": train,
    "forward": forward,
    "chain": partial(chain, grid="", eta=1.0),
    "ddim": partial(chain, grid=DDIM_STEPS, eta=0.0),
}
