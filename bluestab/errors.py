"""What can go wrong, in sentences: every error names what, where, the value seen and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


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


class Interrupted(BluestabError):
    """Ctrl-C."""

    exit_code = 130


class Diverged(Exception):
    """Training met a non-finite loss: a result of the run, not a crash."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"loss or output was not finite at optimizer step {step}")


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """`; did you mean 'x'?` or the list of valid names, ready to end a sentence."""
    options = sorted(options)
    close = get_close_matches(str(name), options, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid: {', '.join(options)}" if options else ""
