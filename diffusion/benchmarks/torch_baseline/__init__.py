"""The PyTorch baseline: diffusers' UNet2DModel in its fastest compilation mode. The one place where torch is imported.

compile_modes.py  eager, torch.compile and frozen weights; the fastest is measured
network.py        the network that a run of the config would be exported as, and the tables of its process
workloads.py      training step, forward pass and chains
"""
