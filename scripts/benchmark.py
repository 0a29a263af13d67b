"""Measures speed: training step, forward pass, chains, bound, Inception, start-up; beside PyTorch, if asked for.

    python scripts/benchmark.py                                  # both networks
    python scripts/benchmark.py --baseline=torch --json=bench.json  # beside diffusers' UNet2DModel; some twenty minutes
    python scripts/benchmark.py --size=digits --only=train,forward
    python scripts/benchmark.py --scaling --out=docs/images      # how cost grows, as a figure

The table goes to stdout, progress to stderr. Windows of both sides alternate, so that a drifting machine slows both
alike: compare the last column, and figures of one run. docs/benchmarks.md says how each row is measured. Measures for
--only: train, forward, chain, ddim, elbo, features, startup, help.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import command_line
from diffusion.runtime.paths import expanded

SIZE = flags.DEFINE_enum("size", "all", ["digits", "cifar10", "all"], "networks to measure, named after their configs")
ONLY = flags.DEFINE_list("only", [], "measures, separated by commas; by default all")
BASELINE = flags.DEFINE_enum("baseline", None, ["torch"], "measure this beside jax; needs requirements-benchmark.txt")
QUICK = flags.DEFINE_bool("quick", False, "a dry run: tiny networks, short windows, meaningless figures")
WINDOWS = flags.DEFINE_integer("windows", None, "number of windows of each row", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", None, "length of a window in seconds", lower_bound=0.0)
MODES = flags.DEFINE_integer("modes", 0, "compilation modes of the baseline that are tried; 0: all", lower_bound=0)
JSON = command_line.define_path("json", "file for all results, with machine, versions and settings")
SCALING = flags.DEFINE_bool("scaling", False, "measure and draw how cost grows instead")
OUT = flags.DEFINE_string("out", "runs/figures", "folder for the figure of --scaling")


def main() -> None:
    from diffusion.benchmarks import machine, sizes

    only = chosen_measures(list(sizes.MEASURES), ["startup", "help"])
    pace = sizes.QUICK_PACE if QUICK.value else sizes.PACE
    pace = sizes.Pace(WINDOWS.value or pace.windows, pace.seconds if SECONDS.value is None else SECONDS.value)
    path = JSON.value
    if path and (path.is_dir() or not path.suffix):
        raise ValueError(f"--json={path} is not a file: give one such as bench.json")
    table = sizes.QUICK if QUICK.value else sizes.SIZES
    chosen = {name: size for name, size in table.items() if SIZE.value in (name, "all")}
    settings = {"pace": pace._asdict(), "only": only, "baseline": BASELINE.value, "quick": QUICK.value}
    context = {"machine": machine.describe(), "settings": settings}
    if SCALING.value:
        scaling(chosen, pace, context, path)
    else:
        compare(chosen, only, pace, context, path)


def compare(chosen: dict[str, Any], only: list[str], pace: Any, context: dict[str, Any], path: Path | None) -> None:
    """Measures, prints the table and writes the JSON."""
    from diffusion.benchmarks import startup, table
    from diffusion.benchmarks.comparison import compare as rows_of
    from diffusion.benchmarks.sizes import MEASURES

    settings = compare_settings([name for name in only if name in MEASURES], pace)
    rows, starts, page = [], [], []
    for name, size in chosen.items() if settings.measures else ():
        rows += rows_of(name, size, settings, report)
    if "startup" in only:
        for name, size in chosen.items():
            report(f"{name}: start-up, cold and warm")
            starts.append(startup.starts(name, size.config, size.changes, size.cpu["train"][0], size.shape))
    if "help" in only:
        page = startup.help_page()
    print(table.markdown(rows, starts, page), flush=True)
    if path:
        table.write(path, context, rows, starts, page)
        report(f"written     {path}")


def scaling(chosen: dict[str, Any], pace: Any, context: dict[str, Any], path: Path | None) -> None:
    """Measures how the cost of the first network grows, prints and draws it, and writes the JSON."""
    from diffusion.benchmarks import scaling as growth
    from diffusion.figures.scaling import scaling as draw
    from diffusion.figures.style import save
    from diffusion.runtime import setup

    setup.configure()
    size = next(iter(chosen.values()))
    measured = []
    for curve in growth.curves(size, growth.QUICK if QUICK.value else growth.Ranges(), pace, report):
        points = ", ".join(f"{x} {seconds:.3g}" for x, seconds in zip(curve.x, curve.seconds, strict=True))
        print(f"{curve.name}: seconds of {curve.cost}: {points}; power {curve.exponent:.2f}", flush=True)
        measured.append(curve)
    figure = draw({curve.name: (curve.x, curve.seconds, curve.cost) for curve in measured})
    target = expanded(OUT.value) / "scaling.png"
    save(figure, target)
    print(target)
    write(path, {**context, "curves": [curve._asdict() for curve in measured]})


def compare_settings(measured: list[str], pace: Any) -> Any:
    """The settings of a comparison."""
    from diffusion.benchmarks.comparison import Settings
    from diffusion.benchmarks.sizes import QUICK_ENV

    settings = Settings(measured, pace, bool(BASELINE.value), MODES.value)
    if QUICK.value:
        settings = settings._replace(modes=1, small={"product": 256, "features": 75}, env=QUICK_ENV)
    return settings


def chosen_measures(of_networks: list[str], others: list[str]) -> list[str]:
    """The chosen measures in the order of the table. Raises ValueError for an unknown one."""
    from diffusion.config.legal_values import closest_name

    measures = [*of_networks, *others]
    for name in ONLY.value:
        if name not in measures:
            best = closest_name(name, measures)
            raise ValueError(
                f"--only={name} is no measure; "
                + (f"did you mean {best}?" if best else f"there are {', '.join(measures)}")
            )
    return [name for name in measures if name in ONLY.value] if ONLY.value else measures


def write(path: Path | None, content: dict[str, Any]) -> None:
    """Writes a measurement as JSON; nothing without a path."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def report(line: str) -> None:
    """Prints a line of progress to stderr, where it does not mix with the table."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command_line.run(main)
