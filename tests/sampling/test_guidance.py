"""Guidance: closed forms on Gaussian classes, agreement of its kinds, hidden labels, classifiers, the script."""

import json
import os
import subprocess
import sys
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from diffusion.commands import evaluate, guidance_scales, train_classifier
from diffusion.commands.sample import sample as sample_run
from diffusion.config import default_config
from diffusion.config.validation import SIGNAL_ENDS, remarks, validate
from diffusion.core import respacing, schedules
from diffusion.core.forward_process import flow, ve, vp
from diffusion.core.parameterization import Prediction
from diffusion.core.reverse_process import clip
from diffusion.core.variance import fixed_small
from diffusion.distributed import sharding
from diffusion.distributed.sharding import make_mesh
from diffusion.evaluation import draw_and_store_sample_sets, guidance_effect, measurement_protocol, sample_batches
from diffusion.evaluation.measurement_protocol import Chain, Subject
from diffusion.experiment import build, build_guidance
from diffusion.figures.curve_figures import guidance as figure
from diffusion.figures.figure_data import curve_data
from diffusion.runtime.workdir_and_data_flags import DataFlags
from diffusion.sampling.ancestral import ancestral
from diffusion.sampling.ddim import ddim
from diffusion.sampling.guidance import classifier_guided, label_guided
from diffusion.sampling.sampling_loop import image_keys, prior_sample, sample
from diffusion.training import accumulation, classifier
from diffusion.training.step import hidden
from diffusion.workdir import result_files
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.run_config import Run, read_run, write_config
from diffusion.workdir.verify_checkpoint_manifest import CLASSIFIER, ROLLING
from tests.support.worlds import GaussianWorld, MixtureWorld, float64, standard_errors

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]
T = 40
VP, VE = vp(schedules.linear(T, 0.01, 0.3)), ve(schedules.geometric(T, 0.05, 20.0))
PRIOR = np.array([0.3, 0.7])
MEAN = np.array([[-0.8, 0.4], [0.5, -0.2]])
STD = np.array([0.3, 0.5])
MIXED = MixtureWorld(PRIOR, MEAN, np.stack([STD, STD]))
CLASSES = [GaussianWorld(mean, STD) for mean in MEAN]


def told(process):
    """denoise(x_t, t, labels), label 2 standing for none: what a network trained with label dropout would be."""
    known = [world.denoiser(process) for world in CLASSES] + [MIXED.denoiser(process)]

    def denoise(x_t, t, labels):
        answers = [one(x_t, t) for one in known]
        pick = lambda *x: jnp.take_along_axis(jnp.stack(x), labels[None, :, None], axis=0)[0]  # noqa: E731
        return Prediction(pick(*(a.x_0 for a in answers)), pick(*(a.eps for a in answers)), None)

    return denoise


def log_parts(process, x_t, t, xp=np):
    """log p(y) p(x_t | y) up to what does not depend on y: [B, 2]."""
    signal, noise = process.signal[t][:, None, None], process.noise[t][:, None, None]
    error = x_t[:, None] - signal * xp.asarray(MEAN, x_t.dtype)[None]
    var = (signal * xp.asarray(STD, x_t.dtype)[None, None]) ** 2 + noise**2
    return xp.log(xp.asarray(PRIOR, x_t.dtype))[None] - 0.5 * xp.sum(error**2 / var, axis=-1)


def log_prob(process, labels):
    """The exact log p(y | x_t)."""

    def found(x_t, t):
        parts = jax.nn.log_softmax(log_parts(process, x_t, t, jnp), axis=1)
        return jnp.take_along_axis(parts, labels[:, None], axis=1)[:, 0]

    return found


def guided_by_two(conditional, unconditional, w, interval=None):
    """label_guided of a network that is two denoisers: one for label 0, one for label 1, which stands for none."""

    def denoise(x_t, t, labels):
        pick = lambda c, u: jnp.where(labels[:, None] == 0, c, u)  # noqa: E731
        return jax.tree.map(pick, conditional(x_t, t), unconditional(x_t, t))

    return lambda x_t, t: label_guided(denoise, jnp.zeros(len(x_t), int), 1, w, interval)(x_t, t)


