"""Faults in weights of other projects, and in the Inception network that FID is measured in."""

from tests.mutants.mutant import mutants

BOTH = "test_both_directions_are_exact_and_name_what_an_independent_walk_names"

CONVERT = (
    *mutants(
        "diffusion/convert/name_mapping.py",
        "tests/convert/test_convert.py",
        ("x.transpose(2, 3, 1, 0)]", "x.transpose(3, 2, 1, 0)]", BOTH, "a kernel's height and width are swapped"),
        ("TRANSPOSED = Form(lambda x: [x.T]", "TRANSPOSED = Form(lambda x: [x]", BOTH, "a matrix is not transposed"),
        ("[x.reshape(x.shape[:2]).T]", "[x.reshape(x.shape[:2])]", BOTH, "a 1x1 convolution is not transposed"),
        ("x.reshape(heads, 3, -1,", "x.reshape(3, heads, -1,", BOTH, "fused rows are by query, key and value first"),
        ("depth = blocks if p.index is None else p.index, deepest - p.level",
         "depth = blocks if p.index is None else p.index, p.level", BOTH, "levels on the way up in our order"),
        ("input=1 + p.level * (blocks + 1)", "input=1 + p.level * blocks", BOTH, "input blocks without downsampling"),
        ("after=1 + (p.level in attended)", "after=1", BOTH, "an upsampling counted without the attention before it"),
        ("kernel if params[name].leaf == KERNEL else SAME", "kernel", BOTH, "embeddings are laid out as kernels"),
        (
            '"unexpected": sorted(tensors.keys() - expected.keys()),',
            '"unexpected": [],',
            "test_what_does_not_fit_is_listed_in_one_line_and_nothing_is_read",
            "tensors that the network lacks are ignored",
        ),
        (
            "if not np.isfinite(tensors[name]).all()]",
            "if False]",
            "test_what_does_not_fit_is_listed_in_one_line_and_nothing_is_read",
            "weights that are not finite are read",
        ),
    ),
    *mutants(
        "diffusion/convert/diffusers.py",
        "tests/convert/test_convert.py",
        ('"q": "to_q", "k": "to_k"', '"q": "to_k", "k": "to_q"', BOTH, "query and key swapped"),
        ('"mid_block.resnets.0"', '"mid_block.resnets.1"', BOTH, "two middle blocks under one name"),
        (
            "OLD = {\"query\": \"to_q\", \"key\": \"to_k\"",
            "OLD = {\"query\": \"to_k\", \"key\": \"to_q\"",
            "test_a_folder_is_read_as_it_was_written_and_under_the_old_names",
            "query and key of the old names swapped",
        ),
        (
            'if groups(n) != c["norm_num_groups"]',
            "if False",
            "test_groups_other_than_ours_are_refused",
            "norms with other groups are read",
        ),
    ),
    *mutants(
        "diffusion/convert/diffusers_config.py",
        "tests/convert/test_convert.py",
        (
            'PREDICTIONS = {"eps": "epsilon", "x_0": "sample", "v": "v_prediction"}',
            'PREDICTIONS = {"eps": "epsilon", "x_0": "v_prediction", "v": "sample"}',
            "test_values_mean_what_the_library_means_by_them",
            "x_0 and v swapped",
        ),
        (
            '"quad": "scaled_linear", "sigmoid": "sigmoid", "cosine": "squaredcos_cap_v2"',
            '"quad": "squaredcos_cap_v2", "sigmoid": "sigmoid", "cosine": "scaled_linear"',
            "test_values_mean_what_the_library_means_by_them",
            "quad and cosine swapped",
        ),
        (
            '"norm_eps": 1e-6, "flip_sin_to_cos": False',
            '"norm_eps": 1e-6, "flip_sin_to_cos": True',
            "test_published_files_give_the_published_configs",
            "sine and cosine of the original code swapped",
        ),
        (
            "{divmod(width, dim) if dim",
            "{(width, 0) if dim",
            "test_the_number_of_heads_is_that_of_their_width",
            "the width of a head for the number of heads",
        ),
        (
            "reversed(with_attention)",
            "with_attention",
            "test_a_config_written_and_read_is_that_config",
            "attention on the way up in the order of the way down",
        ),
    ),
    *mutants(
        "diffusion/convert/ddpm_tf.py",
        "tests/convert/test_tensorflow_checkpoint.py",
        (
            '"norm.scale": "gamma", "norm.bias": "beta"',
            '"norm.scale": "beta", "norm.bias": "gamma"',
            f"tests/convert/test_convert.py::{BOTH}",
            "scale and bias of the norms swapped",
        ),
        (
            "ema=ema or raw,",
            "ema=raw,",
            "test_averages_and_raw_weights_are_taken_and_the_optimiser_left",
            "raw weights for their average",
        ),
    ),
    *mutants(
        "diffusion/convert/improved_diffusion.py",
        "tests/convert/test_convert.py",
        ('"conv_1": "in_layers.2"', '"conv_1": "in_layers.0"', BOTH, "the first convolution under the norm's name"),
        ("1000 * int", "1024 * int", "test_the_step_is_read_of_plain_names_only", "K is 1024 steps"),
        (
            'axis(tensors, "out.2.weight", 0, WHAT) > channels',
            'axis(tensors, "out.2.weight", 1, WHAT) > channels',
            "test_settings_of_a_state_dict",
            "a learned variance by the inputs of the last convolution",
        ),
    ),
    *mutants(
        "diffusion/convert/torch_file.py",
        "tests/convert/test_torch_file.py",
        ("<< 16)", "<< 15)", "test_values_of_every_type_come_back", "bfloat16 a bit off"),
        (
            "values.data, offset * width,",
            "values.data, 0,",
            "test_strides_and_offsets_are_honoured_and_memory_is_shared",
            "a tensor's offset is ignored",
        ),
        (
            "if (module, name) not in known:",
            "if (module, name) not in known and super().find_class(module, name) is None:",
            "test_names_that_are_no_tensors_are_refused",
            "a pickle imports modules",
        ),
        (" or any(view)", "", "test_tensors_that_cannot_be_are_refused",
         "a view of a storage is taken for the storage"),
        (
            "0 not in size and last >= len(values)",
            "False",
            "test_tensors_that_cannot_be_are_refused",
            "a tensor may reach beyond its storage",
        ),
    ),
    *mutants(
        "diffusion/convert/inception_weights.py",
        "tests/nets/test_inception.py",
        ("EPSILON = 0.001", "EPSILON = 0.01", "test_folding_is_batch_norm_after_convolution", "another epsilon"),
        ("beta - mean *", "beta + mean *", "test_folding_is_batch_norm_after_convolution", "the sign of the mean"),
        (
            '"tower_mixed_conv": "branch3x3_2a", "tower_mixed_conv_1": "branch3x3_2b"',
            '"tower_mixed_conv": "branch3x3_2b", "tower_mixed_conv_1": "branch3x3_2a"',
            "test_convolutions_of_the_port_are_those_of_its_definition",
            "the 1x3 convolution under the name of the 3x1",
        ),
        (
            '"tower_1_conv": "branch3x3dbl_1", "tower_1_conv_1": "branch3x3dbl_2"',
            '"tower_1_conv": "branch3x3dbl_2", "tower_1_conv_1": "branch3x3dbl_1"',
            "test_convolutions_of_the_port_are_those_of_its_definition",
            "two convolutions of a tower swapped",
        ),
        (
            "NETWORK if published else",
            "NETWORK if True else",
            "test_only_the_published_weights_have_the_published_name",
            "any weights have the published name",
        ),
    ),
    *mutants(
        "diffusion/nets/inception.py",
        "tests/nets/test_inception.py",
        (
            'padding="SAME", count_include_pad=False',
            'padding="SAME", count_include_pad=True',
            "test_pools_leave_out_the_padding",
            "average pools count the padding",
        ),
        (
            '"mixed_10", maximum)',
            '"mixed_10", average)',
            "test_the_last_block_pools_by_the_maximum",
            "an average pool in the last block",
        ),
        (
            "np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))",
            "(np.arange(new, dtype=np.float32) + 0.5) * (np.float32(old) / np.float32(new)) - 0.5",
            "test_resizing_is_tensorflows",
            "pixel centres at halves",
        ),
        ("size) - 128) / 128", "size) - 127.5) / 127.5", "test_preprocessing", "images in [-1, 1] exactly"),
        (
            "wide, high = (1, 7), (7, 1)",
            "wide, high = (7, 1), (1, 7)",
            "test_convolutions_of_the_port_are_those_of_its_definition",
            "1x7 and 7x1 convolutions swapped",
        ),
    ),
    *mutants(
        "diffusion/commands/import_weights.py",
        "tests/commands/test_import_export.py",
        (
            "np.allclose(betas, weights.beta, rtol=1e-3)",
            "np.allclose(betas, weights.beta, rtol=1e3)",
            "test_a_pipeline_is_compared_with_the_config",
            "betas of the file that are not those of the config",
        ),
        (
            "set(flat[key]) == set(value) if key in UNORDERED else flat[key] == value",
            "set(flat[key]) == set(value) if key in UNORDERED else True",
            "test_a_pipeline_is_compared_with_the_config",
            "settings of the file that are not those of the config",
        ),
        (
            "params=_placed(raw, state.params)",
            "params=_placed(ema, state.params)",
            "test_a_checkpoint_becomes_a_run_that_draws_samples",
            "averaged weights imported as raw ones",
        ),
        (
            "return 1 - alpha_bar[1:] / alpha_bar[:-1]",
            "return 1 - alpha_bar[:-1] / alpha_bar[1:]",
            "test_a_pipeline_is_compared_with_the_config",
            "beta upside down",
        ),
    ),
)  # fmt: skip
