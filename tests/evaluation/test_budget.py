"""The compute budget of CPUs: previews, estimates and final evaluations within a stated number of operations."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.commands import plan, previews_during_training, train
from diffusion.config import config_files, default_config
from diffusion.core.parameterization import Prediction
from diffusion.data.digits import digits
from diffusion.distributed.sharding import make_mesh
from diffusion.evaluation import evaluation_after_training
from diffusion.evaluation.fewer_images_on_cpu import UNLIMITED, Budget, chain_calls
from diffusion.evaluation.measurement_protocol import Subject
from diffusion.experiment import build, build_guidance
from diffusion.experiment.registry_of_samplers_and_schedules import SAMPLERS
from diffusion.sampling.sampling_loop import image_keys, prior_sample, sample
from tests.support.networks import TwoConvolutions, using


def test_images_are_what_the_operations_pay_for():
    budget = Budget(1e6, 1e3)
    assert budget.images(64, 10) == 64 and budget.images(64, 50) == 20 and budget.images(64, 1001) == 0
    assert UNLIMITED.images(10**9, 4000) == 10**9


CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.py"))


def rounds_to(value: float, text: str) -> bool:
    """Whether a number is the one in a text, as far as that has digits."""
    digits = len(text.partition("e")[0].replace(".", "").lstrip("0"))
    return float(f"{value:.{digits - 1}e}") == float(text)


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_docstrings_of_configs_state_parameters_and_operations_as_they_are_counted(path):
    """As the start-up report counts them; 113.7 M parameters, at 95 TFLOP a step, 4.7e19 FLOP in all."""
    text, config = path.read_text().split('"""')[1], config_files.load(path)
    data = plan.data(config, None)
    experiment = build.experiment(config, data.shape, data.classes)
    params = jax.eval_shape(experiment.init, jax.random.key(0))
    step = 3 * train.forward_flops(experiment) * config.train.batch_size
    if sizes := re.findall(r"([\d.]+) M\s+parameters", text):
        assert any(rounds_to(sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6, size) for size in sizes)
    assert all(rounds_to(step / 1e12, cost) for cost in re.findall(r" at ([\d.]+) TFLOP", text)), step
    assert all(rounds_to(step * config.train.steps, cost) for cost in re.findall(r"([\d.]+e\d+) FLOP", text)), step


def small(**changes):
    """An experiment with digits, a small network and T = 4."""
    config = default_config()
    config.update_from_flattened_dict(
        {
            "data.name": "digits",
            "diffusion.T": 4,
            "diffusion.beta_T": 0.9999,
            "net.channels": 8,
            "net.multipliers": (1,),
            "net.blocks": 1,
            "net.attention": (),
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
    )
    with using(TwoConvolutions):
        return build.experiment(config, (8, 8, 1), 10, make_mesh(jax.devices()[:1]))


def test_the_final_evaluation_is_cut_and_reports_it(tmp_path):
    """A budget for 3 images by 4 steps."""
    ours = small(eval__n=5, sample__batch_size=2)
    subject = Subject(ours, ours.create_state().ema, tmp_path, 0, raw=False)
    forward, done = train.forward_flops(ours), []
    cut = evaluation_after_training.measure(
        subject, digits(True), digits(False), Budget(12.5 * forward, forward), done.append
    )
    assert done == [2, 3, 0, 3]
    assert cut.samples.shape == (3, 8, 8, 1) and cut.bound is not None and cut.bound.values["images"] == 3
    assert [line.split()[1:3] for line in cut.lines()[:2]] == [["3", "samples"], ["3", "held-out"]]
    nothing = evaluation_after_training.measure(subject, digits(True), digits(False), Budget(forward, forward))
    assert nothing.samples.shape == (0, 8, 8, 1) and nothing.bound is None and nothing.distance is None
    assert [line.split()[:2] for line in nothing.cuts] == [["cut", "0"]] * 2


GUIDES = {
    "unguided": build_guidance.UNGUIDED,
    "guided": build_guidance.Guide(10, 1.0),
}


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_costs_the_network_calls_that_its_chain_makes(name, guide):
    ours = small(sample__sampler=name, sample__corrector_steps=3, diffusion__T=4)._replace(guide=GUIDES[guide])
    process, rows = ours.sampled(), []
    sampler = SAMPLERS[name](process, ours.process, ours.variance, ours.config.sample)

    def network(x, t, labels):
        assert len(t) == len(labels) == len(x)
        jax.debug.callback(lambda _: rows.append(len(x)), x[0, 0])
        return Prediction(0.1 * x, x, None)

    @jax.jit
    def drawn(keys):
        denoise = ours.guide.denoiser(network, jnp.zeros(1, jnp.int32))
        return sample(keys, process, sampler, denoise, prior_sample(keys, process, (2,))).x_0

    drawn(image_keys(0, jnp.arange(1))).block_until_ready()
    jax.effects_barrier()
    assert chain_calls(ours) == sum(rows)


def test_samples_are_fewer_where_a_step_takes_two_calls_and_the_bound_is_as_it_was(tmp_path):
    ours = small(eval__n=5, sample__sampler="heun")
    subject = Subject(ours, ours.create_state().ema, tmp_path, 0, raw=False)
    forward = train.forward_flops(ours)
    cut = evaluation_after_training.measure(subject, digits(True), digits(False), Budget(12.5 * forward, forward))
    assert len(cut.samples) == 1 and cut.bound is not None and cut.bound.values["images"] == 3


@pytest.mark.parametrize(("guide", "n"), [("unguided", 12), ("guided", 6)])
def test_previews_are_cut_by_the_calls_that_they_make(guide, n, monkeypatch):
    ours, drawn = small(sample__preview_steps=2)._replace(guide=GUIDES[guide]), []
    draw = lambda run, n, *_: drawn.append(n) or np.zeros((n, 8, 8, 1), np.uint8)  # noqa: ARG005, E731
    monkeypatch.setattr(previews_during_training.sample_batches, "draw", draw)
    previews_during_training.preview(ours, digits(False), Budget(24.5, 1.0), print)(None)
    assert drawn == [n]


def test_the_estimate_of_one_image_has_no_standard_error():
    for n, names in ((1, {"bits_per_dim"}), (2, {"bits_per_dim", "standard_error"})):
        ours = small(eval__quick_n=n, eval__quick_steps=2)
        estimate = previews_during_training.estimate(ours, digits(False), ours.feed(digits(True)), UNLIMITED)
        found = estimate(ours.create_state())
        assert set(found) == names and np.isfinite(list(found.values())).all()


def test_a_cpu_has_a_limit_and_zero_lifts_it():
    config = default_config()
    config.net.channels, config.net.multipliers, config.net.attention = 8, (1,), ()
    ours = build.experiment(config, (8, 8, 3), 10, make_mesh(jax.devices()[:1]))
    budget = train.afford(ours)
    assert budget.flop == (config.eval.cpu_flop if jax.default_backend() == "cpu" else np.inf)
    config.eval.cpu_flop = 0.0
    assert train.afford(ours).flop == np.inf
