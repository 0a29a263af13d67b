"""A run of a network that ignores some keys: they are remarked on, and no result claims them."""

import json
from pathlib import Path

import pytest

from diffusion.commands import train
from diffusion.config import config_files

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]
IGNORED = {"net.dtype": "bfloat16", "net.remat": True, "net.convention": "improved"}


def test_a_run_of_the_mlp_claims_neither_bfloat16_nor_what_else_it_ignores(tmp_path):
    config = config_files.load(ROOT / "configs" / "toy2d.py")
    tiny = {"diffusion.T": 4, "net.channels": 8, "net.blocks": 1, "train.steps": 2, "train.batch_size": 16}
    small = {"eval.n": 16, "eval.batch_size": 16, "eval.quick_n": 16, "eval.quick_steps": 2, "train.eval_every": 2}
    drawn = {"sample.n": 16, "sample.batch_size": 16, "train.sample_every": 0, "compilation_cache": "off"}
    config.update_from_flattened_dict({**tiny, **small, **drawn, **IGNORED})
    lines: list[str] = []
    train.run(config, tmp_path, lines.append)
    for key, value in IGNORED.items():
        (line,) = [line for line in lines if key in line]
        assert line == f"remark      {key} = {value!r} has no effect where net.name is 'mlp'"
    results = {path: json.loads(path.read_text()) for path in (tmp_path / "eval").glob("*.json")}
    assert {content["name"] for content in results.values()} >= {"nll"}
    for path, content in results.items():
        assert content["protocol"]["precision"].startswith("float32, "), path
        assert "bfloat16" not in path.read_text() and not {"remat", "convention"} & content["protocol"].keys()
