"""Faster layers for CPUs: layers.py is the seam; fused_upsampling.py and dropout_bits.py are parts of it."""
