"""Faults in metrics."""

from tests.mutants.mutant import mutants

METRICS = (
    *mutants(
        "diffusion/metrics/frechet.py",
        "tests/metrics/test_frechet.py",
        ("- 2 * cross", "- cross", "test_distance_agrees_with_the_matrix_root_of_scipy", "half of the cross term"),
        (
            "((a.mean - b.mean) ** 2).sum()",
            "np.sqrt(((a.mean - b.mean) ** 2).sum())",
            "test_distance_of_a_translation_is_its_squared_length",
            "the means' distance is not squared",
        ),
        ("self._scatter / (self.n - 1)", "self._scatter / self.n", "test_moments_are_numpys", "the biased covariance"),
        (
            "np.sqrt(self.n * len(part) / total) * shift",
            "0 * shift",
            "test_stream_is_the_batch_however_it_is_cut_and_ordered",
            "parts are joined without their means' distance",
        ),
    ),
    *mutants(
        "diffusion/metrics/inception_score.py",
        "tests/metrics/test_scores.py",
        (
            "logits[i * n // splits : (i + 1) * n // splits]",
            "logits[i::splits]",
            "test_score_has_its_splits_in_the_given_order",
            "splits are interleaved",
        ),
        (
            "entr(marginal).sum()",
            "entr(marginal).sum() / np.log(2)",
            "test_score_is_that_of_the_definition",
            "bits in the marginal's entropy",
        ),
        (
            "float(np.mean(scores)), float(np.std(scores))",
            "float(np.mean(scores)), float(np.std(scores) / splits**0.5)",
            "test_score_is_that_of_the_definition",
            "the error of the mean for the deviation over splits",
        ),
    ),
    *mutants(
        "diffusion/metrics/kernel_distance.py",
        "tests/metrics/test_scores.py",
        ("(len(x) * (len(x) - 1))", "len(x) ** 2", "test_unbiased_mmd_is_unbiased", "the biased distance"),
        (
            "- 2 * float(_kernel(x, y).mean())",
            "- float(_kernel(x, y).mean())",
            "test_unbiased_mmd_is_the_double_sum_of_the_definition",
            "half of the cross term",
        ),
        (
            "return base * base * base",
            "return base * base",
            "test_unbiased_mmd_is_the_double_sum_of_the_definition",
            "a quadratic kernel",
        ),
        (
            "a[random.choice(len(a), size, replace=False)]",
            "a[random.choice(len(a), size, replace=True)]",
            "test_kid_is_mean_and_deviation_over_the_subsets",
            "subsets with replacement",
        ),
        (
            "RandomState(seed)",
            "RandomState(0)",
            "test_kid_is_mean_and_deviation_over_the_subsets",
            "the seed of the subsets is ignored",
        ),
        (
            "float(np.mean(values)), float(np.std(values))",
            "float(np.mean(values)), float(np.std(values) / subsets**0.5)",
            "test_kid_is_mean_and_deviation_over_the_subsets",
            "the error of the mean for the deviation over subsets",
        ),
    ),
    *mutants(
        "diffusion/metrics/precision_recall.py",
        "tests/metrics/test_scores.py",
        (
            "covered(fake, real, radii(real, k)).mean()), float(covered(real, fake, radii(fake, k)).mean())",
            "covered(real, fake, radii(fake, k)).mean()), float(covered(fake, real, radii(real, k)).mean())",
            "test_precision_and_recall_are_those_of_brute_force",
            "precision and recall are swapped",
        ),
        (
            "distance[:, -1]",
            "distance[:, 0]",
            "test_precision_and_recall_are_those_of_brute_force",
            "the nearest neighbour for the k-th",
        ),
        ("<= radii)", "< radii)", "test_surfaces_belong_to_the_balls", "surfaces do not belong to the balls"),
    ),
    *mutants(
        "diffusion/metrics/neighbours.py",
        "tests/metrics/test_neighbours.py",
        (
            "return index, distance",
            "return index, distance**2",
            "test_neighbours_are_those_of_brute_force",
            "squared distances",
        ),
        (
            "QUANTILE = 0.05",
            "QUANTILE = 0.5",
            "test_summary_counts_close_samples_and_copies",
            "the median for the closest 5%",
        ),
    ),
    *mutants(
        "diffusion/metrics/colour_drift.py",
        "tests/metrics/test_colour_drift.py",
        (
            "1 / len(drawn) + 1 / len(data)",
            "1 / len(data)",
            "test_both_limits_must_be_passed",
            "the error of the samples is left out",
        ),
        ("error) & (off", "error) | (off", "test_both_limits_must_be_passed", "one limit is enough"),
    ),
    *mutants(
        "diffusion/metrics/mean_and_standard_error.py",
        "tests/metrics/test_mean_and_standard_error.py",
        (
            "np.sqrt(self.square / (n - 1) / n)",
            "np.sqrt(self.square / (n - 1))",
            "test_means_and_errors_are_numpys",
            "standard error without sqrt(n)",
        ),
        (
            "shift**2 * (self.images * other.images / n)",
            "0 * shift",
            "test_means_and_errors_are_numpys",
            "sets are joined without their means' distance",
        ),
        (
            "(columns - mean[None]) ** 2, 0).sum(axis=0)",
            "(columns - mean[None]) ** 2, 0).sum(axis=0) / 2",
            "test_means_and_errors_are_numpys",
            "half of the deviations within a batch",
        ),
    ),
    *mutants(
        "diffusion/evaluation/variational_bound.py",
        "tests/evaluation/test_evaluate.py",
        (
            "bound.terms[:, 1:].sum(axis=1)",
            "bound.terms.sum(axis=1)",
            "test_means_and_standard_errors_are_those_of_the_images",
            "the error of L_{t-1} includes L_0",
        ),
        (
            "127.5 * np.sqrt(",
            "255 * np.sqrt(",
            "test_means_and_standard_errors_are_those_of_the_images",
            "errors in levels of images in [0, 1]",
        ),
        (
            '"L_steps": terms[1:].sum()',
            '"L_steps": terms.sum()',
            "test_parts_add_up",
            "the sum of L_{t-1} with L_0",
        ),
        (
            '"standard_error": error[2]',
            '"standard_error": error[1]',
            "test_means_and_standard_errors_are_those_of_the_images",
            "the error of another column",
        ),
    ),
    *mutants(
        "diffusion/metrics/rate_distortion.py",
        "tests/evaluation/test_evaluate.py",
        (
            "prior + np.append(np.cumsum(bits[:0:-1])[::-1], 0.0)",
            "prior + np.cumsum(bits[::-1])[::-1]",
            "test_rate_and_distortion_of_ten_steps",
            "the rate of step t includes its own term",
        ),
        ("prior + np.append(", "np.append(", "test_rate_and_distortion_of_ten_steps", "the rate without L_T"),
        (
            "round(r * T / 1000)) + 1: r",
            "round(r * T / 1000)): r",
            "test_the_published_rows_are_steps_1_to_901",
            "rows of the table a step off",
        ),
    ),
    *mutants(
        "diffusion/metrics/small_image_classifier.py",
        "tests/metrics/test_small_images.py",
        (
            "return float((self.classes(pixels) == labels).mean())",
            "return 1.0",
            "test_classifier_is_right_on_real_digits",
            "accuracy of the classifier set to 1",
        ),
        (
            "if len(model.classes_) < 3:",
            "if len(model.classes_) < 0:",
            "test_probabilities_are_those_of_the_library",
            "one logit for two labels",
        ),
        (
            "return self.labels[self.probabilities(pixels).argmax(axis=1)]",
            "return self.probabilities(pixels).argmax(axis=1)",
            "test_separable_data_are_separated_whatever_their_labels",
            "labels taken for 0..k-1",
        ),
    ),
    *mutants(
        "diffusion/evaluation/draw_and_store_sample_sets.py",
        "tests/evaluation/test_resumable_samples.py",
        (
            'with exclusive(folder / "lock", str(folder), "wait until it ends, then run this again"):',
            "if True:",
            "test_two_processes_draw_no_image_twice",
            "two processes draw one set",
        ),
    ),
)
