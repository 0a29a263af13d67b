"""Which steps are visited: the published selections, shifted by one, their text, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.config import default_config
from diffusion.config.validation import validate
from diffusion.core import respacing, schedules
from diffusion.core.forward_process import vp
from diffusion.experiment import build
from diffusion.sampling.ddim import ddim
from diffusion.sampling.sampling_loop import image_keys

PUBLISHED = (
    (1000, "ddim50", range(0, 1000, 20)),
    (1000, "50", {0: 0, 1: 20, 2: 41, 3: 61, 4: 82, 5: 102, 47: 958, 48: 979, 49: 999}),
    (
        300,
        "10,15,20",
        {0: 0, 1: 11, 2: 22, 9: 99, 10: 100, 11: 107, 24: 199, 25: 200, 26: 205, 27: 210, 28: 216, 44: 299},
    ),
    (4000, "ddim100", range(0, 4000, 40)),
    (4000, "100", {0: 0, 1: 40, 2: 81, 3: 121, 98: 3959, 99: 3999}),
    (1000, "ddim25", range(0, 1000, 40)),
    (1000, "ddim30", range(0, 1000, 34)),
    (1000, "ddim250", range(0, 1000, 4)),
    (1000, "quad10", [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]),
    (1000, "1000", range(1000)),
    (1000, "", range(1000)),
    (1000, "full", range(1000)),
)
"""Steps 0..T-1 as the published code numbers them: all of them, or some by position."""


def levels(T: int) -> np.ndarray:
    """noise / signal of a process; only karras reads the values."""
    return np.arange(T + 1.0)


def shifted(text: str, T: int) -> list[int]:
    """The grid without its 0, in the published numbering."""
    ts = respacing.parse(text)(levels(T))
    assert ts[0] == 0 and ts.dtype == np.int64
    return [int(t) - 1 for t in ts[1:]]


@pytest.mark.parametrize(("T", "text", "steps"), PUBLISHED)
def test_published_selections(T, text, steps):
    found = shifted(text, T)
    if isinstance(steps, dict):
        assert {i: found[i] for i in steps} == steps
        assert len(found) == sum(map(int, text.split(",")))
    else:
        assert found == list(steps)


def test_karras_takes_the_only_step_of_a_process_that_ends_without_signal():
    assert respacing.karras(np.array([0.0, np.inf]), 1).tolist() == [0, 1]
    assert respacing.karras(np.array([0.0, 2.0, np.inf]), 2).tolist() == [0, 1, 2]


def published_sections(T: int, counts: list[int]) -> list[int]:
    """The loop of Improved DDPM: a floating-point position to which the stride is added."""
    found, start = [], 0
    for i, count in enumerate(counts):
        size = T // len(counts) + (1 if i < T % len(counts) else 0)
        stride, position = (size - 1) / (count - 1) if count > 1 else 1, 0.0
        for _ in range(count):
            found.append(start + round(position))
            position += stride
        start += size
    return found


def test_sections_everywhere():
    """Halves are rounded as the published sum of strides rounds them: a product would give 500, not 499."""
    assert 499 in shifted("21", 1000) and round(10 * (999 / 20)) == 500
    for T in (7, 60, 299, 1000):
        for n in range(2, T + 1, max(T // 40, 1)):
            assert shifted(str(n), T) == published_sections(T, [n])
    for T, counts in ((100, [3, 20, 7]), (101, [1, 34]), (11, [4, 4, 3]), (4000, [10, 10, 20, 60])):
        assert shifted(",".join(map(str, counts)), T) == published_sections(T, counts)


def test_strides_everywhere():
    """The smallest whole stride that gives n, found by trying all; as many n as have none are refused."""
    for T in (1, 2, 60, 97):
        by_trial = {}
        for stride in range(1, T + 1):
            by_trial.setdefault(len(range(0, T, stride)), stride)
        for n in range(1, T + 5):
            if n in by_trial:
                assert respacing.strided(T, n).tolist() == [0, *range(1, T + 1, by_trial[n])]
            else:
                with pytest.raises(ValueError, match="no whole stride"):
                    respacing.strided(T, n)


@pytest.mark.parametrize("n", [1, 2, 10, 50, 400, 1000])
def test_quadratic_as_published(n):
    """int(s) of linspace(0, sqrt(0.8 T), n)^2, a step that occurs twice being taken once."""
    published = [int(s) for s in np.linspace(0, np.sqrt(0.8 * 1000), n) ** 2]
    assert [int(t) - 1 for t in respacing.quadratic(1000, n)[1:]] == sorted(set(published))


@pytest.mark.parametrize(
    ("T", "text", "reason"),
    [
        (1000, "ddim60", "no whole stride over 1000 steps gives exactly 60; use 59 or 63"),
        (1000, "ddim300", "no whole stride over 1000 steps gives exactly 300; use 250 or 334"),
        (1000, "ddim0", "no whole stride"),
        (1000, "ddim1001", "gives exactly 1001; use 1000"),
        (1000, "1001", "cannot take 1001 steps from a process of 1000; take 1..1000"),
        (1000, "0", "cannot take 0 steps"),
        (300, "10,101,20", "cannot take 101 steps from section 2, which has 100 of the 300; take 1..100"),
        (2, "1,1,1", "3 sections do not fit 2 steps; take 1..2"),
        (1000, "quad1001", "cannot take 1001 steps from a process of 1000; take 1..1000"),
        (1000, "1", "ends at step 1 of 1000, but sampling starts there from pure noise; use more steps"),
        (1000, "quad1", "ends at step 1 of 1000"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(T, text, reason):
    with pytest.raises(ValueError) as caught:
        respacing.parse(text)(levels(T))
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    config = default_config()
    config.sample.grid, config.diffusion.T = text, T
    with pytest.raises(ValueError) as caught:
        validate(config)
    assert str(caught.value).startswith("config.sample.grid: ") and reason in str(caught.value)


@pytest.mark.parametrize(
    "text", ["50.", "10,,20", ",", "ddim", "quad", "ddim5,6", "fulll", "-5", "5 0", "dim50", "9" * 10]
)
def test_a_text_of_no_form_is_refused(text):
    with pytest.raises(
        ValueError, match="is not a grid of steps; write one such as 50, full, 10,15,20, ddim50, quad50, karras18"
    ):
        respacing.parse(text)


def test_a_respaced_process_keeps_the_noise_levels():
    """Its tables are those of the kept betas, 1 - alpha_bar[s] / alpha_bar[s before]: an ordinary process."""
    alpha_bar = schedules.linear(1000)
    ts = respacing.parse("10,15,20")(levels(1000))
    process = vp(alpha_bar[ts], base_t=ts)
    np.testing.assert_array_equal(process.base_t, ts)
    beta = 1 - alpha_bar[ts[1:]] / alpha_bar[ts[:-1]]
    again = vp(np.cumprod([1.0, *(1 - beta)]), base_t=ts)
    for table, expected in zip(process, again, strict=True):
        np.testing.assert_allclose(table, expected, rtol=1e-5)


def test_the_config_grid_and_eta_reach_the_sampler(monkeypatch):
    """By default the config's; others can be given; all steps where the config says nothing, and in training."""
    asked = []

    def record(process, base, chosen, options):  # noqa: ARG001
        asked.append((process.T, options.eta))
        return ddim(process, options.eta)

    monkeypatch.setitem(build.SAMPLERS, "ddim", record)
    config = default_config()
    everything = build.experiment(config, (8, 8, 1), 10)
    config = config.copy_and_resolve_references()
    config.sample.update(grid="50", sampler="ddim", eta=0.5)
    ours = build.experiment(config, (8, 8, 1), 10)
    ours.sampler()
    ours.sampler(eta=0.0)
    ours.sampler(grid=respacing.parse("ddim10"))
    everything.sampler("ddim")
    everything.sampler("ddim", respacing.parse("20"), 1.0)
    assert asked == [(50, 0.5), (50, 0.0), (10, 0.5), (1000, 0.0), (20, 1.0)]
    assert ours.process.T == ours.task().diffusion.process.T == 1000


def test_the_config_grid_reaches_the_bound():
    config = default_config()
    config.net.update(channels=8, multipliers=(1,), blocks=1, attention=())
    config.sample.grid = "50"
    ours = build.experiment(config, (8, 8, 1), 10)
    params = jax.eval_shape(ours.init, jax.random.key(0))
    keys = jax.eval_shape(lambda: image_keys(0, jnp.arange(8)))
    labels, x_0 = jax.ShapeDtypeStruct((8,), jnp.int32), jax.ShapeDtypeStruct((8, 8, 8, 1), jnp.float32)
    assert jax.eval_shape(ours.bound(), params, keys, x_0, labels).terms.shape == (8, 50)
    assert jax.eval_shape(ours.bound(respacing.parse("ddim10")), params, keys, x_0, labels).terms.shape == (8, 10)
    assert jax.eval_shape(ours.bound(respacing.full), params, keys, x_0, labels).terms.shape == (8, 1000)
