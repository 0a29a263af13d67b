"""Faults in samplers."""

from tests.mutants.mutant import mutants

SAMPLERS = (
    *mutants(
        "diffusion/sampling/sampling_loop.py",
        "tests/sampling/test_sampling.py",
        (
            "(t > 1).astype(x_t.dtype)",
            "(t > 0).astype(x_t.dtype)",
            "test_the_last_step_returns_the_mean",
            "noise in the last step",
        ),
        ("jnp.exp(0.5 * g.log_var) * normal", "normal", "test_prior_sample", "x_T of unit variance in every process"),
        (
            "sampler.step(fold(keys, t),",
            "sampler.step(keys,",
            "test_the_chain_has_its_exact_law",
            "one noise for all steps of a chain",
        ),
        (
            "jax.random.fold_in(jax.random.key(seed), i))(indices)",
            "jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(len(indices)))",
            "test_image_keys",
            "an image depends on its place in the batch",
        ),
        (
            "sorted(set(collect), reverse=True)",
            "sorted(set(collect))[::-1][:1]",
            "test_collected_predictions_are_those_of_the_chain",
            "only one x_0_hat is collected",
        ),
        (
            "process.base_t[jnp.full(x_T.shape[0], ends[1], jnp.int32)]",
            "jnp.full(x_T.shape[0], ends[1], jnp.int32)",
            "test_the_network_is_asked_for_base_steps_in_order",
            "collected predictions ask for steps of the respaced chain",
        ),
    ),
    *mutants(
        "diffusion/sampling/ancestral.py",
        "tests/sampling/test_sampling.py",
        (
            "noise_unless_last(keys, x_t, t, noise)",
            "noise_unless_last(keys, x_t, t)",
            "tests/sampling/test_samplers.py::test_noise_is_replaceable",
            "ancestral sampling ignores the given noise",
        ),
        (
            "denoise(x_t, process.base_t[t])",
            "denoise(x_t, t)",
            "test_a_respaced_chain_has_its_exact_law",
            "ancestral sampling asks for steps of the respaced chain",
        ),
        (
            "gaussian.sample(p, noise_unless_last",
            "gaussian.sample(p._replace(mean=x_t), noise_unless_last",
            "test_a_step_is_that_of_algorithm_2",
            "a random walk for the reverse step",
        ),
        (
            "gaussian.sample(p, noise_unless_last",
            "gaussian.sample(p._replace(log_var=2 * p.log_var), noise_unless_last",
            "tests/core/test_elementary.py::test_algorithm_1_is_the_ancestral_sampler",
            "noise scaled by the variance",
        ),
    ),
    *mutants(
        "diffusion/sampling/ddim.py",
        "tests/sampling/test_samplers.py",
        (
            "var = eta**2 * process.beta_tilde(t)",
            "var = eta * process.beta_tilde(t)",
            "test_eta_scales_the_published_standard_deviation",
            "eta scales the variance",
        ),
        (
            "process.noise[t - 1] ** 2 - var",
            "process.noise[t - 1] ** 2",
            "test_eta_1_is_ancestral_sampling_with_the_small_variance",
            "noise is added without taking it from eps_hat",
        ),
        (
            "at(process.signal, t - 1, x_t) * prediction.x_0",
            "at(process.signal, t, x_t) * prediction.x_0",
            "test_order_of_convergence",
            "x_0_hat with the signal of t",
        ),
        (
            "process.noise[t - 1] ** 2 - var",
            "process.noise[t] ** 2 - var",
            "tests/core/test_elementary.py::test_the_deterministic_sampler_is_ddim",
            "eps_hat with the noise of t",
        ),
    ),
    *mutants(
        "diffusion/sampling/dpm_solver.py",
        "tests/sampling/test_samplers.py",
        (
            "h / (2 * state.h)",
            "h / state.h",
            "test_order_of_convergence",
            "the multi-step method extrapolates twice as far",
        ),
        (
            "Previous(x_0_hat, h)",
            "Previous(x_0_hat, -h)",
            "test_order_of_convergence",
            "the sign of the last step's length",
        ),
        (
            "jnp.where(t > 1, h / (2",
            "jnp.where(t > 0, h / (2",
            "test_whole_chains_approach_the_flow_to_the_data",
            "extrapolation into t = 0",
        ),
    ),
    *mutants(
        "diffusion/sampling/heun.py",
        "tests/sampling/test_samplers.py",
        (
            "velocity(first, t) + velocity(second, s)",
            "2 * velocity(first, t)",
            "test_order_of_convergence",
            "Euler's method for Heun's",
        ),
        (
            "at(noise, t - 1, x_t) * first.eps",
            "at(noise, t, x_t) * first.eps",
            "test_a_known_x_0_is_reached_in_any_step",
            "the step to t = 0 keeps noise",
        ),
        (
            "signal * prediction.eps - noise * prediction.x_0",
            "signal * prediction.eps + noise * prediction.x_0",
            "test_whole_chains_approach_the_flow_to_the_data",
            "the sign of v",
        ),
    ),
    *mutants(
        "diffusion/sampling/probability_flow.py",
        "tests/sampling/test_langevin.py",
        (
            "x_t + 0.5 * (",
            "x_t + (",
            "test_euler_follows_the_flow_with_first_order",
            "the flow moves at twice its speed",
        ),
        (
            "(1 - a) * (1 + a) * x_t + beta * slope",
            "(1 - a) * (1 + a) * x_t - beta * slope",
            "test_euler_follows_the_flow_with_first_order",
            "the sign of the score in the flow",
        ),
    ),
    *mutants(
        "diffusion/sampling/reverse_sde.py",
        "tests/sampling/test_langevin.py",
        (
            "2 * x_t - forward.mean",
            "forward.mean",
            "test_chains_have_their_exact_law",
            "the drift of the reverse step is that of the forward step",
        ),
        (
            "jnp.exp(forward.log_var) * slope",
            "0.5 * jnp.exp(forward.log_var) * slope",
            "test_chains_have_their_exact_law",
            "half of the score in the reverse equation",
        ),
    ),
    *mutants(
        "diffusion/sampling/langevin.py",
        "tests/sampling/test_langevin.py",
        (
            "jnp.sqrt(2 * h)",
            "jnp.sqrt(h)",
            "test_unadjusted_langevin_at_one_level_has_its_exact_law",
            "Langevin noise without the factor 2",
        ),
        (
            "expand(h, x) * score +",
            "expand(h / 2, x) * score +",
            "test_unadjusted_langevin_at_one_level_has_its_exact_law",
            "half of the score in a Langevin step",
        ),
        (
            "share = min(2 * snr**2, 1.0)",
            "share = min(snr**2, 1.0)",
            "test_annealed_langevin_has_its_exact_law",
            "annealed steps of half their length",
        ),
        (
            "(t == 1) & (j == n - 1)",
            "(t == 0) & (j == n - 1)",
            "test_the_last_of_all_steps_is_tweedies",
            "the last step leaves noise",
        ),
        (
            "noise(fold(keys, j), x, t)",
            "noise(keys, x, t)",
            "test_annealed_langevin_has_its_exact_law",
            "one noise for all Langevin steps of a level",
        ),
        (
            "jnp.where(t > 1, growth, 1.0)",
            "jnp.ones_like(growth)",
            "test_annealed_langevin_has_its_exact_law",
            "the signal does not grow between levels",
        ),
    ),
    *mutants(
        "diffusion/sampling/predictor_corrector.py",
        "tests/sampling/test_langevin.py",
        (
            "2 * (a * snr) ** 2, 1.0)",
            "(a * snr) ** 2, 1.0)",
            "test_the_length_of_a_step",
            "the corrector's step without the factor 2",
        ),
        (
            "fori_loop(0, n, correct, x_t)",
            "fori_loop(0, 0, correct, x_t)",
            "test_the_corrector_mends_what_the_predictor_missed",
            "no corrector",
        ),
        (
            "noise(fold(own, j), x, t)",
            "noise(keys, x, t)",
            "test_corrected_chains_have_their_exact_law",
            "predictor and corrector share their keys",
        ),
    ),
)