def points(key, n=64):
    """x_t of all sizes, t over 1..T, and labels."""
    t = 1 + jnp.arange(n) % T
    x_t = 1.5 * jax.random.normal(key, (n, 2))
    return x_t, t, (jnp.arange(n) // 3) % 2


def close(a, b, tolerance=2e-5):
    for name in ("x_0", "eps"):
        x, y = np.float64(getattr(a, name)), np.float64(getattr(b, name))
        assert (np.abs(x - y) < tolerance * (1 + np.abs(y))).all(), np.abs(x - y).max()


# --------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.slow
@pytest.mark.parametrize("process", [VP, VE], ids=["vp", "ve"])
def test_the_neutral_scale_is_the_identity(process, key):
    x_t, t, y = points(key)
    denoise = told(process)
    plain, none = denoise(x_t, t, y), denoise(x_t, t, jnp.full_like(y, 2))
    for guided in (
        label_guided(denoise, y, 2, 0.0),
        classifier_guided(process, lambda x, t: denoise(x, t, y), log_prob(process, y), 0.0),
    ):
        for found, wanted in zip(guided(x_t, t)[:2], plain[:2], strict=True):
            np.testing.assert_array_equal(found, wanted)
    close(label_guided(denoise, y, 2, -1.0)(x_t, t), none)


@pytest.mark.parametrize("w", [0.5, 3.0])
@pytest.mark.parametrize("process", [VP, VE], ids=["vp", "ve"])
def test_the_guided_score_is_that_of_bayes_rule(process, w, key):
    """score + w grad log p(y | x_t), the gradient from central differences in float64; x_0 and eps stay consistent."""
    x_t, t, y = points(key)
    p, x, index = float64(process), np.float64(x_t), np.arange(len(x_t))

    def logs(x):
        parts = log_parts(p, x, np.asarray(t))
        return parts[index, y] + w * log_softmax(parts, axis=1)[index, y]

    h = 1e-5 * np.eye(2)
    gradient = np.stack([(logs(x + h[i]) - logs(x - h[i])) / 2e-5 for i in range(2)], axis=1)
    noise, signal = p.noise[t][:, None], p.signal[t][:, None]
    eps = -noise * gradient
    found = label_guided(told(process), y, 2, w)(x_t, t)
    assert (np.abs(found.eps - eps) < 1e-4 * (1 + np.abs(eps))).all()
    np.testing.assert_allclose(signal * found.x_0 + noise * found.eps, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("process", [VP, VE], ids=["vp", "ve"])
def test_a_perfect_classifier_guides_as_perfect_denoisers_do(process, key):
    """On the conditional denoiser at scale w; on the unconditional one at scale 1 + w."""
    x_t, t, y = points(key)
    denoise, judge = told(process), log_prob(process, y)
    free = label_guided(denoise, y, 2, 1.5)(x_t, t)
    with_labels = classifier_guided(process, lambda x, t: denoise(x, t, y), judge, 1.5)
    without = classifier_guided(process, MIXED.denoiser(process), judge, 2.5)
    close(with_labels(x_t, t), free, 1e-4)
    close(without(x_t, t), free, 1e-4)


def test_the_mean_of_the_reverse_step_moves_as_in_algorithm_1(key):
    """By beta / sqrt(alpha) scale grad log p, in float64: the published Sigma = beta but for 1 / sqrt(alpha)."""
    x_t, t, y = points(key)
    judge = log_prob(VP, y)
    plain, guided = MIXED.denoiser(VP), classifier_guided(VP, MIXED.denoiser(VP), judge, 2.0)
    gradient = np.float64(jax.grad(lambda x: judge(x, t).sum())(x_t))
    p = float64(VP)
    moved = p.c_x_0[t][:, None] * (np.float64(guided(x_t, t).x_0) - np.float64(plain(x_t, t).x_0))
    alpha = (p.signal[t] / p.signal[np.asarray(t) - 1])[:, None] ** 2
    np.testing.assert_allclose(moved, 2 * (1 - alpha) / np.sqrt(alpha) * gradient, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("process", [VP, VE], ids=["vp", "ve"])
def test_gaussians_of_one_covariance_are_guided_to_a_gaussian(process, key):
    """p_c^(1 + w) / p_u^w is N((1 + w) m_c - w m_u, s^2) at every t: the denoiser of that world, and so its samples."""
    w, (c, u) = 1.5, CLASSES
    target = GaussianWorld((1 + w) * c.mean - w * u.mean, STD)
    guided = guided_by_two(c.denoiser(process), u.denoiser(process), w)
    x_t, t, _ = points(key)
    close(guided(x_t, t), target.denoiser(process)(x_t, t), 1e-4)

    keys = image_keys(0, jnp.arange(4096))
    run = lambda keys: sample(keys, process, ancestral(process, fixed_small), guided, prior_sample(keys, process, (2,)))  # noqa: E731
    x_0 = np.asarray(jax.jit(run)(keys).x_0)
    p = float64(process)
    mean, var = target.chain_law(process, lambda t: (p.c_x_0[t], p.c_x_t[t], np.exp(p.log_beta_tilde[t]) * (t > 1)))
    assert (standard_errors(x_0, mean) < 4).all()
    np.testing.assert_allclose(x_0.var(axis=0), var, rtol=0.1)


def test_samples_fall_into_the_class_at_a_rate_that_grows_with_the_scale():
    """By an exact classifier of the unconditional mixture: scale 0 gives the prior, scale 1 the class's own law."""
    keys, y = image_keys(1, jnp.arange(2000)), jnp.zeros(2000, jnp.int32)

    @jax.jit
    def ends(scale):
        guided = classifier_guided(VP, MIXED.denoiser(VP), log_prob(VP, y), scale)
        return sample(keys, VP, ddim(VP, 0.0), guided, prior_sample(keys, VP, (2,))).x_0

    found = [np.float64(ends(jnp.float32(scale))) for scale in (0, 0.5, 1, 4)]
    zero = np.zeros(2000, int)
    p = float64(VP)
    rates = [(np.argmax(log_parts(p, x, zero), axis=1) == 0).mean() for x in found]
    assert rates == sorted(rates) and rates[0] < 0.4 and rates[-1] > 0.99
    errors = standard_errors(found[2], MEAN[0])
    assert (errors < 4 + 0.02 / (STD / np.sqrt(2000))).all()  # 40 steps of DDIM miss the mean by some 0.02


@pytest.mark.parametrize("kind", ["labels", "classifier"])
def test_guidance_keeps_to_its_interval(kind, key):
    """Inside as without an interval, outside the plain denoiser, in mixed batches too."""
    x_t, t, y = points(key)
    denoise = told(VP)
    conditional = lambda x, t: denoise(x, t, y)  # noqa: E731
    make = {
        "labels": lambda interval: label_guided(denoise, y, 2, 2.0, interval),
        "classifier": lambda interval: classifier_guided(VP, conditional, log_prob(VP, y), 2.0, interval),
    }[kind]
    inside = np.asarray((t >= 10) & (t <= 30))[:, None]
    everywhere, plain, found = make(None)(x_t, t), conditional(x_t, t), make((10, 30))(x_t, t)
    for name in ("x_0", "eps"):
        wanted = np.where(inside, getattr(everywhere, name), getattr(plain, name))
        np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-5, atol=1e-5)
        assert (np.asarray(getattr(everywhere, name)) != np.asarray(getattr(plain, name))).mean() > 0.9


def test_outside_the_interval_the_second_denoiser_is_not_asked(key):
    x_t, *_ = points(key)
    denoise = lambda x, t: told(VP)(x, t, jnp.zeros(len(x), int))  # noqa: E731
    broken = lambda x, t: jax.tree.map(lambda v: v * jnp.nan, denoise(x, t))  # noqa: E731
    guided = guided_by_two(denoise, broken, 1.0, (10, 30))
    assert np.isfinite(guided(x_t, jnp.full(64, 9)).x_0).all() and np.isnan(guided(x_t, jnp.full(64, 10)).x_0).all()


def test_the_variance_is_that_of_the_labelled_network(key):
    x_t, t, y = points(key)
    raw = lambda v: lambda x, t: Prediction(x, x, jnp.full_like(x, v))  # noqa: ARG005, E731
    assert (guided_by_two(raw(1.0), raw(5.0), 3.0)(x_t, t).raw_var == 1).all()
    assert (classifier_guided(VP, raw(1.0), log_prob(VP, y), 3.0)(x_t, t).raw_var == 1).all()


# -------------------------------------------------------------------------------------------------------- hidden labels


def test_labels_are_hidden_at_the_rate_asked_for(key):
    given = jnp.arange(10_000) % 10
    found = np.asarray(hidden(key, given, 0.2, 10))
    gone = found == 10
    assert abs(gone.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 10_000)
    np.testing.assert_array_equal(found[~gone], np.asarray(given)[~gone])
    by_class = np.array([gone[np.asarray(given) == k].mean() for k in range(10)])
    assert (np.abs(by_class - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 1000)).all()
    assert (np.asarray(hidden(jax.random.key(1), given, 0.2, 10)) != found).any()
    np.testing.assert_array_equal(hidden(key, given, 0.0, 10), given)


def test_hidden_labels_do_not_depend_on_devices_or_parts(key):
    given = jnp.arange(64) % 10
    whole = np.asarray(hidden(key, given, 0.4, 10))
    split = jax.device_put(given, sharding.split_axis(make_mesh()))
    np.testing.assert_array_equal(jax.jit(lambda y: hidden(key, y, 0.4, 10))(split), whole)
    one = lambda part: (jnp.zeros(()), hidden(key, part, 0.4, 10))  # noqa: E731
    _, rows = jax.jit(lambda y: accumulation.accumulate(one, y, 4))(given)
    np.testing.assert_array_equal(rows, whole)
    assert 0 < (whole == 10).sum() < 64


def tiny(**changes):
    config = default_config()
    small = {"data.name": "digits", "data.flip": False, "diffusion.T": 20, "diffusion.beta_T": 0.7}
    small |= {"net.channels": 8, "net.multipliers": (1,), "net.blocks": 1, "net.attention": (), "net.dropout": 0.0}
    small |= {"train.batch_size": 16, "train.log_every": 1, "train.checkpoint_every": 2, "optim.warmup_steps": 0}
    config.update_from_flattened_dict({**small, **changes})
    return config


def labelled(**changes):
    return tiny(**{"net.class_conditional": True, "net.label_dropout": 0.5, **changes})


SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A network with labels and without, its weights made large enough to matter."""
    ours = build.experiment(labelled(), SHAPE, 10, make_mesh(jax.devices()[:1]))
    state = ours.create_state()
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), state.params)
    folder = tmp_path_factory.mktemp("run")
    write_config(folder, Run(ours.config, SHAPE, 10), "test")
    with closing(Checkpoints(folder / ROLLING)) as store:
        store.require(0, state._replace(params=params, ema=params))
    return Subject(ours, params, folder, 0, False)


def test_training_hides_labels_from_the_network(subject, key):
    """The task's network is the network with hidden labels; without dropout no row is added for them."""
    ours, params = subject.experiment, subject.params
    assert ours.net.null_label and params["label"]["embedding"].shape[0] == 11 and ours.classes == 10
    x, t, y = jax.random.normal(key, (16, *SHAPE)), jnp.arange(16.0), jnp.arange(16) % 10
    found = jax.jit(ours.task().apply)(params, x, t, y, None, key)
    shown = hidden(key, y, 0.5, 10)
    assert 0 < (np.asarray(shown) == 10).sum() < 16
    plain = jax.jit(lambda y: ours.net.apply({"params": params}, x, t, y))
    np.testing.assert_allclose(found, plain(shown), rtol=1e-5, atol=1e-5)
    assert np.abs(np.asarray(found) - np.asarray(plain(y))).max() > 1e-3
    without = build.network(tiny(**{"net.class_conditional": True}), 1, 10)
    assert not without.null_label and without.classes == 10


def test_samples_are_guided_before_they_are_clipped_and_bounds_are_not(subject, key):
    ours, params = subject.experiment, subject.params
    config = labelled(**{"sample.guidance": 2.0})
    guided = build.experiment(config, SHAPE, 10, ours.mesh)
    x, t, y = jax.random.normal(key, (8, *SHAPE)), jnp.arange(1, 9), jnp.arange(8)
    loose = jax.jit(lambda labels: ours.denoise(params, labels, clip=False)(x, t))
    c, u = loose(y), loose(jnp.full(8, 10))
    wanted = clip(ours.process, lambda *_: jax.tree.map(lambda c, u: c + 2.0 * (c - u), c, u))(x, t)
    close(jax.jit(guided.denoise(params, y, guided=True))(x, t), wanted, 1e-3)
    plain = clip(ours.process, lambda *_: c)(x, t)
    close(jax.jit(guided.denoise(params, y))(x, t), plain, 1e-5)
    assert np.abs(np.asarray(plain.x_0) - np.asarray(wanted.x_0)).max() > 0.1

    class Refusing(build_guidance.Guide):
        def denoiser(self, denoise, labels):  # noqa: ARG002
            raise AssertionError("a bound was guided")

    refusing = ours._replace(guide=Refusing(10, 1.0))
    batch = params, image_keys(0, jnp.arange(2)), x[:2], y[:2]
    assert np.isfinite(refusing.estimate(2)(*batch)).all()
    assert np.isfinite(refusing.bound(respacing.parse("2"))(*batch).total).all()
    with pytest.raises(AssertionError, match="guided"):
        refusing.sampler()(params, image_keys(0, jnp.arange(2)), y[:2])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"net.label_dropout": 1.0, "net.class_conditional": True}, "below 1"),
        ({"sample.guidance": 1.0}, "net.label_dropout = 0.1"),
        ({"sample.guidance": 1.0, "net.class_conditional": True}, "net.label_dropout = 0.1"),
        ({"sample.guidance": -1.0}, "at least 0"),
        ({"sample.guidance": 1.0, "sample.classifier": "c", "sample.guidance_from": 1.0}, "must be below"),
        (
            {"diffusion.schedule": "jsd", "diffusion.beta_T": 0.02, "diffusion.parameterization": "v"}
            | {"sample.guidance": 1.0, "sample.classifier": "c"},
            "set sample.guidance_to below 1",
        ),
    ],
)
def test_what_cannot_be_guided_is_refused_in_one_line(changes, line):
    with pytest.raises(ValueError, match=line) as caught:
        validate(tiny(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("net.label_dropout", 0.1, "net.class_conditional"),
        ("sample.classifier", "runs/c", "sample.guidance"),
        ("sample.guidance_to", 0.5, "sample.guidance"),
    ],
)
def test_what_guides_nothing_is_a_remark(key, value, reason):
    config = tiny(**{key: value})
    validate(config)
    assert remarks(tiny()) == []
    (line,) = remarks(config)
    assert key in line and reason in line


