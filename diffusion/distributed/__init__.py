"""Devices and processes: where arrays live, and how several processes train as one run.

sharding.py     the mesh over all devices, and the sharding of each array
hosts.py        arrays and decisions that several processes share
initialize.py   start, comparison and end of several processes, over jax.distributed

docs/several_hosts.md has the recipes.
"""
