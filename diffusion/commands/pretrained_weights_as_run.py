"""Weights that come with the repository: pretrained/<name>/ holds a config.json, weights.safetensors and a card.

A name becomes a run's folder, runs/<name>_pretrained, which every script reads. Made from a run by `pack`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from diffusion.commands.import_weights import shapes, write_run
from diffusion.config.config_dict import differences
from diffusion.config.keys_with_legal_values import RESUMABLE
from diffusion.config.misspelt_names import suggestion
from diffusion.convert import name_mapping, safetensors_file
from diffusion.experiment import build, load_run
from diffusion.figures.figure_data import curve_data
from diffusion.runtime import format_numbers
from diffusion.runtime.atomic_files import atomic_path, read_json, write_json
from diffusion.runtime.file_lock import exclusive
from diffusion.training import compare_with_recorded_curve
from diffusion.workdir import metrics_jsonl_files
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.run_config import read_run

WEIGHTS, CARD = "weights.safetensors", "README.md"


def names() -> dict[str, str]:
    """Name -> the first line of its card, of all shipped weights."""
    cards = sorted(compare_with_recorded_curve.HOME.glob(f"*/{CARD}"))
    return {card.parent.name: card.read_text().splitlines()[0].lstrip("# ") for card in cards}


def of_flag(name: str, report: Callable[[str], None]) -> Path:
    """What --pretrained=name stands for; with ? the names are printed and the process ends."""
    if name == "?":
        print("\n".join(f"{known}: {line}" for known, line in names().items()))
        raise SystemExit(0)
    return unpack(name, report)


def unpack(name: str, report: Callable[[str], None]) -> Path:
    """The folder of a run with these weights, runs/<name>_pretrained; made where it is not there yet.

    Raises ValueError for an unknown name, with the known ones, where the files are damaged, and where the folder was
    made of other files, such as those of another version of the repository.
    """
    if name not in (known := names()):
        hint = suggestion(name, known)
        raise ValueError(f"--pretrained={name}: no such weights come with the repository; {hint}")
    folder, shipped = Path("runs") / f"{name}_pretrained", compare_with_recorded_curve.HOME / name
    digests = {key: manifest.hash_file(shipped / key) for key in (WEIGHTS, "config.json")}
    if not manifest.newest(folder):
        run = read_run(shipped)
        tensors, step = safetensors_file.read(shipped / WEIGHTS)
        if {key: x.shape for key, x in tensors.items()} != shapes(run):
            raise ValueError(f"{shipped}: the weights are not those of its config; restore both from the repository")
        params, experiment = name_mapping.nest(tensors), build.experiment(run.config, run.shape, run.classes)
        origin = {"from": "pretrained", "name": name, "sha256": digests, "step": step}
        with exclusive(folder / "lock", str(folder), "", wait=True):  # several processes may want it at once
            if not manifest.newest(folder):
                write_run(folder, experiment, run, step, params, params, origin)
                report(f"weights     pretrained/{name}, step {step}: {folder}")
    if read_json(folder / "imported.json").get("sha256") != digests:
        raise ValueError(f"{folder} was made of other weights than {shipped}: move it away, and it is made again")
    return folder


def pack(
    folder: Path,
    out: Path,
    step: int | None,
    raw: bool,
    report: Callable[[str], None],
    seeds: Sequence[Path] = (),
) -> None:
    """Writes a run's weights, averaged or raw, as pretrained weights: float16, config.json, the curve of its training,
    and a card to be completed.

    `seeds` are folders of runs of the same config with other seeds, whose losses widen the curve's band. Raises
    ValueError where `out` exists or one of them has another config; nothing is written then.
    """
    if out.exists():
        raise ValueError(f"{out} exists already: give an --out that does not")
    run = read_run(folder)
    for path in seeds:
        other = read_run(path).config
        if not compare_with_recorded_curve.same_but_seed(run.config, other):
            keys = [key for key, *_ in differences(run.config, other) if key not in RESUMABLE and key != "seed"]
            raise ValueError(f"--seeds: {path} and {folder} differ in config.{', config.'.join(keys)}: leave it out")
    trained = metrics_jsonl_files.exist(folder)  # not where weights were imported
    table = compare_with_recorded_curve.rows([curve_data.metrics(path) for path in (folder, *seeds)]) if trained else []
    _, params, chosen = load_run.load(folder, run, step, raw)
    tensors = {name: np.asarray(leaf) for name, leaf in name_mapping.flatten(jax.device_get(params)).items()}
    tensors = {name: tensors[name] for name in shapes(run)}  # without the condition of data.augment: samples have none
    with atomic_path(out) as temporary:
        temporary.mkdir()
        content = manifest.load(folder / "config.json")
        content["config"]["data"]["dir"] = ""  # a place on the machine that trained
        write_json(temporary / "config.json", manifest.with_hash(content))
        safetensors_file.write(temporary / WEIGHTS, tensors, chosen)
        if table:
            compare_with_recorded_curve.write(temporary / compare_with_recorded_curve.NAME, table)
        (temporary / CARD).write_text(f"# {out.name}: step {chosen} of {run.config.data.name}\n")
    report(
        f"weights     {'raw' if raw else 'averaged'} weights of step {chosen}, {format_numbers.count(params):,} numbers"
    )
    report(f"folder      {out}: complete {CARD}, and copy the folder to pretrained/ for --pretrained={out.name}")
