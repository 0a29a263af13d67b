"""Measures speed: training step, forward pass, chains, bound, Inception, start-up; beside PyTorch, if asked for.

    python scripts/benchmark.py                                  # both networks
    python scripts/benchmark.py --rival=torch --json=bench.json  # beside diffusers' UNet2DModel; some twenty minutes
    python scripts/benchmark.py --size=digits --only=train,forward
    python scripts/benchmark.py --scaling --out=docs/images      # how cost grows, as a figure
    python scripts/benchmark.py --convolutions --rival=torch     # the networks' convolutions, one by one
    python scripts/benchmark.py --saving                         # what a checkpoint costs the steps beside it

One table goes to stdout; progress to stderr. Windows of both sides alternate, so a drifting machine slows both alike;
compare the last column, and figures of one run. docs/benchmarks.md says how each row is measured. Measures for --only:
train, forward, chain, ddim, elbo, features, startup, help.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import cli

SIZE = flags.DEFINE_enum("size", "all", ["digits", "cifar10", "all"], "the networks: of which config")
ONLY = flags.DEFINE_list("only", [], "what is measured, separated by commas; by default everything")
RIVAL = flags.DEFINE_enum("rival", None, ["torch"], "measure this beside ours; needs requirements-benchmark.txt")
QUICK = flags.DEFINE_bool("quick", False, "a dry run: tiny networks, short windows, figures that mean nothing")
WINDOWS = flags.DEFINE_integer("windows", None, "windows of each row", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", None, "length of a window", lower_bound=0.0)
MODES = flags.DEFINE_integer("modes", 0, "ways of running the rival that are tried; 0: all", lower_bound=0)
JSON = flags.DEFINE_string("json", None, "file that everything is written to, with machine, versions and settings")
SCALING = flags.DEFINE_bool("scaling", False, "measure how cost grows instead, and draw it")
CONVOLUTIONS = flags.DEFINE_bool("convolutions", False, "measure the networks' 3x3 convolutions one by one instead")
SAVING = flags.DEFINE_bool("saving", False, "measure what a checkpoint costs the steps beside it instead")
OUT = flags.DEFINE_string("out", "runs/figures", "folder of the figure of --scaling")


def main() -> None:
    from diffusion.benchmarks import machine, sizes

    only = measures(list(sizes.MEASURES), ["startup", "help"])
    pace = sizes.QUICK_PACE if QUICK.value else sizes.PACE
    pace = sizes.Pace(WINDOWS.value or pace.windows, pace.seconds if SECONDS.value is None else SECONDS.value)
    path = Path(JSON.value) if JSON.value else None
    if path and (path.is_dir() or not path.suffix):
        raise ValueError(f"--json={path} is no file to write: give one such as bench.json")
    table = sizes.QUICK if QUICK.value else sizes.SIZES
    chosen = {name: size for name, size in table.items() if SIZE.value in (name, "all")}
    settings = {"pace": pace._asdict(), "only": only, "rival": RIVAL.value, "quick": QUICK.value}
    known = {"machine": machine.describe(), "settings": settings}
    if SCALING.value:
        scaling(chosen, pace, known, path)
    elif SAVING.value:
        saving(chosen, contest_settings([], pace), known, path)
    elif CONVOLUTIONS.value:
        convolutions(chosen, contest_settings([], pace), known, path)
    else:
        contest(chosen, only, pace, known, path)


def contest(chosen: dict[str, Any], only: list[str], pace: Any, known: dict[str, Any], path: Path | None) -> None:
    """Measures, prints the table, writes the JSON."""
    from diffusion.benchmarks import startup, table
    from diffusion.benchmarks.comparison import contest as rows_of
    from diffusion.benchmarks.sizes import MEASURES

    settings = contest_settings([name for name in only if name in MEASURES], pace)
    rows, starts, page = [], [], []
    for name, size in chosen.items() if settings.measures else ():
        rows += rows_of(name, size, settings, say)
    if "startup" in only:
        for name, size in chosen.items():
            say(f"{name}: start-up, cold and warm")
            starts.append(startup.starts(name, size.config, size.changes, size.cpu["train"][0], size.shape))
    if "help" in only:
        page = startup.help_page()
    print(table.markdown(rows, starts, page), flush=True)
    if path:
        table.write(path, known, rows, starts, page)
        say(f"written     {path}")


def scaling(chosen: dict[str, Any], pace: Any, known: dict[str, Any], path: Path | None) -> None:
    """Measures how the cost of the smallest network grows, prints and draws it, writes the JSON."""
    from diffusion.benchmarks import scaling as growth
    from diffusion.figures.scaling import scaling as draw
    from diffusion.figures.style import save
    from diffusion.runtime import setup

    setup.configure()
    size = next(iter(chosen.values()))
    found = []
    for curve in growth.curves(size, growth.QUICK if QUICK.value else growth.Ranges(), pace, say):
        points = ", ".join(f"{x} {seconds:.3g}" for x, seconds in zip(curve.x, curve.seconds, strict=True))
        print(f"{curve.name}: seconds of {curve.cost}: {points}; power {curve.exponent:.2f}", flush=True)
        found.append(curve)
    figure = draw({curve.name: (curve.x, curve.seconds, curve.cost) for curve in found})
    target = Path(OUT.value) / "scaling.png"
    save(figure, target)
    print(target)
    write(path, {**known, "curves": [curve._asdict() for curve in found]})


def convolutions(chosen: dict[str, Any], settings: Any, known: dict[str, Any], path: Path | None) -> None:
    """Measures the convolutions of each network and its whole passes, prints them, writes the JSON."""
    from diffusion.benchmarks import convolutions as alone

    lines, rows = [], []
    for name, size in chosen.items():
        ours, whole = alone.measure(name, size, settings, say)
        lines, rows = [*lines, *ours], [*rows, *whole]
    print(f"{alone.markdown(lines)}\n\n{alone.passes(lines, rows)}", flush=True)
    found = {
        "convolutions": [alone.content(line) for line in lines],
        "passes": [alone.pass_content(row) for row in rows],
    }
    write(path, {**known, **found})


def saving(chosen: dict[str, Any], settings: Any, known: dict[str, Any], path: Path | None) -> None:
    """Measures steps beside saves, prints them, writes the JSON."""
    from diffusion.benchmarks import saving as beside

    found = [beside.saving(name, size, settings, say) for name, size in chosen.items()]
    print(beside.markdown(found), flush=True)
    write(path, {**known, "saving": [one._asdict() for one in found]})


def contest_settings(measured: list[str], pace: Any) -> Any:
    """How both sides are measured."""
    from diffusion.benchmarks.comparison import Settings
    from diffusion.benchmarks.sizes import QUICK_ENV

    settings = Settings(measured, pace, bool(RIVAL.value), MODES.value)
    if QUICK.value:
        settings = settings._replace(modes=1, small={"product": 256, "features": 75}, env=QUICK_ENV)
    return settings


def measures(of_nets: list[str], others: list[str]) -> list[str]:
    """What is measured, in the order of the table. Raises ValueError for a name that is no measure."""
    from diffusion.config.ranges import closest_name

    known = [*of_nets, *others]
    for name in ONLY.value:
        if name not in known:
            best = closest_name(name, known)
            raise ValueError(
                f"--only={name} is no measure; "
                + (f"did you mean {best}?" if best else f"there are {', '.join(known)}")
            )
    return [name for name in known if name in ONLY.value] if ONLY.value else known


def write(path: Path | None, content: dict[str, Any]) -> None:
    """A measurement as JSON, where a file was asked for."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")


def say(line: str) -> None:
    """Progress goes to stderr, so that it does not mix with the table."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
