"""Configs: every key with its default and legal values, config files, checks, and grids of ablations.

from diffusion.config import default_config
"""

from diffusion.config.config_dict import default_config as default_config
