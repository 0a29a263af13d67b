"""Faults in results, their protocols, figures and published tables."""

from tests.mutants.mutant import mutants

EVALUATION = (
    *mutants(
        "diffusion/evaluation/sample_quality.py",
        "tests/evaluation/test_quoted_scores.py",
        (
            "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 1000, 3",
            "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 1000, 5",
            "test_precision_is_that_of_the_samples_with_three_neighbours",
            "precision and recall with k = 5",
        ),
        (
            "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 1000, 3",
            "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 100, 3",
            "test_kid_is_of_100_subsets_of_1000_and_quotes_its_seed",
            "KID with subsets of 100",
        ),
        (
            "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 1000, 3",
            "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 50, 1000, 3",
            "test_kid_is_of_100_subsets_of_1000_and_quotes_its_seed",
            "KID of 50 subsets",
        ),
        (
            "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 1000, 3",
            "SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 5, 100, 1000, 3",
            "test_inception_score_is_that_of_ten_splits",
            "the inception score over 5 splits",
        ),
        (
            "precision_recall(m.real.vectors[m.layer], m.samples.vectors[m.layer], NEIGHBOURS)",
            "precision_recall(m.samples.vectors[m.layer], m.real.vectors[m.layer], NEIGHBOURS)",
            "test_precision_is_that_of_the_samples_with_three_neighbours",
            "precision and recall with their sides swapped",
        ),
        (
            ', "subset_seed": m.seed}',
            "}",
            "test_kid_is_of_100_subsets_of_1000_and_quotes_its_seed",
            "KID without its seed in the protocol",
        ),
        (
            "* (m.n_real < FULL)",
            "* 0",
            "test_fid_reports_few_samples_and_few_references",
            "few references are not reported",
        ),
        (
            "unequal = m.n != m.n_real",
            "unequal = False",
            "test_unequal_sets_are_reported",
            "unequal sets are not reported",
        ),
        (
            "return metric if network == NETWORK else",
            "return metric if True else",
            "tests/evaluation/test_evaluate.py::test_scores_of_other_weights_have_other_names",
            "scores of other weights are called FID",
        ),
    ),
    *mutants(
        "diffusion/evaluation/guidance_effect.py",
        "tests/evaluation/test_quoted_scores.py",
        (
            "spread(drawn, labels) / spread(images, real_labels)",
            "spread(drawn, labels)",
            "test_the_effect_of_guidance_is_measured_beside_real_images",
            "diversity not divided by that of real images",
        ),
    ),
    *mutants(
        "diffusion/evaluation/flow_nll.py",
        "tests/metrics/test_mean_and_standard_error.py",
        (
            "(means.mean, means.error)",
            "(means.mean, means.square)",
            "test_the_flow_quotes_the_error_of_the_mean",
            "standard error of the flow's likelihood",
        ),
        (
            "denoise = experiment.denoise(params, labels, clip=False)",
            "denoise = experiment.denoise(params, labels)",
            "tests/core/test_flow_likelihood.py::test_the_network_is_not_clipped",
            "the flow is clipped",
        ),
    ),
    *mutants(
        "diffusion/evaluation/measurement_protocol.py",
        "tests/evaluation/test_evaluate.py",
        (
            'getattr(experiment.net, "compute_dtype", jnp.float32)',
            "c.net.dtype",
            "test_a_network_that_computes_in_float32_is_quoted_with_it",
            "the precision of a network that does not take the key",
        ),
        (
            '    "subset_seed": "subsets_seed{}".format,\n',
            "",
            "test_results_of_other_files_and_other_seeds_lie_apart",
            "KID of another seed replaces the result",
        ),
    ),
    *mutants(
        "diffusion/commands/evaluate.py",
        "tests/evaluation/test_evaluate.py",
        (
            "_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}",
            "",
            "test_results_of_other_files_and_other_seeds_lie_apart",
            "a/x.npz and b/x.npz share a result",
        ),
    ),
    *mutants(
        "diffusion/figures/curve_figures.py",
        "tests/figures/test_figures.py",
        (
            "return (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])",
            "return (1 - alpha_bar[1:]) / (1 - alpha_bar[:-1] + 1e-9)",
            "test_ratio_of_variances_is_that_of_conditioning",
            "figure 1 upside down",
        ),
    ),
    *mutants(
        "diffusion/figures/reverse_step_is_gaussian_figure.py",
        "tests/core/test_elementary.py",
        (
            "joint = mixture.log_density(x, u - du)",
            "joint = mixture.log_density(x, u)",
            "test_the_conditional_becomes_gaussian_at_second_order",
            "the reverse conditional of another time",
        ),
    ),
    *mutants(
        "diffusion/figures/curve_figures.py",
        "tests/figures/test_figures.py",
        (
            "np.arange(1, len(values) + 1)",
            "np.arange(len(values))",
            "test_terms_on_logarithmic_axes_leave_out_what_has_no_logarithm",
            "terms are drawn at 0..T-1",
        ),
    ),
    *mutants(
        "diffusion/published/ddpm_tables.py",
        "tests/published/test_published_values.py",
        (
            '"8.34 | 6.42 | 37.52"',
            '"8.34 | 6.42 | 37.25"',
            "test_values_are_those_of_the_paper",
            "two digits of DDPM table 3 are swapped",
        ),
    ),
    *mutants(
        "diffusion/published/improved_ddpm_tables.py",
        "tests/published/test_published_values.py",
        (
            '"3.57 | 19.2"',
            '"3.57 | 19.3"',
            "test_values_are_those_of_the_paper",
            "a digit of Improved DDPM on ImageNet-64 is changed",
        ),
    ),
    *mutants(
        "diffusion/published/ddim_tables.py",
        "tests/published/test_published_values.py",
        (
            '"33.12 | 26.03',
            '"33.12 | 26.30',
            "test_values_are_those_of_the_paper",
            "two digits of DDIM table 1 are swapped",
        ),
    ),
    *mutants(
        "diffusion/published/papers_protocols.py",
        "tests/published/test_published_values.py",
        (
            'f"--split={reference}"',
            '"--split=train"',
            "test_every_cell_names_a_config_and_a_command",
            "the command of FID against the test set names the training set",
        ),
        (
            'binding={"weights": "ema", "features": NETWORK}',
            'binding={"weights": "ema"}',
            "tests/published/test_reproduce.py::test_another_protocol_is_shown_but_fills_nothing",
            "a published FID is filled by other weights of Inception",
        ),
    ),
    *mutants(
        "diffusion/published/match_results_to_cells.py",
        "tests/published/test_reproduce.py",
        (
            "images > measure.images and measure.exact",
            "False",
            "test_another_protocol_is_shown_but_fills_nothing",
            "more samples fill a cell of FID",
        ),
    ),
    *mutants(
        "diffusion/published/differences_of_config_from_paper.py",
        "tests/published/test_reproduce.py",
        (
            'if key in COMPUTED - {"data.name"}',
            'if key in COMPUTED - {"data.name", "optim.lr"}',
            "test_a_changed_config_fills_nothing",
            "another learning rate fills a cell",
        ),
    ),
    *mutants(
        "diffusion/evaluation/variational_bound.py",
        "tests/evaluation/test_evaluate.py",
        ('"rate": prior + terms[1:].sum()', '"rate": terms[1:].sum()', "test_parts_add_up", "the rate without L_T"),
        (
            '"rmse": x_0_rmse[0]',
            '"rmse": x_0_rmse[-1]',
            "test_means_and_standard_errors_are_those_of_the_images",
            "the distortion at t = T",
        ),
    ),
    *mutants(
        "diffusion/evaluation/measure_likelihood.py",
        "tests/evaluation/test_evaluate.py",
        (
            '"split", "images", "seed")',
            '"split", "images")',
            "test_parts_of_another_protocol_are_not_used",
            "partial means of another seed are resumed",
        ),
        (
            '"parameters": measurement_protocol.digest(subject.params), ',
            "",
            "test_parts_of_another_protocol_are_not_used",
            "partial means of other weights are resumed",
        ),
    ),
    *mutants(
        "diffusion/metrics/first_images_of_split.py",
        "tests/core/test_flow_likelihood.py",
        (
            "n > source.size:",
            "n > 2 * source.size:",
            "test_more_images_than_there_are",
            "more images than the split has",
        ),
    ),
    *mutants(
        "diffusion/evaluation/fewer_images_on_cpu.py",
        "tests/evaluation/test_budget.py",
        (
            "self.flop / (self.forward * calls)",
            "self.flop / self.forward",
            "test_images_are_what_the_operations_pay_for",
            "the budget of one step",
        ),
    ),
    *mutants(
        "diffusion/evaluation/draw_and_store_sample_sets.py",
        "tests/metrics/test_sample_set.py",
        (
            '        "parameters": measurement_protocol.digest(subject.params),\n',
            "",
            "test_sets_that_differ_in_anything_lie_apart",
            "images of other weights are taken for stored ones",
        ),
        (
            "truncate=chain.truncate)",
            "truncate=False)",
            "test_truncation_cuts_levels",
            "--truncate is ignored",
        ),
        (
            "n, batch, chain.seed, classes",
            "n, batch, 0, classes",
            "test_images_depend_on_seed_and_index_alone",
            "the seed of samples is ignored",
        ),
    ),
    *mutants(
        "diffusion/evaluation/evaluation_after_training.py",
        "tests/evaluation/test_evaluate.py",
        (
            "chain = Chain(seed=c.seed)",
            "chain = Chain(seed=c.seed + 1)",
            "test_the_final_evaluation_is_written_as_results",
            "the final samples are of another seed",
        ),
        (
            'first = split("test", held_out, images)',
            'first = split("test", train, images)',
            "test_the_final_evaluation_is_written_as_results",
            "the final bound is that of training images",
        ),
        (
            "if fits(train) and n > 1 and not broken:",
            "if fits(train) and n > 1:",
            "test_broken_samples_are_counted_and_not_scored",
            "samples that are not finite are scored",
        ),
    ),
    *mutants(
        "diffusion/evaluation/measurement_protocol.py",
        "tests/evaluation/test_evaluate.py",
        (
            '"weights": WEIGHTS[subject.raw]',
            '"weights": WEIGHTS[0]',
            "test_raw_weights_are_quoted_as_such",
            "raw weights are quoted as averaged",
        ),
        (
            "if name in STOCHASTIC else None",
            "if True else None",
            "test_eta_is_quoted_of_samplers_that_read_it",
            "eta of a sampler that does not read it",
        ),
    ),
    *mutants(
        "diffusion/commands/evaluate.py",
        "tests/evaluation/test_evaluate.py",
        (
            "        if broken:",
            "        if False:",
            "test_a_network_that_diverged_is_not_scored",
            "samples that are not finite are scored",
        ),
    ),
    *mutants(
        "diffusion/evaluation/sample_batches.py",
        "tests/metrics/test_sample_set.py",
        ("index % len(cycle)", "index // len(cycle) % len(cycle)", "test_labels_go_round", "labels in blocks"),
        (
            "to_pixels(images, truncate)",
            "to_pixels(images)",
            "test_truncation_cuts_levels",
            "levels are never truncated",
        ),
    ),
)
