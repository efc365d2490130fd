"""Published scores, as data: `conf/published/NAME.csv`, one file per paper, shipped or one's own.

A file begins with comments (`# `), the first of which cites the paper. Its columns:

    task, model   names as in bluestab, or any other
    arm           technique first, then what else differs: `none, 20 epochs`
    metric, split of the score; scores, means and spreads are in [-1, 1], not in percent; those of
                  an error (rmse) in the units of its targets
    n             number of runs, empty if not published
    ddof          of the std: 0 (divided by n), 1 (by n - 1); empty if not published
    mean, std     over these runs; std may be empty
    table         where in the paper

Further columns may stand there and are not read.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bluestab import stats
from bluestab.core.errors import ConfigError
from bluestab.core.paths import conf_dir
from bluestab.tasks.metric import metric_of

NEEDED = ("task", "model", "arm", "metric", "split", "mean", "table")


@dataclass(frozen=True)
class Published:
    """One number of a paper; n and std (n - 1 in the denominator) None where not published."""

    source: str
    table: str
    task: str
    model: str
    arm: str
    metric: str
    split: str
    n: int | None
    mean: float
    std: float | None

    @property
    def technique(self) -> str:
        return self.arm.partition(",")[0]

    def interval(self, level: float = 0.95) -> stats.Interval | None:
        """Of their mean, by Student's t; None where n or std is not published."""
        if self.n is None or self.std is None:
            return None
        return stats.t_interval_of(self.mean, self.std, self.n, level)


@dataclass(frozen=True)
class Agreement:
    """How our mean stands to a published one.

    word: `within`, `above` or `below`; of: whose interval that is, `theirs` or `ours`
    """

    word: str
    of: str
    interval: stats.Interval


def verdict(scores: Sequence[float], theirs: Published) -> Agreement | None:
    """Where our mean lies in their interval, or, where they give no spread, in relation to their
    mean: `within` if our interval holds it. None if neither interval exists.
    """
    mean, interval, of = stats.mean(scores), theirs.interval(), "theirs"
    if mean is None:
        return None
    if interval is None:
        interval, of = stats.t_interval(scores), "ours"
    if interval is None:
        return None
    inside = mean if of == "theirs" else theirs.mean
    if interval.low <= inside <= interval.high:
        return Agreement("within", of, interval)
    return Agreement("above" if mean > theirs.mean else "below", of, interval)


def read_published(folders: Iterable[Path] | None = None) -> list[Published]:
    """All numbers of all files; by default those shipped and those in `./conf/published`.

    Raises ConfigError with file, line and reason for the first that cannot be read.
    """
    if folders is None:
        folders = dict.fromkeys((conf_dir() / "published", Path("conf/published").resolve()))
    files = [file for folder in folders for file in sorted(folder.glob("*.csv"))]
    return [row for file in files for row in _rows(file)]


def _rows(file: Path) -> Iterator[Published]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read ({error})") from error
    comments = [line for line in lines if line.startswith("#")]
    if not comments:
        raise ConfigError(f"{file}, line 1: expected a comment that cites the paper ('# ...')")
    body = [(at, line) for at, line in enumerate(lines, 1) if line and not line.startswith("#")]
    reader = csv.DictReader([line for _, line in body])
    absent = [column for column in NEEDED if column not in (reader.fieldnames or ())]
    if absent:
        raise ConfigError(f"{file}: no column {', '.join(absent)}; expected {', '.join(NEEDED)}")
    for (at, _), row in zip(body[1:], reader, strict=True):
        yield _row(row, comments[0].lstrip("# "), f"{file}, line {at}")


def _row(row: Mapping[str | None, str | None], source: str, where: str) -> Published:
    if None in row or None in row.values():
        raise ConfigError(f"{where}: it has more or fewer fields than the first row has columns")
    said = {str(column): str(value).strip() for column, value in row.items()}

    def number(column: str) -> float | None:
        text = said.get(column, "")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ConfigError(f"{where}: {column} is {text!r}, expected a number")
        return value

    mean, std, n, ddof = (number(column) for column in ("mean", "std", "n", "ddof"))
    most = 1.0 if metric_of(said["metric"]).higher_is_better else math.inf
    if mean is None or abs(mean) > most or (std is not None and not 0 <= std <= most):
        raise ConfigError(
            f"{where}: mean is {said['mean']!r} and std {said.get('std', '')!r}, expected a mean "
            f"in [-1, 1] and a std in [0, 1] or none (scores are not in percent)"
        )
    if n is not None and (n < 1 or n != int(n)):
        raise ConfigError(f"{where}: n is {said['n']!r}, expected a whole number of runs >= 1")
    if std is not None and ddof == 0 and n is not None and n > 1:
        std *= math.sqrt(n / (n - 1))
    named = {column: said[column] for column in NEEDED if column != "mean"}
    return Published(source=source, n=None if n is None else int(n), mean=mean, std=std, **named)
