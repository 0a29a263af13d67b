"""A run that an earlier version of the project made (revision a0f55cb, 3 steps, the digits) is read and resumed."""

import json
import zipfile
from pathlib import Path

import pytest

from diffusion.commands import train
from diffusion.experiment.load_run import load
from diffusion.workdir import result_files
from diffusion.workdir.run_config import read_run

pytestmark = pytest.mark.usefixtures("unoptimized")

NEXT_LOSSES = {4: 0.9495126008987427, 5: 0.9959235191345215}
"""What that version logged when it resumed the run itself."""


def test_a_run_of_an_earlier_version_goes_on_as_it_would_have_there(tmp_path):
    zipfile.ZipFile(Path(__file__).with_name("run_of_0_1_0.zip")).extractall(tmp_path)
    run = read_run(tmp_path)
    assert run.config.net.channels == 4 and run.shape == (8, 8, 1) and run.classes == 10
    assert load(tmp_path, run)[2] == 3
    assert {result.name for _, result in result_files.find(tmp_path)} == {"estimate", "fd_digits"}
    run.config.train.steps = 5
    lines = []
    train.run(run.config, tmp_path, lines.append)
    assert "checkpoint  resumed from step 3" in lines
    logged = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    losses = {line["step"]: line["train/loss"] for line in logged if "train/loss" in line}
    assert list(losses) == [1, 2, 3, 4, 5]
    assert {step: losses[step] for step in NEXT_LOSSES} == pytest.approx(NEXT_LOSSES, rel=1e-5)
