"""The interface of a network."""

from flax import linen as nn


class Net(nn.Module):
    """A Flax module called as net(x, t, label, train=False), with x [B, H, W, C] and t [B], or with label [B] left out.

    The output has the shape of x, or twice its channels where the network predicts a variance.
    """

    classes: int = 0
    """Number of classes; labels are 0..classes-1. With 0 the network takes no labels."""
    null_label: bool = False
    """Whether label `classes` is legal too and means "no label": one network is then both models, as guidance needs."""
