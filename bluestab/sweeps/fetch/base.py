"""The contract of a resource, a task's files or a model: look whether it is here, fetch it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluestab.data.downloads import Downloader, DownloadError
from bluestab.models import hub


@dataclass(frozen=True)
class FetchStatus:
    """What there is of a task or a model.

    where    the folder it is in, or will be in; empty where it takes none
    missing  (source, bytes or None if not known) of what is to be brought; empty if it is all here
    problem  why it cannot be brought; empty if it can
    n_bytes  size of what is here
    note     what else a person should know
    """

    where: str = ""
    missing: tuple[tuple[str, int | None], ...] = ()
    problem: str = ""
    n_bytes: int | None = None
    note: str = ""

    @property
    def here(self) -> bool:
        return not self.missing and not self.problem


@dataclass
class FetchContext:
    """How resources are fetched.

    folder  with the files to take; None: from the network
    say     called with a line for the person at the terminal
    """

    folder: Path | None = None
    downloader: Downloader = field(default_factory=Downloader)
    say: Callable[[str], None] = print


class Resource(ABC):
    """A task or a model as something that `bluestab fetch` brings to this machine."""

    kind: str
    name: str
    about: Mapping[str, Any]

    @abstractmethod
    def look(self, context: FetchContext, *, ask: bool = False) -> FetchStatus:
        """What of it is here. Writes nothing; asks the network for sizes only if `ask`."""

    @abstractmethod
    def bring(self, context: FetchContext) -> FetchStatus:
        """Download or make what is missing; returns what is here now.

        Raises DownloadError; then what was here is as it was.
        """


def need_network(sources: Sequence[str]) -> None:
    """Raises DownloadError if these are to be downloaded and the network may not be used."""
    if sources and hub.offline():
        raise DownloadError(
            f"HF_HUB_OFFLINE is set, so nothing is downloaded; missing: {', '.join(sources)}; "
            "unset it, or bring the files yourself and name their folder with --from"
        )
