"""Devices and processes: where arrays live, and how several processes train as one run (docs/several_hosts.md).

sharding.py     the mesh over all devices, and the sharding of each array
hosts.py        arrays, decisions and mistakes that several processes share
initialize.py   start, comparison and end of several processes, over jax.distributed
"""
