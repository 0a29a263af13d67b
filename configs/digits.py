"""8x8 handwritten digits on a laptop CPU in minutes, with no download: the default of every script.

Data: the 1,797 real digits that come with scikit-learn.
Paper row: none; the method is the paper's (linear schedule, T = 1000, L_simple), the network has 0.8 M parameters.
Score: 4.66 bits/dim on 64 held-out images; most of the 64 samples read as digits and all ten classes occur. The scores
of all variants are in docs/results.md and docs/guidance.md.
Cost: 5 to 9 minutes on 2 CPU cores, installation, sampling and the exact bound included.

    python scripts/train.py --config=configs/digits.py
    python scripts/train.py --config=configs/digits.py:ve              # score network with NCSN's noise levels
    python scripts/train.py --config=configs/digits.py:flow            # rectified flow
    python scripts/train.py --config=configs/digits.py:elementary      # noise added at a constant rate
    python scripts/train.py --config=configs/digits.py:edm             # Karras et al. 2022
    python scripts/train.py --config=configs/digits.py:conditional     # with class labels, for guidance
    python scripts/train_classifier.py --config=configs/digits.py:classifier
"""

from diffusion.config import default_config


def get_config(variant: str = ""):
    config = default_config()
    config.data.name = "digits"
    config.data.flip = False

    config.diffusion.schedule = "linear"
    config.diffusion.T = 1000
    config.diffusion.parameterization = "eps"
    config.diffusion.variance = "fixed_large"
    config.objective.name = "simple"

    config.net.channels = 34  # every norm then has 17 groups, so the run can be exported to diffusers
    config.net.multipliers = (1, 2)
    config.net.blocks = 1
    config.net.attention = (4,)
    config.net.dropout = 0.1

    config.optim.lr = 1e-3
    config.optim.warmup_steps = 100
    config.optim.ema_decay = 0.99

    config.train.batch_size = 128
    config.train.steps = 1000
    config.train.log_every = 50
    config.train.sample_every = 250
    config.train.eval_every = 250
    config.train.checkpoint_every = 250

    config.eval.n = 64
    config.eval.quick_n = 128
    config.eval.quick_steps = 20
    if variant:
        if variant not in VARIANTS:
            raise ValueError(f"there is no variant {variant!r}; choose from {', '.join(VARIANTS)}")
        VARIANTS[variant](config)
    return config


def ve(config) -> None:
    """Variance exploding noise: NCSN's levels and weights (L_simple is its sigma^2), score SDE's predictor-corrector.

    Noise levels go from about one of 256 grey levels to the largest distance between two digits, 9.6 (Song and Ermon
    2020, technique 1). The corrector adds one network call to each of the 1000 steps of a sample.
    """
    config.diffusion.schedule = "ve_geometric"
    config.diffusion.sigma_T = 10.0
    config.sample.sampler = "predictor_corrector"


def flow(config) -> None:
    """Rectified flow's first round (Liu et al. 2023), flow matching with straight paths (Lipman et al. 2023).

    x_u = (1 - u) x_0 + u eps, loss |eps - x_0 - out|^2, and Euler's method, which is DDIM on this process.
    """
    config.diffusion.schedule = "rectified"
    config.diffusion.parameterization = "velocity"
    config.sample.sampler = "ddim"
    config.sample.grid = "100"
    config.sample.clip = False


def elementary(config) -> None:
    """The elementary diffusion of Nakkiran et al. 2024: x_{u + du} = x_u + N(0, sigma_q^2 du), nothing is scaled.

    sigma_q = sigma_T and du = 1 / T; its Algorithm 1 is the ancestral sampler with variance fixed_large. The network
    predicts E[x_0 | x_t], from which E[x_{t-1} | x_t] follows (Claim 2). It does not predict E[x_{t-1} | x_t] itself,
    which differs from x_t by only 1 / t of the way to x_0: too little for a network in units of sigma_T. min_snr
    spreads the weight evenly over the logarithm of sigma.
    """
    config.diffusion.schedule = "ve_constant"
    config.diffusion.sigma_T = 5.0
    config.diffusion.parameterization = "x_0"
    config.objective.name = "min_snr"


def edm(config) -> None:
    """Karras et al. 2022: levels, preconditioning, weight and density of table 1; Heun's method on 18 levels.

    The final bound visits only the 18 steps of the sampler, so its bits/dim are uninformative. configs/cifar10_edm.py
    names the source of each value.
    """
    config.diffusion.schedule = "ve_karras"
    config.diffusion.sigma_1 = 0.002
    config.diffusion.sigma_T = 80.0
    config.diffusion.rho = 7.0
    config.diffusion.sigma_data = 0.5
    config.diffusion.parameterization = "edm"
    config.net.time = "log_noise"
    config.objective.name = "edm"
    config.objective.timesteps = "lognormal"
    config.objective.P_mean = -1.2
    config.objective.P_std = 1.2
    config.sample.sampler = "edm"
    config.sample.grid = "karras18"
    config.sample.clip = False


def conditional(config) -> None:
    """Class labels, a tenth of them hidden in training: Ho and Salimans 2022, p_uncond = 0.1."""
    config.net.class_conditional = True
    config.net.label_dropout = 0.1
    config.sample.n = 100


def classifier(config) -> None:
    """A classifier of noised digits (Dhariwal and Nichol 2021, section 4): the downward half of a small U-Net.

    Right on 88% of held-out digits for t from 1 to 250, on 45% from 251 to 500, no better than chance above 750.
    """
    config.net.channels = 16
    config.net.dropout = 0.2
    config.optim.weight_decay = 0.05
    config.train.checkpoint_every = 500


VARIANTS = {
    "ve": ve,
    "flow": flow,
    "elementary": elementary,
    "edm": edm,
    "conditional": conditional,
    "classifier": classifier,
}
