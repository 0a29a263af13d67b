"""The metrics writer of a run: metrics.jsonl, TensorBoard, PNG files."""

import json
import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.runtime.atomic_files import atomic_file
from diffusion.runtime.bucket_path import Bucket
from diffusion.workdir import metrics_jsonl_files

FINAL = b'"test/'
"""Prefix of the names of scalars that are measured when a run ends."""

FLUSH_SECONDS = 30.0
"""Longest time between a value and its being visible in TensorBoard; in a bucket, in the metrics too."""

LARGEST = 2**23
"""Bytes of a TensorBoard file in a bucket, which is sent whole, after which another is started."""


class Writer:
    """Writes scalars to metrics.jsonl (metrics_jsonl_files.py), image grids to samples/, and both to TensorBoard.

    Opened at a step, it drops the lines of later steps that an interrupted run left behind, and those of the final
    evaluation, which is repeated: the file equals that of an uninterrupted run. A line that cannot be written (OSError)
    is written with the next one. In a bucket nothing is sent once `owned` raises ValueError: another process has the
    run's lock.
    """

    def __init__(self, workdir: Path, step: int, owned: Callable[[], None] = lambda: None):
        self._workdir, self._owned = workdir, owned
        workdir.mkdir(parents=True, exist_ok=True)
        metrics_jsonl_files.drop(workdir, lambda line: _step_of(line) > step or FINAL in line)
        self._last = [values for values in metrics_jsonl_files.scalars(workdir) if values["step"] == step]
        self._lines = metrics_jsonl_files.appended(workdir)
        self._board = _Board(workdir / "tensorboard", step)
        self._sender = ThreadPoolExecutor(1) if isinstance(workdir, Bucket) else None
        self._sending, self._sent = Future[None](), time.monotonic()
        self._sending.set_result(None)

    def stored(self, step: int, prefix: str) -> dict[str, float]:
        """The stored scalars of the step that it was opened at whose names begin with `prefix`, without that."""
        lines = [line for line in self._last if line["step"] == step]
        values = {name: value for line in lines for name, value in line.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): math.nan if v is None else v for name, v in values.items()}

    def has_grid(self, name: str) -> bool:
        """Whether a grid exists."""
        return self._grid(name).exists()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One JSON line {"step": step, name: value, ...}, with null for what is not finite, and points of curves."""
        clean = {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        try:
            self._lines.add(json.dumps({"step": step, **clean}))
        finally:  # a line without room is written later, and the points would not be
            self._board.scalars(step, {k: v for k, v in clean.items() if v is not None})
        if self._sender and self._sending.done() and time.monotonic() - self._sent > FLUSH_SECONDS:
            self._board.flush()
            self._sending, self._sent = self._sender.submit(self._send), time.monotonic()

    def sync(self) -> None:
        """Returns once all scalars are in the run's metrics: before a checkpoint, which they belong to.

        On a disk they are in TensorBoard's file too, if it has room. Raises OSError, and what `owned` raises.
        """
        self._owned()
        self._lines.sync()
        if not self._sender:
            with suppress(OSError, ValueError):  # ValueError: the file is closed
                self._board.flush()

    def grid(self, step: int, name: str, pixels: np.ndarray) -> Path:
        """Writes pixels, uint8 [H, W, C], to samples/<name>.png and to TensorBoard; returns the path."""
        from PIL import Image

        path = self._grid(name)
        with atomic_file(path) as file:
            Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, format="PNG")
        kind = name.removeprefix(f"step_{step:07d}")  # two grids of one step need two names in TensorBoard
        self._board.image(step, f"samples{kind}", pixels)
        return path

    def close(self) -> None:
        """Closes both files. Errors are ignored: each failed write was an error when it was made."""
        if self._sender:
            self._sender.shutdown()
        for end in (self.sync, self._lines.close, self._board.close):
            with suppress(OSError, ValueError):
                end()

    def _send(self) -> None:
        """Sends what was written to the bucket; what cannot be sent is sent the next time."""
        with suppress(OSError, ValueError):
            self.sync()
            self._board.send()

    def _grid(self, name: str) -> Path:
        return self._workdir / "samples" / f"{name}.png"


class NullWriter(Writer):
    """The writer of every process but process 0: nothing is written or stored."""

    def __init__(self) -> None:
        pass

    def stored(self, step: int, prefix: str) -> dict[str, float]:  # noqa: ARG002
        """No scalars."""
        return {}

    def has_grid(self, name: str) -> bool:  # noqa: ARG002
        """Always false."""
        return False

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Does nothing."""

    def grid(self, step: int, name: str, pixels: np.ndarray) -> Path:  # noqa: ARG002
        """Does nothing; returns the path that process 0 writes."""
        return Path("samples") / f"{name}.png"

    def sync(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class _Board:
    """A TensorBoard event file, written in the caller's thread: tensorboardX's own blocks after a full disk."""

    def __init__(self, folder: Path, step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        folder.mkdir(parents=True, exist_ok=True)
        proto: Any = event_pb2
        earlier = any(folder.iterdir())
        self._remote = folder if isinstance(folder, Bucket) else None
        self._local = tempfile.TemporaryDirectory() if self._remote else None
        self._place = Path(self._local.name if self._local else folder)
        name = f"events.{time.time_ns()}" if self._remote else "events"  # a file of its own for each start
        self._events = EventsWriter(str(self._place / name))
        self._event, self._flushed = proto.Event, time.monotonic()
        if earlier:  # makes TensorBoard discard later steps
            started = proto.SessionLog(status=proto.SessionLog.START)
            self._events.write_event(proto.Event(step=step + 1, file_version="brain.Event:2"))
            self._events.write_event(proto.Event(step=step + 1, session_log=started))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each curve."""
        from tensorboardX.summary import scalar

        self._add(step, *(scalar(name, value) for name, value in values.items()))

    def image(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, C]."""
        from tensorboardX.summary import image

        self._add(step, image(name, pixels, dataformats="HWC"))

    def close(self) -> None:
        """Flushes and closes the file, and sends it to a bucket. Raises OSError."""
        self._events.close()
        try:
            self.send()
        finally:
            if self._local:
                self._local.cleanup()

    def flush(self) -> None:
        """Writes what is buffered; starts another file in a bucket where this one is large."""
        from tensorboardX.event_file_writer import EventsWriter

        self._events.flush()
        self._flushed = time.monotonic()
        if self._remote and sum(path.stat().st_size for path in self._place.iterdir()) > LARGEST:
            self._events.close()
            self._events = EventsWriter(str(self._place / f"events.{time.time_ns()}"))

    def send(self) -> None:
        """Sends the files to a bucket, and keeps the newest. Raises OSError."""
        if self._remote:
            paths = sorted(self._place.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            for path in paths:
                (self._remote / path.name).upload(path)
            for path in paths[:-1]:
                path.unlink()

    def _add(self, step: int, *summaries: Any) -> None:
        for summary in summaries:
            self._events.write_event(self._event(step=step, wall_time=time.time(), summary=summary))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for a line cut short by a crash, which is dropped."""
    return float(metrics_jsonl_files.parsed(line).get("step", math.inf))
