"""CelebA at 64x64 as in the DDIM paper: the differences from configs/cifar10.py, with their sources.

Paper row: Song, Meng and Ermon 2021 (DDIM), table 1, CelebA. 78.7 M parameters. The paper says little about this
network: the values are those of its published code, whose released checkpoint was trained for 500,000 steps. Known
differences: the published code crops 128 pixels around (89, 121), 12 pixels below the centre; its loss, whose gradient
is clipped, is a sum over pixels, and the loss here is the mean.
Score: FID 3.51 by DDIM and 3.26 by ancestral sampling, 1000 steps, 50,000 samples.
Cost: 500,000 steps of 128 images at 18 TFLOP, 8.9e18 FLOP.
TFDS reads the aligned images (celeb_a, 178x218) once they are prepared; a folder of img_align_celeba works as well.

    python scripts/train.py --config=configs/celeba64.py
    python scripts/train.py --config=configs/celeba64.py --config.data.name=folder:PATH
"""

from configs.cifar10 import get_config as cifar10


def get_config():
    config = cifar10()
    config.paper = "celeba64"
    config.data.name = "tfds:celeb_a"  # section 5: CelebA, aligned
    config.data.crop = 140  # central square, as is common for this set; the code's crop: see above
    config.data.size = 64  # section 5

    config.objective.timesteps = "antithetic"  # code: pairs t and T + 1 - t
    config.net.multipliers = (1, 2, 2, 2, 4)  # code: five resolutions, 64x64 to 4x4
    config.optim.warmup_steps = 0  # code
    config.train.steps = 500_000  # code: step of the released checkpoint

    config.sample.batch_size = 32  # from here on: how this project reports
    config.eval.n = 256
    config.eval.batch_size = 32
    config.eval.quick_n = 64
    return config
