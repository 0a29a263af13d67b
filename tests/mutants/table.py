"""The changes that must not go unnoticed: a factor dropped, an index shifted, two keys swapped."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change to one file, and the tests of which at least one must fail by it."""

    file: str
    old: str
    """Occurs exactly once in the file."""
    new: str
    tests: tuple[str, ...]
    why: str
    """The fault in a few words."""


MUTANTS = (
    Mutant(
        "diffusion/training/step.py",
        "noised(task.diffusion.process, x_0, t, eps)",
        "noised(task.diffusion.process, x_0, t - 1, eps)",
        ("tests/training/test_algorithm_1.py",),
        "training noises with t - 1",
    ),
    Mutant(
        "diffusion/training/step.py",
        "jax.random.normal(keys.noise, x_0.shape)",
        "jax.random.normal(keys.flip, x_0.shape)",
        ("tests/training/test_algorithm_1.py",),
        "noise is drawn with the key of the flips",
    ),
    Mutant(
        "diffusion/core/elbo.py",
        "return self.prior + self.terms.sum(axis=1)",
        "return 0.0 * self.prior",
        ("tests/core/test_elbo.py::test_the_bound_is_tight_with_the_optimal_variance",),
        "the bound is 0",
    ),
    Mutant(
        "diffusion/core/elbo.py",
        "noised(diffusion.process, x_0, t, noise(keys, x_0, t))",
        "noised(diffusion.process, x_0, t, from_keys(keys, x_0, t))",
        ("tests/core/test_elbo.py::test_bound_is_that_of_the_loops",),
        "the bound ignores the given noise",
    ),
    Mutant(
        "diffusion/core/process.py",
        "beta_tilde = beta * var[:-1] / var[1:]",
        "beta_tilde = beta * var[1:] / (var[:-1] + beta)",
        ("tests/core/test_process.py::test_mean_and_variance_of_equation_7",),
        "another posterior variance",
    ),
    Mutant(
        "diffusion/core/process.py",
        "np.log([beta[0], *beta])",
        "np.log([first, first, *beta[1:]])",
        ("tests/core/test_variance.py::test_learned_range_at_the_first_step_of_the_published_schedule",),
        "the stand-in of the decoder in both ends of the learned range",
    ),
    Mutant(
        "diffusion/core/process.py",
        "jnp.where(t > 1, jnp.exp(self.log_beta_tilde[t]), 0.0)",
        "jnp.exp(self.log_beta_tilde[t])",
        ("tests/core/test_process.py::test_beta_and_beta_tilde_have_no_stand_in",),
        "beta_tilde at t = 1 is not 0",
    ),
    Mutant(
        "diffusion/core/variance.py",
        "jnp.where(t > 1, process.log_beta[t], process.log_beta_tilde[t])",
        "process.log_beta[t]",
        ("tests/core/test_variance.py::test_the_first_step_of_the_published_schedule",),
        "fixed_large without the stand-in at t = 1",
    ),
    Mutant(
        "diffusion/core/parameterization.py",
        "_mu_gain, clips=False)",
        "_mu_gain, clips=True)",
        ("tests/experiment/test_clipping.py",),
        "mu is clipped",
    ),
    Mutant(
        "diffusion/core/parameterization.py",
        "* eps - at(process.noise, t, x_0) * x_0",
        "* eps + at(process.noise, t, x_0) * x_0",
        ("tests/core/test_parameterization.py::test_targets_are_their_definitions",),
        "the sign of v",
    ),
    Mutant(
        "diffusion/sampling/ancestral.py",
        "noise_unless_last(keys, x_t, t, noise)",
        "noise_unless_last(keys, x_t, t)",
        ("tests/sampling/test_samplers.py::test_noise_is_replaceable",),
        "ancestral sampling ignores the given noise",
    ),
    Mutant(
        "diffusion/sampling/inversion.py",
        "process.base_t[jnp.maximum(t, 1)]",
        "process.base_t[t + 1]",
        ("tests/sampling/test_samplers.py::test_a_single_step_of_inversion",),
        "inversion asks the network for the step above",
    ),
    Mutant(
        "diffusion/figures/posterior_variance.py",
        "return (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])",
        "return (1 - alpha_bar[1:]) / (1 - alpha_bar[:-1] + 1e-9)",
        ("tests/figures/test_figures.py::test_ratio_of_variances_is_that_of_conditioning",),
        "figure 1 upside down",
    ),
    Mutant(
        "diffusion/figures/reverse_conditional.py",
        "joint = mixture.log_density(x, u - du)",
        "joint = mixture.log_density(x, u)",
        ("tests/core/test_elementary.py::test_the_conditional_becomes_gaussian_at_second_order",),
        "the reverse conditional of another time",
    ),
    Mutant(
        "diffusion/core/timesteps.py",
        "lambda key, n: jax.random.randint(key, (n,), 1, T + 1)",
        "lambda key, n: jax.random.randint(key, (n,), 0, T)",
        ("tests/core/test_timesteps.py",),
        "t uniform on 0..T-1",
    ),
    Mutant(
        "diffusion/core/timesteps.py",
        "jnp.stack([t, T + 1 - t], axis=1)",
        "jnp.stack([t, t], axis=1)",
        ("tests/core/test_timesteps.py",),
        "antithetic pairs are equal",
    ),
    Mutant(
        "diffusion/core/timesteps.py",
        "1.0 / (T * p[i]), 1.0)",
        "1.0 / p[i], 1.0)",
        ("tests/core/test_importance.py",),
        "importance weights without 1 / T",
    ),
    Mutant(
        "diffusion/core/timesteps.py",
        "return i + 1, jnp.where",
        "return i, jnp.where",
        ("tests/core/test_importance.py",),
        "importance-sampled t shifted by one",
    ),
    Mutant(
        "diffusion/evaluation/scores.py",
        "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 1000, 3",
        "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 1000, 5",
        ("tests/evaluation/test_quoted_scores.py",),
        "precision and recall with k = 5",
    ),
    Mutant(
        "diffusion/evaluation/scores.py",
        "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 1000, 3",
        "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 100, 3",
        ("tests/evaluation/test_quoted_scores.py",),
        "KID with subsets of 100",
    ),
    Mutant(
        "diffusion/evaluation/scores.py",
        "precision_recall(m.real.vectors[m.layer], m.samples.vectors[m.layer], NEIGHBOURS)",
        "precision_recall(m.samples.vectors[m.layer], m.real.vectors[m.layer], NEIGHBOURS)",
        ("tests/evaluation/test_quoted_scores.py",),
        "precision and recall with their sides swapped",
    ),
    Mutant(
        "diffusion/evaluation/scores.py",
        ', "subset_seed": m.seed}',
        "}",
        ("tests/evaluation/test_quoted_scores.py",),
        "KID without its seed in the protocol",
    ),
    Mutant(
        "diffusion/evaluation/scores.py",
        "* (m.n_real < FULL)",
        "* 0",
        ("tests/evaluation/test_quoted_scores.py",),
        "few references are not reported",
    ),
    Mutant(
        "diffusion/evaluation/scores.py",
        "unequal = m.n != m.n_real",
        "unequal = False",
        ("tests/evaluation/test_quoted_scores.py",),
        "unequal sets are not reported",
    ),
    Mutant(
        "diffusion/evaluation/guidance_effect.py",
        "spread(drawn, labels) / spread(images, real_labels)",
        "spread(drawn, labels)",
        ("tests/evaluation/test_quoted_scores.py",),
        "diversity not divided by that of real images",
    ),
    Mutant(
        "diffusion/metrics/image_means.py",
        "np.sqrt(self.square / (n - 1) / n)",
        "np.sqrt(self.square / (n - 1))",
        ("tests/metrics/test_image_means.py",),
        "standard error without sqrt(n)",
    ),
    Mutant(
        "diffusion/evaluation/flow.py",
        "(means.mean, means.error)",
        "(means.mean, means.square)",
        ("tests/metrics/test_image_means.py",),
        "standard error of the flow's likelihood",
    ),
    Mutant(
        "diffusion/metrics/small_image_classifier.py",
        "return float((self.classes(pixels) == labels).mean())",
        "return 1.0",
        ("tests/metrics/test_small_images.py",),
        "accuracy of the classifier set to 1",
    ),
    Mutant(
        "diffusion/metrics/small_image_classifier.py",
        "if len(model.classes_) < 3:",
        "if len(model.classes_) < 0:",
        ("tests/metrics/test_small_images.py",),
        "one logit for two labels",
    ),
    Mutant(
        "diffusion/metrics/small_image_classifier.py",
        "return self.labels[self.probabilities(pixels).argmax(axis=1)]",
        "return self.probabilities(pixels).argmax(axis=1)",
        ("tests/metrics/test_small_images.py",),
        "labels taken for 0..k-1",
    ),
    Mutant(
        "diffusion/metrics/image_parts.py",
        "if pixels.shape != (part.stop - part.start, *shape):",
        "if False:",
        ("tests/metrics/test_image_parts.py",),
        "lengths of parts are not checked",
    ),
    Mutant(
        "diffusion/metrics/image_parts.py",
        'with exclusive(folder / "lock", str(folder), "wait until it ends, then run this again", remove=True):',
        "if True:",
        ("tests/metrics/test_image_parts.py",),
        "two processes draw one set",
    ),
    Mutant(
        "diffusion/metrics/image_set.py",
        "        if done < self.n:\n",
        "        if False:\n",
        ("tests/metrics/test_image_parts.py",),
        "a set that lacks images is accepted",
    ),
    Mutant(
        "diffusion/commands/evaluate.py",
        "_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}",
        "",
        ("tests/evaluation/test_evaluate.py::test_results_of_other_files_and_other_seeds_lie_apart",),
        "a/x.npz and b/x.npz share a result",
    ),
    Mutant(
        "diffusion/evaluation/protocol.py",
        'getattr(experiment.net, "compute_dtype", jnp.float32)',
        "c.net.dtype",
        ("tests/evaluation/test_evaluate.py::test_a_network_that_computes_in_float32_is_quoted_with_it",),
        "the precision of a network that does not take the key",
    ),
    Mutant(
        "diffusion/evaluation/protocol.py",
        '    "subset_seed": "subsets_seed{}".format,\n',
        "",
        ("tests/evaluation/test_evaluate.py::test_results_of_other_files_and_other_seeds_lie_apart",),
        "KID of another seed replaces the result",
    ),
)
