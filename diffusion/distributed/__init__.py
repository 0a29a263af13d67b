"""Devices and processes: where arrays live, and how several processes train as one run (docs/several_hosts.md).

sharding.py                      the mesh over all devices, and the sharding of each array
initialize.py                    start and end of several processes, over jax.distributed
agreement_between_processes.py   what they compare and decide together
global_arrays.py                 arrays over the devices of all processes
"""