def test_a_classifier_guides_a_flow_at_the_steps_that_have_signal(key):
    """At T x_0 would move infinitely with a gradient of 0."""
    process, y = flow(schedules.rectified(4)), jnp.array([0, 1])
    denoise, x_T = told(process), jax.random.normal(key, (2, 2))
    conditional = lambda x, t: denoise(x, t, y)  # noqa: E731
    keys = image_keys(0, jnp.arange(2))
    for interval, finite in (((0, 3), True), (None, False)):
        guided = classifier_guided(process, conditional, log_prob(process, y), 1.0, interval)
        assert np.isfinite(sample(keys, process, ddim(process), guided, x_T).x_0).all() == finite


def test_an_interval_is_a_share_of_the_steps():
    assert build_guidance.steps(labelled(**{"sample.guidance": 1.0})) is None
    config = labelled(**{"sample.guidance": 1.0, "sample.guidance_from": 0.29, "sample.guidance_to": 0.57})
    config.diffusion.T = 1000
    assert build_guidance.steps(config) == (290, 570)


# ---------------------------------------------------------------------------------------------------------- classifiers


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """The folder of a classifier of four steps, the accuracy that it told, and its report."""
    folder, said = tmp_path_factory.mktemp("classifier"), []
    return folder, train_classifier.run(tiny(**{"train.steps": 4, "train.accumulate": 2}), folder, said.append), said


