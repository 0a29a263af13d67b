"""8x8 handwritten digits by class, with guidance: digits.py with labels, a tenth of them hidden.

Data: the 1,797 real digits that come with scikit-learn.
Paper row: none; label dropout is that of Ho & Salimans 2022 (p_uncond = 0.1).
Score: 4.69 bits/dim on 64 held-out images; 96.5% of samples are of the class asked for, 100% with guidance of scale
0.5 (docs/guidance.md).
Cost: as digits.py.

    python scripts/train.py --config=configs/digits_conditional.py
    python scripts/sample.py --workdir=runs/digits_conditional --guidance=1 --label=3
"""

from configs.digits import get_config as digits


def get_config():
    config = digits()
    config.net.class_conditional = True
    config.net.label_dropout = 0.1

    config.sample.n = 100
    return config
