"""Networks that compile at once, for tests of what is around a network. `using` puts one in the U-Net's place."""

from contextlib import contextmanager

import pytest
from flax import linen as nn

from diffusion.nets.blocks import INIT_LAST
from diffusion.nets.unet import UNet


class OneConvolution(UNet):
    """A convolution plus a hundredth of the time."""

    @nn.compact
    def __call__(self, x, t, label=None, condition=None, *, train=False):  # noqa: ARG002
        return nn.Conv(self.out_channels, (3, 3), name="conv")(x) + 0.01 * t.reshape(-1, 1, 1, 1)


class TwoConvolutions(UNet):
    """Two convolutions with the time between them; the output begins at all but 0, as the U-Net's does."""

    @nn.compact
    def __call__(self, x, t, label=None, condition=None, *, train=False):  # noqa: ARG002
        h = nn.Conv(self.channels, (3, 3), name="conv_in")(x)
        h = nn.swish(h + nn.Dense(self.channels, name="time")(0.01 * t.reshape(-1, 1, 1, 1)))
        return nn.Conv(self.out_channels, (3, 3), kernel_init=INIT_LAST, name="conv_out")(h)


@contextmanager
def using(network):
    """Inside, experiments are built with this network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffusion.experiment.registry_of_samplers_and_schedules.UNet", network)
        yield patch