def test_a_classifier_given_as_a_run_is_told_what_it_is(judge):
    with pytest.raises(
        ValueError, match="no checkpoint; it is the run of a classifier, which guides another one as --cl"
    ):
        guidance_scales.load_run.load(judge[0], read_run(judge[0]))


def test_keys_that_a_classifier_does_not_read_are_named(judge):
    (remark,) = [line for line in judge[2] if line.startswith("remark ")]
    assert "config.train.accumulate: has no effect" in remark


def test_a_classifier_of_points_is_refused_levels_that_they_do_not_have(tmp_path):
    """Points are images of 1x2: halved, no pixel is left, and the mean over none would be NaN."""
    config = tiny(**{"data.name": "toy:moons", "net.name": "mlp", "net.multipliers": (1, 2), "net.attention": ()})
    with pytest.raises(ValueError, match="2 levels need a size that is a multiple of 2, and the images have 1 pixels"):
        train_classifier.run(config, tmp_path, print)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_classifier_taken_up_again_is_the_one_trained_at_once(judge, tmp_path):
    said = []
    train_classifier.run(tiny(**{"train.steps": 2}), tmp_path, said.append)
    train_classifier.run(tiny(**{"train.steps": 4}), tmp_path, said.append)
    assert any("resumed from step 2" in line for line in said)
    learnt = [build_guidance.load(folder, tiny(), SHAPE, 10, VP).params for folder in (tmp_path, judge[0])]
    for a, b in zip(*map(jax.tree.leaves, learnt), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(judge[1]) == 4 and all(0 <= share <= 1 for share in judge[1])


def test_a_damaged_classifier_is_skipped_for_the_one_before(tmp_path):
    """And where none is intact, nothing starts over."""
    run = Run(tiny(), SHAPE, 10)
    state = build_guidance.create_state(run.config, run.shape, run.classes)
    claim = partial(write_config, tmp_path, run, "cpu")
    with closing(Checkpoints(tmp_path / CLASSIFIER, about=run.content, claim=claim)) as checkpoints:
        for step in (1, 2):
            ema = jax.tree.map(lambda p, step=step: jnp.full_like(p, step), state.ema)
            checkpoints.save(step, state._replace(step=jnp.int32(step), ema=ema))
    (tmp_path / CLASSIFIER / "2" / "manifest.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"skipped .*classifier/2 cannot be restored \(its manifest.json is damaged"):
        learnt = build_guidance.load(tmp_path, tiny(), SHAPE, 10, VP)
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(learnt.params))
    (tmp_path / CLASSIFIER / "1" / "manifest.json").write_text("{}")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="classifier/2 cannot be restored"):
        build_guidance.load(tmp_path, tiny(), SHAPE, 10, VP)


@pytest.mark.slow
def test_a_classifier_guides_a_run_that_it_fits(judge, subject, key):
    """By the gradient of its log p(label | x_t), with networks that know no labels too; another's model is refused."""
    config = tiny(**{"sample.guidance": 3.0, "sample.classifier": str(judge[0])})
    ours = build.experiment(config, SHAPE, 10, make_mesh(jax.devices()[:1]))
    assert ours.net.classes == 0 and ours.classes == 10
    params, y = ours.init(key), jnp.arange(4)
    x, t = jax.random.normal(key, (4, *SHAPE)), jnp.array([1, 7, 13, 20])
    learnt = build_guidance.load(judge[0], config, SHAPE, 10, ours.process)
    plain = jax.jit(ours.denoise(params, y, clip=False))(x, t)
    gradient = jax.jit(jax.grad(lambda x: learnt.log_prob(y, x, t).sum()))(x)
    assert np.abs(gradient).max() > 1e-3
    eps = plain.eps - 3.0 * ours.process.noise[t][:, None, None, None] * gradient
    config.sample.clip = False
    found = jax.jit(ours.denoise(params, y, guided=True))(x, t)
    np.testing.assert_allclose(found.eps, eps, rtol=1e-4, atol=1e-5)
    told = measurement_protocol.of_samples(ours)
    assert (
        told["guidance"] == 3.0
        and len(told["classifier"]) == 12
        and "guidance" not in measurement_protocol.of_samples(subject.experiment)
    )
    for changes, shape, line in (
        ({"diffusion.T": 30}, SHAPE, r"diffusion\.T is 20 instead of 30"),
        ({}, (16, 16, 1), "shape of the data"),
    ):
        with pytest.raises(ValueError, match=line):
            build_guidance.load(judge[0], tiny(**changes), shape, 10, ours.process)
    with pytest.raises(ValueError, match="holds no classifier"):
        build_guidance.load(subject.folder, tiny(), SHAPE, 10, ours.process)
    with pytest.raises(ValueError, match=r"holds a run of scripts/train\.py"):
        train_classifier.run(labelled(), subject.folder, print)


# -------------------------------------------------------------------------------------------------- sets and the script


def test_labels_and_guidance_make_sets_of_their_own(subject):
    chain = Chain(grid="4")
    places = {
        draw_and_store_sample_sets.parts_folder(subject, one)
        for one in (chain, chain._replace(labels=(3,)), chain._replace(labels=(3, 5)))
    }
    for arguments in ((10, 1.0), (10, 2.0), (10, 1.0, (2, 9))):
        make = build_guidance.Guide(*arguments)
        places.add(
            draw_and_store_sample_sets.parts_folder(
                subject._replace(experiment=subject.experiment._replace(guide=make)), chain
            )
        )
    assert len(places) == 6
    assert "label_3-5" in draw_and_store_sample_sets.stem(subject, chain._replace(labels=(3, 5)))
    assert sample_batches.labels(np.arange(5), (3, 5)).tolist() == [3, 5, 3, 5, 3]
    run = read_run(subject.folder)
    assert draw_and_store_sample_sets.guided(run, {}) is run
    changed = draw_and_store_sample_sets.guided(run, {"sample.guidance": 2.0, "sample.guidance_from": 0.1})
    assert (changed.config.sample.guidance, run.config.sample.guidance) == (2.0, 0.0)
    with pytest.raises(ValueError, match="at least 0"):
        draw_and_store_sample_sets.guided(run, {"sample.guidance": -2.0})
    for name, value in (("classifier", "x"), ("guidance_from", 0.1), ("guidance_to", 0.9)):
        with pytest.raises(ValueError, match=f"--{name} has no effect without guidance: add --guidance=1"):
            draw_and_store_sample_sets.guided(run, {f"sample.{name}": value})
    with pytest.raises(ValueError, match="--classifier has no effect without guidance"):
        draw_and_store_sample_sets.guided(run, {"sample.guidance": 0.0, "sample.classifier": "x"})
    for unguided in (draw_and_store_sample_sets.UNGUIDED, {"sample.classifier": ""}, {"sample.guidance_from": 0.0}):
        assert draw_and_store_sample_sets.guided(run, unguided).config.sample.guidance == 0
    with pytest.raises(ValueError, match="none holds no classifier; give the folder of a run of scripts/train_cl"):
        build_guidance.load(subject.folder / "none", run.config, run.shape, run.classes, subject.experiment.process)


def script(*args):
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, str(ROOT / "scripts" / "sample.py"), *map(str, args)]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_script_draws_the_labels_asked_for(subject, tmp_path):
    out = tmp_path / "x.npz"
    given = [f"--workdir={subject.folder}", "--n=5", "--steps=3", "--format=npz", f"--out={out}", "--guidance=1"]
    done = script(*given, "--label=3,5")
    assert done.returncode == 0, done.stderr
    with np.load(out) as file:
        assert file["arr_1"].tolist() == [3, 5, 3, 5, 3] and file["arr_0"].shape == (5, *SHAPE)
    (parts,) = (subject.folder / "samples" / "parts").iterdir()
    assert "guidance_1" in parts.name and "label_3-5" in parts.name


