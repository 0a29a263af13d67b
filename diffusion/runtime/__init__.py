"""The process: command line, set-up before jax, signals, memory, and the text of reports. No model knowledge."""
