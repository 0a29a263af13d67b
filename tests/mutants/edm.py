"""Faults in EDM's levels, preconditioning, weight, density and sampler."""

from tests.mutants.mutant import mutants

EDM = (
    *mutants(
        "diffusion/core/schedules.py",
        "tests/core/test_edm.py",
        ("roots[::-1] ** rho", "roots[::-1] ** (rho + 1)", "test_levels", "levels raised to another power"),
        ("sigma_T ** (1 / rho), sigma_1", "sigma_T, sigma_1", "test_levels", "the root of sigma_T left out"),
    ),
    *mutants(
        "diffusion/core/forward_process.py",
        "tests/core/test_edm.py",
        ("signal**2 * sigma_data**2 + var", "signal**2 + var", "test_preconditioning", "c_in without sigma_data"),
        (
            "_f32(steps - 1).at[0].set(steps[1] - 1.0)",
            "_f32(steps)",
            "tests/core/test_reverse_process.py::test_the_network_sees_t_minus_1",
            "the network is given t instead of t - 1",
        ),
    ),
    *mutants(
        "diffusion/core/parameterization.py",
        "tests/core/test_edm.py",
        (
            "process.sigma_data**2 * process.signal[t] * process.scale[t] ** 2",
            "process.sigma_data * process.signal[t] * process.scale[t] ** 2",
            "test_preconditioning",
            "c_skip with sigma_data unsquared",
        ),
        (
            "process.noise[t] * process.sigma_data * process.scale[t]",
            "process.noise[t] * process.scale[t]",
            "test_preconditioning",
            "c_out without sigma_data",
        ),
        (
            "noise / process.sigma_data * x_0",
            "noise * x_0",
            "test_targets_have_unit_variance_and_keep_full_precision",
            "a target of another scale",
        ),
    ),
    *mutants(
        "diffusion/core/weighting.py",
        "tests/core/test_edm.py",
        (
            "native(process, edm_output, t)",
            "native(process, parameterization, t)",
            "test_preconditioning",
            "a weight that depends on what is predicted",
        ),
    ),
    *mutants(
        "diffusion/core/timesteps.py",
        "tests/core/test_edm.py",
        ("P_mean + P_std *", "P_mean - 0.2 + P_std *", "test_lognormal_density", "another mean of log sigma"),
        ("1 + jnp.searchsorted(edges", "jnp.searchsorted(edges", "test_lognormal_density", "t one too small"),
        (
            "jnp.log(process.noise[1:]) - jnp.log(process.signal[1:])",
            "jnp.log(process.noise[1:])",
            "test_lognormal_density",
            "noise instead of noise / signal",
        ),
    ),
    *mutants(
        "diffusion/core/respacing.py",
        "tests/core/test_edm.py",
        ("n) ** rho\n", "n)\n", "test_karras_grid", "a grid even in the root of sigma"),
    ),
    *mutants(
        "diffusion/experiment/registry_of_samplers_and_schedules.py",
        "tests/core/test_edm.py",
        ("log_sigma]) / 4", "log_sigma])", "test_preconditioning", "c_noise without its factor 1 / 4"),
    ),
    *mutants(
        "diffusion/data/augmentation.py",
        "tests/data/test_augmentation.py",
        (
            "_clockwise(angle - axis, x, y)",
            "_clockwise(angle, x, y)",
            "test_a_transform_is_its_matrices",
            "axis kept turned",
        ),
        (
            "x, y = _clockwise(axis, x, y)\n    x, y = x *",
            "x, y = x *",
            "test_a_transform_is_its_matrices",
            "stretched along the edges",
        ),
        (
            "- SHIFT * width * right",
            "- SHIFT * right",
            "test_a_transform_is_its_matrices",
            "moved by eighths of a pixel",
        ),
        ('mode="mirror"', 'mode="constant"', "test_steps_of_whole_pixels_are_exact", "black beyond the edges"),
        ("order=1,", "order=0,", "test_a_plane_stays_a_plane", "the nearest pixel"),
        (
            "jnp.array([p_flip, p, p,",
            "jnp.array([p, p, p,",
            "test_each_part_is_drawn_as_published",
            "flips as rare as the rest",
        ),
        (
            "stretched, stretched & oblique,",
            "stretched, oblique,",
            "test_each_part_is_drawn_as_published",
            "an axis without stretching",
        ),
        (
            "jnp.cos(angle) - 1,",
            "jnp.cos(angle),",
            "test_the_condition_is_the_published_vector",
            "ones where nothing is done",
        ),
    ),
    *mutants(
        "diffusion/nets/network_interface.py",
        "tests/data/test_augmentation.py",
        (
            "return emb + nn.Dense",
            "return emb + 0.0 * nn.Dense",
            "test_the_network_is_given_the_condition_in_training_and_zeros_elsewhere",
            "the network does not see the condition",
        ),
    ),
    *mutants(
        "diffusion/experiment/registry_of_samplers_and_schedules.py",
        "tests/data/test_augmentation.py",
        (
            "p_flip=1.0 if c.flip else c.augment",
            "p_flip=c.augment",
            "test_flips_of_the_data_are_given_to_a_network_that_is_given_any",
            "data.flip without effect beside augmentation",
        ),
    ),
    *mutants(
        "diffusion/training/weight_averages.py",
        "tests/training/test_weight_averages.py",
        (
            "count.astype(jnp.float32)) ** (gamma + 1.0)",
            "count.astype(jnp.float32)) ** gamma",
            "test_the_averages_are_their_definition_and_skipped_updates_do_not_count",
            "a profile of another power",
        ),
        (
            "choose(fit, (count, averages), (state.count, state.averages))",
            "choose(True, (count, averages), (state.count, state.averages))",
            "test_the_averages_are_their_definition_and_skipped_updates_do_not_count",
            "skipped updates enter the average",
        ),
        (
            "[1, 7, 16 - width**-2, 12 - width**-2]",
            "[1, 7, 16 - width**-2, 12]",
            "test_the_width_is_the_standard_deviation_of_the_profile",
            "another width",
        ),
        (
            "(low / high) ** later / high",
            "(low / high) ** later",
            "test_inner_products_are_integrals",
            "a factor 1 / T",
        ),
        (
            "inner_product(*a, float(count), gamma_of(width))",
            "inner_product(*a, float(counts[0]), gamma_of(width))",
            "test_other_widths_are_reconstructed",
            "the average ends at the first checkpoint",
        ),
    ),
    *mutants(
        "diffusion/commands/ema.py",
        "tests/commands/test_ema.py",
        (
            "if each <= int(last.step) else",
            "if each < int(last.step) else",
            "test_a_kept_width_comes_out_and_any_other_is_between",
            "the newest checkpoint left out",
        ),
    ),
    *mutants(
        "diffusion/sampling/edm.py",
        "tests/sampling/test_edm.py",
        ("process.signal[s] * h / 2", "process.signal[s] * h", "test_it_is_algorithm_2", "the second slope in full"),
        ("process.signal[s] * h / 2", "0.0 * h", "test_it_is_algorithm_2", "Euler's method"),
        ("trained[raised] ** 2 - sigma**2", "trained[raised] ** 2", "test_it_is_algorithm_2", "too much churn"),
        ("noise_scale * base.signal", "base.signal", "test_it_is_algorithm_2", "S_noise left out"),
        ("churn / process.T", "churn", "test_it_is_algorithm_2", "S_churn not shared among the steps"),
        ("(sigma >= sigma_from)", "(sigma >= 0 * sigma_from)", "test_it_is_algorithm_2", "S_min left out"),
    ),
)
