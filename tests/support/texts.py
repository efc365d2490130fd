"""What `+sweeps=pretraining_settings` expects in the folder of the command, in small."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bluestab.models.learn_vocabulary import learn_pieces, write_vocabulary


def general_and_domain(folder: Path) -> None:
    """Two texts of 60 documents, and pieces of each."""
    for name in ("general", "domain"):
        text = "\n\n".join(f"dose {i} of it" for i in range(60))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        write_vocabulary(learn_pieces(Counter({name: 2}), 20), folder / "words" / name, cased=False)
