"""Inception score, kernel distance, precision and recall: closed forms, brute force, and a published implementation."""

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from diffusion.metrics import frechet, precision_recall
from diffusion.metrics.inception_score import inception_score
from diffusion.metrics.kernel_distance import kid, unbiased_mmd
from diffusion.metrics.precision_recall import covered, radii

# ---------------------------------------------------------------------------------------------------- Inception score


def score_by_definition(logits: np.ndarray) -> float:
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    log_marginal = logsumexp(log_p, axis=0) - np.log(len(logits))
    return float(np.exp((softmax(logits, axis=1) * (log_p - log_marginal)).sum(axis=1).mean()))


def test_score_is_that_of_the_definition(rng, monkeypatch):
    monkeypatch.setattr("diffusion.metrics.inception_score.CHUNK", 20)
    logits = 3 * rng.normal(size=(53, 11))
    assert inception_score(logits, 1) == (pytest.approx(score_by_definition(logits), rel=1e-12), 0.0)
    parts = [score_by_definition(part) for part in (logits[:17], logits[17:35], logits[35:])]
    assert inception_score(logits, 3) == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-12)


def test_score_of_equal_predictions_is_one(rng):
    mean, std = inception_score(np.tile(rng.normal(size=10), (30, 1)))
    assert 1 <= mean < 1 + 1e-12 and std < 1e-12


@pytest.mark.parametrize("sure", [50.0, 1e4, 1e30])
def test_score_of_sure_and_even_predictions_is_the_number_of_classes(sure):
    logits = sure * np.eye(12)[np.arange(60) % 12]
    assert inception_score(logits.astype(np.float32), 5) == pytest.approx((12, 0), rel=1e-12, abs=1e-9)
    assert inception_score(logits[logits[:, 0] > 0], 1)[0] == 1.0


def test_score_has_its_splits_in_the_given_order():
    one, all_four = np.zeros(40, int), np.arange(40) % 4
    logits = 1e3 * np.eye(4)[np.concatenate([one, all_four])]
    assert inception_score(logits, 2) == pytest.approx((2.5, 1.5), rel=1e-12)
    mixed = logits.reshape(2, 40, 4).swapaxes(0, 1).reshape(80, 4)
    assert inception_score(mixed, 2)[1] == pytest.approx(0, abs=1e-12)


def test_score_does_not_depend_on_the_level_of_the_logits(rng):
    logits = rng.normal(size=(40, 6))
    assert inception_score(logits + rng.integers(-1000, 1000, (40, 1))) == pytest.approx(
        inception_score(logits), rel=1e-12
    )


# ----------------------------------------------------------------------------------------------------- kernel distance


