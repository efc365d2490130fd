"""Weight soups: finished runs merged into one network, scored and recorded like a run.

uniform          the mean of all members
greedy           members by their validation score, best first; each stays in if the mean with it
                 scores no worse on validation than without (Wortsman et al. 2022, arXiv 2203.05482,
                 recipe 1); members of one task only
task_arithmetic, ties, regmean   see `models.merging`
adamerging       see `models.adamerging`: its coefficients are fitted to texts without labels

Members are seeds of one configuration, or runs of several tasks that began with the same weights:
then they share one encoder, each task keeps a head of its own, and every task gets a run of the
soup, scored as its own runs are. A task of several members has the mean of their heads. Seeds do
not begin with one head unless `seeds.init` is set: heads that began at different random values can
cancel each other in the mean. The score says what came of it.
Statistics (variances of batch norm and the like) are not recomputed: these networks have none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bluestab.core import devices
from bluestab.core.errors import ConfigError
from bluestab.core.keys import key_of
from bluestab.core.types import RunRecord
from bluestab.inference.members import by_task, check_tokenizers, ranked, task_name
from bluestab.inference.merge_record import config_of, record_of
from bluestab.inference.merging import AVERAGES, How, MergedTask, merge
from bluestab.inference.remake import checked, keep_weights
from bluestab.inference.weights import FinishedRun, of_run
from bluestab.store.artefacts import write_config, write_predictions
from bluestab.store.files import write_text
from bluestab.store.store import Store

SEEDS_OF = "init"


@dataclass(frozen=True)
class Soup:
    """The record of a soup on one task, the members of that task in it, and remarks worth reading.

    average  test score of the plain mean of the same members; None if the soup is one
    """

    record: RunRecord
    members: Sequence[RunRecord]
    remarks: Sequence[str]
    average: float | None = None


def make_soup(members: Sequence[FinishedRun], kind: str, device: str) -> Soup:
    """The soup of members of one task, with the kind's own knobs; see `make_soups`."""
    (soup,) = make_soups(members, How(kind=kind), device)
    return soup


def make_soups(members: Sequence[FinishedRun], how: How, device: str) -> list[Soup]:
    """Merge the members' weights, score them on validation and test, and record them as runs, one
    per task, in the store of the first member.

    Returns the soups; those that the store has are read from it. Raises ConfigError or StoreError
    if weights cannot be had, or do not go together.
    """
    groups = [ranked(own) for own in by_task(members)]
    if how.kind == "greedy" and len(groups) > 1:
        raise ConfigError(
            f"--kind is greedy, which needs one validation score, and these are runs of "
            f"{len(groups)} tasks; say uniform, task_arithmetic, ties or regmean"
        )
    everyone = [run for own in groups for run in own]
    remarks = [
        f"run {run.record.key} kept no {run.at} weights: trained again"
        for run in everyone
        if keep_weights(run, device)
    ]
    weights = [[of_run(run) for run in own] for own in groups]
    check_tokenizers([one for own in weights for one in own])
    configs = []
    for i, own in enumerate(groups):
        others = [run for j, other in enumerate(groups) if j != i for run in other]
        theirs = [one for j, other in enumerate(weights) if j != i for one in other]
        configs.append(config_of(own, weights[i], others, theirs, how))
        remarks += _of_heads(own)
    store = members[0].store
    if all(store.has(key_of(config)) for config in configs):
        return [_read(store, key_of(c), g, remarks) for c, g in zip(configs, groups, strict=True)]
    started = time.perf_counter()
    tasks = [
        MergedTask(checked(own[0], store, device), found, devices.resolve(device))
        for own, found in zip(groups, weights, strict=True)
    ]
    chosen = [list(range(len(own))) for own in groups]
    more: list[dict[str, object]] = [{} for _ in groups]
    if how.kind == "greedy":
        chosen = [tasks[0].greedy()]
        tasks[0].mix(chosen[0])
    else:
        if how.kind not in AVERAGES:
            merge(tasks, How(kind="uniform"))
            for task, noted in zip(tasks, more, strict=True):
                noted["average_test"] = task.score("test")[0][task.run.data.task.metric]
        merge(tasks, how)
        for task, noted in zip(tasks, more, strict=True):
            noted.update(task.fitted)
    if len(groups) > 1:
        with_ = {task_name(own[0].record): [r.record.key for r in own] for own in groups}
        for noted in more:
            noted["tasks"] = with_
    seconds = (time.perf_counter() - started) / len(tasks)
    soups = []
    for task, own, stay, config, noted in zip(tasks, groups, chosen, configs, more, strict=True):
        record = record_of(task, own, stay, config, noted, seconds)
        if not store.has(record.key):
            record = _written(store, record, task, own, how.kind)
        soups.append(_soup(record, own, remarks))
    return soups


def _of_heads(own: Sequence[FinishedRun]) -> list[str]:
    starts = {run.record.result["config"]["seeds"][SEEDS_OF] for run in own}
    if len(starts) < 2:
        return []
    return [
        f"heads began at {len(starts)} different random values: in the mean they may cancel "
        "each other; a sweep with seeds.init=0 has one head for all"
    ]


def _read(store: Store, key: str, own: Sequence[FinishedRun], remarks: Sequence[str]) -> Soup:
    return _soup(store.read(key), own, remarks)


def _soup(record: RunRecord, own: Sequence[FinishedRun], remarks: Sequence[str]) -> Soup:
    said = record.result["effects"]["soup"]
    used = [run.record for run in own if run.record.key in said["members"]]
    return Soup(record, used, remarks, said.get("average_test"))


def _written(
    store: Store, record: RunRecord, task: MergedTask, own: Sequence[FinishedRun], kind: str
) -> RunRecord:
    """The run in the store: weights, predictions, config, and a log of a line."""
    at = own[0].at
    with store.building(record.key) as work:
        task.write(work / "checkpoint" / at)
        write_predictions(work / "predictions.parquet", task.rows)
        write_text(work / "curve.csv", "step,train_loss\n")
        write_text(work / "log.txt", f"{kind} soup of {', '.join(r.record.key for r in own)}\n")
        write_config(work / "config.yaml", {**task.run.cfg, "keep": at})
        return store.finish(work, record)
