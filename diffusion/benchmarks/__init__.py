"""Speed beside a PyTorch baseline, and how cost grows: what scripts/benchmark.py measures. Results: docs/benchmarks.md.

network_sizes.py          networks, batches and measures
timing.py                 windows of both sides in turn, medians with spread
workload_subprocess.py    a side in a process of its own, idle while the other runs
jax_workloads.py          the workloads of this project
torch_baseline/           the same workloads in PyTorch
compare_with_baseline.py  the order of measurements, and a row of results
results_table.py          the rows as a table and as JSON
scaling_measurements.py   growth of cost with T, batch, image size, devices and data set
"""
