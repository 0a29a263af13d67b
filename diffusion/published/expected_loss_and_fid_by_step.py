"""Loss and FID that a CIFAR-10 run of DDPM should have on its way.

An independent PyTorch run of the recipe (tqch/ddpm-torch: batches of 128, lr 2e-4, averaged weights) printed loss and
FID at five checkpoints; the paper has one FID, at the end.
"""

from collections.abc import Sequence
from pathlib import Path

from diffusion.config.config_dict import flatten
from diffusion.published.ddpm_tables import CIFAR10
from diffusion.published.differences_of_config_from_paper import run_differences, same_data
from diffusion.published.match_results_to_cells import protocol_differences, value_differences
from diffusion.published.papers_protocols import fid
from diffusion.workdir.result_files import find
from diffusion.workdir.run_config import read_run

LOSS = ((46_800, 0.0295), (93_600, 0.0293), (187_200, 0.0291), (421_200, 0.0284), (795_600, 0.0277))
"""(step, L_simple while training)."""
FID = ((46_800, 9.162), (93_600, 5.778), (187_200, 4.083), (421_200, 3.310), (795_600, 3.188))
"""(step, FID of 50,000 samples of the averaged weights against the training set)."""
TOLERANCE = 0.1
"""Half the width of the expected band, relative. Our choice: independent runs of the recipe ended at 3.17 to 3.25."""


def scores(folder: Path) -> list[tuple[int, float, str]]:
    """(step, FID, how it departs from the milestones' protocol: "" if it does not) of the results of a run, by step."""
    measure, rows = fid(CIFAR10), []
    for _, result in find(folder):
        value, step = measure.read(result), result.protocol.get("step")
        if result.name == measure.metric and value is not None and isinstance(step, int):
            protocol = flatten(result.protocol)
            departs = [*value_differences(measure.chain, protocol), *protocol_differences(measure, protocol)]
            rows.append((step, value, "; ".join(departs)))
    return sorted(rows)


def faults(folder: Path) -> Sequence[str]:
    """Where the run in a folder departs from the one that the milestones are of, the number of its steps aside.

    Raises ValueError where there is no run, or it is of other data.
    """
    config, published = flatten(read_run(folder).config), CIFAR10.values()
    if not same_data(config, published):
        raise ValueError(
            f"--milestones={folder}: the run is of {config['data.name']!r}, and the milestones are those of CIFAR-10; "
            "give the folder of a run of configs/cifar10.py"
        )
    return run_differences(CIFAR10, config, published["train.steps"])
