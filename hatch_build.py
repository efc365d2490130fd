"""The README as a package index shows it: links and pictures that lead to files of the repository
are made absolute, or, where nobody says where its files lie, left out."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

try:
    from hatchling.metadata.plugin.interface import MetadataHookInterface
except ModuleNotFoundError:  # without hatchling there is nothing to build: `long_description` alone
    MetadataHookInterface = object

BASE = "BLUESTAB_FILES_URL"
"""Variable of the environment: the address below which the files of this commit are served raw."""
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^):]+)\)\n?")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^):]+)\)")


def long_description(text: str, base: str | None) -> str:
    """`text` with absolute pictures and links; without `base` pictures are left out, links are
    their words."""
    if base:
        root = base.rstrip("/")
        text = PICTURE.sub(lambda m: f"![{m[1]}]({root}/{m[2]})\n", text)
        return LINK.sub(lambda m: f"[{m[1]}]({root}/{m[2]})", text)
    return LINK.sub(r"\1", PICTURE.sub("", text))


class CustomMetadataHook(MetadataHookInterface):  # type: ignore[misc]
    """Gives the field `readme`, which pyproject.toml declares as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": long_description(text, os.environ.get(BASE)),
        }
