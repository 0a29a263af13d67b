"""Configs: every key with its default and legal values, config files, checks, and grids of ablations."""
