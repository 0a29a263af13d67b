"""Speed beside a PyTorch baseline, and how cost grows: what scripts/benchmark.py measures (docs/benchmarks.md)."""
