"""`download.fetch` against web servers of all kinds on the loopback address."""

import errno
import hashlib
import io
import itertools
import pathlib
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from diffusion.data.download import DownloadError, Remote, fetch

BODY = bytes(range(256)) * 1200  # several blocks
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = {"pause": 0.01, "patience": 5.0}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@contextmanager
def serving(*answers):
    """The URL of a server that treats request i with answers[i], the last one for ever; and the list of requests."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(dict(self.headers))
            answers[min(len(requests), len(answers)) - 1](self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/file.tar.gz", requests
    finally:
        server.shutdown()
        server.server_close()


def send(body=BODY, length=None, status=200):
    """An answer of `body` with the given Content-Length (its own by default; -1: none)."""

    def answer(handler):
        handler.send_response(status)
        if length != -1:
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def resume(handler):
    """What a server does that knows ranges."""
    start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
    handler.send_header("Content-Length", str(len(BODY) - start))
    handler.end_headers()
    handler.wfile.write(BODY[start:])


def cut(handler):
    """Breaks off in the middle of the body."""
    send(BODY[: len(BODY) // 2], length=len(BODY))(handler)


def silence(_):
    time.sleep(3)


def drip(handler):
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    for _ in range(100):
        try:
            handler.wfile.write(b"x")
            time.sleep(0.05)
        except OSError:
            return


def drip_headers(handler):
    """The socket is never silent for long, but no answer ever begins."""
    for _ in range(100):
        try:
            handler.wfile.write(b"H")
            time.sleep(0.05)
        except OSError:
            return


def failure(url, path, **limits):
    """The message of the error, after a check that it is one line and that nothing is left behind."""
    with pytest.raises(DownloadError) as error:
        fetch(Remote(url, len(BODY), SHA256), path, **QUICK | limits)
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)
    assert not path.exists() and not list(path.parent.glob("*.part"))
    return str(error.value)


@pytest.mark.parametrize("length", [None, -1])
def test_a_good_file_arrives_whole(tmp_path, capsys, length):
    path = tmp_path / "new" / "folder" / "file.tar.gz"
    with serving(send(length=length)) as (url, requests):
        assert fetch(Remote(url, len(BODY), SHA256), path, **QUICK) == path
    assert path.read_bytes() == BODY and len(requests) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    captured = capsys.readouterr()
    assert url in captured.err and str(path) in captured.err and not captured.out


@pytest.mark.parametrize(
    "answers",
    [
        (send(b"busy", status=503), send()),
        (send(b"slow down", status=429), send()),
        (lambda _: None, send()),
        (cut, resume),
        (cut, send()),  # a server that ignores the wish to resume
        (cut, cut, cut, resume),
    ],
)
def test_what_passes_is_tried_again(tmp_path, answers):
    with serving(*answers) as (url, requests):
        fetch(Remote(url, len(BODY), SHA256), tmp_path / "file", **QUICK)
    assert (tmp_path / "file").read_bytes() == BODY
    assert len(requests) == len(answers)


def test_a_silent_connection_is_replaced(tmp_path):
    with serving(silence, send()) as (url, requests):
        fetch(Remote(url, len(BODY), SHA256), tmp_path / "file", pause=0.01, patience=1.5)
    assert len(requests) == 2


def test_a_slow_connection_has_time(tmp_path):
    """Patience counts from the last byte: a connection that lasted longer than that may still break and be resumed."""

    def slow_cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        for i in range(10):
            handler.wfile.write(BODY[1000 * i : 1000 * (i + 1)])
            time.sleep(0.1)

    with serving(slow_cut, resume) as (url, requests):
        fetch(Remote(url, len(BODY), SHA256), tmp_path / "file", pause=0.01, patience=0.9)
    assert (tmp_path / "file").read_bytes() == BODY and len(requests) == 2


def test_another_file_of_the_right_length_is_refused(tmp_path):
    with serving(send(BODY[:-1] + b"?")) as (url, requests):
        message = failure(url, tmp_path / "file")
    assert "SHA-256" in message and SHA256 in message and len(requests) == 1


@pytest.mark.parametrize("answer", [send(BODY[:-7]), send(BODY + b"more"), send(BODY + b"more", length=-1)])
def test_a_file_of_another_length_is_refused(tmp_path, answer):
    with serving(answer) as (url, requests):
        message = failure(url, tmp_path / "file")
    assert str(len(BODY)) in message and "not the official file" in message and len(requests) == 1


@pytest.mark.parametrize("answer", [cut, send(BODY[:-7], length=-1)])
def test_a_file_that_never_ends_well_is_given_up(tmp_path, answer):
    with serving(answer) as (url, requests):
        message = failure(url, tmp_path / "file", attempts=3)
    assert "closed early" in message and len(requests) == 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_definite_refusal_is_not_tried_again(tmp_path, status):
    with serving(send(b"no", status=status)) as (url, requests):
        assert str(status) in failure(url, tmp_path / "file")
    assert len(requests) == 1


def test_a_server_that_stays_broken_is_given_up(tmp_path):
    with serving(send(b"no", status=500)) as (url, requests):
        assert "500" in failure(url, tmp_path / "file", attempts=3)
    assert len(requests) == 3


@pytest.mark.parametrize(
    "answer, limits",
    [(silence, {"patience": 0.6}), (drip_headers, {"patience": 0.6}), (drip, {"timeout": 0.6})],
)
def test_a_server_that_stalls_is_given_up_in_time(tmp_path, answer, limits):
    start = time.monotonic()
    with serving(answer) as (url, _):
        failure(url, tmp_path / "file", **limits)
        assert time.monotonic() - start < 2


def test_nobody_listening_is_given_up_in_time(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        start = time.monotonic()
        message = failure(f"http://127.0.0.1:{taken.getsockname()[1]}/file", tmp_path / "file")
    assert "refused" in message and time.monotonic() - start < 2


def test_a_name_look_up_that_hangs_is_given_up_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(4))
    start = time.monotonic()
    assert "no answer" in failure("http://nowhere.invalid/file", tmp_path / "file", patience=0.6)
    assert time.monotonic() - start < 2


def test_several_downloads_of_one_file_do_not_meet(tmp_path):
    path, results = tmp_path / "file", []

    def slowly(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        for i in range(0, len(BODY), 60_000):
            handler.wfile.write(BODY[i : i + 60_000])
            time.sleep(0.02)

    with serving(slowly) as (url, requests):

        def work():
            results.append(fetch(Remote(url, len(BODY), SHA256), path, **QUICK).read_bytes() == BODY)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 3 and len(requests) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with serving(send()) as (url, requests), pytest.raises(DownloadError, match=r"cannot write in .*file/below"):
        fetch(Remote(url, len(BODY), SHA256), tmp_path / "file" / "below" / "archive", **QUICK)
    assert not requests


def test_a_full_disk_is_no_reason_to_try_again(tmp_path):
    writes = itertools.count()

    class Full(io.FileIO):
        """A file on a disk with room for one block."""

        def write(self, block):
            if next(writes):
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(block)

    with serving(send()) as (url, requests), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pathlib.Path, "open", lambda path, mode: Full(path, mode))
        assert "No space left" in failure(url, tmp_path / "file")
    assert len(requests) == 1
