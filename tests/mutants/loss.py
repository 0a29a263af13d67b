"""Faults in the training loss and in how t is drawn."""

from tests.mutants.mutant import mutants

LOSS = (
    *mutants(
        "diffusion/core/weighting.py",
        "tests/core/test_weighting.py",
        (
            "1.0 / parameterization.gain(process, t) ** 2",
            "1.0 / parameterization.gain(process, t)",
            "tests/core/test_objective.py::test_the_gradient_of_l_simple_is_that_of_the_plain_error",
            "L_simple weighted by the gain",
        ),
        (
            "return process.c_x_0[t] ** 2\n",
            "return process.c_x_0[t]\n",
            "test_mu_mse_is_the_squared_error_of_mu",
            "the squared error of mu with the gain unsquared",
        ),
        (
            "process.c_x_0[t] ** 2 / 2.0 * jnp.exp",
            "process.c_x_0[t] ** 2 * jnp.exp",
            "test_l_simple_with_its_weight_restored_is_the_kl",
            "the weight of the bound without 1/2",
        ),
        (
            "ratio / (k + ratio) ** gamma",
            "1.0 / (k + ratio) ** gamma",
            "tests/core/test_loss_weights.py::test_p2_on_eps_is_the_published_form",
            "P2 in the space of eps taken for that of x_0",
        ),
        (
            "jnp.minimum(snr(process, t), gamma)",
            "jnp.maximum(snr(process, t), gamma)",
            "tests/core/test_loss_weights.py::test_min_snr_on_x_0_and_eps_are_the_published_forms",
            "the maximum for the minimum of min-SNR",
        ),
    ),
    *mutants(
        "diffusion/core/objective.py",
        "tests/core/test_objective.py",
        (
            "jax.lax.stop_gradient(out) if objective.freeze_mean else out",
            "out",
            "test_the_hybrid_trains_each_half_with_its_own_part",
            "the bound of L_hybrid trains the mean",
        ),
        (
            "vlb = process.T * bits_per_dim(nats, dims(out))",
            "vlb = bits_per_dim(nats, dims(out))",
            "test_terms_of_all_steps_add_up_to_the_bound",
            "the bound without the factor T",
        ),
        (
            " * parameterization.gain(process, noised.t) ** 2",
            "",
            "test_the_gradient_of_l_simple_is_that_of_the_plain_error",
            "the weight is not taken to the space of the output",
        ),
        (
            "loss = loss + objective.vlb * vlb",
            "loss = loss + vlb",
            "test_the_parts_of_the_loss",
            "the bound enters with weight 1",
        ),
        (
            "interpret(process, parameterization, mean_half, raw_var, noised.x_t, noised.t)",
            "interpret(process, parameterization, mean_half, raw_var, noised.x_t, noised.t)._replace(x_0=noised.x_0)",
            "test_terms_of_all_steps_add_up_to_the_bound",
            "the bound of the loss knows x_0",
        ),
    ),
    *mutants(
        "diffusion/core/timesteps.py",
        "tests/core/test_importance.py",
        (
            "lambda key, n: jax.random.randint(key, (n,), 1, T + 1)",
            "lambda key, n: jax.random.randint(key, (n,), 0, T)",
            "tests/core/test_timesteps.py::test_t_is_uniform_on_1_to_T",
            "t uniform on 0..T-1",
        ),
        (
            "jnp.stack([t, T + 1 - t], axis=1)",
            "jnp.stack([t, t], axis=1)",
            "tests/core/test_timesteps.py::test_antithetic_draws_come_in_pairs",
            "antithetic pairs are equal",
        ),
        (
            "1.0 / (T * p[i]), 1.0)",
            "1.0 / p[i], 1.0)",
            "test_unbiased_exactly_and_by_simulation",
            "importance weights without 1 / T",
        ),
        (
            "return i + 1, jnp.where",
            "return i, jnp.where",
            "test_unbiased_exactly_and_by_simulation",
            "importance-sampled t shifted by one",
        ),
        (
            "jnp.sqrt(jnp.mean((history.losses / scale) ** 2, axis=1))",
            "jnp.mean(jnp.abs(history.losses / scale), axis=1)",
            "test_equals_a_plain_derivation_over_random_batches",
            "mean for root mean square of the losses",
        ),
        (
            "history - 1 - newer]",
            "newer]",
            "test_equals_a_plain_derivation_over_random_batches",
            "the newest loss in the place of the oldest",
        ),
        (
            "ready = jnp.all(history.counts == length)",
            "ready = jnp.any(history.counts == length)",
            "test_uniform_with_weight_one_until_every_step_is_full",
            "importance sampling from the first full row",
        ),
    ),
)