def test_the_script_refuses_in_one_line(subject):
    done = script(f"--workdir={subject.folder}", "--label=three")
    assert done.returncode == 2 and "--label=three is no label" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_labels_are_refused_where_nothing_knows_them(subject):
    without = build.experiment(tiny(), SHAPE, 10, subject.experiment.mesh)
    with pytest.raises(ValueError, match="--label=3: this run draws without labels"):
        draw_and_store_sample_sets.check_labels(without, Chain(labels=(3,)))
    with pytest.raises(ValueError, match="--label=12: the labels of this run are 0 to 9"):
        draw_and_store_sample_sets.check_labels(subject.experiment, Chain(labels=(3, 12)))
    draw_and_store_sample_sets.check_labels(subject.experiment, Chain(labels=(0, 9)))


def test_archives_have_the_layout_of_the_evaluator(subject, tmp_path):
    """As guided-diffusion reads them: images in arr_0, and in arr_1 the labels that they were drawn with."""
    usual = dict(n=4, batch=4, form="npz", step=None, raw=False, guidance={})
    chain = Chain(grid="2", labels=(3, 5))
    sample_run(subject.folder, read_run(subject.folder), chain, print, out=tmp_path / "a.npz", **usual)
    with np.load(tmp_path / "a.npz") as file:
        assert file.files == ["arr_0", "arr_1"]
        assert (file["arr_0"].shape, file["arr_0"].dtype) == ((4, *SHAPE), np.uint8)
        assert file["arr_1"].tolist() == [3, 5, 3, 5]


