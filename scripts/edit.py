"""Edits images by the network of a run; nothing is trained for it.

    python scripts/edit.py --workdir=runs/digits --edit=interpolate --held_out=0,1     # DDPM figure 8
    python scripts/edit.py --workdir=runs/digits --edit=interpolate --image=a.png --other=b.png --t=1000,500,250
    python scripts/edit.py --workdir=runs/digits --edit=inpaint --image=a.png --mask=m.png --n=8 --resamplings=10
    python scripts/edit.py --workdir=runs/digits --edit=vary --held_out=0,1,2 --t=500 --out=varied.png

interpolate   mixes x_t of two images at step t, and denoises the mixtures            DDPM figures 8, 9
latent        the same with the x_T from which DDIM makes the two: no noise is drawn  DDIM figure 6
inpaint       paints the white part of a mask anew, in agreement with the rest        RePaint, Algorithm 1
vary          adds noise up to step t and denoises: other images like this one        SDEdit, Algorithm 1
roundtrip     x_T by DDIM inversion, and the image decoded from it                    DDIM section 5.4

Images have the size and the colours that the network draws, or are made to fit with --fit. Several are edited at once,
separated by commas. What is written is one picture with the given images and the results, and with --separate a PNG of
each result. Draw j of an image depends on the seed, the image and its place in the list alone.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import cli

if TYPE_CHECKING:
    import numpy as np

    from diffusion.figures.arrays.user_images import Given
    from diffusion.figures.inputs import Inputs

WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run whose network is used (required)")
EDIT = flags.DEFINE_enum(
    "edit",
    None,
    ["interpolate", "latent", "inpaint", "vary", "roundtrip"],
    "what to do, from the list above (required)",
)
IMAGE = flags.DEFINE_list("image", [], "image files")
OTHER = flags.DEFINE_list("other", [], "interpolate, latent: the other image of each --image")
HELD_OUT = flags.DEFINE_list("held_out", [], "numbers of held-out images, instead of files; pairs for two images")
FIT = flags.DEFINE_bool("fit", False, "crop, resize and grey image files as the network needs it")
LABEL = flags.DEFINE_integer("label", None, "class of image files, for a run that is told classes", lower_bound=0)
MASK = flags.DEFINE_string(
    "mask", None, "inpaint: a picture, painted anew where it is white; or left, right, top, bottom or middle"
)
TS = flags.DEFINE_list("t", [], "interpolate, vary: steps to which noise is added, 1..T; by default T / 2")
N = flags.DEFINE_integer(
    "n", None, "draws of each image, by default 8; or mixtures of two, by default 11", lower_bound=1
)
RESAMPLINGS = flags.DEFINE_integer("resamplings", 10, "inpaint: how often each step is taken", lower_bound=1)
JUMP = flags.DEFINE_integer("jump", 1, "inpaint: by how many steps it goes back; 10 in the paper", lower_bound=1)
SHARED = flags.DEFINE_bool("shared", False, "interpolate: the same noise for both images")
SEED = flags.DEFINE_integer("seed", 0, "seed of the noise", lower_bound=0)
STEP = flags.DEFINE_integer("step", None, "checkpoint to use; by default the newest")
RAW = flags.DEFINE_bool("raw", False, "use the raw weights instead of their moving average")
GRID = flags.DEFINE_string("grid", None, "steps of the chain: 50, ddim50, quad50 or full; by default the config's")
OUT = flags.DEFINE_string("out", None, "picture to write (.png, .pdf, .svg); by default edits/EDIT.png of the run")
SEPARATE = flags.DEFINE_string("separate", None, "folder to which each result is written as a PNG of its own")

DRAWS, MIXTURES = 8, 11
KINDS = (".png", ".pdf", ".svg")


class Result(NamedTuple):
    """What an edit makes."""

    figure: Any
    images: "np.ndarray"
    """uint8 [R, n, H, W, C]: the results of each image or pair."""
    lines: tuple[str, ...] = ()
    """What else there is to say."""


def main() -> None:
    if not WORKDIR.value:
        raise ValueError("--workdir is required: the folder of a run of scripts/train.py, such as runs/digits")
    if EDIT.value is None:
        raise ValueError(f"--edit is required: {', '.join(EDITS)}; --help says what each does")
    folder, edit = Path(WORKDIR.value), EDITS[EDIT.value]
    refuse_unused(edit)
    out = target(folder)

    from diffusion.figures.inputs import Inputs, Request
    from diffusion.figures.style import save

    request = Request(folder, N.value, SEED.value, STEP.value, RAW.value, None, GRID.value)
    inputs = Inputs(request)
    result = edit.make(inputs, *read(inputs, edit.pairs))
    save(result.figure, out)
    for line in result.lines:
        print(line)
    if SEPARATE.value:
        write_each(result.images, Path(SEPARATE.value))
    print(out)


def refuse_unused(edit: "Edit") -> None:
    """Raises ValueError for a flag that the edit does not read: it was meant to change something."""
    own = {name for other in EDITS.values() for name in other.flags}
    for name in sorted(own - edit.flags):
        if flags.FLAGS[name].present:
            users = " or ".join(f"--edit={other}" for other, there in EDITS.items() if name in there.flags)
            raise ValueError(f"--{name} has no effect on --edit={EDIT.value}; it belongs to {users}")


def target(folder: Path) -> Path:
    """The picture's file. Raises ValueError for one that is of no known kind."""
    out = Path(OUT.value) if OUT.value else folder / "edits" / f"{EDIT.value}.png"
    if out.suffix not in KINDS or out.is_dir():
        raise ValueError(f"--out={out}: a picture is written as {', '.join(KINDS)}; name such a file")
    if SEPARATE.value and Path(SEPARATE.value).exists() and not Path(SEPARATE.value).is_dir():
        raise ValueError(f"--separate={SEPARATE.value} is a file; name a folder")
    return out


