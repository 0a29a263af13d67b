"""The bound over a data set, sample sets, scores."""
