"""What can go wrong, in sentences: every error names what, where, the value seen and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

BRING = "bring it with: bluestab fetch"
"""How the sentence about something that is not on this machine goes on: `BRING task=gad`."""


class BluestabError(Exception):
    """Something the person at the keyboard can put right; shown without a traceback."""

    exit_code = 2


class ConfigError(BluestabError):
    """The configuration asks for something impossible. Holds one sentence per problem."""

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class DataError(BluestabError):
    """A data file is missing or malformed: names the file, the line (1-based) and the reason."""

    def __init__(self, path: Path | str, reason: str, line: int | None = None) -> None:
        self.path, self.reason, self.line = str(path), reason, line
        super().__init__(f"{path}, line {line}: {reason}" if line else f"{path}: {reason}")


class StoreError(BluestabError):
    """The store cannot be read or written."""


class DiskFull(StoreError):
    """No room left for a result: nothing is wrong with the run, it can be done later.

    needed  bytes that were free for it, what it had written included, and did not suffice
    """

    def __init__(self, said: str, needed: int = 0) -> None:
        super().__init__(said)
        self.needed = needed


class GroupTooLarge(BluestabError):
    """Memory does not hold so many runs at once; nothing of them is recorded."""


class RunsCrashed(BluestabError):
    """Something ran and crashed; what else ran is recorded."""

    exit_code = 1


class Interrupted(BluestabError):
    """Ctrl-C."""

    exit_code = 130


class Diverged(Exception):
    """Training met a non-finite loss: a result of the run, not a crash."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"loss or output was not finite at optimizer step {step}")


class TimedOut(Exception):
    """A run took longer than `timeout` allows."""

    def __init__(self, limit: float, step: int) -> None:
        super().__init__(f"not finished after timeout={limit:g} seconds, at optimizer step {step}")


OF_A_FILE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR),
    *(errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT),
)
"""Errors of a file system that say something of the file, and nothing of this program."""


def is_of_a_file(error: OSError) -> bool:
    """Whether an error says what is wrong with a file or folder that it names."""
    return error.errno in OF_A_FILE and error.filename is not None


def file_problem(error: OSError) -> str:
    """The sentence about it."""
    return (
        f"{str(error.filename)[:300]} cannot be read or written ({error.strerror}); name another "
        "file or folder, or ask whose it is for the right to use it"
    )


def is_disk_full(error: BaseException | None) -> bool:
    """Was the disk, or a quota on it, full: anywhere in the chain of causes?"""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(error):  # libraries repeat the sentence only
            return True
        error = error.__cause__ or error.__context__
    return False


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`; did you mean 'x'?` or the list of valid names, ready to end a sentence.

    Never the refused name itself: where it is one of the options, something else is wrong with it.
    """
    options = sorted(option for option in options if option != name)
    if near := nearest(name, options):
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; valid: {', '.join(options)}" if options else ""


def nearest(name: str, options: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """The options that may be meant: those that differ in capitals or hyphens only, else up to four
    that the name begins (`bert_base`: cased or uncased), else the most similar one."""
    folded = {option: _folded(option) for option in options}
    typed = _folded(str(name))
    same = [option for option, text in folded.items() if text == typed]
    longer = [option for option, text in folded.items() if text.startswith(f"{typed}_")]
    if same or 0 < len(longer) <= 4:
        return same or longer
    close = get_close_matches(typed, folded.values(), n=1, cutoff=cutoff)
    return [option for option, text in folded.items() if text in close][:1]


def _folded(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
