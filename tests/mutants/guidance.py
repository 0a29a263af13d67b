"""Faults in guidance."""

from tests.mutants.mutant import mutants

GUIDANCE = (
    *mutants(
        "diffusion/sampling/guidance.py",
        "tests/sampling/test_guidance.py",
        (
            "Prediction(c.x_0 + w * (c.x_0 - u.x_0), c.eps + w * (c.eps - u.eps), c.raw_var)",
            "Prediction(c.x_0 - w * (c.x_0 - u.x_0), c.eps - w * (c.eps - u.eps), c.raw_var)",
            "test_the_guided_score_is_that_of_bayes_rule",
            "guidance away from the label",
        ),
        (
            "c.eps + w * (c.eps - u.eps), c.raw_var",
            "u.eps + w * (c.eps - u.eps), c.raw_var",
            "test_the_neutral_scale_is_the_identity",
            "w = 0 is the denoiser without labels",
        ),
        (
            "c.eps + w * (c.eps - u.eps), c.raw_var",
            "c.eps + w * (c.eps - u.eps), u.raw_var",
            "test_the_variance_is_that_of_the_labelled_network",
            "the variance of the network without labels",
        ),
        (
            "for i in (0, 1))",
            "for i in (1, 0))",
            "test_samples_are_guided_before_they_are_clipped_and_bounds_are_not",
            "the rows with and without labels are swapped",
        ),
        (
            "eps=prediction.eps - push",
            "eps=prediction.eps + push",
            "test_a_perfect_classifier_guides_as_perfect_denoisers_do",
            "the sign of the classifier's push on eps",
        ),
        (
            "prediction.x_0 + at(process.noise, t, x_t) / at(process.signal, t, x_t) * push",
            "prediction.x_0 + push",
            "test_the_mean_of_the_reverse_step_moves_as_in_algorithm_1",
            "x_0_hat moves as eps does",
        ),
        (
            "(first <= t) & (t <= last)",
            "(first < t) & (t <= last)",
            "test_guidance_keeps_to_its_interval",
            "the interval leaves out its first step",
        ),
        (
            "(first <= t) & (t <= last)",
            "(first <= t) | (t <= last)",
            "test_guidance_keeps_to_its_interval",
            "guidance outside the interval",
        ),
    ),
    *mutants(
        "diffusion/experiment/build.py",
        "tests/sampling/test_guidance.py",
        (
            "return reverse_process.clip(self.process, denoise) if clipped else denoise",
            "return denoise",
            "test_samples_are_guided_before_they_are_clipped_and_bounds_are_not",
            "samples are not clipped",
        ),
        (
            "return elbo.bound(keys, diffusion, self.denoise(params, labels), x_0)",
            "return elbo.bound(keys, diffusion, self.denoise(params, labels, guided=True), x_0)",
            "test_samples_are_guided_before_they_are_clipped_and_bounds_are_not",
            "bounds are guided",
        ),
        (
            "shown = hidden(key, labels, config.net.label_dropout, self.net.classes)",
            "shown = labels",
            "test_training_hides_labels_from_the_network",
            "no label is hidden in training",
        ),
    ),
    *mutants(
        "diffusion/experiment/build_guidance.py",
        "tests/sampling/test_guidance.py",
        (
            "round(c.guidance_from * T), round(c.guidance_to * T)",
            "round((1 - c.guidance_to) * T), round((1 - c.guidance_from) * T)",
            "test_an_interval_is_a_share_of_the_steps",
            "the interval counts from the other end",
        ),
    ),
    *mutants(
        "diffusion/training/step.py",
        "tests/sampling/test_guidance.py",
        (
            "> 0, labels, null)",
            "> 0, null, labels)",
            "test_labels_are_hidden_at_the_rate_asked_for",
            "labels are shown where they should be hidden",
        ),
        (
            "jax.random.fold_in(key, LABELS)",
            "jax.random.key(0)",
            "test_labels_are_hidden_at_the_rate_asked_for",
            "the same labels are hidden in every step",
        ),
    ),
)
