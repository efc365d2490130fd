"""The runs that a soup is made of: which they are, and whether their weights go together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bluestab.core.errors import ConfigError
from bluestab.core.types import RunRecord
from bluestab.inference.cell import cell_of_run, validation
from bluestab.inference.weights import FinishedRun, Weights, find_run
from bluestab.store.store import Store
from bluestab.tasks.metric import Metric, metric_of_result


def members_of(names: Sequence[str], store: Store) -> list[FinishedRun]:
    """The runs that are named; all usable seeds of its cell if it is one.

    Raises ConfigError if they do not start from the same weights, if those of one task differ in
    more than the seed, or if they are fewer than two.
    """
    found = [find_run(name, store) for name in names]
    first = found[0]
    if len(found) == 1:
        others = [
            r
            for r in cell_of_run(first.store, first.record).records
            if r.status == "done" and r.key != first.record.key
        ]
        found += [find_run(f"{first.folder.parent / r.key}:{first.at}", store) for r in others]
    for own in by_task(found):
        if len(cells := {run.record.result["cell"] for run in own}) > 1:
            raise ConfigError(
                f"these runs differ in more than the seed ({len(cells)} cells): of one task, only "
                "seeds of one configuration lie close enough to be averaged"
            )
    if len({run.record.key for run in found}) < 2:
        raise ConfigError(
            f"a soup needs two runs of one configuration, the store holds {len(found)} that can "
            "be used: run more seeds"
        )
    if len({run.record.key for run in found}) < len(found):
        raise ConfigError("the same run is named twice; the members of a soup are different ones")
    if len({run.at for run in found}) > 1:
        raise ConfigError("some runs are named :best and others are not: choose one for all")
    for run in found[1:]:
        _check_start(first, run)
    return found


def by_task(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
    """The runs of each task, in the order in which the tasks are first named."""
    found: dict[str, list[FinishedRun]] = {}
    for run in runs:
        data = json.dumps(run.record.result["config"]["data"], sort_keys=True)
        found.setdefault(f"{task_name(run.record)} {data}", []).append(run)
    return list(found.values())


def task_name(record: RunRecord) -> str:
    return str(record.measured["names"]["task"])


def _check_start(first: FinishedRun, other: FinishedRun) -> None:
    """Raises ConfigError for weights that began elsewhere: their mean lies in no common valley."""
    for part in ("model", "init_from"):
        ours, theirs = (run.record.result["config"].get(part) for run in (first, other))
        if ours != theirs:
            raise ConfigError(
                f"{first.said} and {other.said} did not start from the same weights ({part} is "
                f"{ours} and {theirs}): only runs of one start can be merged"
            )


def ranked(members: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Runs of one task, the best on validation first."""
    metric = metric_of_result(members[0].record.result)
    return sorted(members, key=lambda run: -quality(validation(run.record, run.at), metric))


def quality(score: float | None, metric: Metric) -> float:
    """Larger is better, whatever the metric; none is worse than an undefined score."""
    return -float("inf") if score is None else metric.sign * score


def check_tokenizers(weights: Sequence[Weights]) -> None:
    """Raises ConfigError if the members read text by different vocabularies or rules."""
    from bluestab.models.tokenizers import load_tokenizer

    first, *others = weights
    for other in others:
        if _rules(load_tokenizer(first.model)) != _rules(load_tokenizer(other.model)):
            raise ConfigError(
                f"{first.said} and {other.said} read text with different tokenizers (vocabulary or "
                "letter case): a row of their embeddings is not the same piece of a word"
            )


def _rules(tokenizer: Any) -> Mapping[str, Any]:
    """What decides which piece a row of the embeddings stands for."""
    said = json.loads(tokenizer.backend_tokenizer.to_str())
    return {part: said.get(part) for part in ("model", "normalizer", "added_tokens")}
