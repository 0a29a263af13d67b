"""The bound over a data set and scores of sample sets.

They are exact for a known Gaussian, independent of batches and devices, resumed after an interruption, quoted with
their protocol, and refused in one line where they cannot be measured.
"""

import json
import math
from contextlib import nullcontext
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.commands import evaluate
from diffusion.config import default_config
from diffusion.convert.inception_weights import NETWORK
from diffusion.core import elbo, gaussian, parameterization, schedules, variance
from diffusion.core.array_types import fold
from diffusion.core.forward_process import vp
from diffusion.core.reverse_process import Diffusion
from diffusion.data.dataset_interface import Source, in_memory
from diffusion.data.digits import digits
from diffusion.distributed.sharding import make_mesh
from diffusion.evaluation import (
    draw_and_store_sample_sets,
    evaluation_after_training,
    measurement_protocol,
    sample_quality,
)
from diffusion.evaluation.measure_likelihood import measure
from diffusion.evaluation.measurement_protocol import Chain, Subject
from diffusion.evaluation.variational_bound import BOUND, bound_columns
from diffusion.experiment import build, load_run
from diffusion.metrics import (
    feature_statistics,
    frechet,
    mean_and_standard_error,
    rate_distortion,
    read_and_write_sample_sets,
    scores_without_inception,
)
from diffusion.metrics.first_images_of_split import split
from diffusion.metrics.inception_features import Extractor
from diffusion.metrics.inception_score import inception_score
from diffusion.workdir import result_files
from diffusion.workdir.result_files import Result
from diffusion.workdir.run_config import Run
from tests.support.networks import OneConvolution
from tests.support.runs import evaluate_likelihood
from tests.support.worlds import GAUSSIAN, standard_errors

pytestmark = pytest.mark.usefixtures("unoptimized")

T = 20


