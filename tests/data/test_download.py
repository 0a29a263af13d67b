"""`download.fetch` against web servers on the loopback address: what is ours around pooch."""

import hashlib
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from diffusion.data import download
from diffusion.data.download import DownloadError, Remote, fetch

BODY = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No proxy, and no pauses between attempts."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))  # noqa: ARG005


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
    """An answer of `body` with the given Content-Length (its own by default)."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def silence(_):
    time.sleep(2)


def failure(url, path):
    """The message of the error, after a check that it is one line and that nothing is left behind."""
    with pytest.raises(DownloadError) as error:
        fetch(Remote(url, SHA256), path)
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert not path.parent.exists() or not any(path.parent.iterdir())
    return str(error.value)


def test_a_good_file_arrives_whole_and_once(tmp_path, capsys):
    path = tmp_path / "new" / "folder" / "file.tar.gz"
    with serving(send()) as (url, requests):
        for _ in range(2):
            assert fetch(Remote(url, SHA256), path) == path
    assert path.read_bytes() == BODY and len(requests) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "first",
    [send(b"busy", status=503), lambda _: None, send(BODY[:5000], length=len(BODY)), send(BODY[:-1] + b"?")],
    ids=["busy", "no answer", "cut", "damaged"],
)
def test_an_attempt_that_failed_is_repeated(tmp_path, first):
    with serving(first, send()) as (url, requests):
        fetch(Remote(url, SHA256), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY and len(requests) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (send(b"no", status=404), "404"),
        (send(BODY[:-1] + b"?"), SHA256),
        (send(BODY + b"more"), SHA256),
        (silence, "timed out"),
    ],
    ids=["missing", "another file", "a longer file", "silent"],
)
def test_what_does_not_arrive_ends_in_one_line_and_leaves_nothing(tmp_path, monkeypatch, answer, reason):
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    with serving(answer) as (url, requests):
        message = failure(url, tmp_path / "below" / "file")
    assert reason in message and url in message and len(requests) == 1 + download.RETRIES


def test_nobody_listening_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        assert "refused" in failure(f"http://127.0.0.1:{taken.getsockname()[1]}/file", tmp_path / "below" / "file")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with serving(send()) as (url, requests), pytest.raises(DownloadError, match="file/below"):
        fetch(Remote(url, SHA256), tmp_path / "file" / "below" / "archive")
    assert not requests
