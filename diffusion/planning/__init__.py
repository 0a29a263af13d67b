"""A training step or sampler compiled for hardware that is not there, and what the optimised program says.

Nothing is executed: times are what published peaks allow, no measurements.
"""
