"""The arrays that figures show: drawn by the network of a run, read from its files, or read from a user's images."""
