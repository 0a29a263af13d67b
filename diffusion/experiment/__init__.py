"""From a config to an experiment: the registry of names, the building, how samples are guided, and loading a run."""
