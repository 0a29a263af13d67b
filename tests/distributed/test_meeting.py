"""The meeting of processes: who is missing or differs is named, the end of one is told. Processes are threads."""

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from diffusion.config.config import default_config
from diffusion.distributed import joining, meeting
from diffusion.distributed.link import Link
from diffusion.distributed.meeting import Meeting, free_port, listener
from diffusion.distributed.place import Place, place
from diffusion.distributed.roll import differing, missing

GONE = 75


def a_port():
    with socket.create_server(("", 0)) as found:
        return found.getsockname()[1]


def nothing(*_):
    """What is done."""


def hellos(*processes, **facts):
    return {i: {"host": f"node{i}", "facts": facts} for i in processes}


def test_the_missing_are_named():
    assert missing(hellos(0, 1), 2, 300.0) == ""
    line = missing(hellos(0, 2), 4, 300.0)
    assert line.startswith("processes 1, 3 have not come within 300 s, of 4; there are 2, on node0, node2")
    assert missing(hellos(0), 2, 1.0).startswith("process 1 has not come within 1 s")
    assert "1, 2, 3, 4, 5 and 94 more" in missing(hellos(0), 100, 1.0)


def test_the_one_that_differs_is_named():
    assert differing(hellos(0, 1, seed=1)) == ""
    line = differing(hellos(0, 1, seed=1) | {2: {"host": "b", "facts": {"seed": 2}}})
    assert line.startswith("process 2 (b) differs from process 0 (node0): seed is 2 there and 1 here")


# The meeting, by threads.


class Party:
    """A meeting place and processes, each a thread; what each was told."""

    def __init__(self, folder, n, limit=20.0):
        self.folder, self.port, self.n, self.limit = folder, a_port(), n, limit
        self.ends, self.links, self.lost = {}, {}, {}
        (folder / "token").touch()
        self.place = Meeting(self.port, n, limit, serve=nothing)
        self.threads = [threading.Thread(target=self._hold, daemon=True)]
        self.threads[0].start()

    def _hold(self):
        self.began = self.place.hold()

    def invite(self, process, of=None, folder=None, **facts):
        def come():
            try:
                link = Link(("localhost", self.port), process, of or self.n, self.limit)
                self.ends[process] = link.join({"seed": 0, **facts}, folder or self.folder, "token")
                self.links[process] = link
                link.watch(lambda line, status: self.lost.setdefault(process, (line, status)))
            except ValueError as error:
                self.ends[process] = str(error)

        thread = threading.Thread(target=come, daemon=True)
        thread.start()
        return thread

    def meet(self, *threads):
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()

    def wait(self, done):
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline, (self.ends, self.lost)
            time.sleep(0.02)

    def over(self):
        self.threads[0].join(20)
        assert not self.threads[0].is_alive()
        return self.began


def test_all_come_and_all_leave(tmp_path):
    party = Party(tmp_path, 3)
    party.meet(*map(party.invite, (2, 0, 1)))
    assert len(set(party.ends.values())) == 1 and isinstance(party.ends[0], int)
    for link in party.links.values():
        link.end()
        link.close()
    assert party.over() and not party.lost


def test_who_does_not_come_is_named_to_all_others(tmp_path):
    party = Party(tmp_path, 3, limit=1.0)
    party.meet(party.invite(0), party.invite(2))
    assert not party.over()
    for process in (0, 2):
        assert party.ends[process].startswith("process 1 has not come within 1 s, of 3; there are 2, on ")


def test_nobody_at_the_address():
    with pytest.raises(ValueError, match="process 0 has not come within 1 s: nobody answers at localhost:"):
        Link(("localhost", a_port()), 1, 2, 1.0)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 1}, "differs from process 0 .*: seed is 1 there and 0 here"),
        ({"of": 4}, r"process 1 \(.*\) was started as one of 4, process 0 as one of 2"),
        ({"folder": Path("/nowhere")}, r"process 1 \(.*\) cannot see the run's folder of process 0"),
    ],
)
def test_who_differs_is_named_to_all(tmp_path, monkeypatch, change, line):
    monkeypatch.setattr("diffusion.distributed.link.SIGHT", 0.3)
    party = Party(tmp_path, 2)
    first = party.invite(0)
    party.wait(lambda: party.place._here)
    party.meet(first, party.invite(1, **change))
    assert not party.over()
    for process in (0, 1):
        with pytest.raises(ValueError, match=line):
            raise ValueError(party.ends[process])


def test_two_that_say_they_are_the_same(tmp_path):
    party = Party(tmp_path, 3)
    first = party.invite(1)
    party.wait(lambda: party.place._here)
    party.meet(first, party.invite(1))
    assert "two processes say that they are process 1 of 3" in party.ends[1]


def test_one_that_leaves_during_the_start_is_named(tmp_path):
    party = Party(tmp_path, 3)
    first = party.invite(0)
    party.wait(lambda: party.place._here)
    with socket.create_connection(("localhost", party.port)) as other:
        other.sendall(json.dumps({"process": 1, "of": 3, "host": "b", "pid": 1, "facts": {}}).encode() + b"\n")
        party.wait(lambda: len(party.place._here) == 2)
    party.meet(first)
    assert party.ends[0].startswith("process 1 of 3 left during start-up")