def config():
    made = default_config()
    changes = {"data.name": "digits", "diffusion.T": T, "diffusion.beta_T": 0.7, "net.multipliers": (1,)}
    made.update_from_flattened_dict({**changes, "net.attention": (), "sample.batch_size": 8, "eval.batch_size": 8})
    return made


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """The same weights on one and on eight devices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffusion.experiment.registry_of_samplers_and_schedules.UNet", OneConvolution)
        made = []
        for n in (1, len(jax.devices())):
            ours = build.experiment(config(), (8, 8, 1), 10, make_mesh(jax.devices()[:n]))
            made.append(Subject(ours, ours.init(jax.random.key(1)), tmp_path_factory.mktemp("run"), 7, False))
        return made


@pytest.fixture
def subject(subjects, tmp_path):
    return subjects[0]._replace(folder=tmp_path)


class Stop(Exception):
    """What interrupts an evaluation."""


def stop_after(n):
    """A progress that raises as soon as n images are done."""

    def stop(done):
        if done >= n:
            raise Stop

    return stop


def likelihood(bound, source, indices, batch_size, seed):
    """Values and series of a bound over images."""
    means = mean_and_standard_error.measure(
        lambda *batch: bound_columns(bound(*batch)), source, indices, batch_size, seed
    )
    return BOUND.summary(means, int(np.prod(source.shape)))


# --------------------------------------------------------------------------------------------------- the bound itself

N = 3000


@pytest.fixture(scope="module")
def solved():
    """The bound over N images of the Gaussian world, its per-image totals, and the exact terms in nats."""
    process = vp(schedules.linear(T, 0.01, 0.75))
    denoise = GAUSSIAN.denoiser(process, True)

    @jax.jit
    def bound(keys, images, labels):  # noqa: ARG001
        draw = jax.vmap(lambda key: GAUSSIAN.draw(key, 1)[0])
        return elbo.bound(
            keys,
            Diffusion(process, parameterization.eps, variance.learned),
            denoise,
            draw(fold(keys, 999)),
            gaussian.log_prob,
        )

    source = in_memory("world", np.zeros((N, 1, 3, 1), np.uint8))
    found = likelihood(bound, source, np.arange(N), 500, 5)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(5), i))(jnp.arange(N))
    direct = bound(keys, jnp.zeros((N, 1, 3, 1)), jnp.zeros(N, jnp.int32))
    log_var = np.log([GAUSSIAN.reverse_var(process, t) for t in range(1, T + 1)])
    exact = GAUSSIAN.terms(process, np.concatenate([log_var[:1], log_var]))
    return found, direct, exact, GAUSSIAN.prior_kl(process), source, bound


def test_the_bound_of_a_solved_world_is_right(solved):
    (values, series), _, exact, prior, _, _ = solved
    bits = elbo.bits_per_dim(1.0, 3)
    assert abs(values["bits_per_dim"] - (exact.sum() + prior) * bits) < 4.5 * values["standard_error"]
    assert (np.abs(series["terms"] - exact * bits) < 4.5 * np.array(series["terms_standard_error"])).all()
    assert abs(values["L_T"] - prior * bits) < 4.5 * values["L_T_standard_error"]
    # the bound is tight: it exceeds the entropy by the end of the chain alone
    assert exact.sum() + prior == pytest.approx(GAUSSIAN.entropy(), abs=0.01)


def test_means_and_standard_errors_are_those_of_the_images(solved):
    (found, series), direct, *_ = solved
    bits = elbo.bits_per_dim(1.0, 3)
    columns = {
        "bits_per_dim": np.float64(direct.prior) + np.float64(direct.terms).sum(axis=1),
        "L_T": np.float64(direct.prior),
        "L_steps": np.float64(direct.terms)[:, 1:].sum(axis=1),
        "L_0": np.float64(direct.terms)[:, 0],
    }
    errors = {name: found.get(f"{name}_standard_error", found["standard_error"]) for name in columns}
    for name, values in columns.items():
        assert found[name] == pytest.approx(values.mean() * bits, rel=1e-5, abs=1e-7), name
        assert errors[name] == pytest.approx(values.std(ddof=1) / math.sqrt(N) * bits, rel=1e-4), name
    rmse = 127.5 * np.sqrt(np.float64(direct.x_0_mse).mean(axis=0))
    np.testing.assert_allclose(series["x_0_rmse"], rmse, rtol=1e-5)
    assert found["rmse"] == series["x_0_rmse"][0]
    assert standard_errors(np.float64(direct.terms), np.array(series["terms"]) / bits).max() < 1e-3


def test_parts_add_up(solved):
    v, series = solved[0]
    total = v["bits_per_dim"]
    assert total == pytest.approx(v["L_T"] + sum(series["terms"]), rel=1e-12)
    assert total == pytest.approx(v["L_T"] + v["L_steps"] + v["L_0"], rel=1e-12)
    assert v["rate"] + v["distortion"] == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("batch", [7, 64])
def test_the_batch_size_changes_nothing_and_padding_does_not_count(solved, batch):
    *_, source, bound = solved
    some = np.arange(100, 150)
    a, b = likelihood(bound, source, some, 50, 5), likelihood(bound, source, some, batch, 5)
    for name, value in a[0].items():
        assert b[0][name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    np.testing.assert_allclose(a[1]["terms"], b[1]["terms"], rtol=1e-5, atol=1e-6)


def test_one_image_has_no_standard_error(solved):
    *_, source, bound = solved
    values, _ = likelihood(bound, source, [3], 7, 5)
    assert values["images"] == 1 and math.isfinite(values["bits_per_dim"]) and math.isnan(values["standard_error"])
    with pytest.raises(ValueError, match="at least one image"):
        likelihood(bound, source, [], 7, 5)


# ------------------------------------------------------------------------------------------------- the bound of a run


@pytest.mark.slow
def test_devices_and_batch_sizes_give_the_same_bound(subjects):
    """37 images, whose last batch is short: one device and eight, batches of 8, 16 and 40."""
    test = digits(False)
    found = [
        measure(BOUND, one, split("test", test, 37), batch_size=batch, seed=3, resumable=False)[0]
        for one, batch in [(subjects[0], 8), (subjects[0], 40), (subjects[-1], 16)]
    ]
    for other in found[1:]:
        for name, value in found[0].values.items():
            assert other.values[name] == pytest.approx(value, rel=1e-5), name
        for name, values in found[0].series.items():
            np.testing.assert_allclose(other.series[name], values, rtol=1e-5)


def test_an_interrupted_bound_resumes_to_the_same_bits(subject):
    test = digits(False)
    how = dict(grid="10", batch_size=8)
    whole, path, _ = evaluate_likelihood(BOUND, subject, test, 37, **how)
    path.unlink()
    with pytest.raises(Stop):
        evaluate_likelihood(BOUND, subject, test, 37, **how, progress=stop_after(16))
    (part,) = (subject.folder / "eval" / "parts").iterdir()
    counts = []
    again, path, _ = evaluate_likelihood(BOUND, subject, test, 37, **how, progress=counts.append)
    assert counts == [16, 24, 32, 37]
    assert (again.values, again.series) == (whole.values, whole.series)
    assert result_files.read(path) == again and not part.exists()


def test_a_bound_whose_result_cannot_be_written_is_not_measured_again(subject, monkeypatch):
    test, how, counts = digits(False), dict(grid="10", batch_size=8), []
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(result_files, "write", lambda *_: stop_after(0)(1))
        evaluate_likelihood(BOUND, subject, test, 20, **how)
    evaluate_likelihood(BOUND, subject, test, 20, **how, progress=counts.append)
    assert counts == [20]


def test_parts_of_another_protocol_are_not_used(subject):
    test = digits(False)
    usual = {"grid": "5", "batch_size": 8}
    with pytest.raises(Stop):
        measure(BOUND, subject, split("test", test, 24), **usual, progress=stop_after(16))
    other = jax.tree.map(lambda x: x + 0.01, subject.params)
    for n, changed in [(24, {"seed": 1}), (25, {}), (24, {"grid": "4"})]:
        counts = []
        measure(BOUND, subject, split("test", test, n), **{**usual, **changed}, progress=counts.append)
        assert counts[0] == 0, changed
    counts = []
    measure(BOUND, subject._replace(params=other), split("test", test, 24), **usual, progress=counts.append)
    assert counts[0] == 0
    counts = []
    with jax.default_matmul_precision("float32"):
        measure(BOUND, subject, split("test", test, 24), **usual, progress=counts.append)
    assert counts[0] == 0
    counts = []  # the batch size is no part of the key
    measure(BOUND, subject, split("test", test, 24), grid="5", batch_size=5, progress=counts.append)
    assert counts[0] == 16


def test_memory_of_a_bound_does_not_grow_with_the_images(subject):
    with pytest.raises(Stop):
        measure(BOUND, subject, split("test", digits(False), 200), grid="10", batch_size=8, progress=stop_after(160))
    (part,) = (subject.folder / "eval" / "parts").iterdir()
    with np.load(part) as file:
        assert sum(file[name].size for name in file.files) == 2 * (2 * 10 + 3) + 1


# -------------------------------------------------------------------------------------------------- rate and distortion


def table(prior, terms, rmse):
    """The numbers of the table that is printed: reverse time, t, rate, distortion."""
    return [line.split() for line in rate_distortion.lines(prior, terms, rmse)[1:]]


def test_rate_and_distortion_of_ten_steps():
    """T = 10: row r = 1000 is t = 1, r = 100 is t = 10, at which only L_T was sent."""
    terms, rmse = [5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125], np.arange(10.0)
    rate, distortion = rate_distortion.curve(0.01, terms, rmse)
    assert table(0.01, terms, rmse) == [
        [f"{1000 - 100 * i}", f"{i + 1}", f"{rate[i]:.5f}", f"{distortion[i]:.5f}"] for i in range(10)
    ]
    assert rate[-1] == 0.01 and distortion[-1] == 9
    assert rate[-2] == pytest.approx(0.01 + 0.03125) and rate[0] == pytest.approx(0.01 + sum(terms[1:]))
    assert rate[0] + terms[0] == pytest.approx(0.01 + sum(terms))


def test_the_published_rows_are_steps_1_to_901():
    """Table 4's index: reverse time r is 0-based step 1000 - r of the original code, t = 1001 - r here."""
    terms = np.random.default_rng(0).exponential(size=1000) / 1000
    rate, distortion = rate_distortion.curve(1e-5, terms, np.linspace(1, 70, 1000))
    rows = table(1e-5, terms, np.linspace(1, 70, 1000))
    assert [(int(r), int(t)) for r, t, *_ in rows] == [(r, 1001 - r) for r in rate_distortion.REVERSE_TIMES]
    for r, t, *printed in rows:
        assert printed == [f"{rate[int(t) - 1]:.5f}", f"{distortion[int(t) - 1]:.5f}"]
        assert rate[int(t) - 1] == pytest.approx(1e-5 + sum(terms[s] for s in range(1000) if s > 1000 - int(r)))
    assert rate[0] + terms[0] == pytest.approx(1e-5 + terms.sum())


