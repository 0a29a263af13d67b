"""The arrays that figures show: drawn by the network of a run, or read from the files of runs."""
