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
from bluestab.core.paths import conf_dir, real
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


@dataclass(frozen=True)
class Agreement:
    """How our mean stands to a published one.

    word      `within`: their difference may be nothing; else ours is `above` or `below`
    interval  of our mean minus theirs
    spread    whose std it is made of: `both`, or `ours` or `theirs` where the other's is not known
    n         their number of runs, as published or the fewest that there can be
    """

    word: str
    interval: stats.Interval
    spread: str
    n: int


def verdict(
    scores: Sequence[float],
    theirs: Published,
    design: stats.Design | None = None,
    level: float = 0.95,
) -> Agreement | None:
    """Whether our mean and theirs differ by more than the seeds of both sides can explain.

    design  of our runs; None: independent

    Welch's interval of the difference of two means (1947). Where one side gives no std, it is taken
    for that of the other (Student's interval of two samples with one variance): a paper without a
    spread, or one run of ours. An unpublished number of runs is the least that can be: 1, or 2 with
    a std. A repetition of their experiment is called apart in 5 % of cases. None if neither side
    has a std of two runs or more.
    """
    mean, n = stats.mean(scores), len(scores)
    if mean is None:
        return None
    found = stats.mean_spread(scores, design or stats.independent(n))
    their_n = theirs.n or (1 if theirs.std is None else 2)
    knows = theirs.std is not None and theirs.n is not None and theirs.n > 1
    if found is None and not knows:
        return None
    if found is None:
        assert theirs.std is not None
        spread, df = "theirs", their_n - 1.0
        variance = theirs.std**2 * (1 / n + 1 / their_n)
    elif not knows:
        own = stats.std(scores)
        assert own is not None
        spread, df = "ours", found[1]
        variance = found[0] + own**2 / their_n
    else:
        assert theirs.std is not None
        spread, other = "both", theirs.std**2 / their_n
        variance = found[0] + other
        df = variance**2 / (found[0] ** 2 / found[1] + other**2 / (their_n - 1))
    interval = stats.t_interval_of_error(mean - theirs.mean, math.sqrt(variance), df, level)
    word = "within"
    if not interval.low <= 0 <= interval.high:
        word = "above" if mean > theirs.mean else "below"
    return Agreement(word, interval, spread, their_n)


def read_published(folders: Iterable[Path] | None = None) -> list[Published]:
    """All numbers of all files; by default those shipped and those in `./conf/published`.

    Raises ConfigError with file, line and reason for the first that cannot be read.
    """
    if folders is None:
        folders = dict.fromkeys((conf_dir() / "published", real("conf/published")))
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