def test_curves_of_other_chains():
    assert [t for _, t, *_ in table(0.0, [1.0], [2.0])] == ["1"]
    rows = table(0.0, np.ones(4), np.ones(4))
    assert [(int(t), float(rate)) for _, t, rate, _ in rows] == [(1, 3), (2, 2), (3, 1), (4, 0)]


# ------------------------------------------------------------------------------------------------------- result files


def test_results_are_read_as_they_were_written(tmp_path):
    made = Result("nll", {"a": 1.5, "b": math.nan}, {"s": [1.0, math.inf]}, {"split": "test", "step": 10, "n": None})
    path = result_files.write(tmp_path / "runs" / "x", made, "ddim50")
    assert path == tmp_path / "runs" / "x" / "eval" / "nll_test_10_ddim50.json"
    assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()
    again = result_files.read(path)
    assert again.values["a"] == 1.5 and math.isnan(again.values["b"]) and math.isnan(again.series["s"][1])
    assert again.protocol == made.protocol and result_files.find(tmp_path)[0][0] == path


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", '{"name": "a"}', '{"name": 1, "values": {}, "series": {}, "protocol": {}}'),
        '{"name": "a", "values": {"x": "1"}, "series": {}, "protocol": {}}',
        '{"name": "a", "values": {}, "series": {"x": 1}, "protocol": {}}',
    ],
)
def test_what_is_no_result_is_left_out_with_a_line(tmp_path, text):
    good = result_files.write(tmp_path, Result("fid", {"fid": 3.0}, {}, {}))
    bad = tmp_path / "eval" / "bad.json"
    bad.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json is no result file or is damaged") as error:
        result_files.read(bad)
    assert "\n" not in str(error.value)
    with pytest.warns(UserWarning, match=r"left out: .*bad\.json"):
        assert [path for path, _ in result_files.find(tmp_path)] == [good]


