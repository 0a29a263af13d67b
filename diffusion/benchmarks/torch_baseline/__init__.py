"""The rival: diffusers' UNet2DModel in PyTorch, made as fast as we know how; torch is imported here alone.

channels_last, bfloat16 autocast on a GPU, torch.compile in each of its modes and the fastest kept, fused Adam, foreach
clipping and average, data and tables on the device, no step that waits for the host. Every mode that was tried is among
the facts of a row, with its seconds a call or why it failed.

modes.py      PyTorch, set up; a function in the fastest of several modes
subject.py    the network that ours would be exported as, and the tables of its process
workloads.py  training step, forward, chains
"""
