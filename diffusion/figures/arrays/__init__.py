"""What figures show, as arrays: drawn by the network of a run, read from its files, or read from a user's images."""
