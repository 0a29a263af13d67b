"""The PyTorch baseline: diffusers' UNet2DModel in its fastest mode. The one place where torch is imported."""
