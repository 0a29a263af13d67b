"""The papers' tables as data, how configs depart from the papers' experiments, and which results fill which cell."""
