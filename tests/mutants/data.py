"""Faults in data, configs and stored files."""

from tests.mutants.mutant import mutants

DATA = (
    *mutants(
        "diffusion/data/transforms.py",
        "tests/data/test_data.py",
        (
            "(2 * pixels.astype(jnp.float32) - 255) / 255",
            "(2 * pixels.astype(jnp.float32) - 256) / 256",
            "test_pixels_become_images_in_minus_one_to_one",
            "pixels divided by 128",
        ),
        (
            "else jnp.round(levels)",
            "else jnp.floor(levels)",
            "test_every_level_survives_the_round_trip",
            "levels are truncated",
        ),
        (
            "jnp.floor(levels) if truncate",
            "jnp.round(levels) if truncate",
            "test_truncation_goes_down_to_the_level_below",
            "truncation rounds",
        ),
        (
            "images[:, :, ::-1]",
            "images[:, ::-1]",
            "test_flips_mirror_half_of_the_images_left_to_right",
            "images are turned upside down",
        ),
        (
            "jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))",
            "jax.random.bernoulli(key, 0.5, (1, 1, 1, 1))",
            "test_flips_mirror_half_of_the_images_left_to_right",
            "one flip for the whole batch",
        ),
    ),
    *mutants(
        "diffusion/data/batch_order.py",
        "tests/data/test_data.py",
        (
            "_permutation(seed, int(epoch), n)[places",
            "_permutation(seed, 0, n)[places",
            "test_the_order_of_the_data_is_the_same_for_ever",
            "every epoch has the same order",
        ),
        (
            "_permutation(seed, int(epoch), n)[places",
            "np.arange(n)[places",
            "test_the_order_of_the_data_is_the_same_for_ever",
            "epochs are not shuffled",
        ),
        (
            "batch_size, source.size)[rows]",
            "batch_size, source.size)",
            "test_hosts_read_disjoint_parts_of_one_batch",
            "every host reads the whole batch",
        ),
        (
            "MapDataset.range(start_step, sys.maxsize)",
            "MapDataset.range(0, sys.maxsize)",
            "test_a_resumed_stream_goes_on_where_it_would_have_been",
            "a resumed stream starts over",
        ),
        (
            "np.arange(step * batch_size, (step + 1) * batch_size",
            "np.arange(step * (batch_size - 1), step * (batch_size - 1) + batch_size",
            "test_an_epoch_is_a_permutation",
            "neighbouring batches overlap",
        ),
    ),
    *mutants(
        "diffusion/workdir/verify_checkpoint_manifest.py",
        "tests/workdir/test_checkpoint.py",
        (
            "if hash_file(path) != digest:",
            "if False:",
            "test_a_flipped_bit_in_the_weights_is_skipped_and_said",
            "the hash of a file is not compared",
        ),
        (
            "if content[HASH] != _digest(rest):",
            "if False:",
            "test_an_edited_manifest_is_damaged",
            "the manifest's own hash is not compared",
        ),
    ),
    *mutants(
        "diffusion/config/config_dict.py",
        "tests/config/test_config.py",
        (
            "if key not in RESUMABLE and not",
            'if key != "diffusion.schedule" and key not in RESUMABLE and not',
            "test_hash_changes_with_what_is_computed_alone",
            "the hash ignores the schedule",
        ),
        (
            "if key not in RESUMABLE and not",
            "if not",
            "test_hash_changes_with_what_is_computed_alone",
            "the hash depends on keys that change nothing",
        ),
        (
            "if lookup(key).role is Role.MACHINE:",
            "if False:",
            "test_keys_of_the_machine_are_not_restored",
            "a run folder steers the process",
        ),
    ),
    *mutants(
        "diffusion/convert/tensorflow_checkpoint.py",
        "tests/convert/test_tensorflow_checkpoint.py",
        (
            "0xA282EAD8",
            "0xA282EAD9",
            "test_checksums_are_those_of_another_writer",
            "the mask of the checksum off by one",
        ),
        (
            "(crc >> 15) | (crc << 17)",
            "(crc >> 17) | (crc << 15)",
            "test_checksums_are_those_of_another_writer",
            "the checksum is rotated the other way",
        ),
    ),
    *mutants(
        "diffusion/runtime/npz_reader.py",
        "tests/runtime/test_npz_reader.py",
        (
            "allow_pickle=False",
            "allow_pickle=True",
            "test_a_hostile_header_is_refused_in_a_line_by_all_readers",
            "arrays may run code",
        ),
    ),
    *mutants(
        "diffusion/runtime/before_jax.py",
        "tests/runtime/test_before_jax.py",
        (
            'find_spec("jax_plugins") or not find_spec("libtpu")',
            "True",
            "test_gpus_are_deterministic_where_the_key_says_so",
            "flags of GPUs reach TPUs",
        ),
        (
            'if flag.partition("=")[0] not in chosen_by_user',
            "if True",
            "test_flags_of_the_user_are_kept_and_extended",
            "the user's XLA flags are overridden",
        ),
    ),
    *mutants(
        "scripts/ablate.py",
        "tests/runtime/test_before_jax.py",
        (
            ", grid.base.deterministic",
            "",
            "test_scripts_that_train_pass_the_key_on",
            "an ablation ignores the key deterministic",
        ),
    ),
    *mutants(
        "diffusion/data/dataset_interface.py",
        "tests/data/test_data.py",
        (
            "!= HOLD_OUT - 1) == train]",
            "!= HOLD_OUT - 1) <= train]",
            "test_hold_out_divides_a_set",
            "test images are trained on",
        ),
    ),
    *mutants(
        "diffusion/distributed/agreement_between_processes.py",
        "tests/distributed/test_distributed.py",
        (
            "everywhere != everywhere[0]",
            "everywhere != everywhere",
            "test_the_process_and_the_fact_that_differ_are_named",
            "processes with other data",
        ),
    ),
)