def test_scores_are_of_the_guidance_asked_for_and_say_so(subject, tmp_path):
    """Each guidance has samples, a protocol and a file of its own; where no samples are drawn, it is refused."""
    folder, run = subject.folder, read_run(subject.folder)

    def asked(**fields):
        request = {"metrics": ("neighbours",), "n": 12, "chain": Chain(grid="3"), **fields}
        return evaluate.prepare(folder, run, evaluate.Request(**request))

    def measured(**given):
        guidance = {f"sample.{name}": value for name, value in given.items()}
        (one,) = evaluate.run(asked(guidance=guidance), lambda *_: nullcontext(lambda done: None))  # noqa: ARG005
        return one.path.name, one.result.protocol.get("guidance"), one.result.values

    plain, none, twice = measured(), measured(guidance=0.0), measured(guidance=2.0)
    part = measured(guidance=2.0, guidance_from=0.5)
    names = [name for name, *_ in (plain, none, twice, part)]
    assert names == [
        f"neighbours_train_0_{guided}3_n12.json"
        for guided in ("", "guidance0_", "guidance2_", "guidance2_guidance_steps10-20_")
    ]
    assert [guidance for _, guidance, _ in (plain, none, twice, part)] == [None, None, 2.0, 2.0]
    assert plain[2] == none[2] and len({tuple(values.items()) for *_, values in (plain, twice, part)}) == 3
    with pytest.raises(ValueError, match="act on samples that are drawn here"):
        asked(metrics=("nll",), guidance={"sample.guidance": 1.0})
    with pytest.raises(ValueError, match="act on samples that are drawn here"):
        asked(samples=tmp_path / "a.npz", guidance={"sample.guidance": 1.0})
    with pytest.raises(ValueError, match="must be below"):
        asked(guidance={"sample.guidance": 1.0, "sample.guidance_from": 1.0})