def test_suffixes_tell_departures_from_the_usual(subject):
    experiment = subject.experiment
    usual = measurement_protocol.of_samples(experiment) | {"weights": "ema", "images": 50_000}
    assert measurement_protocol.departures(experiment, usual) == []
    chain = measurement_protocol.of_samples(experiment, Chain("ddim", "4,2", 0.5, 3, True)) | {
        "weights": "raw",
        "images": 10,
    }
    assert measurement_protocol.departures(experiment, chain) == [
        "ddim",
        "4-2",
        "eta0.5",
        "seed3",
        "raw",
        "truncated",
        "n10",
    ]
    assert measurement_protocol.departures(
        experiment, measurement_protocol.of_samples(experiment, Chain("ddim", eta=0.0))
    ) == ["ddim"]


def test_no_eta_is_a_departure_where_the_config_has_one(subject):
    c = config()
    c.sample.update(sampler="ddim", eta=1.0)
    experiment = subject.experiment._replace(config=c)
    for eta, suffixes in ((None, []), (1.0, []), (0.0, ["eta0"])):
        assert (
            measurement_protocol.departures(experiment, measurement_protocol.of_samples(experiment, Chain(eta=eta)))
            == suffixes
        )


# ------------------------------------------------------------------------------------------------- scores of samples


def toy(calls, name=NETWORK):
    """An extractor of random projections, which counts the images that it is given."""
    widths = {"768": 5, "1280": 6, "2048": 8, "logits_unbiased": 10}
    matrices = {layer: np.random.default_rng(d).normal(size=(64, d)) for layer, d in widths.items()}

    def extract(images):
        calls.append(len(images))
        x = images.reshape(len(images), -1) / 127.5 - 1
        return {layer: (x @ m).astype(np.float32) for layer, m in matrices.items()}

    return Extractor(name, "w" * 64, tuple(widths), extract)


