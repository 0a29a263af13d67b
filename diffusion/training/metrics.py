"""Where numbers and pictures go: metrics.jsonl, TensorBoard, PNG files."""

import json
import math
from pathlib import Path

import numpy as np


class Writer:
    """Writes a run's scalars to metrics.jsonl and TensorBoard, and image grids to samples/ and TensorBoard.

    Opened at a step, it drops the lines of later steps that an interrupted run left behind, so the file reads as if the
    run had never stopped.
    """

    def __init__(self, workdir: Path, step: int):
        from tensorboardX import SummaryWriter

        self._workdir = workdir
        self._path = workdir / "metrics.jsonl"
        self._drop_after(step)
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1 if step else None)

    def _drop_after(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = [line for line in self._path.read_text().splitlines() if _step_of(line) <= step]
        draft = self._path.with_suffix(".draft")
        draft.write_text("".join(line + "\n" for line in kept))
        draft.replace(self._path)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One JSON line {"step": step, name: value, ...}; values that are not finite are written as null."""
        clean = {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
        self._file.write(json.dumps({"step": step, **clean}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def grid(self, step: int, name: str, pixels: np.ndarray) -> Path:
        """samples/<name>.png and the same picture in TensorBoard; pixels uint8 [H, W, C]."""
        from PIL import Image

        path = self._workdir / "samples" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path)
        self._board.add_image("samples", pixels, step, dataformats="HWC")
        return path

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._board.close()


def _step_of(line: str) -> float:
    """The step of a line; infinity for a line cut short by a crash, which is dropped."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
