"""A run's folder in a bucket, on real servers of both services: sealed steps, faults, metrics, listing, two writers."""

import json
import math
import threading
from contextlib import closing, contextmanager

import pytest

from diffusion.commands import checkpoints as checkpoints_command
from diffusion.runtime import bucket_path, bucket_requests
from diffusion.runtime.bucket_path import Bucket
from diffusion.workdir import metrics_jsonl_files
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.jsonl_and_tensorboard_writer import Writer
from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints
from tests.stress.corrupt import bits, state_of
from tests.support import buckets

service = buckets.services(pytest.param("gs", marks=pytest.mark.slow), "s3")
folder = buckets.folder


@contextmanager
def closed(gate, state, seconds):
    """The service does not answer for a while."""
    gate.state, before = state, gate.requests
    timer = threading.Timer(seconds, setattr, (gate, "state", buckets.OPEN))
    timer.start()
    try:
        yield
    finally:
        timer.join()
    assert gate.requests > before


def test_a_step_is_sealed_by_its_manifest_and_the_newest_are_kept(folder, tmp_path):
    with closing(Checkpoints(folder / "c", keep=2, about={"hash": "abc"})) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state_of(step), {"window": [step]})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
        (folder / "c" / "9" / "default" / "part").write_bytes(b"of a process that was killed")
        assert checkpoints.steps() == [2, 3] == manifest.steps(folder / "c")
        checkpoints.save(4, state_of(4))
        checkpoints.wait()
    assert sorted({name.split("/")[0] for name in (folder / "c").listing()}) == ["3", "4"]
    content = manifest.read(folder / "c" / "3")
    names = {name for name in (folder / "c" / "3").listing() if name.startswith("default/")}
    assert set(content["files"]) == names and len(content["files"]) > 5
    with closing(Checkpoints(folder / "c")) as again:
        assert again.note(3) == {"window": [3]}
        assert bits(again.restore(3, state_of(0))) == bits(state_of(3))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_who_reads_a_run_leaves_the_save_of_another_process_alone(folder, monkeypatch):
    """Such as scripts/sample.py beside the training, on one machine."""
    real = manifest.write

    def write(place, content):
        with closing(Checkpoints(folder / "c")) as reading:
            seen.append(bits(reading.restore(1, state_of(0))) == bits(state_of(1)))
        real(place, content)

    with closing(Checkpoints(folder / "c")) as training:
        training.save(1, state_of(1))
        training.wait()
        seen = []
        monkeypatch.setattr(manifest, "write", write)
        training.save(2, state_of(2))
        training.wait()
        assert seen == [True] and training.steps() == [1, 2] and training.news() == []


@pytest.mark.parametrize("last", [b"\r", b"\n", b"\r\n", b"\r\r", b""])
def test_an_object_is_what_was_written_whatever_its_last_byte(folder, last):
    """The emulator of gs:// once cut off a carriage return, which made one checkpoint in some 30 a damaged one."""
    (folder / "a").write_bytes(b"content" + last)
    assert (folder / "a").read_bytes() == b"content" + last


