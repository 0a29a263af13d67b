"""Samplers: each a file, each seeing only `denoise(x_t, t)`. `loop.sample` runs any of them."""
