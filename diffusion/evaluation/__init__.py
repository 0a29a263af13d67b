"""A run measured: bound, probability flow, sample sets, scores, guidance; and the protocol that goes with a number."""