def test_strangers_are_not_listened_to(tmp_path):
    party = Party(tmp_path, 1)
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"a": 1}\n', b"\xff\n", b"5\n"):
        with socket.create_connection(("localhost", party.port)) as stranger:
            stranger.sendall(noise)
    party.meet(party.invite(0))
    party.links[0].end()
    party.links[0].close()
    assert party.over()


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_death_is_told_at_once_to_all_others(tmp_path, lost):
    party = Party(tmp_path, 3)
    party.meet(*map(party.invite, range(3)))
    started = time.monotonic()
    party.links[lost]._lost = nothing
    party.links[lost].close()
    party.wait(lambda: len(party.lost) == 2)
    assert time.monotonic() - started < 5
    for line, status in party.lost.values():
        assert status == GONE and line.startswith(f"process {lost} of 3 has gone (") and "process id" in line


def test_silence_is_a_death(tmp_path, monkeypatch):
    beat = Link._beat
    monkeypatch.setattr(meeting, "SILENCE", 1.0)
    monkeypatch.setattr("diffusion.distributed.link.BEAT", 0.1)
    monkeypatch.setattr(Link, "_beat", lambda link: None if link.process == 1 else beat(link))
    party = Party(tmp_path, 2)
    party.meet(party.invite(0), party.invite(1))
    party.wait(lambda: 0 in party.lost)
    assert "process 1 of 2 has gone (" in party.lost[0][0] and "not heard from for 1 s" in party.lost[0][0]


def test_the_end_of_the_meeting_place_is_told(tmp_path):
    party = Party(tmp_path, 2)
    party.meet(*map(party.invite, range(2)))
    party.place._here[1].connection.shutdown(socket.SHUT_RDWR)
    party.wait(lambda: 1 in party.lost)
    assert party.lost[1] == ("process 0 of 2 and its host have gone (its connection was closed)", GONE)


def test_an_error_is_told_after_a_moment_unless_a_death_explains_it(tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE", 0.5)
    party = Party(tmp_path, 3)
    party.meet(*map(party.invite, range(3)))
    party.links[1].end("its data are gone", 2)
    party.wait(lambda: len(party.lost) == 2)
    for process in (0, 2):
        line, status = party.lost[process]
        assert status == 2 and line.startswith("process 1 of 3 (") and line.endswith("has ended: its data are gone")

    (tmp_path / "b").mkdir()
    party = Party(tmp_path / "b", 3)
    party.meet(*map(party.invite, range(3)))
    party.links[1]._lost = nothing
    waiting = threading.Thread(target=party.links[0].end, args=("Gloo: connection closed by peer", 2), daemon=True)
    waiting.start()
    party.links[1].close()
    party.wait(lambda: len(party.lost) == 2)
    assert all(line.startswith("process 1 of 3 has gone") and status == GONE for line, status in party.lost.values())


def test_all_may_end_with_the_same_error_and_nobody_waits(tmp_path):
    party = Party(tmp_path, 2)
    party.meet(*map(party.invite, range(2)))
    started = time.monotonic()
    ends = [threading.Thread(target=link.end, args=("stopped", GONE)) for link in party.links.values()]
    for thread in ends:
        thread.start()
    party.meet(*ends)
    assert time.monotonic() - started < 3 and not party.lost


def test_a_port_that_is_taken():
    port = a_port()
    with listener(port):
        with pytest.raises(OSError):
            listener(port)
        assert port < free_port(port) <= port + meeting.NEAR


# Places.


def test_places_by_flags():
    assert place("node0:8476", 4, 3, 1.0) == Place("node0", 8476, 4, 3)
    assert place("[::1]:8476", 1, 0, 1.0).host == "::1"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ((None, None, None), "says --coordinator and --processes and --process; give --coordinator=HOST:PORT"),
        (("a:1", 2, None), "says --process; give"),
        (("a", 2, 0), "--coordinator=a is not HOST:PORT"),
        (("a:0", 2, 0), "is not HOST:PORT"),
        (("a:99999", 2, 0), "is not HOST:PORT"),
        (("a:1", 2, 2), "--process=2 is not one of 0 to 1"),
    ],
)
def test_places_that_are_none(monkeypatch, given, line):
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "TPU_")):
            monkeypatch.delenv(name)
    with pytest.raises(ValueError, match=line.replace("(", r"\(")):
        place(*given, 1.0)


def test_slurm_tells_all(monkeypatch):
    job = {"JOB_ID": "12345", "STEP_NODELIST": "node[07-10]", "NTASKS": "4", "PROCID": "2", "LOCALID": "1"}
    for name, value in {**job, "STEP_NUM_NODES": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    found = place(None, None, None, 1.0)
    assert found == Place("node07", 65535 - 2**12 + 1 + 12345 % 2**12, 4, 2, [1])
    for tasks, devices in {"2(x2)": [1], "1(x3),2": [1], "1(x4)": None, "1": None}.items():
        monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", tasks)
        assert place(None, None, None, 1.0).devices == devices


def test_one_process_needs_nobody(tmp_path):
    for where in (None, Place("nowhere", 1, 1, 0)):
        with joining.joined(where, default_config(), tmp_path, 1.0) as leads:
            assert leads