def test_a_damaged_step_is_skipped_and_moved_aside(folder):
    with closing(RunCheckpoints(folder)) as streams:
        for step in (1, 2):
            streams.rolling.save(step, state_of(step))
    data = max((folder / "checkpoints" / "2").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(bytes(content))
    said = []
    with closing(RunCheckpoints(folder)) as streams:
        assert bits(streams.resume(state_of(0), said.append)) == bits(state_of(1))
        assert len(said) == 1 and "has other bytes than were written" in said[0]
        streams.rolling.save(2, state_of(2))
        assert streams.rolling.saved(2)
    assert (
        manifest.fault(folder / "checkpoints" / "2") == "" != manifest.fault(folder / "checkpoints" / "damaged" / "2")
    )


def test_a_save_that_ends_before_its_manifest_costs_no_earlier_step(folder, monkeypatch):
    with closing(Checkpoints(folder / "c")) as checkpoints:
        checkpoints.save(1, state_of(1))
        checkpoints.wait()
        upload = Bucket.upload

        def broken(self, source, last=""):
            if self.name == manifest.NAME:
                raise OSError(5, "the line is cut")
            upload(self, source, last)

        monkeypatch.setattr(Bucket, "upload", broken)
        checkpoints.save(2, state_of(2))
        checkpoints.wait()
        (line,) = checkpoints.news()
        assert "step 2 could not be saved (the line is cut); the newest one is that of step 1" in line
        monkeypatch.undo()


@pytest.mark.parametrize("state", [buckets.BUSY, pytest.param(buckets.SILENT, marks=pytest.mark.slow)])
def test_a_service_that_does_not_answer_delays_a_save(folder, service, state, monkeypatch):
    monkeypatch.setitem(bucket_requests.OPTIONS, "gs", {"requests_timeout": 5})
    with closing(Checkpoints(folder / "c")) as checkpoints:
        checkpoints.save(1, state_of(1))
        checkpoints.wait()
        with closed(service.gate, state, 2):
            checkpoints.save(2, state_of(2))
        checkpoints.wait()
        assert checkpoints.news() == [] and checkpoints.steps() == [1, 2]


def test_metrics_are_parts_in_order_and_later_lines_are_dropped(folder, monkeypatch):
    monkeypatch.setattr(metrics_jsonl_files, "LARGEST", 40)
    with closing(Writer(folder, 0)) as writer:
        for step in range(1, 7):
            writer.scalars(step, {"train/loss": step / 2})
            writer.sync()
    assert len(list((folder / "metrics").glob("*"))) > 2
    for start in (4, 4):  # dropping twice is dropping once
        with closing(Writer(folder, start)) as writer:
            assert writer.stored(4, "train/") == {"loss": 2.0}
        assert [json.loads(line)["step"] for line in metrics_jsonl_files.read(folder)] == [1, 2, 3, 4]
    with closing(Writer(folder, 4)) as writer:
        writer.scalars(5, {"test/fid": 1.0})
    assert [json.loads(line)["step"] for line in metrics_jsonl_files.read(folder)] == [1, 2, 3, 4, 5]
    assert sum(path.stat().st_size for path in (folder / "tensorboard").glob("*")) > 500


def test_nothing_is_written_for_a_run_that_was_taken_over(folder):
    def taken():
        raise ValueError("taken over")

    with closing(Writer(folder, 0, taken)) as writer:
        writer.scalars(1, {"train/loss": 1.0})
        with pytest.raises(ValueError, match="taken over"):
            writer.sync()
    assert metrics_jsonl_files.read(folder) == []


def test_a_thousand_checkpoints_are_listed_with_few_requests(folder, service, capsys, monkeypatch):
    """Each costs a page of 1,000 objects; a request for each step would take minutes. Notes cost one a step, once."""
    content = json.dumps(manifest.with_hash({"format": 1, "step": 1, "files": {}})).encode()
    names = [f"{step}/{name}" for step in range(1000) for name in ("default/a", manifest.NAME)]
    service.fill({f"{folder.name}/checkpoints/{name}": content for name in names})
    asked = []
    monkeypatch.setattr(
        bucket_path, "ask", lambda *args, **kwargs: asked.append(args) or bucket_requests.ask(*args, **kwargs)
    )
    with closing(RunCheckpoints(folder)) as streams:
        assert streams.steps() == list(range(1000))
    assert len(asked) == 2  # checkpoints/ and kept/
    checkpoints_command.print_table(folder, verify=False)
    assert len(capsys.readouterr().out.splitlines()) == 1001
    assert len(asked) < 10
    service.fill({f"{folder.name}/kept/{step}/{manifest.NAME}": content for step in range(30)})
    asked.clear()
    with closing(RunCheckpoints(folder)) as streams:
        for requests in (31, 32):
            assert streams.permanent.best() == math.inf
            assert len(asked) == requests


def test_a_bucket_that_vanishes_ends_in_a_line_with_the_last_sealed_step(service, folder):
    with closing(Checkpoints(folder / "c")) as checkpoints:
        checkpoints.save(7, state_of(7))
        checkpoints.wait()
        service.drop()
        with pytest.raises(ValueError, match=r"no such object or bucket.*the newest one is that of step 7"):
            checkpoints.require(8, state_of(8))
