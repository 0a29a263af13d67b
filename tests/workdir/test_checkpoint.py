"""Checkpoints under every fault: damaged, unfinished, of another state, on a full disk; and the folder they lie in."""

import gc
import json
import logging
import resource
import shutil
import warnings
from contextlib import closing, contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from diffusion.commands import checkpoints as checkpoints_command
from diffusion.config import default_config
from diffusion.runtime.short_error_text import reason
from diffusion.workdir import jsonl_and_tensorboard_writer, result_files, run_config
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.jsonl_and_tensorboard_writer import Writer
from diffusion.workdir.kept_and_resumed_checkpoints import PermanentCheckpoints, RunCheckpoints
from diffusion.workdir.result_files import Result
from tests.stress import corrupt
from tests.stress.corrupt import State, bits, state_of


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run's folder with steps 10, 20, 30 and a kept 15."""
    folder = tmp_path_factory.mktemp("good") / "run"
    corrupt.build(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(good, tmp_path / "run"))


def silent(line):
    """Says nothing."""
    assert line


def resumed(folder):
    """The state that a run would go on from, and what it says before."""
    said = []
    with closing(RunCheckpoints(folder)) as streams:
        return streams.resume(state_of(0), said.append), said


def events(folder):
    """What TensorBoard's files hold at this moment."""
    return b"".join(path.read_bytes() for path in (folder / "tensorboard").iterdir())


