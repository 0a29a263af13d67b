"""Published tables as data, and what our runs have beside each cell."""
