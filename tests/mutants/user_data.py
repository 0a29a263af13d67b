"""Faults in reading a user's images, in the split, the labels and the identity of a data set."""

from tests.mutants.mutant import mutants

USER_DATA = (
    *mutants(
        "diffusion/data/image_folder.py",
        "tests/data/test_image_folder.py",
        (
            "names = sorted(set(parents), key=by_number)",
            "names = sorted(set(parents))",
            "test_numbers_are_sorted_as_numbers",
            "class 10 comes before class 2",
        ),
        (
            "chosen = numbers < np.uint64(2**64 // HOLD_OUT)",
            "chosen = np.arange(len(numbers)) % HOLD_OUT == HOLD_OUT - 1",
            "test_what_is_held_out_stays_so_when_images_are_added",
            "every 20th path is held out",
        ),
        (
            "chosen = np.flatnonzero(parts.is_train == train)",
            "chosen = np.flatnonzero(parts.is_train >= train)",
            "test_about_one_image_in_twenty_is_held_out",
            "training images are held out",
        ),
        (
            '[file.partition("/")[2] for file in inside]',
            "inside",
            "test_folders_of_a_split_are_no_classes",
            "train and val are parts of class names",
        ),
        (
            "if folder.lower() == name]",
            "if folder == name]",
            "test_folders_of_a_split_are_no_classes",
            "Train is no split",
        ),
        (
            "if 0 < (few := np.count_nonzero(~chosen)) < FEW:",
            "if False:",
            "test_few_held_out_images_are_remarked_on",
            "one held-out image is enough",
        ),
        (
            "        if train or held_out:\n",
            "        if False:\n",
            "test_half_of_a_split_is_named",
            "val alone is a class without a word",
        ),
        (
            "notes = (*skipped, *parts.notes,",
            "notes = (*parts.notes,",
            "test_files_of_other_endings_are_counted",
            "skipped files are not reported",
        ),
    ),
    *mutants(
        "diffusion/data/image_decoder.py",
        "tests/data/test_image_decoder.py",
        (
            "ImageOps.exif_transpose(image) if _orientation(image) > 1 else image",
            "image",
            "test_images_are_turned_upright",
            "EXIF orientation is ignored",
        ),
        (
            "orientation >= SIDEWAYS and",
            "orientation > SIDEWAYS and",
            "test_images_are_turned_upright",
            "the size of a mirrored lying image is not swapped",
        ),
        (
            'Image.new("RGBA", image.size, background)',
            'Image.new("RGBA", image.size)',
            "test_transparency_shows_the_background",
            "transparency is black on any background",
        ),
        (
            "if image.mode not in GREY | COLOUR or any(map(DEEP.search, stored)):",
            "if image.mode not in GREY | COLOUR:",
            "test_sixteen_bits_are_refused_in_grey_and_colour",
            "colours of 12 bits become nearly black",
        ),
    ),
    *mutants(
        "diffusion/data/list_image_files.py",
        "tests/data/test_image_folder.py",
        (
            "if not S_ISREG(found.st_mode):",
            "if False:",
            "test_what_is_no_file_is_named",
            "a pipe is waited for",
        ),
        (
            "if not folders and len(found) == before and place != str(root):",
            "if False:",
            "test_a_folder_without_images_is_named",
            "an empty class is not reported",
        ),
        (
            "ending = os.path.splitext(name)[1].lower()",
            "ending = os.path.splitext(name)[1]",
            "test_endings_are_read_in_any_case",
            ".PNG is left out",
        ),
        (
            "if target in seen or ",
            "if ",
            "test_a_link_yields_to_the_folder_that_it_leads_to",
            "a class is read twice",
        ),
    ),
    *mutants(
        "diffusion/data/dataset_identity.py",
        "tests/data/test_dataset_identity.py",
        (
            'f"{digest(train)} {digest(held_out)}"',
            'f"{digest(held_out)}"',
            "test_every_change_is_one_line",
            "training images may change",
        ),
        (
            "if stored.classes != current.classes:",
            "if len(stored.classes) != len(current.classes):",
            "test_every_change_is_one_line",
            "a class may be renamed",
        ),
        (
            "zip(totals, arrays, strict=True)",
            "zip(totals, arrays[:1], strict=False)",
            "test_arrays_are_known_by_all_of_their_pixels_and_labels",
            "labels may change",
        ),
    ),
    *mutants(
        "diffusion/metrics/feature_statistics.py",
        "tests/evaluation/test_evaluate.py",
        (
            '"data": digest(real.source)',
            '"data": real.source.name',
            "test_statistics_of_other_images_are_computed_anew",
            "reference statistics are those of other images",
        ),
    ),
)
