"""Weights of other projects: readers, writers, and tables between their parameter names and ours."""