@contextmanager
def no_room(size=2000):
    """Writes beyond `size` bytes a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ------------------------------------------------------------------------------------------------------------ manifest


def test_every_file_is_in_the_manifest_and_the_newest_are_kept(tmp_path):
    with closing(Checkpoints(tmp_path / "c", keep=2, about={"hash": "abc"})) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state_of(step), {"window": [step]})
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["2", "3"]
    content = manifest.read(tmp_path / "c" / "3")
    there = {p.relative_to(tmp_path / "c" / "3").as_posix() for p in (tmp_path / "c" / "3").rglob("*") if p.is_file()}
    assert set(content["files"]) == {name for name in there if name.startswith("default/")} and len(there) > 5
    assert content["step"] == 3 and content["note"] == {"window": [3]} and content["hash"] == "abc"
    assert content["arrays"]["params/kernel"] == ["float32", [40, 50]]
    with closing(Checkpoints(tmp_path / "c")) as again:
        assert again.note(3) == {"window": [3]} and again.note(7) == {}
        assert bits(again.restore(3, state_of(0))) == bits(state_of(3))


def test_every_single_file_counts(folder):
    """A bit flipped anywhere, any file cut or gone: the step is skipped for it, in one line that names the file."""
    newest = folder / "checkpoints" / "30"
    paths = [newest / "manifest.json", *(path for path in sorted(newest.glob("*/**/*")) if path.is_file())]
    assert len(paths) > 6
    for path in paths:
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :] if content else b"x"
        for change in (None, content[:middle] if content else None, flipped):
            path.unlink() if change is None else path.write_bytes(change)
            fault = manifest.fault(newest)
            assert path.name in fault and "\n" not in fault
            path.write_bytes(content)
    assert manifest.fault(newest) == ""


def test_an_edited_manifest_is_damaged(folder):
    """Although it still parses, and all files are those that it names."""
    path = folder / "checkpoints" / "30" / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "step": 31}))
    assert "manifest.json is damaged (its content is not what was written)" in manifest.fault(path.parent)
    path.write_text(json.dumps(content))
    assert manifest.fault(path.parent) == ""


def test_a_flipped_bit_in_the_weights_is_skipped_and_said(folder):
    data = max((folder / "checkpoints" / "30").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    state, said = resumed(folder)
    assert bits(state) == bits(state_of(20))
    (line,) = said
    name = data.relative_to(folder / "checkpoints" / "30").as_posix()
    assert line.startswith("skipped     checkpoint ") and f"30 cannot be restored ({name} has other bytes than" in line


def test_random_damage_never_gives_another_state():
    ends = corrupt.run(12, seed=3)
    assert sum(ends.values()) == 12 and len(ends) > 2


def test_a_step_without_manifest_is_damaged(folder):
    (folder / "checkpoints" / "30" / "manifest.json").unlink()
    state, said = resumed(folder)
    assert int(state.step) == 20 and "30 cannot be restored (it was not finished" in said[0]
    with closing(Checkpoints(folder / "checkpoints", keep=1)) as checkpoints:
        checkpoints.save(40, state_of(40))
        checkpoints.wait()
        assert checkpoints.steps() == [30, 40]  # nothing that is damaged is deleted
    with closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        checkpoints.save(30, state_of(30))
    assert manifest.fault(folder / "checkpoints" / "30") == "" and (folder / "checkpoints" / "damaged" / "30").is_dir()


def test_a_step_gets_its_name_after_its_manifest(tmp_path, monkeypatch):
    """A process killed at any moment leaves a whole step, or a temporary folder that the next save deletes."""
    real, seen = manifest.write, []

    def write(folder, content):
        seen.append(sorted(path.name for path in (tmp_path / "c").iterdir()))
        real(folder, content)

    monkeypatch.setattr(manifest, "write", write)
    (tmp_path / "c" / "7.orbax-checkpoint-tmp").mkdir(parents=True)
    with closing(Checkpoints(tmp_path / "c", keep=1)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state_of(step))
    assert seen == [["1.orbax-checkpoint-tmp"], ["1", "2.orbax-checkpoint-tmp"]]
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["2"]


def test_a_step_under_another_name_is_not_that_step(folder):
    (folder / "checkpoints" / "30").rename(folder / "checkpoints" / "40")
    state, said = resumed(folder)
    assert int(state.step) == 20 and "40 cannot be restored (it is step 30 under another name)" in said[0]


def test_another_versions_state_is_one_line(folder):
    like = state_of(0)._replace(params={"kernel": jnp.zeros((40, 60)), "bias": jnp.zeros(7)})
    with closing(RunCheckpoints(folder)) as streams, pytest.raises(ValueError) as error:
        streams.resume(like, silent)
    assert "kernel is float32 [40, 50] in it instead of float32 [40, 60]" in str(error.value)
    more = state_of(0)._replace(params={**state_of(0).params, "scale": jnp.zeros(3)})
    absent = r"scale is absent in it instead of float32 \[3\].*steps present: \[10, 20, 30\]"
    with closing(Checkpoints(folder / "checkpoints")) as checkpoints, pytest.raises(ValueError, match=absent):
        checkpoints.restore(30, more)


def test_kept_steps_are_gone_on_from_when_no_other_is_left(folder):
    shutil.rmtree(folder / "checkpoints")
    assert bits(resumed(folder)[0]) == bits(state_of(15))
    with closing(RunCheckpoints(folder)) as streams:
        assert streams.load(lambda: state_of(0), 15, print)[1] == 15
        with pytest.raises(ValueError, match="no checkpoint of step 30; it has 15"):
            streams.load(lambda: state_of(0), 30, print)


def test_a_run_does_not_start_over_unasked(tmp_path):
    (tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir(parents=True)
    assert resumed(tmp_path)[0] is None  # killed in its first save: nothing was lost
    with closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints:
        checkpoints.save(5, state_of(5))
    (tmp_path / "checkpoints" / "5" / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"holds no intact checkpoint \(checkpoint .*it was not finished"):
        resumed(tmp_path)


def test_evidence_is_moved_aside_and_never_overwritten(folder):
    for text in ("first", "second"):
        (folder / "checkpoints" / "30" / "default" / "manifest.ocdbt").write_text(text)
        with closing(RunCheckpoints(folder, 3)) as streams:
            assert int(streams.resume(state_of(0), silent).step) == 20
            assert (folder / "checkpoints" / "30").exists()  # nothing is touched before its number is needed
            streams.rolling.save(30, state_of(30))
    aside = folder / "checkpoints" / "damaged"
    assert sorted(path.name for path in aside.iterdir()) == ["30", "30.1"]
    assert [(aside / name / "default" / "manifest.ocdbt").read_text() for name in ("30", "30.1")] == ["first", "second"]
    assert bits(resumed(folder)[0]) == bits(state_of(30))


def test_damaged_steps_are_not_counted_among_the_kept(folder):
    for step in (20, 30):
        (folder / "checkpoints" / str(step) / "default" / "manifest.ocdbt").unlink()
    with closing(RunCheckpoints(folder, 2)) as streams:
        assert int(streams.resume(state_of(0), silent).step) == 15
        streams.rolling.save(35, state_of(35))
    assert sorted(int(p.name) for p in (folder / "checkpoints").iterdir()) == [10, 20, 30, 35]


def test_what_is_kept_for_good(tmp_path):
    """Every 20th step, and the best of all."""
    scores = {10: 5.0, 20: 4.8, 30: 4.5, 40: 4.6, 50: 4.4, 60: 4.7}
    with closing(PermanentCheckpoints(tmp_path / "kept")) as kept:
        for step, score in scores.items():
            if step % 20 == 0 or score < kept.best():
                kept.save(step, state_of(step), {"every": step % 20 == 0, "score": score})
                kept.wait()
        assert kept.steps() == [20, 40, 50, 60] and kept.best() == 4.4


# ------------------------------------------------------------------------------------------------------------ full disk


def test_a_full_disk_costs_no_earlier_checkpoint_and_is_tried_again(tmp_path, capfd):
    with closing(Checkpoints(tmp_path / "c", keep=1)) as checkpoints:
        checkpoints.save(1, state_of(1))
        checkpoints.wait()
        with no_room():
            checkpoints.save(2, state_of(2))
            checkpoints.wait()
        (line,) = checkpoints.news()
        assert line.startswith("WARNING     the state of step 2 could not be saved (") and "\n" not in line
        assert line.endswith("the newest one is that of step 1") and checkpoints.news() == []
        assert checkpoints.steps() == [1] and not checkpoints.saved(2)
        with no_room(), pytest.raises(ValueError, match=r"step 2 could not be saved .*; make room and start again"):
            checkpoints.require(2, state_of(2))
        checkpoints.require(2, state_of(2))
        assert [path.name for path in (tmp_path / "c").iterdir()] == ["2"]  # no half of one takes room
        assert bits(checkpoints.restore(2, state_of(0))) == bits(state_of(2))
    assert "Traceback" not in capfd.readouterr().err


def test_a_last_state_is_saved_by_a_second_attempt(tmp_path, monkeypatch):
    """Where the first one fails for a moment: what a stopped run would lose is all since its last checkpoint."""
    real, attempts = manifest.write, []

    def write(folder, content):
        attempts.append(content["step"])
        if len(attempts) == 1:
            raise OSError(28, "No space left on device")
        real(folder, content)

    monkeypatch.setattr(manifest, "write", write)
    with closing(Checkpoints(tmp_path / "c")) as checkpoints:
        checkpoints.require(1, state_of(1))
        assert checkpoints.steps() == [1] and attempts == [1, 1]


def test_a_failure_at_the_end_is_returned_on_closing(tmp_path):
    """Of a permanent checkpoint of the last step, which nobody waits for."""
    streams = RunCheckpoints(tmp_path)
    streams.rolling.save(1, state_of(1))
    streams.rolling.wait()
    with no_room():
        streams.permanent.save(1, state_of(1), {"score": 3.0})
        (line,) = streams.close()
    assert line.startswith("WARNING     the state of step 1 could not be saved (") and streams.close() == []


def test_other_errors_are_still_logged(tmp_path, caplog):
    """Only Orbax's tracebacks are dropped: not its messages, and nothing of anybody else."""
    logger, level = logging.getLogger("absl"), logging.getLogger("absl").level
    with closing(Checkpoints(tmp_path / "c")) as checkpoints:
        checkpoints.save(1, state_of(1))
    assert logger.level == level
    traceback = (ValueError, ValueError(), None)
    for message, exc_info in (("of Orbax", None), ("traceback of Orbax", traceback)):
        orbax_file = orbax.checkpoint.__file__
        logger.handle(logging.LogRecord("absl", logging.ERROR, orbax_file, 1, message, (), exc_info))
    logger.error("of another library", exc_info=traceback)
    assert [message for _, _, message in caplog.record_tuples] == ["of Orbax", "of another library"]