def read(inputs: "Inputs", pairs: bool) -> list["Given"]:
    """The given images, and for edits of two the others. Raises ValueError where they are missing or do not fit."""
    run = inputs.run

    from diffusion.figures.arrays import user_images

    if bool(IMAGE.value) == bool(HELD_OUT.value):
        raise ValueError(
            "give images either as files, --image=a.png, or by their number among the held-out ones, --held_out=0"
        )
    told = run.config.net.class_conditional or run.config.sample.guidance > 0
    if HELD_OUT.value:
        for flag in (IMAGE, OTHER, FIT, LABEL):
            if flag.present:
                raise ValueError(f"--{flag.name} is for image files; leave it out with --held_out")
        numbers = whole("held_out", HELD_OUT.value)
        if pairs and len(numbers) % 2:
            raise ValueError(f"--edit={EDIT.value} needs two images for each picture: --held_out=0,1")
        source = inputs.source(train=False)
        parts = [numbers[::2], numbers[1::2]] if pairs else [numbers]
        return [user_images.held_out(source, part) for part in parts]
    if pairs and len(IMAGE.value) != len(OTHER.value):
        raise ValueError(f"--edit={EDIT.value} needs as many --other as --image: --image=a.png --other=b.png")
    if told and LABEL.value is None:
        raise ValueError(f"--label is required: this run is told the class of an image, 0..{run.classes - 1}")
    if LABEL.present and not told:
        raise ValueError("--label has no effect: this run is not told a class")
    label = LABEL.value or 0
    if told and label >= run.classes:
        raise ValueError(f"--label={label}: the classes of this run are 0..{run.classes - 1}")
    files = [IMAGE.value, OTHER.value] if pairs else [IMAGE.value]
    return [user_images.files(paths, run.shape, label, FIT.value) for paths in files]


def steps(inputs: "Inputs") -> list[float]:
    """The steps asked for as fractions of T. Raises ValueError for one outside 1..T."""
    T = inputs.run.config.diffusion.T
    found = whole("t", TS.value)
    for t in found:
        if not 1 <= t <= T:
            raise ValueError(f"--t={t}: a step of this run lies in 1..{T}")
    return [t / T for t in found] or [0.5]