def test_statistics_of_other_images_are_computed_anew(tmp_path, monkeypatch, rng):
    """A cache named by a probe of 64 images would give those of the first set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pixels = rng.integers(0, 256, (96, 8, 8, 1), dtype=np.uint8)
    probed = np.unique(np.linspace(0, 95, 64).astype(int))
    other = pixels.copy()
    other[np.setdiff1d(np.arange(96), probed)] = rng.integers(0, 256, (32, 8, 8, 1))
    calls: list[int] = []

    def moments(images, name="folder:a"):
        real = split("train", in_memory(name, images))
        layers = feature_statistics.Layers(moments={"768"})
        return feature_statistics.of_real(toy(calls), real, "x", layers, tmp_path, quiet).moments["768"]

    first, second = moments(pixels), moments(other)
    assert sum(calls) == 192 and frechet.distance(first, second) > 0.01
    np.testing.assert_array_equal(moments(pixels, "folder:moved/a").mean, first.mean)
    assert sum(calls) == 192  # the place is no part of the name


@pytest.fixture
def prepare(subject, monkeypatch, tmp_path):
    """prepare(asked fields) for a run of `subject`, with the toy as Inception; the list of its calls."""
    calls: list[int] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sample_quality.inception_features, "inception", lambda *_, **__: toy(calls))
    monkeypatch.setattr("diffusion.experiment.registry_of_samplers_and_schedules.UNet", OneConvolution)
    monkeypatch.setattr(load_run, "load", lambda *_: (subject.experiment, subject.params, subject.step))
    run = Run(config(), (8, 8, 1), 10)
    return (lambda **asked: evaluate.prepare(subject.folder, run, evaluate.Request(**asked))), calls


def quiet(what, total):  # noqa: ARG001
    return nullcontext(lambda done: None)  # noqa: ARG005


STAMP = {
    "config",
    "config_hash",
    "paper",
    "step",
    "weights",
    "split",
    "images",
    "sampler",
    "grid",
    "steps",
    "eta",
    "clip",
}
STAMP |= {"seed", "quantisation", "resize", "features", "reference", "precision", "devices", "version", "revision"}


def test_scores_are_those_of_the_drawn_samples(prepare, subject):
    make, calls = prepare
    names = ("fid", "fd_768", "inception_score", "kid", "precision_recall")
    plan = make(metrics=names, n=40, chain=Chain(grid="5"), reference_n=100)
    found = {m.result.name: m for m in evaluate.run(plan, quiet)}
    assert set(found) == set(names) and sum(calls) == 140  # each image once, for all metrics
    pixels, _ = draw_and_store_sample_sets.draw(subject, Chain(grid="5"), 40, 8)
    fake, real = (toy([]).extract(images) for images in (pixels, digits(True).read(np.arange(100))[0]))

    def distance(layer):
        return frechet.distance(frechet.moments(fake[layer]), frechet.moments(real[layer]))

    assert found["fid"].result.values == {"fid_40": pytest.approx(distance("2048"))}
    assert found["fd_768"].result.values == {"fd_768": pytest.approx(distance("768"))}
    mean, std = inception_score(fake["logits_unbiased"], 10)
    whole = inception_score(fake["logits_unbiased"], 1)[0]
    expected = {"mean": mean, "std": std, "mean_1": whole}
    assert found["inception_score"].result.values == pytest.approx(expected)
    assert found["kid"].result.values.keys() == {"mean", "std"}
    assert found["precision_recall"].result.values.keys() == {"precision", "recall"}
    for name, one in found.items():
        stamp = one.result.protocol
        assert stamp.keys() >= STAMP, name
        assert stamp["images"] == 40 and stamp["steps"] == 5 and stamp["sampler"] == "ancestral"
        assert result_files.read(one.path).protocol == json.loads(json.dumps(stamp))
    assert found["fid"].result.protocol["reference"] == {"data": "digits", "split": "train", "images": 100, "of": 1500}
    assert "FID-40" in found["fid"].lines[0] and "biased" in found["fid"].lines[0]
    assert found["fid"].path.name == "fid_train_7_of100_5_n40.json"

    again = {m.result.name: m.result.values for m in evaluate.run(plan, quiet)}
    assert again == {name: one.result.values for name, one in found.items()}
    assert sum(calls) == 180  # the reference came from its cache


def test_a_full_set_is_called_fid(subject, monkeypatch, tmp_path):
    """The name is that of the protocol: 50,000 samples, here 12."""
    for module in (sample_quality, measurement_protocol):
        monkeypatch.setattr(module, "FULL", 12)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    samples, _ = draw_and_store_sample_sets.draw(subject, Chain(grid="2"), 12, 8)
    ((result, lines),) = sample_quality.score_with_inception(
        ["fid"],
        toy([]),
        samples,
        split("train", digits(True), 50),
        **dict(seed=0, facts={}, parts=tmp_path, progress=quiet),
    )
    assert list(result.values) == ["fid"] and lines[0].startswith("FID ") and "biased" not in lines[0]


def test_scores_of_other_weights_have_other_names(prepare):
    """FID, KID and inception score are of the published network; of others the quantity and their name are quoted."""
    make, _ = prepare
    names = ("fid", "fd_768", "inception_score", "kid", "precision_recall")
    plan = make(metrics=names, n=40, chain=Chain(grid="5"), reference_n=100)
    published = {m.result.name: m for m in evaluate.run(plan, quiet)}
    measured = list(evaluate.run(plan._replace(extractor=toy([], "inception-1a2b3c4d")), quiet))
    other = {m.result.name.removesuffix("_inception-1a2b3c4d"): m for m in measured}
    assert set(other) == {"fd", "fd_768", "score", "kd", "precision_recall"} and len(published) == len(other)
    for name, one in other.items():
        full = f"{name}_inception-1a2b3c4d"
        assert one.result.name == full and one.path.name.startswith(f"{full}_train_7_of100_5")
        assert one.lines[0].startswith(f"{full} ") and result_files.read(one.path).name == full
        assert one.result.protocol["features"].startswith("inception-1a2b3c4d ")
        assert not any(title in one.lines[0] for title in ("FID", "KID", "inception score"))
    for a, b in {"fid": "fd", "kid": "kd", "inception_score": "score"}.items():
        assert [*published[a].result.values.values()] == [*other[b].result.values.values()]
    assert list(other["fd"].result.values) == ["fd_inception-1a2b3c4d"]
    assert all(m.path.exists() for m in published.values()), "a result of other weights replaced a published one"


def test_an_interrupted_feature_pass_resumes(prepare, monkeypatch):
    make, calls = prepare
    monkeypatch.setattr(feature_statistics, "CHUNK", 16)
    plan = make(metrics=("fid",), n=40, chain=Chain(grid="5"), reference_n=48)
    extract, seen = plan.extractor.extract, count()

    def failing(images):
        if next(seen) == 4:
            raise Stop
        return extract(images)

    with pytest.raises(Stop):
        list(evaluate.run(plan._replace(extractor=plan.extractor._replace(extract=failing)), quiet))
    assert calls == [16, 16, 16, 16]
    (found,) = evaluate.run(plan, quiet)
    assert calls == [16, 16, 16, 16, 16, 8]  # what was done is not done again
    (direct,) = evaluate.run(plan, quiet)
    assert found.result.values == direct.result.values
    assert not list((plan.subject.folder / "eval" / "parts").iterdir())


def test_samples_from_a_file_are_scored_and_stay_of_unknown_origin(prepare, tmp_path):
    make, _ = prepare
    pixels = digits(True).read(np.arange(30))[0]
    np.savez(tmp_path / "mine.npz", arr_0=pixels)
    (found,) = evaluate.run(make(metrics=("fid",), samples=tmp_path / "mine.npz", reference_n=30), quiet)
    assert found.result.values["fid_30"] == pytest.approx(0.0, abs=1e-4)
    assert found.result.protocol["sampler"] is None and found.result.protocol["step"] is None
    assert (
        found.result.protocol["samples"].endswith("mine.npz")
        and found.path.name.startswith("fid_train_mine_")
        and found.path.name.endswith("_of30_n30.json")
    )
    (part,) = evaluate.run(make(metrics=("fid",), samples=tmp_path / "mine.npz", n=20, reference_n=30), quiet)
    assert list(part.result.values) == ["fid_20"]


def test_results_of_other_files_and_other_seeds_lie_apart(prepare, tmp_path):
    """The path names a result, whatever its dots; KID's subsets follow from the seed, which its protocol quotes."""
    make, _ = prepare
    pixels = digits(True).read(np.arange(12))[0]
    places = [tmp_path / name for name in ("o/w1.0", "o/w1.5", "a/x.npz", "b/x.npz")]
    paths = []
    for place in places:
        place.parent.mkdir(exist_ok=True)
        if place.suffix == ".npz":
            np.savez(place, arr_0=pixels)
        else:
            read_and_write_sample_sets.write_folder(place, pixels)
        (found,) = evaluate.run(make(metrics=("fid",), samples=place, reference_n=30), quiet)
        paths.append(found.path)
    assert len(set(paths)) == 4 and "w1.5" in paths[1].name
    found = [
        next(evaluate.run(make(metrics=("kid",), samples=places[2], reference_n=30, chain=Chain(seed=s)), quiet))
        for s in (0, 1)
    ]
    assert [one.result.protocol["subset_seed"] for one in found] == [0, 1]
    assert found[0].result.values != found[1].result.values and found[0].path != found[1].path
    assert evaluate.measurement_protocol.departures(make(n=2).subject.experiment, {"seed": 3, "subset_seed": 3}) == [
        "seed3"
    ]


