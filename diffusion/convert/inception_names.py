"""The name of the Inception network of published scores, and those of its convolutions in the PyTorch port.

This project's names of weights are those of the TensorFlow graph with "_" for "/".
"""

NETWORK = "inception-2015-12-05"
"""The network of published FIDs and inception scores."""

LONG = {f"tower_1_conv{end}": f"branch3x3dbl_{i}" for i, end in enumerate(("", "_1", "_2"), 1)}

BLOCK_35 = {"conv": "branch1x1", "tower_conv": "branch5x5_1", "tower_conv_1": "branch5x5_2", **LONG}
TO_17 = {"conv": "branch3x3", **{name.replace("tower_1", "tower"): torch for name, torch in LONG.items()}}
BLOCK_17 = {
    "conv": "branch1x1",
    **{f"tower_conv{end}": f"branch7x7_{i}" for i, end in enumerate(("", "_1", "_2"), 1)},
    **{f"tower_1_conv{end}": f"branch7x7dbl_{i}" for i, end in enumerate(("", "_1", "_2", "_3", "_4"), 1)},
}
TO_8 = {
    **{f"tower_conv{end}": f"branch3x3_{i}" for i, end in enumerate(("", "_1"), 1)},
    **{f"tower_1_conv{end}": f"branch7x7x3_{i}" for i, end in enumerate(("", "_1", "_2", "_3"), 1)},
}
BLOCK_8 = {
    **{"conv": "branch1x1", "tower_conv": "branch3x3_1"},
    **{"tower_mixed_conv": "branch3x3_2a", "tower_mixed_conv_1": "branch3x3_2b"},
    **{"tower_1_conv": "branch3x3dbl_1", "tower_1_conv_1": "branch3x3dbl_2"},
    **{"tower_1_mixed_conv": "branch3x3dbl_3a", "tower_1_mixed_conv_1": "branch3x3dbl_3b"},
}
POOL = {"tower_2_conv": "branch_pool"}

STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
BLOCKS = (
    *(("Mixed_5b", BLOCK_35 | POOL), ("Mixed_5c", BLOCK_35 | POOL), ("Mixed_5d", BLOCK_35 | POOL)),
    ("Mixed_6a", TO_17),
    *((f"Mixed_6{letter}", BLOCK_17 | POOL) for letter in "bcde"),
    ("Mixed_7a", TO_8),
    *(("Mixed_7b", BLOCK_8 | POOL), ("Mixed_7c", BLOCK_8 | POOL)),
)
"""Blocks mixed, mixed_1, ..., mixed_10."""

TORCH = {
    **{f"conv_{i}" if i else "conv": torch for i, torch in enumerate(STEM)},
    **{
        f"mixed_{i}_{name}" if i else f"mixed_{name}": f"{block}.{branch}"
        for i, (block, branches) in enumerate(BLOCKS)
        for name, branch in branches.items()
    },
}
"""Our names of all 94 convolutions -> the PyTorch port's."""
