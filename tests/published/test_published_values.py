"""Every published digit, typed once more from the papers; and every cell of this project's models can be measured."""

import shlex
from pathlib import Path

import pytest

from diffusion.commands import reproduce
from diffusion.config.config_dict import config_hash
from diffusion.published import expected_loss_and_fid_by_step
from diffusion.runtime import config_flag
from tests.support.script_flags import flags_of

ROOT = Path(__file__).resolve().parents[2]
TABLES = {table.name: table for table in reproduce.tables()}

VALUES = {
    "ddpm_table1": """
        IS FID FID(test) NLL(test) NLL(train)
        EBM, conditional | 8.30 37.9 . . .
        JEM, conditional | 8.76 38.4 . . .
        BigGAN, conditional | 9.22 14.73 . . .
        StyleGAN2 + ADA (v1), conditional | 10.06 2.67 . . .
        Diffusion (original) | . . . ≤5.40 .
        Gated PixelCNN | 4.60 65.93 . 3.03 2.90
        Sparse Transformer | . . . 2.80 .
        PixelIQN | 5.29 49.46 . . .
        EBM | 6.78 38.2 . . .
        NCSNv2 | . 31.75 . . .
        NCSN | 8.87±0.12 25.32 . . .
        SNGAN | 8.22±0.05 21.7 . . .
        SNGAN-DDLS | 9.09±0.10 15.42 . . .
        StyleGAN2 + ADA (v1) | 9.74±0.05 3.26 . . .
        DDPM, L, fixed isotropic | 7.67±0.13 13.51 . ≤3.70 3.69
        DDPM, L_simple | 9.46±0.11 3.17 5.24 ≤3.75 3.72
    """,
    "ddpm_table2": """
        IS FID
        mu, L, learned diagonal | 7.28±0.10 23.69
        mu, L, fixed isotropic | 8.06±0.09 13.22
        mu, MSE | – –
        eps, L, learned diagonal | – –
        eps, L, fixed isotropic | 7.67±0.13 13.51
        eps, L_simple | 9.46±0.11 3.17
    """,
    "ddpm_table3": """
        Bedroom Church Cat
        ProgressiveGAN | 8.34 6.42 37.52
        StyleGAN (Church, Cat: as reported by StyleGAN2) | 2.65 4.21 8.53
        StyleGAN2 | – 3.86 6.93
        DDPM, L_simple | 6.36 7.89 19.75
        DDPM, L_simple, large | 4.90 – –
    """,
    "ddpm_table4": """
        rate RMSE
        reverse step 1000 | 1.77581 0.95136
        reverse step 900 | 0.11994 12.02277
        reverse step 800 | 0.05415 18.47482
        reverse step 700 | 0.02866 24.43656
        reverse step 600 | 0.01507 30.80948
        reverse step 500 | 0.00716 38.03236
        reverse step 400 | 0.00282 46.12765
        reverse step 300 | 0.00081 54.18826
        reverse step 200 | 0.00013 60.97170
        reverse step 100 | 0.00000 67.60125
    """,
    "ddpm_split": """
        rate distortion RMSE
        DDPM, L_simple | 1.78 1.97 0.95
    """,
    "improved_cifar10": """
        NLL FID
        T = 1000, linear, L_simple | 3.73 3.29
        T = 4000, linear, L_simple | 3.37 2.90
        T = 4000, linear, L_hybrid | 3.26 3.07
        T = 4000, cosine, L_simple | 3.26 3.05
        T = 4000, cosine, L_hybrid | 3.17 3.19
        T = 4000, cosine, L_vlb | 2.94 11.47
    """,
    "improved_imagenet64": """
        NLL FID
        T = 1000, linear, L_simple, 200,000 steps | 3.99 32.5
        T = 4000, linear, L_simple, 200,000 steps | 3.77 31.3
        T = 4000, linear, L_hybrid, 200,000 steps | 3.66 32.2
        T = 4000, cosine, L_simple, 200,000 steps | 3.68 27.0
        T = 4000, cosine, L_hybrid, 200,000 steps | 3.62 28.0
        T = 4000, cosine, L_vlb, 200,000 steps | 3.57 56.7
        T = 4000, cosine, L_hybrid, 1,500,000 steps | 3.57 19.2
        T = 4000, cosine, L_vlb, 1,500,000 steps | 3.53 40.1
    """,
    "ddim_table1": """
        10 20 50 100 1000
        eta = 0 | 13.36 6.84 4.67 4.16 4.04
        eta = 0.2 | 14.04 7.11 4.77 4.25 4.09
        eta = 0.5 | 16.66 8.35 5.25 4.46 4.29
        eta = 1 | 41.07 18.36 8.01 5.78 4.73
        sigma-hat | 367.43 133.37 32.72 9.99 3.17
    """,
    "ddim_table1_celeba64": """
        10 20 50 100 1000
        eta = 0 | 17.33 13.73 9.17 6.53 3.51
        eta = 0.2 | 17.66 14.11 9.51 6.79 3.64
        eta = 0.5 | 19.86 16.06 11.01 8.09 4.28
        eta = 1 | 33.12 26.03 18.48 13.93 5.98
        sigma-hat | 299.71 183.83 71.71 45.20 3.26
    """,
}
"""Table -> its columns, then a line a row; "." where the paper's table is empty."""

