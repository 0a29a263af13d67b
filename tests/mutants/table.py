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
