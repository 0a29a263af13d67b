"""Writes docs/tour.ipynb from docs/tour.md: `make notebook`. The text blocks become what the cells print."""

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SETUP = """# In Colab: the address of this repository, which is cloned and installed. Elsewhere leave it empty.
REPOSITORY = ""  #@param {type:"string"}
if REPOSITORY:
    !git clone -q $REPOSITORY project
    %cd project
    %pip install -q -r requirements.txt
"""


def lines(text: str) -> list[str]:
    return text.strip("\n").splitlines(keepends=True)


def code(text: str, printed: str = "") -> dict[str, Any]:
    outputs = (
        [{"name": "stdout", "output_type": "stream", "text": printed.splitlines(keepends=True)}] if printed else []
    )
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": outputs, "source": lines(text)}


def notebook(markdown: str) -> dict[str, Any]:
    """The notebook, as nbformat 4.5, of a page with ```python blocks, each followed by what it prints, if anything."""
    cells: list[dict[str, Any]] = []
    parts = BLOCK.split(markdown)  # text, kind, block, text, kind, block, ..., text
    for prose, kind, block in zip(parts[0::3], [*parts[1::3], ""], [*parts[2::3], ""], strict=True):
        if prose.strip():
            cells.append({"cell_type": "markdown", "metadata": {}, "source": lines(prose)})
        if kind == "python":
            cells.append(code(block))
        elif kind == "text":
            cells[-1] = code("".join(cells[-1]["source"]), block)
    cells.insert(1, code(SETUP))
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def text() -> str:
    """The content of docs/tour.ipynb."""
    return json.dumps(notebook((DOCS / "tour.md").read_text()), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (DOCS / "tour.ipynb").write_text(text())