def whole(name: str, texts: list[str]) -> list[int]:
    """Whole numbers. Raises ValueError for a text that is none."""
    for text in texts:
        if not text.strip().isdecimal():
            raise ValueError(f"--{name}={text}: whole numbers are needed, separated by commas")
    return [int(text) for text in texts]


def mixtures() -> list[float]:
    """Shares of the other image, from 0 to 1."""
    n = N.value or MIXTURES
    if n < 2:
        raise ValueError(f"--n={n}: mixtures go from one image to the other, so at least 2 are needed")
    return [round(i / (n - 1), 3) for i in range(n)]


def interpolate(inputs: "Inputs", first: "Given", second: "Given") -> Result:
    from diffusion.figures.interpolation import interpolation

    lam, at = mixtures(), steps(inputs)
    pairs = (first.pixels, second.pixels, first.labels)
    found, ts = inputs.gallery.interpolate(pairs, lam, at, SHARED.value)
    found = found.swapaxes(0, 1).reshape(-1, *found.shape[2:])  # the steps of one pair below each other
    left, right = (x.pixels.repeat(len(ts), axis=0) for x in (first, second))
    rows = [f"t = {t}" for t in ts] * len(first.pixels)
    return Result(interpolation(left, right, found, lam, rows), found)


def latent(inputs: "Inputs", first: "Given", second: "Given") -> Result:
    from diffusion.figures.interpolation import interpolation

    lam, gallery = mixtures(), inputs.gallery

    from diffusion.figures.arrays import edits

    found = edits.interpolate_latents(gallery, first, second, lam)
    return Result(interpolation(first.pixels, second.pixels, found, lam), found)


def inpaint(inputs: "Inputs", images: "Given") -> Result:
    import numpy as np

    from diffusion.figures.arrays import user_images
    from diffusion.figures.inpainting import inpainting

    if MASK.value is None:
        raise ValueError(
            f"--mask is required: a picture, white where to paint, or one of {', '.join(user_images.MASKS)}"
        )
    known, gallery = user_images.mask(MASK.value, inputs.run.shape), inputs.gallery

    from diffusion.figures.arrays import edits

    found = edits.inpaint(gallery, images, known, N.value or DRAWS, RESAMPLINGS.value, JUMP.value)
    return Result(inpainting(images.pixels, np.broadcast_to(known, images.pixels.shape[:3]), found), found)


def vary(inputs: "Inputs", images: "Given") -> Result:
    from diffusion.figures.variations import variations

    at, gallery = steps(inputs), inputs.gallery

    from diffusion.figures.arrays import edits

    found, ts = edits.vary(gallery, images, N.value or DRAWS, at)
    return Result(variations(images.pixels, found, ts), found.reshape(len(found), -1, *found.shape[3:]))


def roundtrip(inputs: "Inputs", images: "Given") -> Result:
    from diffusion.figures.roundtrip import roundtrip as draw

    gallery = inputs.gallery

    from diffusion.figures.arrays import edits

    latents, decoded, errors = edits.roundtrip(gallery, images)
    lines = [f"image {i}     root mean squared error {error:.3g} levels of 255" for i, error in enumerate(errors)]
    return Result(draw(images.pixels, latents, decoded), decoded[:, None], tuple(lines))


class Edit(NamedTuple):
    """A way to edit."""

    make: Any
    """(inputs, given images [, the other ones]) -> Result."""
    flags: set[str]
    """Those that not every edit reads."""
    pairs: bool = False
    """Whether it takes two images."""


EDITS = {
    "interpolate": Edit(interpolate, {"t", "n", "other", "shared"}, pairs=True),
    "latent": Edit(latent, {"n", "other"}, pairs=True),
    "inpaint": Edit(inpaint, {"mask", "n", "resamplings", "jump"}),
    "vary": Edit(vary, {"t", "n"}),
    "roundtrip": Edit(roundtrip, set()),
}


def write_each(images: "np.ndarray", folder: Path) -> None:
    """Each result as a PNG, named by its row and column."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(images):
        for j, image in enumerate(row):
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(folder / f"{i:03d}_{j:03d}.png")


if __name__ == "__main__":
    cli.run(main)
