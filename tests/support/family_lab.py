"""The laboratory of technique suites, on tiny checkpoints of any family, described by `auto`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bluestab.testing.laboratory import Lab
from tests.support.encoders import checkpoint


class FamilyLab(Lab):
    """Where models are called by their family."""

    def checkpoint(self, model: str) -> Path:
        folder = self.folder / model
        if folder.is_dir():
            return folder
        # two depths, as the witness counts; a text runs through those of ALBERT twice
        sizes = {"num_hidden_layers": 4, "num_hidden_groups": 2} if model == "albert" else {}
        if model == "big_bird":  # as it is trained here
            sizes = {"attention_type": "original_full"}
        return checkpoint(model, folder, **{"num_hidden_layers": 2, **sizes})

    def composed(self, *asked: str) -> dict[str, Any]:
        known = (self.folder / a.removeprefix("model=") for a in asked if a.startswith("model="))
        families = {f"model={folder.name}" for folder in known if folder.is_dir()}
        return super().composed(*("model=auto" if a in families else a for a in asked))