def test_unbiased_mmd_is_the_double_sum_of_the_definition(rng):
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(7, 3)) + 1

    def mean(a, b, others):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not others or i != j]
        return np.mean([(float(np.dot(a[i], b[j])) / 3 + 1) ** 3 for i, j in pairs])

    assert unbiased_mmd(x, y) == pytest.approx(mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_unbiased_mmd_is_unbiased(rng, shift):
    """On N(0, 1) and N(m, 1) it averages to the distance of moments: (m^3 + 3m)^2 + 3 m^4 + 3 m^2."""
    values = [unbiased_mmd(rng.normal(size=(6, 1)), rng.normal(size=(9, 1)) + shift) for _ in range(4000)]
    expected = (shift**3 + 3 * shift) ** 2 + 3 * shift**4 + 3 * shift**2
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error < 0.4 * unbiased_mmd_bias(6, 9)


def unbiased_mmd_bias(m: int, n: int) -> float:
    """What the sums with their diagonals would be off by for N(0, 1): (E (x^2 + 1)^3 - E (x x' + 1)^3) (1/m + 1/n)."""
    return (15 + 9 + 3 + 1 - 4) * (1 / m + 1 / n)


def test_kid_is_mean_and_deviation_over_the_subsets(rng):
    a, b = rng.normal(size=(40, 4)), rng.normal(size=(30, 4)) * 1.5
    random, values = np.random.RandomState(3), []
    for _ in range(6):
        first, second = random.permutation(40)[:10], random.permutation(30)[:10]
        values.append(unbiased_mmd(a[first], b[second]))
    assert kid(a, b, subsets=6, size=10, seed=3) == pytest.approx((np.mean(values), np.std(values)), rel=1e-12)
    assert kid(a, b, 6, 10, seed=4) != kid(a, b, 6, 10, seed=3)
    # With the whole sets as the one subset there is nothing to draw.
    assert kid(a[:30], b, 1, 30) == (pytest.approx(unbiased_mmd(a[:30], b), rel=1e-12), 0.0)


def test_kid_of_one_distribution_vanishes_within_its_deviation_and_grows_with_distance(rng):
    a, b = rng.normal(size=(2, 600, 8))
    near, far, std = kid(a, b, 50, 100), kid(a, b + 1, 50, 100), kid(a, b, 50, 100)[1]
    assert abs(near[0]) < std and far[0] > 20 * std


def test_kid_keeps_the_digits_of_single_precision(rng):
    """Features such as Inception's, of one sign: the kernels are some 10, and their means differ by 1e-4 of that."""
    a, b = (np.abs(rng.normal(size=(2, 300, 64))) * [[[1.0]], [[1.005]]]).astype(np.float32)
    assert kid(a, b, 3, 200) == kid(a.astype(np.float64), b.astype(np.float64), 3, 200)


# ------------------------------------------------------------------------------------------------- precision and recall


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None].astype(np.float64) - y[None].astype(np.float64)) ** 2).sum(axis=-1))


def precision_recall_by_force(real, fake, k):
    def share(of, on):
        radius = np.sort(distances(on, on), axis=1)[:, k]  # column 0 is the vector itself
        return (distances(of, on) <= radius[None]).any(axis=1).mean()

    return share(fake, real), share(real, fake)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("d", [1, 2, 20])
def test_precision_and_recall_are_those_of_brute_force(rng, d, k):
    real, fake = rng.normal(size=(60, d)), 0.7 * rng.normal(size=(45, d)) + 0.3
    found = precision_recall.precision_recall(real, fake, k)
    assert found == pytest.approx(precision_recall_by_force(real, fake, k), abs=1e-12)
    assert found == precision_recall.precision_recall(fake, real, k)[::-1]
    assert d == 20 or 0 < min(found) < max(found)


def test_equal_sets_cover_each_other_and_distant_ones_do_not(rng):
    x = rng.normal(size=(40, 5))
    assert precision_recall.precision_recall(x, x) == (1, 1)
    assert precision_recall.precision_recall(x, x[rng.permutation(40)].astype(np.float32)) == (1, 1)
    assert precision_recall.precision_recall(x, x + 100) == (0, 0)


def test_half_of_the_modes_is_precise_and_recalls_half(rng):
    real = rng.normal(size=(80, 3)) + 100 * (np.arange(80) % 2)[:, None]
    fake = real[::2][rng.permutation(40)]
    assert precision_recall.precision_recall(real, fake) == (1, 0.5)
    mixed = np.concatenate([fake, rng.normal(size=(40, 3)) - 1000])
    assert precision_recall.precision_recall(real, mixed, 3) == (0.5, 0.5)


def test_surfaces_belong_to_the_balls():
    """On a grid of whole numbers every distance is exact, and most are equal."""
    line = np.arange(10.0)[:, None]
    assert radii(line, 1).tolist() == [1.0] * 10 and radii(line, 3).tolist() == [3.0, *[2.0] * 8, 3.0]
    queries = np.array([[-1.0], [-1.0000001], [4.5], [10.0], [10.0000001]])
    assert covered(queries, line, radii(line, 1)).tolist() == [True, False, True, True, False]


