"""Speed, measured beside a rival: scripts/benchmark.py runs it, docs/benchmarks.md holds what came.

timing.py    windows of two sides in turn, medians with spread; knows no clock
worker.py    a side in a process of its own, which sleeps while the other runs
sizes.py     what is measured, of which network, at which batch
ours.py      our workloads           peak.py    the machine's limit: matrix products
rival/       PyTorch's, tuned
contest.py   the order of it all, and what a measurement comes to
startup.py   from the command to the first step, by processes
machine.py   on what, and with which versions
table.py     one table and one JSON
scaling.py   how cost grows
"""