def test_metrics_that_find_no_room_are_written_later(tmp_path):
    with closing(Writer(tmp_path, 0)) as writer:
        writer.scalars(1, {"train/loss": 1.0})
        with no_room((tmp_path / "metrics.jsonl").stat().st_size), pytest.raises(OSError):
            writer.scalars(2, {"train/loss": 0.5})
        writer.scalars(3, {"train/loss": 0.25})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert events(tmp_path).count(b"train/loss") == 3


# ------------------------------------------------------------------------------------------------------------- metrics


def test_tensorboard_has_what_belongs_to_a_checkpoint(tmp_path):
    """A killed process loses what its file buffers; a resumed run does not write it again."""
    with closing(Writer(tmp_path, 0)) as writer:
        writer.scalars(1, {"train/loss": 1.0})
        writer.sync()
        assert b"train/loss" in events(tmp_path)
        writer.scalars(2, {"train/mse": 1.0})
    writer.sync()  # a save that ends after the run's last line


def test_tensorboard_gets_all_values_of_a_line_at_once(tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 40))
    monkeypatch.setattr(jsonl_and_tensorboard_writer.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(jsonl_and_tensorboard_writer, "FLUSH_SECONDS", 100)
    with closing(Writer(tmp_path, 0)) as writer:
        for step in range(1, 9):
            writer.scalars(step, {name: 1.0 for name in ("train/a", "train/b", "train/c", "train/d", "train/e")})
            held = events(tmp_path)
            assert held.count(b"train/a") == held.count(b"train/e")


def test_the_grids_of_a_step_have_names_of_their_own_in_tensorboard(tmp_path):
    with closing(Writer(tmp_path, 0)) as writer:
        for kind in ("", "_raw", "_ancestral"):
            writer.grid(3, f"step_0000003{kind}", np.zeros((8, 8, 1), np.uint8))
    held = events(tmp_path)
    assert [held.count(name) for name in (b"samples", b"samples_raw", b"samples_ancestral")] == [3, 1, 1]


def test_a_metrics_file_with_damaged_lines_is_taken_up(tmp_path):
    good = [json.dumps({"step": step, "train/loss": 0.5}).encode() for step in (1, 2, 3)]
    bad = [
        b"\xff\xfe{",
        b"[1]",
        b'{"step": null}',
        b'{"step": 1' + b"0" * 400 + b"}",
        b"{",
        b'{"step": 3, "test/x": 1}',
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([good[0], *bad, good[1], good[2]]))
    with closing(Writer(tmp_path, 2)) as writer:
        assert writer.stored(2, "train/") == {"loss": 0.5} and writer.stored(1, "train/") == {}
    assert (tmp_path / "metrics.jsonl").read_bytes().splitlines() == good[:2]


# ---------------------------------------------------------------------------------------------------------- the folder

RUN = run_config.Run(default_config(), (8, 8, 1), 10)


def complete(folder, step, stream="checkpoints"):
    """A step without arrays, which is complete by its manifest."""
    (folder / stream / str(step)).mkdir(parents=True)
    manifest.write(folder / stream / str(step), {"step": step, "note": {}, **RUN.content})


def test_a_completed_checkpoint_claims_a_folder_and_nothing_else_does(tmp_path):
    """A refused start may leave config.json, and one that was killed an unfinished step."""
    other = RUN._replace(shape=(16, 16, 1))
    run_config.write_config(tmp_path, other, "1 x cpu")
    (tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp-1").mkdir(parents=True)
    (tmp_path / "checkpoints" / "damaged" / "5").mkdir(parents=True)
    assert not run_config.exists(tmp_path, RUN)
    run_config.write_config(tmp_path, RUN, "1 x cpu")
    for i, stream in enumerate(manifest.FOLDERS):
        complete(tmp_path / str(i), 0, stream)
        with pytest.warns(UserWarning, match=r"config.json is missing"):
            assert run_config.exists(tmp_path / str(i), RUN, classifier=stream == manifest.CLASSIFIER)
        with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"the shape of the data is \(8, 8, 1\) in"):
            run_config.exists(tmp_path / str(i), other, classifier=stream == manifest.CLASSIFIER)
        with pytest.raises(ValueError, match=r"holds a run of scripts/train(_classifier)?\.py; give another --workdir"):
            run_config.exists(tmp_path / str(i), RUN, classifier=stream != manifest.CLASSIFIER)


def test_config_json_is_written_with_the_first_checkpoint(tmp_path, monkeypatch):
    """Before that is complete, so that a folder with a checkpoint always has it; where it cannot be, none is saved."""
    seen = []

    def claim():
        seen.append(sorted(path.name for path in tmp_path.glob("c/[0-9]")))

    with closing(Checkpoints(tmp_path / "c", claim=claim)) as checkpoints:
        checkpoints.save(1, state_of(1))
        checkpoints.save(2, state_of(2))
    assert seen == [[], ["1"]]
    monkeypatch.setattr(run_config, "write_json", lambda *_, **__: write_fails())
    with closing(
        Checkpoints(tmp_path / "d", claim=lambda: run_config.write_config(tmp_path / "d", RUN, "1 x cpu"))
    ) as failing:
        failing.save(1, state_of(1))
        failing.wait()
        assert "No space left" in failing.news()[0] and failing.steps() == []


def write_fails():
    raise OSError(28, "No space left on device")


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    line = r"is in use by process \d+ on \S+: wait .* another --workdir"
    with run_config.lock(tmp_path / "run"), pytest.raises(ValueError, match=line), run_config.lock(tmp_path / "run"):
        pass
    with run_config.lock(tmp_path / "run"):  # what a process left behind is no obstacle
        assert "process" in (tmp_path / "run" / "lock").read_text()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match=r"cannot be written .*give another --workdir"),
        run_config.lock(tmp_path / "file"),
    ):
        pass
    (tmp_path / "run").mkdir()
    with no_room(10), pytest.raises(ValueError, match=r"cannot be written .*make room"):
        run_config.write_config(tmp_path / "run", RUN, "1 x cpu")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"config": {}}', "flip", "gone"])
