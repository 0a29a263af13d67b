"""Weights in other formats: reading and writing them, and the names that they go by there and here."""
