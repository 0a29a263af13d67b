"""State, step, sharding, checkpoints, logging and the loop."""
