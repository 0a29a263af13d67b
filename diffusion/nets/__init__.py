"""Networks: Flax modules from arrays to arrays. They know no process, no objective and no config."""