# ------------------------------------------------------------------------------------------------------ its measurement


def test_spread_is_the_mean_distance_within_a_class():
    features = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [9.0, 9.0]])
    found = guidance_effect.spread(features, np.array([0, 0, 1, 1, 1, 2]))
    assert found == pytest.approx((5 + (1 + 2 + 1) / 3) / 2)


def test_a_sampler_of_the_command_line_obeys_the_rules_of_configs(subject):
    run = read_run(subject.folder)
    run.config.sample.update(churn=30.0, churn_from=5.0, churn_to=0.05)
    draw_and_store_sample_sets.check(run, Chain())
    with pytest.raises(ValueError, match="no level lies between them"):
        draw_and_store_sample_sets.check(run, Chain(sampler="edm"))


def test_a_run_is_guided_in_every_way_that_it_allows(subject):
    fit = build_guidance.Learnt(classifier.Problem(VP, lambda *args: args[1]), {}, 10)
    assert list(guidance_effect.guides(subject.experiment, fit)) == [
        "classifier-free",
        "classifier, with labels",
        "classifier, without labels",
    ]
    without = build.experiment(tiny(), SHAPE, 10, subject.experiment.mesh)
    assert list(guidance_effect.guides(without, fit)) == ["classifier, without labels"]
    with pytest.raises(ValueError, match="--classifier"):
        guidance_effect.guides(without, None)


