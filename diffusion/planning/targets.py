"""Hardware that programs can be compiled for, by its published figures: --target=tpu:v5e:4x4, gpu:h100:8, cpu.

A target names a platform, a model and how many: a topology for TPUs (4x4, or 2x2x1 for v4, v5p and tpu7x), a number for
GPUs and CPUs; without it one device.
"""

import math
import re
from typing import Any, NamedTuple


class Hardware(NamedTuple):
    """One device, as jax counts them: a core of TPU v2, v3, v4 and tpu7x, else a chip."""

    memory: float
    """Bytes."""
    peak: float
    """Operations a second on bfloat16 inputs."""
    peak_float32: float
    """The same on float32 inputs at the default precision: one bfloat16 pass on TPUs, TF32 on GPUs."""
    bandwidth: float
    """Bytes a second of its memory."""
    link: float
    """Bytes a second that a device sends in a ring of devices: two links of a TPU, NVLink of a GPU; 0: no link."""
    source: str
    architecture: str = ""
    """GPUs: the fields of XLA's GpuTargetConfigProto that differ between models."""


GIB, GB, T = 2.0**30, 1e9, 1e12

_AMPERE = (
    "core_count: 108 fpus_per_core: 64 clock_rate_ghz: 1.41 l2_cache_size: 41943040 shared_memory_per_core: 167936 "
    "shared_memory_per_block_optin: 166912 cuda_compute_capability {major: 8 minor: 0}"
)
_HOPPER = (
    "core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800 shared_memory_per_core: 233472 "
    "shared_memory_per_block_optin: 232448 cuda_compute_capability {major: 9 minor: 0}"
)
CLOUD = "docs.cloud.google.com/tpu/docs/"

HARDWARE: dict[str, Hardware] = {
    "tpu:v2": Hardware(8 * GIB, 22.5 * T, 22.5 * T, 350 * GB, 124 * GB, f"{CLOUD}v2; links: Jouppi et al. 2020"),
    "tpu:v3": Hardware(16 * GIB, 61.5 * T, 61.5 * T, 450 * GB, 164 * GB, f"{CLOUD}v3; links: Jouppi et al. 2020"),
    "tpu:v4": Hardware(16 * GIB, 137.5 * T, 137.5 * T, 600 * GB, 100 * GB, f"{CLOUD}v4; links: Jouppi et al. 2023"),
    "tpu:v5e": Hardware(16 * GIB, 197 * T, 197 * T, 819 * GB, 100 * GB, f"{CLOUD}v5e"),
    "tpu:v5p": Hardware(95 * GIB, 459 * T, 459 * T, 2765 * GB, 200 * GB, f"{CLOUD}v5p"),
    "tpu:v6e": Hardware(32 * GIB, 918 * T, 918 * T, 1638 * GB, 200 * GB, f"{CLOUD}v6e"),
    "tpu:tpu7x": Hardware(96 * GIB, 1153.5 * T, 1153.5 * T, 3690 * GB, 200 * GB, f"{CLOUD}tpu7x"),
    "gpu:a100": Hardware(85100068864.0, 312 * T, 156 * T, 2039 * GB, 300 * GB, "NVIDIA's A100 80GB SXM sheet", _AMPERE),
    "gpu:h100": Hardware(84942979072.0, 989.5 * T, 494.7 * T, 3352 * GB, 450 * GB, "NVIDIA's H100 SXM sheet", _HOPPER),
    "gpu:h200": Hardware(151397597184.0, 989.5 * T, 494.7 * T, 4800 * GB, 450 * GB, "NVIDIA's H200 sheet", _HOPPER),
    "cpu": Hardware(math.inf, math.nan, math.nan, math.nan, 0.0, "no figures: it depends on the machine"),
}
"""platform:model -> one device."""

USABLE = {"tpu:v5e": 15.75 * GIB}
"""Bytes that XLA may use, where its own message states them; elsewhere the whole memory."""


CPU, TPU, GPU = "cpu", "tpu", "gpu"


