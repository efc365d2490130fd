"""The bound at which a run has failed, from the test items: what ignoring the input gets.

A task's yaml gives it for one metric and one test part. Where a run has another metric, folds, or
part of the test items, it is computed anew: when the data are loaded, and by the report for runs
that were stored with the yaml's number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from bluestab.core.catalogue import folders
from bluestab.core.errors import ConfigError
from bluestab.core.plain_files import check_yaml
from bluestab.store.schema import is_segment
from bluestab.tasks import metric as metrics
from bluestab.tasks.metric import Compared, Metric

DECIDING = ("metric", "folds", "test_size")
"""Knobs of a task with which its bound belongs to another score."""

CORRELATIONS = ("pearson", "spearman")


def misfits(name: str, task: Mapping[str, Any]) -> list[str]:
    """Those of `DECIDING` in which a task differs from its yaml, if its bound is still the yaml's.

    name  of the task: its yaml is the first of that name in the folders of `bluestab list task`
    task  its config, or the hashed one, from which neutral knobs are absent

    None where somebody gave a bound, where there is no such yaml or it leaves the bound open.
    """
    yaml = _yaml(name)
    bound = yaml.get("failed_below")
    if bound is None or task.get("failed_below") != bound:
        return []
    return [knob for knob in DECIDING if task.get(knob) != yaml.get(knob)]


def bound_of(
    metric: str,
    targets: Sequence[Any],
    *,
    label_names: Sequence[str] | None = None,
    positive: Sequence[str] | None = None,
) -> float | None:
    """Score at which a run has failed on these test items; None for a metric that is not ours, and
    where nothing that ignores the input has a score.

    targets      class names, lists of labels or of tags per word, numbers
    label_names  of the task, where it names them; positive: those that count in positive_f1

    Entities: 0, of finding none. Correlations: the 95 % point for `n` unrelated pairs, one-sided,
    t(n - 2) / sqrt(n - 2 + t^2), for Spearman approximately (Kendall & Stuart); 1 for n < 3. All
    else: the best that one and the same answer for every item gets (`Task.baseline`).
    """
    if metric in metrics.ENTITIES:
        return 0.0
    if metric in CORRELATIONS:
        return _chance(len(targets))
    if not targets:
        return None
    found = _group(targets).get(metric)  # labels and classes both have a macro_f1
    if found is None:
        return None
    scores = [found.function(one) for one in _constants(targets, label_names, positive)]
    known = [score for score in scores if score is not None]
    return found.best(known, float) if known else None


def _chance(n: int) -> float:
    if n < 3:
        return 1.0
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to load

    t = float(stdtrit(n - 2, 0.95))
    return t / math.sqrt(n - 2 + t * t)


def _group(targets: Sequence[Any]) -> Mapping[str, Metric]:
    """The metrics of such targets."""
    if isinstance(targets[0], str):
        return metrics.CLASSES
    if isinstance(targets[0], int | float):
        return metrics.NUMBERS
    if any(tag == "O" or tag[:2] in ("I-", "B-") for tags in targets for tag in tags):
        return metrics.WORDS
    return metrics.LABEL_SETS


def _constants(
    targets: Sequence[Any], label_names: Sequence[str] | None, positive: Sequence[str] | None
) -> Iterator[Compared]:
    """What `Task.constants` answers, beside the targets, as `Task.compared` numbers them."""
    n, group = len(targets), _group(targets)
    named = [str(name) for name in label_names or ()]
    if group is metrics.CLASSES:
        names = sorted({*named, *map(str, positive or ()), *targets})
        index = {name: i for i, name in enumerate(names)}
        gold, counted = [index[t] for t in targets], [index[str(p)] for p in positive or ()]
        for name in names:
            yield Compared([index[name]] * n, gold, n_classes=len(names), positive=counted)
    elif group is metrics.NUMBERS:
        numbers = sorted(float(t) for t in targets)
        median = (numbers[(n - 1) // 2] + numbers[n // 2]) / 2
        for number in (math.fsum(numbers) / n, median):
            yield Compared([number] * n, targets)
    elif group is metrics.WORDS:
        tags = named or sorted({tag for sentence in targets for tag in sentence})
        types = sorted({tag[2:] for tag in tags if tag != "O"})
        for tag in tags:
            yield Compared([[tag] * len(one) for one in targets], targets, types=types)
    else:
        counts = Counter(name for names in targets for name in names)
        ordered = sorted(named or counts, key=lambda name: -counts[name])
        usual = Counter(frozenset(names) for names in targets).most_common(1)[0][0]
        true = [[int(name in found) for name in ordered] for found in targets]
        for chosen in [*(ordered[:k] for k in range(1, len(ordered) + 1)), usual]:
            yield Compared([[int(name in chosen) for name in ordered]] * n, true)


@lru_cache(maxsize=64)
def _yaml(name: str) -> Mapping[str, Any]:
    """What the yaml of a task says; empty if there is none that can be read by itself."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    if not is_segment(name):  # of a record of anybody: it is no path
        return {}
    for folder in folders("task"):
        file = folder / f"{name}.yaml"
        if file.is_file():
            try:
                check_yaml(file)
                found = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
            except (OSError, ValueError, YAMLError, OmegaConfBaseException, ConfigError):
                return {}
            return found if isinstance(found, dict) else {}  # type: ignore[return-value]
    return {}
