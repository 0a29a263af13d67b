"""Measures speed beside a PyTorch baseline, or how cost grows, and writes table, figure and JSON."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from diffusion.benchmarks import results_table, scaling_measurements
from diffusion.benchmarks.benchmarked_networks import MEASURES, QUICK_ENV, QUICK_REQUEST, SIZES, Size, quick
from diffusion.benchmarks.compare_with_baseline import Settings, compare
from diffusion.benchmarks.torch_baseline import compile_modes
from diffusion.config.misspelt_names import suggestion
from diffusion.figures.curve_figures import cost_growth
from diffusion.figures.style import save
from diffusion.runtime import command_line
from diffusion.runtime.atomic_files import write_json
from diffusion.runtime.short_error_text import reason

Report = Callable[[str], None]
"""Prints a line of progress."""


def choose_measures(names: Sequence[str]) -> list[str]:
    """The measures of these names in the order of the table, all of them for none. Raises ValueError for another."""
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"--only={name} is no measure; {suggestion(name, MEASURES)}")
    return [name for name in MEASURES if not names or name in names]


def choose_settings(
    measures: Sequence[str], windows: int | None, seconds: float | None, baseline: bool, dry: bool
) -> Settings:
    """The settings of a measurement; those of a dry run are short. Raises ValueError where a baseline cannot run."""
    if baseline:
        compile_modes.require()
    settings = Settings(measures, baseline=baseline)
    if dry:
        settings = settings._replace(windows=2, seconds=0.01, request=QUICK_REQUEST, env=QUICK_ENV)
    given = {"windows": windows, "seconds": seconds}
    return settings._replace(**{name: value for name, value in given.items() if value is not None})


def choose_sizes(name: str, dry: bool) -> dict[str, Size]:
    """The network of this name, or "all"."""
    return {key: quick(size) if dry else size for key, size in SIZES.items() if name in (key, "all")}


def measure_speed(
    sizes: Mapping[str, Size], settings: Settings, file: Path | None, show: Report, report: Report
) -> None:
    """Shows the table of all rows, then writes them to a JSON file.

    Rows that cannot be measured are left out of both; at the end ValueError is raised with their names and reasons.
    """
    context = {"machine": results_table.machine(), "settings": settings._asdict()}
    rows, failed = [], []
    for name, size in sizes.items():
        try:
            for row in compare(name, size, settings, report, failed):
                rows.append(row)
        except Exception as error:  # lack of memory alone has many types
            if command_line.traceback_wanted():
                raise
            failed.append(f"{name}: {reason(error)}")
    show(results_table.markdown(rows))
    if file:
        write_json(file, {**context, "rows": [results_table.content(row) for row in rows], "left_out": failed})
        report(f"written     {file}")
    if failed:
        raise ValueError(f"not measured: {'; '.join(failed)}")


def measure_growth(size: Size, settings: Settings, dry: bool, out: Path, file: Path | None, report: Report) -> None:
    """Reports how the cost of a network grows, and draws it to a file; of a dry run two values a quantity."""
    context = {"machine": results_table.machine(), "settings": settings._asdict()}
    curves = {}
    for name, quantity in scaling_measurements.QUANTITIES.items():
        curve = scaling_measurements.measure(quantity, quantity.values[: 2 if dry else None], size, settings)
        points = ", ".join(f"{x} {seconds:.3g}" for x, seconds in zip(curve.x, curve.seconds, strict=True))
        report(f"{name}: seconds of {curve.cost}: {points}; power {curve.exponent:.2f}")
        curves[name] = curve
    save(cost_growth(curves), out)
    if file:
        write_json(file, {**context, "curves": {name: curve._asdict() for name, curve in curves.items()}})
        report(f"written     {file}")
