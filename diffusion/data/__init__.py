"""Data sets and batches: every reader returns a `source.Source`; `pipeline` says which examples make up which batch."""