def test_a_damaged_config_is_read_from_the_checkpoints(folder, content):
    path = folder / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"beta_T": 0.02', '"beta_T": 0.03') if content == "flip" else content)
    if content == "gone":
        path.unlink()
    with pytest.warns(UserWarning, match=r"config.json is .*: the copy in .*30/manifest.json is used"):
        assert run_config.read_run(folder) == RUN
    with pytest.warns(UserWarning):
        assert run_config.exists(folder, RUN)
    run_config.write_config(folder, RUN, "1 x cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run_config.read_run(folder) == RUN
    for stream in ("checkpoints", "kept"):
        shutil.rmtree(folder / stream)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged .*restore it, or give another --workdir"):
        run_config.read_run(folder)


def test_a_newer_versions_folder_is_refused(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_config, "FORMAT", run_config.FORMAT + 1)
        run_config.write_config(tmp_path, RUN, "1 x cpu")
    assert not run_config.exists(tmp_path, RUN)
    complete(tmp_path, 5)
    with pytest.raises(ValueError, match=r"was made by version .* whose folders this version .* update"):
        run_config.exists(tmp_path, RUN)


def test_a_systems_words_are_found_in_a_librarys():
    """What a full disk makes of a save is told as such, wherever a library has put it."""
    long = f"RESOURCE_EXHAUSTED: {'x' * 300}: Failed to write 201 bytes: No space left on device [os_error_code='28']"
    assert reason(ValueError(long)) == "No space left on device"
    assert reason(OSError(28, "No space left on device", "f")) == "No space left on device"
    assert reason(ValueError("a\nb" + "c" * 300)) == "a b" + "c" * 197
    assert (reason(KeyError()), reason(KeyError(35))) == ("KeyError", "no key 35")


def test_a_save_into_a_folder_that_is_gone_is_told_in_one_line_alone(tmp_path, capfd):
    """Orbax and what it leaves unfinished print tracebacks otherwise."""
    with closing(Checkpoints(tmp_path / "run" / "checkpoints")) as checkpoints:
        checkpoints.save(1, state_of(1))
        checkpoints.wait()
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").write_text("no folder")
        checkpoints.save(2, state_of(2))
        checkpoints.wait()
        (line,) = checkpoints.news()
    assert line.startswith("WARNING     the state of step 2 could not be saved (") and "\n" not in line
    gc.collect()
    assert "Traceback" not in capfd.readouterr().err


# ---------------------------------------------------------------------------------------------------------- the script


def test_the_table_of_checkpoints_tells_damaged_steps(folder, capsys):
    (folder / "checkpoints" / "30" / "default" / "manifest.ocdbt").write_text("damaged")
    (folder / "checkpoints" / "40.tmp" / "default").mkdir(parents=True)
    (folder / "checkpoints" / "40.tmp" / "default" / "part").write_text("unfinished")
    assert checkpoints_command.run(folder, verify=False) == 0
    assert capsys.readouterr().out.count("not checked") == 4
    assert checkpoints_command.run(folder, verify=True) == 1
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert [lines[step].split()[-1] for step in ("10", "15", "20")] == ["intact"] * 3
    assert "default/manifest.ocdbt has" in lines["30"] and "unfinished" in lines["40.tmp"]
    assert list(lines) == ["step", "10", "20", "30", "40.tmp", "15"]
    for name, status in (("30", 1), ("40.tmp", 0)):  # either of them is enough
        shutil.rmtree(folder / "checkpoints" / name)
        assert checkpoints_command.run(folder, verify=True) == status


def test_pruning_never_takes_the_last_intact_step(folder, capsys):
    (folder / "checkpoints" / "30" / "default" / "manifest.ocdbt").write_text("damaged")
    for removed in (1, 0):
        assert checkpoints_command.run(folder, verify=True, keep=1) == 1
        assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["20", "30"]
        assert capsys.readouterr().out.count("removed") == removed
    assert bits(resumed(folder)[0]) == bits(state_of(20)) and (folder / "kept" / "15").exists()


def test_the_steps_of_a_classifier_are_pruned_too(folder, capsys):
    shutil.move(folder / "checkpoints", folder / "classifier")
    checkpoints_command.run(folder, verify=False, keep=1)
    assert [path.name for path in (folder / "classifier").iterdir() if path.is_dir()] == ["30"]
    assert capsys.readouterr().out.count("removed") == 2


def test_scores_stand_beside_their_steps(folder, capsys):
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": step, "eval/bits_per_dim": 1 / step}) + "\n" for step in (10, 20))
        + '{"step": 30, "eval/bits'  # cut short by a crash
    )
    fid = Result("fid", {"fid": 3.2}, {}, {"step": 30, "images": 50000})
    result_files.write(folder, fid)
    checkpoints_command.run(folder, verify=False)
    lines = {line.split()[0]: line.partition("not checked")[2] for line in capsys.readouterr().out.splitlines()}
    assert [lines[step] for step in ("10", "15")] == ["; bits_per_dim 0.1", ""]
    assert [lines[step] for step in ("20", "30")] == ["; bits_per_dim 0.05 (the best)", "; fid 3.2 on 50000 images"]


def test_states_compare_to_the_bit():
    """What these tests compare by tells one bit, a key and a step apart."""
    one = state_of(1)
    assert isinstance(one, State) and bits(one) == bits(state_of(1))
    nudged = one._replace(params={**one.params, "kernel": one.params["kernel"].at[3, 4].multiply(1 + 2**-23)})
    assert bits(nudged) != bits(one) != bits(one._replace(key=jax.random.key(2)))
    assert np.asarray(nudged.params["kernel"]).nbytes == 8000
