"""Which denoisers of an experiment are clipped: as in the published sampler, all but those that predict mu."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.config import default_config
from diffusion.core.reverse_process import reverse
from diffusion.experiment import build
from diffusion.experiment.registry_of_samplers_and_schedules import clips


@pytest.mark.parametrize(("parameterization", "clip"), [("mu", True), ("eps", True), ("eps", False)])
def test_x_0_hat_is_clipped_except_where_the_output_is_the_mean(parameterization, clip):
    """A fresh network outputs 0. As mu that is the mean of every reverse step, though x_0_hat leaves [-1, 1]."""
    config = default_config()
    net = {"data.name": "digits", "net.name": "mlp", "net.channels": 8, "net.blocks": 1}
    chain = {"diffusion.T": 50, "diffusion.beta_T": 0.3, "diffusion.parameterization": parameterization}
    config.update_from_flattened_dict(net | chain | {"sample.clip": clip})
    experiment = build.experiment(config, (8, 8, 1), 10)
    t = jnp.array([1, 10, 50])
    x_t = 3 * jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    params = experiment.init(jax.random.key(1))
    prediction = experiment.denoise(params, jnp.zeros(3, jnp.int32))(x_t, t)
    inside = clip and parameterization == "eps"
    assert clips(config) == inside
    assert bool((jnp.abs(prediction.x_0) <= 1).all()) == inside
    if parameterization == "mu":
        mean = reverse(experiment.process, experiment.variance, prediction, x_t, t).mean
        np.testing.assert_allclose(mean, np.zeros_like(mean), atol=1e-4)  # two terms of size 12 cancel
