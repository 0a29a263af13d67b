"""Speed, measured beside a PyTorch baseline by scripts/benchmark.py; docs/benchmarks.md has the results.

timing.py          windows of both sides in turn, medians with spread
worker.py          a side in a process of its own, idle while the other runs
sizes.py           networks, batches and measures
jax_workloads.py   this project's workloads       peak.py   the machine's limit: matrix products
torch_baseline/    the same workloads in PyTorch
comparison.py      the order of measurements, and a row of results
startup.py         seconds from the command to the first step
scaling.py         how cost grows
machine.py         processor, versions and load
table.py           results as a table and as JSON
"""
