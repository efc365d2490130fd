"""Where the files that come with bluestab lie, and where those that it brings are kept.

What comes with it is inside the package in a wheel, beside it in a checkout.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from bluestab.core.errors import BluestabError

PACKAGE = Path(__file__).resolve().parents[1]


def expanded(name: Path | str) -> Path:
    """A path with `~` and `~user` as their homes; `~draft.csv`, where there is no such user, is
    a name like any other."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def real(path: Path | str) -> Path:
    """A path with the links in it followed, as far as they lead: a loop of links ends there, where
    `Path.resolve` of Python up to 3.12 raises RuntimeError."""
    return Path(os.path.realpath(expanded(path)))


def check_readable(folder: Path, said: str) -> None:
    """Raises BluestabError for a folder that is there, or may be there, and cannot be read.

    said  what it is to the person: `the store is`
    """
    try:
        if stat.S_ISDIR(folder.stat().st_mode) and not os.access(folder, os.R_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BluestabError(
            f"{said} '{folder}', which cannot be read ({why}); name another folder, or ask whose "
            "it is for the right to read it"
        ) from error


def conf_dir() -> Path:
    """The folder with `bluestab.yaml` and the groups task/, model/, technique/, ..."""
    return _home() / "conf"


def sweeps_dir() -> Path:
    """The folder with one yaml file per declared sweep."""
    return _existing(_home() / "sweeps")


def notebooks_dir() -> Path:
    """The folder with the notebooks, *.ipynb."""
    return _existing(_home() / "notebooks")


def corpora_dir() -> Path:
    """The folder with the corpora that may be shipped: one sub-folder per task."""
    return _existing(PACKAGE / "data" / "corpora")


def own_conf_dir() -> Path | None:
    """A person's own yamls, found from any folder: task/, model/, technique/; None without a home.

    `$BLUESTAB_CONF`, else `$XDG_CONFIG_HOME/bluestab/conf`, else `~/.config/bluestab/conf`. Raises
    BluestabError if it cannot be read.
    """
    place = _own_conf_dir()
    if place is not None:
        check_readable(place, "own configs are in (BLUESTAB_CONF)")
    return place


def _own_conf_dir() -> Path | None:
    named = os.environ.get("BLUESTAB_CONF")
    if named:
        return expanded(named)
    standard = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(standard):
        return Path(standard) / "bluestab" / "conf"
    try:
        return Path.home() / ".config" / "bluestab" / "conf"
    except RuntimeError:
        return None


def cache_dir() -> Path | None:
    """The folder of what can be made or brought again; None where there is no home.

    `$BLUESTAB_CACHE`, else `$XDG_CACHE_HOME/bluestab`, else `~/.cache/bluestab`.
    """
    named = os.environ.get("BLUESTAB_CACHE")
    if named:
        place = expanded(named)
        check_readable(place, "BLUESTAB_CACHE is")
        return place
    standard = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(standard):  # others are to be ignored, says the standard
        return Path(standard) / "bluestab"
    try:
        return Path.home() / ".cache" / "bluestab"
    except RuntimeError:
        return None


def _home() -> Path:
    """The folder that holds our conf/, sweeps/ and notebooks/.

    Known by `conf/bluestab.yaml`: a `conf` of somebody else in site-packages is not ours.
    """
    for home in (PACKAGE, PACKAGE.parent):
        if (home / "conf" / "bluestab.yaml").is_file():
            return home
    raise _incomplete(f"conf/bluestab.yaml is neither in {PACKAGE} nor in {PACKAGE.parent}")


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise _incomplete(f"{folder} is missing")
    return folder


def _incomplete(what: str) -> BluestabError:
    return BluestabError(
        f"this installation of bluestab is incomplete: {what}. Install the package again"
        " (`pip install --force-reinstall --no-deps bluestab`), or run it from a whole checkout."
    )
