"""What the rest of the package asks of a network."""

from flax import linen as nn


class Net(nn.Module):
    """A Flax module called as net(x, t, label, train=False), with x [B, H, W, C] and t [B], or with label [B] left out.

    It answers in the shape of x, or with twice its channels where it predicts a variance.
    """

    classes: int = 0
    """Labels that it is given are 0..classes-1; 0: it is given none."""
    null_label: bool = False
    """Whether label `classes` is legal too and stands for none: such a network is a model with labels and without."""
