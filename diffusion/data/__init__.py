"""Data sets and batches: every reader returns a `source.Source`; `batch_order` says which images form a batch."""