class Target(NamedTuple):
    """Devices to compile for."""

    name: str
    model: str
    """A key of HARDWARE."""
    topology: str
    count: int
    """Devices."""

    @property
    def hardware(self) -> Hardware:
        """The figures of one device."""
        return HARDWARE[self.model]

    @property
    def platform(self) -> str:
        """tpu, gpu or cpu."""
        return self.model.partition(":")[0]

    @property
    def chips(self) -> int:
        """What is paid for."""
        return math.prod(map(int, self.topology.split("x")))

    @property
    def usable(self) -> float:
        """Bytes of a device that a program may hold."""
        return USABLE.get(self.model, self.hardware.memory)


SOLID = ("tpu:v4", "tpu:v5p", "tpu:tpu7x")
"""TPUs whose topologies have three dimensions."""

DOUBLE = ("tpu:v2", "tpu:v3", "tpu:v4", "tpu:tpu7x")
"""TPUs whose chips are two devices."""


def parse(name: str) -> Target:
    """The target of a name. Raises ValueError that lists what is legal."""
    platform, *rest = name.split(":")
    words = 1 if platform == CPU else 2
    model, sizes = ":".join([platform, *rest][:words]), [platform, *rest][words:]
    if model not in HARDWARE or len(sizes) > 1:
        raise ValueError(f"--target={name}: no such hardware; --target=? lists {', '.join(HARDWARE)}")
    extent = sizes[0] if sizes else "1"
    tpu = platform == TPU
    if not re.fullmatch(r"1|\d+x\d+(x\d+)?" if tpu else r"\d+", extent) or "0" in extent.split("x"):
        legal = "1 or a topology such as 4x4, or 2x2x1 for v4, v5p and tpu7x" if tpu else "a number of devices"
        raise ValueError(f"--target={name}: {extent!r} is not {legal}")
    target = Target(name, model, extent, 0)
    return target._replace(count=target.chips * (2 if model in DOUBLE and extent != "1" else 1))


def devices(target: Target) -> list[Any]:
    """The target's devices as jax describes them; only the process's environment must fit (compile_for_target.py).

    Raises what jax raises where libtpu or the plugin is missing or refuses the topology.
    """
    import jax
    from jax.experimental import topologies

    if target.platform == CPU:
        return jax.devices(CPU)[: target.count]
    if target.platform == TPU:
        extent = "x".join(map(str, _smallest(target))) if target.topology == "1" else target.topology
        name = f"{target.model.partition(':')[2]}:{extent}"
        return list(topologies.get_topology_desc(name, platform=TPU).devices)[: target.count]
    config = (
        f"gpu_device_info {{threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 "
        f"shared_memory_per_block: 49152 registers_per_core_limit: 65536 registers_per_block_limit: 65536 "
        f"block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 thread_dim_limit_x: 1024 "
        f"thread_dim_limit_y: 1024 thread_dim_limit_z: 64 memory_bandwidth: {int(target.hardware.bandwidth)} "
        f"device_memory_size: {int(target.hardware.memory)} {target.hardware.architecture}}} "
        'platform_name: "CUDA" dnn_version_info {major: 9 minor: 10 patch: 0}'
    )
    topology = topologies.get_topology_desc(platform="cuda", target_config=config, topology=f"1x1x{target.count}")
    return list(topology.devices)[: target.count]


def _smallest(target: Target) -> list[int]:
    """The extent of a TPU's smallest topology."""
    return [2, 2, 1] if target.model in SOLID else [2, 2]


def wider(target: Target) -> list[str]:
    """The same hardware with more devices: the next two topologies, twice and four times the devices elsewhere."""
    if target.platform != TPU:
        return [f"{target.model}:{n * target.count}" for n in (2, 4)]
    extent = [int(n) for n in target.topology.split("x")]
    names, next_one = [], _smallest(target) if target.chips == 1 else _doubled(extent)
    for _ in range(2):
        names.append(f"{target.model}:{'x'.join(map(str, next_one))}")
        next_one = _doubled(next_one)
    return names


def _doubled(extent: list[int]) -> list[int]:
    """The smallest side doubled; sides ascend, those of one chip last."""
    small, *rest = sorted(extent)
    return sorted([2 * small, *rest], key=lambda n: (n == 1, n))
