"""The training state, one step, the optimiser, averages of the weights, metrics, and the loop."""
