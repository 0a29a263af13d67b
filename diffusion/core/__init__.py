"""The mathematics of the papers as pure functions of arrays: jax and numpy, no network, no config, no files."""