def test_a_network_that_computes_in_float32_is_quoted_with_it(subject):
    c = config()
    c.net.dtype = "bfloat16"
    assert measurement_protocol.of_run(subject)["precision"].startswith(
        "float32, "
    )  # the stand-in has no such parameter
    for name, expected in (("mlp", "float32"), ("unet", "bfloat16")):
        c.net.name = name
        experiment = subject.experiment._replace(config=c, net=build.network(c, 1, 10))
        assert measurement_protocol.of_run(subject._replace(experiment=experiment))["precision"].startswith(
            f"{expected}, "
        )


def test_eta_is_quoted_of_samplers_that_read_it(subject):
    assert measurement_protocol.of_samples(subject.experiment)["eta"] is None
    assert measurement_protocol.of_samples(subject.experiment, Chain("ddim", eta=0.5))["eta"] == 0.5


def test_churn_is_quoted_of_the_sampler_that_reads_it(subject):
    c = config()
    c.sample.update(churn=40.0, churn_from=0.05, churn_to=50.0, churn_noise=1.003)
    experiment = subject.experiment._replace(config=c)
    assert measurement_protocol.of_samples(experiment, Chain("edm"))["churn"] == "40 from 0.05 to 50, noise 1.003"
    assert "churn" not in measurement_protocol.of_samples(experiment) | measurement_protocol.of_samples(
        subject.experiment, Chain("edm")
    )


