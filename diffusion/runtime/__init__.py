"""The process: command line, set-up before jax, signals, files on disks and in buckets, reports. No model knowledge."""
