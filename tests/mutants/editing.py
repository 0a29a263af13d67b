"""Faults in what is made from images: inversion, variations, interpolation, inpainting."""

from tests.mutants.mutant import mutants

EDITING = (
    *mutants(
        "diffusion/sampling/ddim_latents.py",
        "tests/sampling/test_samplers.py",
        (
            "process.base_t[jnp.maximum(t, 1)]",
            "process.base_t[t + 1]",
            "test_a_single_step_of_inversion",
            "inversion asks the network for the step above",
        ),
        (
            "at(process.noise, t + 1, x_t) * prediction.eps",
            "at(process.noise, t, x_t) * prediction.eps",
            "test_inversion_approaches_the_flow_with_first_order",
            "inversion adds the noise of t",
        ),
        (
            "jnp.where(clean, x_t, prediction.x_0)",
            "prediction.x_0",
            "test_a_single_step_of_inversion",
            "the first step of inversion starts from x_0_hat",
        ),
    ),
    *mutants(
        "diffusion/sampling/editing.py",
        "tests/sampling/test_editing.py",
        ("descend(own,", "descend(shared,", "test_forks_share_x_t_and_part_there", "forks never part"),
        ("descend(shared, sampler,", "descend(own, sampler,", "test_forks_share_x_t_and_part_there", "forks part at T"),
        (
            "1 if shared else 2",
            "1",
            "test_mixtures_have_the_law_of_independent_encodings",
            "both encodings have one noise",
        ),
        (
            "(1 - share) * x_t + share * x_t_other",
            "share * x_t + (1 - share) * x_t_other",
            "test_the_ends_know_one_image_alone",
            "interpolation runs backwards",
        ),
        (
            "x_t = _encoded(keys, process, x_0, at, 1)\n    return",
            "x_t = x_0\n    return",
            "test_variations_have_the_law_of_one_encoding",
            "a variation starts from the clean image",
        ),
        (
            "normal(fold(fold(keys, 0), which), x_0)",
            "normal(fold(keys, which), x_0)",
            "test_mixtures_have_the_law_of_independent_encodings",
            "the encoding has the noise of a step of the chain",
        ),
    ),
    *mutants(
        "diffusion/sampling/ddim_latents.py",
        "tests/sampling/test_editing.py",
        (
            "jnp.sinc(part * theta / jnp.pi) / jnp.sinc(theta / jnp.pi)",
            "1.0",
            "test_slerp_turns_one_vector_into_the_other_at_constant_speed",
            "a straight line for the arc",
        ),
        (
            "share(1 - lam) * x + share(lam) * other",
            "share(lam) * x + share(1 - lam) * other",
            "test_slerp_turns_one_vector_into_the_other_at_constant_speed",
            "the arc runs backwards",
        ),
    ),
    *mutants(
        "diffusion/sampling/inpainting.py",
        "tests/sampling/test_inpainting.py",
        (
            "q_sample(process, x_0, t - 1,",
            "q_sample(process, x_0, t,",
            "test_draws_have_the_law_of_the_published_schedule",
            "the known region has the noise of t",
        ),
        (
            "jnp.where(resampled, resamplings - 1, 0)",
            "jnp.where(resampled, 0, 0)",
            "test_draws_have_the_law_of_the_published_schedule",
            "no resampling",
        ),
        (
            "jnp.where(known, q_sample(",
            "jnp.where(~known, q_sample(",
            "test_what_is_known_stays_and_nothing_else_is_looked_at",
            "the mask is inverted",
        ),
        (
            "at = jnp.full(x.shape[0], s + 1 + j, jnp.int32)",
            "at = jnp.full(x.shape[0], s + 1, jnp.int32)",
            "test_draws_have_the_law_of_the_published_schedule",
            "a jump repeats its first forward step",
        ),
    ),
)