def test_the_printed_protocol_states_shared_entries_once_and_no_empty_ones():
    of_ddim = {"paper": "", "data": "digits", "eta": 0.0, "guidance": None, "seed": 1}
    assert measurement_protocol.lines({"ddim": of_ddim, "heun": of_ddim | {"seed": 2}}) == [
        "protocol",
        "  data          digits",
        "  eta           0.0",
        "  guidance      None",
        "protocol of ddim",
        "  seed          1",
        "protocol of heun",
        "  seed          2",
    ]


def test_raw_weights_are_quoted_as_such(subject):
    assert measurement_protocol.of_run(subject)["weights"] == "ema"
    assert measurement_protocol.of_run(subject._replace(raw=True))["weights"] == "raw"


def test_small_data_have_scores_of_their_own(prepare, monkeypatch):
    make, _ = prepare
    monkeypatch.setattr("diffusion.metrics.small_image_classifier.EPOCHS", 2)
    plan = make(metrics=("fd_classifier", "classes", "neighbours"), n=16, chain=Chain(grid="3"))
    found = {m.result.name: m.result for m in evaluate.run(plan, quiet)}
    assert set(found) == {"fd_digits", "classes", "neighbours"}
    assert sum(found["classes"].series["histogram"]) == 16 and found["fd_digits"].values["fd_digits_samples"] == 16
    assert found["neighbours"].values["samples"] == 16 and found["neighbours"].values["train"] == 1500
    assert make(n=20).names == ("nll", "fd_classifier", "classes", "neighbours")


def test_a_network_that_diverged_is_not_scored(prepare, subject):
    make, calls = prepare
    broken = subject._replace(params=jax.tree.map(lambda x: x * np.nan, subject.params))
    plan = make(metrics=("fid",), n=16, chain=Chain(grid="2"))._replace(subject=broken)
    with pytest.raises(ValueError, match="16 of 16 samples hold numbers that are not finite"):
        list(evaluate.run(plan, quiet))
    assert not calls


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"metrics": ("fdi",)}, r"--metrics=fdi: no such metric; did you mean fid\?"),
        ({"metrics": ("",)}, "no such metric; there are nll, flow_nll, inception_score, fid"),
        ({"metrics": ("nll",), "n": 298}, "the test split of digits has 297 images, not 298"),
        ({"metrics": ("fid",), "chain": Chain("dim")}, "--sampler=dim is not one of ancestral"),
        ({"metrics": ("fid",), "chain": Chain(eta=0.5)}, "--eta has no effect on the sampler ancestral"),
        ({"metrics": ("nll",), "chain": Chain(grid="21")}, "cannot take 21 steps from a process of 20"),
        ({"metrics": ("fd_classifier",), "n": 1}, "--metrics=fd_classifier needs at least 2 samples, and there are 1"),
        ({"n": 1}, "--metrics=fd_classifier needs at least 2 samples, and there are 1"),
        ({"metrics": ("inception_score",), "n": 9}, "inception_score needs at least 10 samples"),
        ({"metrics": ("fid",), "n": 50, "reference_n": 1501}, "the train split of digits has 1500 images, not 1501"),
        ({"metrics": ("precision_recall",), "n": 50, "reference_n": 3}, "needs at least 4 real images, got 3"),
        ({"metrics": ("fid",), "samples": "nowhere.npz"}, "no such file or folder"),
        ({"metrics": ("fid",), "samples": "text.npz"}, "no .npz file with an array arr_0"),
        ({"metrics": ("fid",), "samples": "other.npz"}, "no .npz file with an array arr_0"),
        ({"metrics": ("fid",), "samples": "float.npz"}, r"arr_0 is float32 \[4, 8, 8, 1\]"),
        ({"metrics": ("fid",), "samples": "large.npz"}, r"arr_0 is uint8 \[4, 9, 9, 1\], .* uint8 \[n, 8, 8, 1\]"),
        ({"metrics": ("fid",), "samples": "good.npz", "n": 5}, "--n=5: .*good.npz has 4 images"),
        ({"metrics": ("fid",), "samples": "."}, "there is no image with the ending .png, "),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_computed(prepare, tmp_path, monkeypatch, asked, line):
    make, _ = prepare
    monkeypatch.setattr(Source, "read", None, raising=False)
    arrays = {"float": np.zeros((4, 8, 8, 1), np.float32), "large": np.zeros((4, 9, 9, 1), np.uint8)}
    for name, array in {**arrays, "good": np.zeros((4, 8, 8, 1), np.uint8)}.items():
        np.savez(tmp_path / f"{name}.npz", arr_0=array)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    if "samples" in asked:
        asked = {**asked, "samples": tmp_path / asked["samples"]}
    with pytest.raises(ValueError, match=line) as error:
        make(**asked)
    assert "\n" not in str(error.value)