def test_measurements_are_found_and_drawn(tmp_path):
    series = {"scale": [0.0, 1.0, 4.0], "free, accuracy": [0.8, 0.9, 0.95], "free, diversity": [1.0, 0.8, 0.5]}
    for step in (10, 20):
        found = result_files.Result(curve_data.GUIDANCE, {"held_out_accuracy": step / 25}, series, {"step": step})
        result_files.write(tmp_path, found)
    curves, real = curve_data.guidance(tmp_path)
    assert list(curves) == ["free"] and real == 0.8 and curves["free"][2].tolist() == [1.0, 0.8, 0.5]
    assert curve_data.guidance(tmp_path, 10)[1] == 0.4
    left, right = figure(curves, real).axes
    assert left.get_lines()[0].get_ydata().tolist() == [0.8, 0.9, 0.95]
    assert right.get_lines()[0].get_xdata().tolist() == [0.8, 0.9, 0.95]
    with pytest.raises(ValueError, match=r"scripts/guidance_scales\.py"):
        curve_data.guidance(tmp_path / "nothing")
    assert json.loads(next((tmp_path / "eval").glob("*.json")).read_text())["name"] == "guidance"


def test_the_measurement_that_was_written_last_is_drawn(tmp_path):
    for name, share in (("b", 0.8), ("a", 0.2)):
        series = {"scale": [0.0, 1.0], "free, accuracy": [share, 1.0], "free, diversity": [1.0, 0.8]}
        measured = result_files.Result(curve_data.GUIDANCE, {"held_out_accuracy": 1.0}, series, {"step": 1})
        result_files.write(tmp_path, measured, name)
    assert curve_data.guidance(tmp_path)[0]["free"][1].tolist() == [0.2, 1.0]


def test_measurements_of_other_chains_do_not_replace_each_other(subject, tmp_path, monkeypatch):
    """Nothing is drawn: what is tested is the name and the protocol of the result."""
    judge = SimpleNamespace(accuracy=lambda source: 1.0, digest=lambda: "0" * 64)  # noqa: ARG005
    learnt = build_guidance.Learnt(classifier.Problem(VP, lambda *args: args[1]), {"w": jnp.ones(2)}, 10)
    for name, made in (
        ("classifier", lambda train: judge),  # noqa: ARG005
        ("drawer", lambda *_: lambda scale, n: None),  # noqa: ARG005
        ("effect", lambda *_: {"accuracy": 0.5, "diversity": 1.0, "distance": 2.0}),
    ):
        monkeypatch.setattr(guidance_effect, name, made)
    monkeypatch.setattr(build_guidance, "load", lambda *_: learnt)
    usual = {"scales": [0.0], "classifier": None, "n": 500, "batch": 10, "seed": 0, "sampler": None, "grid": None}
    usual |= {"step": None, "raw": False, "data_flags": DataFlags()}

    def measured(**changes):
        run = read_run(subject.folder)
        return guidance_scales.measure(tmp_path, run, lambda line: None, **{**usual, **changes})  # noqa: ARG005

    monkeypatch.setattr(guidance_scales.load_run, "load", lambda _, run, *rest: (*_loaded(subject, run), 0))  # noqa: ARG005
    paths = [
        measured(**changes)
        for changes in (
            *({}, {"sampler": "ddim"}, {"grid": "4"}, {"seed": 3}, {"n": 20}, {"raw": True}),
            {"classifier": Path("c")},
        )
    ]
    assert [path.stem for path in paths] == [
        *("guidance_0_n500", "guidance_0_ddim_n500", "guidance_0_4_n500", "guidance_0_seed3_n500", "guidance_0_n20"),
        *("guidance_0_raw_n500", f"guidance_0_classifier-{measurement_protocol.digest(learnt.params)[:12]}_n500"),
    ]
    assert result_files.read(paths[-1]).protocol["classifier"] == measurement_protocol.digest(learnt.params)[:12]
    with pytest.raises(ValueError, match="--n=19: samples of one class are compared with each other; give at least 20"):
        measured(n=19)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ValueError, match="cannot be written by this user, and results are written there"):
        measured()


@pytest.mark.parametrize("schedule", SIGNAL_ENDS)
def test_scales_of_a_classifier_are_not_measured_without_signal(subject, schedule):
    """There every sample would be NaN; a config with such guidance is refused too."""
    run = read_run(subject.folder)
    run.config.diffusion.update(schedule=schedule, parameterization="v")
    asked = {"scales": [0.0], "n": 20, "batch": 10, "seed": 0, "sampler": None, "grid": None, "step": None}
    with pytest.raises(ValueError, match=f"--classifier=c: schedule '{schedule}' ends without signal"):
        guidance_scales.measure(
            subject.folder, run, print, **asked, classifier=Path("c"), raw=False, data_flags=DataFlags()
        )


def _loaded(subject, run):
    return subject.experiment._replace(config=run.config), subject.params
