"""The first images of a split of a data set: what likelihoods are measured on and samples are compared with."""

from typing import Any, NamedTuple

from diffusion.data.dataset_interface import Source


class Split(NamedTuple):
    """The first n images of a split of a data set."""

    name: str
    source: Source
    n: int

    @property
    def facts(self) -> dict[str, Any]:
        """What a result reports of them; `of`, the images of the whole split, where they are not all of it."""
        whole = {"of": self.source.size} if self.n < self.source.size else {}
        return {"data": self.source.name, "split": self.name, "images": self.n, **whole}


def split(name: str, source: Source, n: int | None = None) -> Split:
    """The first n images of a split, by default all. Raises ValueError where it has fewer."""
    if n is not None and n > source.size:
        raise ValueError(f"the {name} split of {source.name} has {source.size} images, not {n}; ask for fewer")
    return Split(name, source, source.size if n is None else n)
