"""A classifier of noised 8x8 digits, for guidance, to be trained by scripts/train_classifier.py.

Data: the 1,797 real digits that come with scikit-learn, noised as configs/digits.py noises them.
Paper row: none; the method is Dhariwal & Nichol 2021 (section 4), the network the way down of a small U-Net.
Score: 88% of held-out digits for t up to 250, 45% up to 500, chance above 750 (docs/guidance.md).
Cost: some minutes on 2 CPU cores.

    python scripts/train_classifier.py --config=configs/digits_classifier.py
"""

from configs.digits import get_config as digits


def get_config():
    config = digits()
    config.net.channels = 16
    config.net.dropout = 0.2

    config.optim.weight_decay = 0.05
    config.train.checkpoint_every = 500
    return config
