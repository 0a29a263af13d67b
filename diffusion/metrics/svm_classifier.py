"""A judge for small labelled images: which class does each sample look like, and how far is it from the real ones."""

from typing import NamedTuple

import numpy as np

from diffusion.data.source import Source


class Judgement(NamedTuple):
    """What a classifier trained on real images says of a sample set."""

    accuracy: float
    """On held-out real images: how far the judge itself can be trusted."""
    histogram: np.ndarray
    """[classes]: samples assigned to each class."""
    confident: float
    """Share of samples whose class has probability above 0.9."""
    confident_real: float
    """The same share of held-out real images, for comparison."""

    def lines(self) -> list[str]:
        """The judgement for a console report."""
        present = int((self.histogram > 0).sum())
        return [
            f"classes     {' '.join(map(str, self.histogram))}  ({present} of {len(self.histogram)} occur; "
            f"judge is right on {self.accuracy:.1%} of held-out real images)",
            f"clear       {self.confident:.0%} of samples are assigned with probability above 0.9 "
            f"({self.confident_real:.0%} of held-out real images are)",
        ]


def judge(train: Source, test: Source, samples: np.ndarray, limit: int = 5000, seed: int = 0) -> Judgement:
    """A support vector classifier (RBF kernel on pixels), calibrated and trained on at most `limit` real images.

    It reports what a sample is closest to, not how good it is: every image, noise too, gets some class. Raises
    ValueError if the training set has no labels.
    """
    if train.classes == 0:
        raise ValueError(f"{train.name} has no labels to train a judge on")
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    def data(source: Source) -> tuple[np.ndarray, np.ndarray]:
        index = np.random.default_rng(seed).permutation(source.size)[:limit]
        pixels, labels = source.read(index)
        return pixels.reshape(len(pixels), -1) / 255.0, labels

    model = CalibratedClassifierCV(SVC(random_state=seed), ensemble=False).fit(*data(train))  # pyright: ignore[reportArgumentType]
    real, labels = data(test)
    certainty = model.predict_proba(samples.reshape(len(samples), -1) / 255.0)
    certainty_real = model.predict_proba(real)
    return Judgement(
        accuracy=float((certainty_real.argmax(axis=1) == labels).mean()),
        histogram=np.bincount(np.asarray(model.classes_)[certainty.argmax(axis=1)], minlength=train.classes),
        confident=float((certainty.max(axis=1) > 0.9).mean()),
        confident_real=float((certainty_real.max(axis=1) > 0.9).mean()),
    )
