"""Whether the data that a run is resumed or evaluated with are those that it was made with."""

from ml_collections import ConfigDict

from diffusion.config.config_dict import FOLDER, placeless
from diffusion.data.dataset_identity import ACCEPT, Identity, changes, listed
from diffusion.runtime.paths import absolute_text
from diffusion.runtime.workdir_and_data_flags import DataFlags
from diffusion.workdir.run_config import Run


def require_same_data(run: Run, data: Identity, accept: bool, labelled: bool | None = None) -> list[str]:
    """Raises ValueError, in one line with what differs, where data are not those of a run, unless they are accepted.

    labelled: whether its network has learned labels; by default config.net.class_conditional. Images of another shape,
    and another number of classes than a network has learned, cannot be accepted. Returns a line to report where changes
    were accepted, and where the run has no identity: an older version made it, or its weights are imported.
    """
    labelled = run.config.net.class_conditional if labelled is None else labelled
    name, stored = run.config.data.name, run.identity
    if data.shape != run.shape:
        raise ValueError(f"{name}: has images of {list(data.shape)}, and those of the run are {list(run.shape)}")
    if labelled and len(data.classes) != run.classes:
        was = f": {listed(stored.classes)}" if stored else ""
        raise ValueError(
            f"{name}: has {len(data.classes)} classes, {listed(data.classes)}, and the run learned the labels of "
            f"{run.classes}{was}; restore the data, or train another --workdir"
        )
    if stored is None:
        folder = placeless("data.name", name) == FOLDER
        if folder and labelled and list(data.classes) != sorted(data.classes) and not accept:
            raise ValueError(
                f"{name}: the run was made by a version that sorted classes as text, {listed(sorted(data.classes))}; "
                f"today's order is {listed(data.classes)}. Rename the folders, or add {ACCEPT} for new labels"
            )
        split = ". Other images of the folder may be held out now" if folder else ""
        return [f"the run stores no identity of its data, so they were not compared; they are {data}{split}"]
    if not (different := changes(stored, data)):
        return []
    line = f"{name}: the data are not those that the run was made with: {'; '.join(different)}"
    if not accept:
        raise ValueError(f"{line}. Restore them, give another --workdir, or add {ACCEPT}")
    return [f"{line}; accepted"]


def absolute(config: ConfigDict) -> ConfigDict:
    """A config whose paths of data hold from any working directory."""
    config = config.copy_and_resolve_references()
    if config.data.dir:
        config.data.dir = absolute_text(config.data.dir)
    if config.data.name.startswith(FOLDER):
        config.data.name = FOLDER + absolute_text(config.data.name.removeprefix(FOLDER))
    return config


def moved(run: Run, flags: DataFlags) -> Run:
    """The run with its data at the places that the user states. Raises ValueError for a data set of another name."""
    config = run.config.copy_and_resolve_references()
    config.update_from_flattened_dict(dict(flags.places))
    old, new = run.config.data.name, config.data.name
    if placeless("data.name", old) != placeless("data.name", new):
        raise ValueError(
            f"config.data.name: the run is of {old!r}, and {new!r} is another data set; only the path may change"
        )
    return run._replace(config=config)
