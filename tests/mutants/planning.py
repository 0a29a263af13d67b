"""Faults in what is read from compiled programs."""

from tests.mutants.mutant import mutants

HOME = "tests/planning/test_program.py"
KERNELS, OPERATIONS = (
    "test_kernels_bytes_and_copies_of_a_tpu_program",
    "test_operations_leave_out_padding_and_are_counted_by_type",
)

PLANNING = (
    *mutants(
        "diffusion/planning/hlo.py",
        HOME,
        ('return "S(" in self.layout', "return False", KERNELS, "on-chip memory counts as traffic"),
        (
            "-(-dims[axis] // int(extent)) * int(extent)",
            "dims[axis]",
            "test_bytes_are_those_of_the_padded_layout",
            "layouts are not padded",
        ),
        ("times * trips(program, op)", "times", KERNELS, "a loop runs once"),
        (
            'if "color" in kinds or',
            "if",
            "test_memory_is_split_and_leaves_out_other_memories",
            "other memories count as the device's",
        ),
    ),
    *mutants(
        "diffusion/planning/kernel_and_byte_counts.py",
        HOME,
        ("min(whole, _touched(", "max(whole, _touched(", KERNELS, "a slice reads the whole array"),
        (
            "count * kernel.times",
            "count",
            "tests/planning/test_program.py::test_loops_repeat_operations",
            "loops compute once",
        ),
    ),
    *mutants(
        "diffusion/planning/flop_count.py",
        HOME,
        ("(at >= 0) & ", "", OPERATIONS, "padding is multiplied"),
        (
            "return out, rhs, lhs",
            "return lhs, rhs, out",
            "test_a_gradient_of_a_library_convolution_has_its_operations",
            "operations of a gradient from the wrong array",
        ),
        (
            "& (at % spread == 0)",
            "",
            "test_dilated_inputs_count_their_pixels_alone",
            "holes between dilated pixels are multiplied",
        ),
    ),
    *mutants(
        "diffusion/planning/collectives.py",
        HOME,
        (
            '"all-reduce": 2.0',
            '"all-reduce": 1.0',
            "test_collectives_by_kind_and_type",
            "an all-reduce sends its array once",
        ),
        (
            "factor * whole * (n - 1) / n",
            "factor * whole",
            "test_collectives_by_kind_and_type",
            "a device sends to itself",
        ),
    ),
    *mutants(
        "diffusion/planning/memory_and_time.py",
        "tests/planning/test_report.py",
        (
            "max(self.arithmetic / SHARE, self.traffic) + self.links",
            "max(self.arithmetic / SHARE, self.traffic, self.links)",
            "test_times_are_work_over_published_peaks",
            "the slow end overlaps collectives",
        ),
        (
            "self.target.chips * per_chip_hour",
            "self.target.count * per_chip_hour",
            "test_times_are_work_over_published_peaks",
            "cores are paid for",
        ),
    ),
)
