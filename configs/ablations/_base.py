"""The base configs of the grids in this folder, one for each size."""

from ml_collections import ConfigDict

from configs.cifar10 import get_config as cifar10
from configs.digits import get_config as digits
from configs.mnist import get_config as mnist
from diffusion.config.keys_with_legal_values import KEYS

SIZES = ("digits", "mnist_small", "mnist", "cifar10")


def base(size: str, T: int = 250, steps: int = 600) -> ConfigDict:
    """The base config of a size. Raises ValueError for an unknown size.

    digits: configs/digits.py with `T` noise steps, `steps` training steps, a bound over 64 held-out images and 256
    samples, for a CPU. mnist_small: the same on MNIST's 28x28 pixels, with 0.28 M parameters, 64 images a step
    and 128 samples. mnist: configs/mnist.py, for a GPU. Both need --config.data.dir=PATH.
    cifar10: the published experiment.
    """
    if size not in SIZES:
        raise ValueError(f"size {size!r} is not one of {', '.join(SIZES)}")
    config = {"digits": digits, "mnist_small": mnist, "mnist": mnist, "cifar10": cifar10}[size]()
    config.paper = ""
    config.eval.cpu_flop = 0.0  # evaluate every row on as many images as its config states
    if size == "mnist_small":
        config.net.block_size = 1  # as in docs/ablations.md
        config.net.channels = 16
        config.net.multipliers = (1, 2, 2)
        config.net.blocks = 1
        config.net.attention = (7,)
        config.optim.warmup_steps = 100
        config.train.batch_size = 64
    if size == "digits":
        config.net.channels = 32  # as in docs/ablations.md
    if size in ("digits", "mnist_small"):
        config.update_from_flattened_dict(betas(T) | {"train.steps": steps})
        config.optim.ema_decay = 0.99  # an average over 100 steps: the runs are short
        config.train.log_every = 50
        config.train.checkpoint_every = 300
        # No previews while training: they would take longer than the training itself.
        config.train.sample_every = config.train.eval_every = 0
        config.sample.preview_steps = config.eval.quick_steps = 10
        config.sample.n = config.sample.batch_size = 256 if size == "digits" else 128
        config.eval.n = config.eval.batch_size = config.eval.quick_n = 64
    if size == "mnist":
        config.train.sample_every = config.train.eval_every = 0
        config.sample.n = config.sample.batch_size = 1024
    return config


def betas(T: int) -> dict[str, float]:
    """The linear schedule over T steps with the published amount of noise: both ends of beta times 1000 / T.

    Improved DDPM's code; alpha_bar_T stays near 4e-5.
    """
    ends = {key: KEYS[key].default * 1000 / T for key in ("diffusion.beta_1", "diffusion.beta_T")}
    return {"diffusion.T": T, **ends}


def unread(*names: str) -> dict[str, float]:
    """Keys of config.diffusion at their defaults, for schedules that do not use them."""
    return {f"diffusion.{name}": KEYS[f"diffusion.{name}"].default for name in names}
