"""Measures speed: training step, forward pass, chains, bound, Inception; optionally compared with PyTorch.

    python scripts/benchmark.py                                  # both networks
    python scripts/benchmark.py --baseline=torch --json=bench.json  # with diffusers' UNet2DModel; twenty minutes
    python scripts/benchmark.py --size=digits --only=train,forward
    python scripts/benchmark.py --scaling --out=docs/images      # how cost grows, as a figure

The table goes to stdout, progress to stderr. Timings of jax and PyTorch alternate, so that a drift of the machine slows
both equally: compare the last column, the ratio of times, and only within one run. docs/benchmarks.md explains each
row. Measures for --only: train, forward, chain, ddim, elbo, features. A row that cannot be measured, for lack of memory
for instance, is left out, named at the end with the reason, and makes the exit status 2.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import command_line
from diffusion.runtime.paths import check_file, expanded

SIZE = flags.DEFINE_enum("size", "all", ["digits", "cifar10", "all"], "networks to measure, named after their configs")
ONLY = flags.DEFINE_list("only", [], "measures, separated by commas; by default all")
BASELINE = flags.DEFINE_enum("baseline", None, ["torch"], "also measure this; needs requirements-benchmark.txt")
QUICK = flags.DEFINE_bool("quick", False, "a dry run: tiny networks, short windows, meaningless numbers")
WINDOWS = flags.DEFINE_integer("windows", None, "number of timing windows of each row", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", None, "length of a window in seconds", lower_bound=0.0)
JSON = command_line.define_path("json", "file for all results, with machine, versions and settings")
SCALING = flags.DEFINE_bool("scaling", False, "instead, measure and draw how the cost of the first network grows")
OUT = flags.DEFINE_string("out", "runs/figures", "folder for the figure of --scaling")


def main() -> None:
    file = JSON.value
    check_file("json", file)
    if SCALING.value and (ONLY.value or BASELINE.value):
        raise ValueError("--scaling measures all quantities, without a baseline: leave out --only and --baseline")

    from diffusion.commands import benchmark

    measures, sizes = benchmark.choose_measures(ONLY.value), benchmark.choose_sizes(SIZE.value, QUICK.value)
    baseline = BASELINE.value is not None
    settings = benchmark.choose_settings(measures, WINDOWS.value, SECONDS.value, baseline, QUICK.value)
    if SCALING.value:
        size, out = next(iter(sizes.values())), expanded(OUT.value) / "scaling.png"
        benchmark.measure_growth(size, settings, QUICK.value, out, file, command_line.report)
        print(out)
    else:
        benchmark.measure_speed(sizes, settings, file, print, command_line.report)


if __name__ == "__main__":
    command_line.run(main)