def test_a_run_that_can_only_be_read_is_refused_before_anything_is_drawn(prepare, monkeypatch):
    make, _ = prepare
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ValueError, match="cannot be written by this user, and results are written there: copy the run"):
        make(n=16)


def test_scores_of_small_grey_images_are_not_for_others():
    colour = in_memory("colour", np.zeros((20, 8, 8, 3), np.uint8), np.zeros(20, np.int64), 2)
    for name in ("fd_classifier", "classes"):
        with pytest.raises(ValueError, match=f"--metrics={name} needs labelled grey images of at most 32x32"):
            scores_without_inception.check(name, colour, 20)
    scores_without_inception.check("neighbours", colour, 1)


def test_the_final_evaluation_is_written_as_results(subject, tmp_path, monkeypatch):
    """What training writes at its end has the name, the numbers and the protocol of what scripts/evaluate.py writes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("diffusion.metrics.small_image_classifier.EPOCHS", 2)
    c = config()
    c.eval.n, c.sample.n = 16, 4
    subject = subject._replace(experiment=subject.experiment._replace(config=c))
    final = evaluation_after_training.measure(subject, digits(True), digits(False))
    evaluation_after_training.write(final, subject, digits(False))
    written = {path.name: result for path, result in result_files.find(subject.folder)}
    assert list(written) == ["classes_train_7_n4.json", "fd_digits_train_7_n4.json", "nll_test_7_n16.json"]
    measured, path, _ = evaluate_likelihood(BOUND, subject, digits(False), 16)
    closing = written[path.name]
    assert closing.values == pytest.approx(measured.values, rel=1e-6) and closing.protocol == measured.protocol
    samples, _ = draw_and_store_sample_sets.draw(subject, Chain(), 4, 8)
    facts = draw_and_store_sample_sets.facts(subject, Chain())
    for result, lines in sample_quality.score_small_images(
        scores_without_inception.LABELLED, samples, digits(True), digits(False), facts
    ):
        closing = written[f"{result.name}_train_7_n4.json"]
        assert closing.values == result.values and closing.protocol == json.loads(json.dumps(result.protocol))
        assert set(lines) <= set(final.lines())
    assert final.report()["bits_per_dim"] == measured.values["bits_per_dim"] and final.report()["fd_digits"] > 0


def test_broken_samples_are_counted_and_not_scored(subject):
    c = config()
    c.eval.final, c.sample.n, c.sample.grid = False, 3, "2"
    params = jax.tree.map(lambda x: x * np.nan, subject.params)
    broken = subject._replace(experiment=subject.experiment._replace(config=c), params=params)
    final = evaluation_after_training.measure(broken, digits(True), digits(False))
    assert (final.broken, final.scores, final.bound) == (3, (), None)
    assert final.lines() == ["WARNING     3 of 3 samples hold numbers that are not finite"]


def test_a_mean_of_one_image_is_given_without_an_error():
    assert result_files.plus_minus(float("nan"), ".4f") == ""
    assert f"4.7{result_files.plus_minus(0.04381, '.3f')} bits/dim" == "4.7 +- 0.044 bits/dim"
