"""Two starts of a run between which its data changed or moved: the scripts as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion.commands import evaluate, train, train_classifier
from diffusion.config import config_files
from diffusion.config.config_dict import config_hash
from diffusion.experiment import load_run
from diffusion.runtime.config_flag import ConfigFlag
from diffusion.runtime.workdir_and_data_flags import PLACES, DataFlags
from diffusion.workdir import run_config
from diffusion.workdir import verify_checkpoint_manifest as manifest

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]
TINY = {"diffusion.T": 20, "net.channels": 4, "net.multipliers": (1,), "net.attention": (), "train.batch_size": 8}
TINY |= {"train.steps": 2, "eval.final": False, "sample.n": 4, "data.name": "folder:d", "train.eval_every": 0}
TINY |= {"train.sample_every": 0}
LABELLED = {**TINY, "net.class_conditional": True}


def script(name, *args, cwd):
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=300)


def flags(values):
    """The command line of a config; an empty or a short tuple is written as Python writes it."""
    return [f"--config={ROOT / 'configs' / 'digits.py'}", *(f"--config.{key}={value}" for key, value in values.items())]


def config_of(values):
    config = config_files.load(ROOT / "configs" / "digits.py")
    config.update_from_flattened_dict(values)
    return config


def ignore(line):
    """A report that prints nothing."""


class Started(Exception):
    """Raised by a report once a run has resumed: before anything is compiled."""


def start(folder, values, **options):
    """The start-up report of a run that resumes."""
    lines: list[str] = []

    def report(line):
        lines.append(line)
        if line.startswith("plan"):
            raise Started

    with pytest.raises(Started):
        train.run(config_of(values), folder, report, **options)
    return lines


def draw(folder, seed=0, names=("cat", "dog")):
    rng = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(40):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / name / f"{i}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, unoptimized):  # noqa: ARG001
    """A working directory with the folder d, a class-conditional run r and a classifier c, both of folder:d."""
    home = tmp_path_factory.mktemp("home")
    draw(home / "d")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for run_in, values, folder in ((train.run, LABELLED, "r"), (train_classifier.run, TINY, "c")):
            lines: list[str] = []
            run_in(config_of(values), home / folder, lines.append)
            (home / f"{folder}.txt").write_text("".join(f"{line}\n" for line in lines))
    return home


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    """A copy of it all, in which the test works."""
    shutil.copytree(trained, tmp_path / "home", symlinks=True)
    monkeypatch.chdir(tmp_path / "home")
    for name in ("r", "c"):  # as if all had been made here
        path = tmp_path / "home" / name / "config.json"
        content = manifest.load(path)
        content["config"]["data"]["name"] = f"folder:{tmp_path / 'home' / 'd'}"
        path.write_text(json.dumps(manifest.with_hash(content)))
    return tmp_path / "home"


def test_config_json_and_report_state_what_the_data_are(trained):
    stored = json.loads((trained / "r" / "config.json").read_text())
    identity = stored["data"]["identity"]
    assert identity["classes"] == ["cat", "dog"] and identity["images"] + identity["held_out"] == 80
    assert (
        identity["shape"] == [8, 8, 1] and identity["of"] == "content and file names" and len(identity["digest"]) == 16
    )
    assert stored["config"]["data"]["name"] == f"folder:{trained / 'd'}"  # resolved when the run was made
    for report in ("r.txt", "c.txt"):
        assert "classes     cat, dog\n" in (trained / report).read_text()


def add_class(d):
    shutil.copytree(d / "cat", d / "bird")


def rename_class(d):
    (d / "dog").rename(d / "Adog")


def remove_half(d):
    for i in range(20):
        (d / "cat" / f"{i}.png").unlink()


def replace(d):
    draw(d, seed=1)


CHANGES = {
    add_class: "has 3 classes, bird, cat, dog, and the run learned the labels of 2: cat, dog; restore the data",
    rename_class: "classes cat, dog then and Adog, cat now",
    remove_half: "training images then and",
    replace: "the same number of images, but other content",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_data_are_refused_and_the_run_stays_as_it_was(home, change):
    before = [(home / name / "config.json").read_bytes() for name in ("r", "c")]
    change(home / "d")
    with pytest.raises(ValueError, match=CHANGES[change]):
        train.run(config_of({**LABELLED, "train.steps": 4}), home / "r", ignore)
    with pytest.raises(ValueError, match=CHANGES[change]):
        train_classifier.run(config_of({**TINY, "train.steps": 4}), home / "c", ignore)
    with pytest.raises(ValueError, match=CHANGES[change]):
        load_run.data(run_config.read_run(home / "r"))
    assert [(home / name / "config.json").read_bytes() for name in ("r", "c")] == before


def test_a_refused_start_leaves_a_run_that_can_be_sampled_by_class(home):
    """What a user sees: status 2 and one line; then a sample of a class by its name."""
    add_class(home / "d")
    done = script("train.py", *flags(LABELLED), "--workdir=r", cwd=home)
    assert done.returncode == 2 and "has 3 classes" in done.stderr.splitlines()[-1], done.stderr
    done = script("sample.py", "--workdir=r", "--label=dog", "--n=2", "--steps=2", cwd=home)
    assert done.returncode == 0 and "label_1" in done.stdout, done.stderr


def test_accepted_data_replace_the_identity(home):
    before = run_config.read_run(home / "r").identity
    replace(home / "d")
    lines = start(home / "r", LABELLED, accept=True)
    assert [line for line in lines if "but other content and file names; accepted" in line]
    after = run_config.read_run(home / "r").identity
    assert after.digest != before.digest and after[:4] == before[:4]
    load_run.data(run_config.read_run(home / "r"))


def test_other_labels_cannot_be_accepted(home):
    add_class(home / "d")
    for config, folder, resume in (
        (LABELLED, "r", lambda *rest: train.run(*rest, accept=True)),
        (TINY, "c", lambda *rest: train_classifier.run(*rest, accept=True)),
    ):
        with pytest.raises(ValueError, match="has 3 classes"):
            resume(config_of({**config, "train.steps": 4}), home / folder, ignore)


def test_data_may_move_while_a_run_rests(home):
    """Resumed and evaluated with the data elsewhere, however the place is written."""
    name, stored = config_hash(run_config.read_run(home / "r").config), run_config.read_run(home / "r").identity
    shutil.move(home / "d", home / "moved")
    with pytest.raises(ValueError, match="no such folder of images"):
        load_run.data(run_config.read_run(home / "r"))
    for place in ("folder:moved", "folder:./moved/", f"folder:{home / 'moved'}"):
        assert load_run.data(run_config.read_run(home / "r"), DataFlags(places={"data.name": place})).identity == stored
    lines = start(home / "r", {**LABELLED, "data.name": "folder:moved/"})
    assert any("resumed from step 2" in line for line in lines)
    again = run_config.read_run(home / "r")
    assert again.config.data.name == f"folder:{home / 'moved'}" and again.identity == stored
    assert config_hash(again.config) == name


def test_a_folder_of_the_same_name_elsewhere_is_not_taken(home, monkeypatch):
    elsewhere = home.parent / "elsewhere"
    draw(elsewhere / "d", seed=5)
    monkeypatch.chdir(elsewhere)
    assert load_run.data(run_config.read_run(home / "r")).identity == run_config.read_run(home / "r").identity
    with pytest.raises(ValueError, match=r"not those that the run was made with.*--data_changed=accept"):
        load_run.data(run_config.read_run(home / "r"), DataFlags(places={"data.name": "folder:d"}))


def test_every_protocol_states_the_identity(home):
    """The number is one of today's data, which an accepted change may have made others than the run's."""
    replace(home / "d")
    request = evaluate.Request(("nll",), n=4, chain=evaluate.Chain(grid="2"), data=DataFlags(accept=True))
    with pytest.warns(UserWarning, match="accepted"):
        plan = evaluate.prepare(home / "r", run_config.read_run(home / "r"), request)
    from tests.evaluation.test_evaluate import quiet

    (measured,) = evaluate.run(plan, quiet)
    stated = json.loads(measured.path.read_text())["protocol"]["data_identity"]
    assert stated == str(plan.subject.data) and plan.subject.data.digest in stated
    assert stated != str(run_config.read_run(home / "r").identity)


def test_only_the_place_of_a_runs_data_may_be_set(home):
    with pytest.raises(ValueError, match=r"the run is of 'folder:.*', and 'digits' is another data set"):
        load_run.data(run_config.read_run(home / "r"), DataFlags(places={"data.name": "digits"}))
    with pytest.raises(ValueError, match=r"config\.net\.channels is fixed in a run"):
        ConfigFlag(None, PLACES).parse("evaluate.py", ["--config.net.channels=8"])


def without_identity(folder, **changes):
    """config.json as older versions wrote it."""
    path = folder / "config.json"
    content = manifest.load(path)
    del content["data"]["identity"]
    for key in ("channels", "background"):
        del content["config"]["data"][key]
    content["config"]["data"] |= changes
    path.write_text(json.dumps(manifest.with_hash(content)))


def test_an_older_run_gets_an_identity_when_it_is_resumed(home):
    without_identity(home / "r", name="folder:d")  # relative, as it was given
    older = run_config.read_run(home / "r")
    assert older.identity is None and older.class_names == ("0", "1")
    with pytest.warns(UserWarning, match=r"stores no identity of its data.*Other images of the folder may be held out"):
        data = load_run.data(older)
    lines = start(home / "r", LABELLED)
    (line,) = [line for line in lines if "no identity" in line]
    assert line.endswith(f"they are {data.identity}. Other images of the folder may be held out now")
    assert run_config.read_run(home / "r").identity == data.identity


def test_an_older_run_with_other_classes_is_refused_too(home):
    without_identity(home / "r")
    add_class(home / "d")
    with pytest.raises(ValueError, match="has 3 classes, bird, cat, dog, and the run learned the labels of 2;"):
        train.run(config_of(LABELLED), home / "r", ignore)


def test_an_older_run_of_numbered_classes_does_not_get_other_labels(home):
    """Older versions sorted "10" before "2"."""
    without_identity(home / "r")
    (home / "d" / "cat").rename(home / "d" / "10")
    (home / "d" / "dog").rename(home / "d" / "2")
    with pytest.raises(ValueError, match=r"sorted classes as text, 10, 2; today's order is 2, 10"):
        load_run.data(run_config.read_run(home / "r"))
    with pytest.warns(UserWarning, match="no identity"):
        load_run.data(run_config.read_run(home / "r"), DataFlags(accept=True))
