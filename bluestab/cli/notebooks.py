"""The verb `notebooks`: those that come with bluestab, written where a person can open them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def notebooks(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; default: this one")] = Path(),
) -> None:
    """Write the example notebooks here, beside the store runs/.

    They read the store of the folder that they lie in, or $BLUESTAB_STORE. Files that are there
    stay as they are.
    """
    from bluestab.core.errors import ConfigError
    from bluestab.core.paths import notebooks_dir
    from bluestab.store.files import write_text

    written, there = [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sorted(notebooks_dir().glob("*.ipynb")):
            target = folder / source.name
            if target.exists():
                there.append(str(target))
                continue
            write_text(target, source.read_text(encoding="utf-8"))
            written.append(str(target))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror})") from error
    if written:
        print("wrote " + ", ".join(written))
    if there:
        print("already there, left as it is: " + ", ".join(there))
    print("open them with: jupyter lab   (pip install 'bluestab[notebook]')")