OTHER_MODELS = {
    "ddpm_table1": {line.split(" | ")[0].strip() for line in VALUES["ddpm_table1"].splitlines()[2:16]},
    "ddpm_table3": {"ProgressiveGAN", "StyleGAN (Church, Cat: as reported by StyleGAN2)", "StyleGAN2"},
}
NO_CONFIG = {("ddpm_table3", "DDPM, L_simple, large", "Church"), ("ddpm_table3", "DDPM, L_simple, large", "Cat")}
"""Cells that the paper leaves blank because no such model was trained."""


def test_every_table_is_typed_here():
    assert VALUES.keys() == TABLES.keys()


@pytest.mark.parametrize("name", TABLES)
def test_values_are_those_of_the_paper(name):
    head, *lines = [line.strip() for line in VALUES[name].strip().splitlines()]
    assert len(TABLES[name].columns) == len(head.split())
    typed = {label: values.split() for label, values in (line.split(" | ") for line in lines)}
    printed = {
        row.label: [row.cells[c].printed.replace(" ", "") if c in row.cells else "." for c in TABLES[name].columns]
        for row in TABLES[name].rows
    }
    assert list(printed) == list(typed) and printed == typed


def test_milestones_are_those_of_the_independent_run():
    assert expected_loss_and_fid_by_step.LOSS == (
        (46_800, 0.0295), (93_600, 0.0293), (187_200, 0.0291), (421_200, 0.0284), (795_600, 0.0277)
    )  # fmt: skip
    assert expected_loss_and_fid_by_step.FID == (
        (46_800, 9.162), (93_600, 5.778), (187_200, 4.083), (421_200, 3.310), (795_600, 3.188)
    )  # fmt: skip


CELLS = [(table.name, row, column, cell) for table in TABLES.values() for row, column, cell in table.cells()]


def test_only_other_models_have_no_measure():
    unmeasured = {(name, row.label, column) for name, row, column, cell in CELLS if cell.measure is None}
    others = {(name, row.label, c) for name, row, c, _ in CELLS if row.label in OTHER_MODELS.get(name, ())}
    assert unmeasured == others | NO_CONFIG


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_names_a_config_and_a_command(name):
    """The config exists and is valid; the train command gives it, and the evaluate command has flags of the script."""
    known = flags_of("scripts/evaluate.py")
    for _, row, column, cell in (c for c in CELLS if c[0] == name and c[3].measure):
        measure, place = cell.measure, (name, row.label, column)
        experiment = measure.experiment
        command, script, *flags = shlex.split(reproduce.train(experiment, Path("runs/x")))
        flag = config_flag.ConfigFlag("")
        assert (command, script) == ("python", "scripts/train.py"), place
        assert flag.parse(script, flags) == ["--workdir=runs/x"], place
        config = flag.value
        assert config_hash(config) == config_hash(experiment.resolve()), place
        evaluate = shlex.split(reproduce.evaluate(measure, Path("runs/x"), 7))
        assert evaluate[:4] == ["python", "scripts/evaluate.py", "--workdir=runs/x", "--step=7"], place
        assert {flag.removeprefix("--").partition("=")[0] for flag in evaluate[4:]} <= known, place
        asked = dict(flag.removeprefix("--").partition("=")[::2] for flag in evaluate[4:])
        assert asked["metrics"] == measure.metric, place
        usual = {"sampler": config.sample.sampler, "grid": config.sample.grid or "full", "split": "test"}
        for key, value in measure.chain.items():
            name_of_flag = key.removeprefix("reference.")
            assert asked.get(name_of_flag, usual.get(name_of_flag)) == (
                f"{value:g}" if isinstance(value, float) else value
            ), place
        assert asked.get("n", str(measure.images)) == str(measure.images), place
