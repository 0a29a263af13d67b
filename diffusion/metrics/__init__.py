"""Numbers from arrays: likelihood, FID, IS, KID, precision and recall, neighbours, and the statistics behind them."""
