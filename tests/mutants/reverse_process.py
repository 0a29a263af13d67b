"""Faults between a network's output and the reverse step."""

from tests.mutants.mutant import mutants

REVERSE_PROCESS = (
    *mutants(
        "diffusion/core/reverse_process.py",
        "tests/core/test_reverse_process.py",
        (
            "at(process.scale, t, x_t) * x_t",
            "x_t",
            "tests/core/test_elbo.py::test_bound_is_that_of_the_loops",
            "the network's input is not scaled",
        ),
        (
            "out[..., :channels], out[..., channels:]",
            "out[..., channels:], out[..., :channels]",
            "test_split",
            "the output's halves are swapped",
        ),
        (
            "Prediction(x_0_hat, to_eps(process, x_0_hat, x_t, t), raw_var)",
            "Prediction(x_0_hat, to_eps(process, x_t, x_0_hat, t), raw_var)",
            "test_predictions_agree_with_x_t",
            "eps of x_0_hat and x_t swapped",
        ),
        (
            "Prediction(x_0_hat, to_eps(process, x_0_hat, x_t, t), prediction.raw_var)",
            "Prediction(x_0_hat, prediction.eps, prediction.raw_var)",
            "test_clip",
            "eps is not derived again from the clipped x_0_hat",
        ),
        ("low: float = -1.0", "low: float = 0.0", "test_clip", "negative x_0_hat are clipped"),
        (
            "q_posterior(process, prediction.x_0, x_t, t).mean",
            "q_posterior(process, x_t, prediction.x_0, t).mean",
            "test_reverse_is_the_posterior_at_x_0_hat",
            "the reverse mean with x_0_hat and x_t swapped",
        ),
    ),
    *mutants(
        "diffusion/core/variance.py",
        "tests/core/test_variance.py",
        (
            "jnp.where(t > 1, process.log_beta[t], process.log_beta_tilde[t])",
            "process.log_beta[t]",
            "test_the_first_step_of_the_published_schedule",
            "fixed_large without the stand-in at t = 1",
        ),
        ("    return process.log_beta_tilde[t]", "    return process.log_beta[t]", "test_fixed", "fixed_small is beta"),
        (
            "    return _required(raw_var)",
            "    return 2 * _required(raw_var)",
            "test_learned_is_the_raw_output",
            "the raw output taken for a log-deviation",
        ),
        (
            "f = (raw_var + 1.0) / 2.0",
            "f = raw_var",
            "test_learned_range_interpolates_and_extrapolates",
            "interpolation over [0, 1] instead of [-1, 1]",
        ),
        (
            "f * at(process.log_beta, t, raw_var) + (1.0 - f)",
            "(1.0 - f) * at(process.log_beta, t, raw_var) + f",
            "test_learned_range_interpolates_and_extrapolates",
            "the ends of the learned range are swapped",
        ),
    ),
    *mutants(
        "diffusion/core/score.py",
        "tests/core/test_score.py",
        (
            "return -prediction.eps / at",
            "return prediction.eps / at",
            "test_score_is_the_gradient_of_the_exact_log_density",
            "the sign of the score",
        ),
        (
            "at(process.noise, t, prediction.eps)",
            "at(process.noise, t, prediction.eps) ** 2",
            "test_score_is_the_gradient_of_the_exact_log_density",
            "the score divided by the variance",
        ),
    ),
)
