"""The papers' recipes and tables as data, and which of our results belong to which cell."""