def test_vectors_far_from_the_origin_keep_their_neighbours(rng):
    real, fake = (1e3 + 1e-2 * rng.normal(size=(2, 50, 16))).astype(np.float32)
    expected = precision_recall_by_force(real, fake, 3)
    assert precision_recall.precision_recall(real, fake) == expected
    assert min(expected) > 0.1 and max(expected) < 0.95, "the case tells nothing"


def test_precision_needs_more_vectors_than_neighbours(rng):
    with pytest.raises(ValueError, match="n_neighbors = 3, n_samples_fit = 3"):
        precision_recall.precision_recall(rng.normal(size=(9, 2)), rng.normal(size=(3, 2)))


# -------------------------------------------------------------------------------------------- published: torch-fidelity


@pytest.fixture(scope="module")
def feature_sets():
    """Two sets whose spectrum falls off as that of Inception's features does."""
    rng = np.random.default_rng(1)
    scales = np.arange(1, 65) ** -0.7
    mix = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    a = np.abs(rng.normal(size=(500, 64)) * scales @ mix)
    b = np.abs(rng.normal(size=(400, 64)) * scales[::-1] ** 0.1 * scales @ mix + 0.05)
    return a, b


@pytest.fixture(scope="module")
def published():
    """(torch, import of a module of torch-fidelity 0.4 or later).

    Its scores need no torchvision, but its readers of images, which come along, import it: where it is not installed,
    modules that hold nothing stand in.
    """
    torch = pytest.importorskip("torch")
    if not importlib.util.find_spec("torch_fidelity"):
        pytest.skip("torch-fidelity is not installed")
    with pytest.MonkeyPatch.context() as patch:
        if not importlib.util.find_spec("torchvision"):
            for name in (
                "torchvision",
                "torchvision.datasets",
                "torchvision.transforms",
                "torchvision.transforms.functional",
            ):
                patch.setitem(sys.modules, name, Nothing(name))
        yield torch, lambda name: importlib.import_module(f"torch_fidelity.{name}")
        for name in [name for name in sys.modules if name.split(".")[0] == "torch_fidelity"]:
            del sys.modules[name]


class Nothing(ModuleType):
    """A module in which every public name is a module of this kind, or else `object`."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}", object)


def test_frechet_distance_is_that_of_torch_fidelity(published, feature_sets):
    torch, module = published
    theirs = module("metric_fid")
    statistics = [theirs.fid_features_to_statistics(torch.from_numpy(x)) for x in feature_sets]
    expected = theirs.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet.distance(*map(frechet.moments, feature_sets)) == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_is_that_of_torch_fidelity(published, feature_sets):
    torch, module = published
    expected = module("metric_kid").kid_features_to_metric(
        *map(torch.from_numpy, feature_sets), kid_subsets=20, kid_subset_size=100, rng_seed=2020, verbose=False
    )
    found = kid(*feature_sets, subsets=20, size=100, seed=2020)
    names = ("kernel_inception_distance_mean", "kernel_inception_distance_std")
    assert found == pytest.approx(tuple(expected[name] for name in names), rel=1e-6)


@pytest.mark.parametrize("splits", [1, 10])
def test_inception_score_is_that_of_torch_fidelity(published, rng, splits):
    torch, module = published
    logits = 4 * rng.normal(size=(997, 100))
    expected = module("metric_isc").isc_features_to_metric(torch.from_numpy(logits), splits, shuffle=False)
    names = ("inception_score_mean", "inception_score_std")
    found = inception_score(logits, splits)
    assert found == pytest.approx(tuple(expected[name] for name in names), rel=1e-6, abs=1e-12)


def test_precision_and_recall_are_those_of_torch_fidelity(published, feature_sets):
    torch, module = published
    real, fake = feature_sets
    expected = module("metric_prc").prc_features_to_metric(  # generated images first, since version 0.4
        torch.from_numpy(fake), torch.from_numpy(real), prc_neighborhood=3, prc_batch_size=128, verbose=False
    )
    found = precision_recall.precision_recall(real, fake)
    assert found == pytest.approx((expected["precision"], expected["recall"]), abs=1e-6)
    assert 0 < min(found) < max(found) < 1, "the case tells nothing"
