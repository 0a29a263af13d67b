"""Faster layers for CPUs: layers.py is the seam; upsampling.py and random_bits.py are parts of it."""
