"""A run's folder: config.json, checkpoints with manifests, results, metrics."""
