"""ImageNet at 64x64 without labels, as in Improved DDPM.

Paper row: Nichol and Dhariwal 2021, "1.5M, 4K, cosine, L_hybrid". 121 M parameters, no dropout.
Score: 3.57 bits/dim on the validation set and FID 19.2 from 10,000 samples after 1.5 M steps; 3.62 and 28.0 after
200,000.
The paper's images were scaled down by its own loader (box, then bicubic, centre crop). The default here is the
downsampled ImageNet of TFDS, prepared once with TensorFlow; folder:PATH reads the original images and scales them
down itself.
Cost: 1,500,000 steps of 128 images at 29.2 TFLOP, 4.4e19 FLOP.

    python scripts/train.py --config=configs/imagenet64.py
    python scripts/train.py --config=configs/imagenet64.py --config.data.name=folder:PATH
"""

from configs.cifar10_improved import get_config as cifar10_improved


def get_config():
    config = cifar10_improved()
    config.paper = "imagenet64"
    config.data.name = "tfds:imagenet_resized/64x64"  # section 3
    config.data.size = 64  # section 3

    config.net.multipliers = (1, 2, 3, 4)  # appendix A
    config.net.dropout = 0.0  # code
    config.train.steps = 1_500_000  # section 3.4: the long run; 200,000 in the ablation
    return config
