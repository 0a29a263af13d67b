"""The interface of a network."""

from flax import linen as nn

from diffusion.core.types import Condition
from diffusion.nets.blocks import INIT
from diffusion.nets.embedding import Embedding


class Net(nn.Module):
    """A Flax module called as net(x, t, label, condition, train=False), with x [B, H, W, C] and t [B].

    label [B] and condition [B, N] may be None.

    The output has the shape of x, or twice its channels where the network predicts a variance.
    """

    classes: int = 0
    """Number of classes; labels are 0..classes-1. With 0 the network takes no labels."""
    null_label: bool = False
    """Whether label `classes` is legal too and means "no label": one network is then both models, as guidance needs."""


def conditioned(emb: Embedding, condition: Condition | None) -> Embedding:
    """emb + W condition, `W` a parameter of the module that calls it; emb alone, without W, where there is none.

    Without a bias: zeros are the same as none. Karras et al. 2022, appendix F.2.
    """
    if condition is None:
        return emb
    return emb + nn.Dense(emb.shape[1], use_bias=False, kernel_init=INIT, name="condition")(condition)
