"""Where the spread of fine-tunings comes from that start from pretrainings of several seeds."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from bluestab import stats
from bluestab.core.errors import BluestabError
from bluestab.report.frames.runs import ATS, Row, scored
from bluestab.report.section import Results, Section

if TYPE_CHECKING:
    from bluestab.store.store import Store

PARTS = ("setting", "pretraining", "fine_tuning", "rest")
COLUMNS = (
    *("at", "task", "model", "settings", "pretrainings", "seeds"),
    *(f"share_{part}" for part in PARTS),
    *(f"std_{part}" for part in PARTS),
)
NOT_OF_THE_FINE_TUNING = ("init_from", "predecessor", "model", "seeds")
"""What of a cell's config the pretraining decides (its vocabulary is in the model's identity), and
what varies in it."""

Scores = Mapping[Hashable, Mapping[Hashable, Mapping[Hashable, float]]]
"""Setting -> seed of the pretraining -> seed of the fine-tuning -> score."""


def pretraining_frame(results: Results, store: Store) -> pd.DataFrame:
    """One row per fine-tuning of which seeds were crossed with those of pretrainings, and `at`.

    A setting is what the pretrainings of one cell have in common, and which of their weights were
    taken. Left out is what is not crossed: the settings need equally many pretrainings, two at
    least, and all of these two fine-tuning seeds at least in common.

    settings, pretrainings, seeds   how many there are, of one setting, of one pretraining
    share_setting, share_pretraining, share_fine_tuning, share_rest   of the sum of the components
        of variance (`stats.two_stages`), in [0, 1]; the first is empty for one setting
    std_setting, std_pretraining, std_fine_tuning, std_rest   their roots, in the unit of the metric
    """
    sources = _Sources(store)
    rows: list[Row] = []
    for at in ATS:
        found: dict[tuple[str, ...], Any] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(dict))
        )
        for run in scored(results.runs, at):
            link = run["predecessor"]
            source = sources.of(f"{link['key']}:{link['at']}" if link else run["init_from"])
            if source is None:
                continue
            config = results.hashed[run["cell"]]
            rest = {k: v for k, v in config.items() if k not in NOT_OF_THE_FINE_TUNING}
            subject = (run["task"], run["model"], json.dumps(rest, sort_keys=True))
            setting, seed = source
            found[subject][setting][seed][run["streams"]] = run["score"]
        for (task, model, _), scores in found.items():
            rows += _row({"at": at, "task": task, "model": model}, crossed(scores))
    return pd.DataFrame(rows, columns=list(COLUMNS))


class _Sources:
    """`RUN:AT` -> setting and seed of that run; None if it is not in the store any more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[tuple[str, str], Any] | None] = {}

    def of(self, said: object) -> tuple[tuple[str, str], Any] | None:
        if not isinstance(said, str):
            return None
        if said not in self._known:
            key, _, at = said.partition(":")
            try:
                result = self._store.read(key).result
                self._known[said] = (
                    (result["cell"], at),
                    tuple(sorted(result["config"]["seeds"].items())),
                )
            except (BluestabError, OSError, KeyError):
                self._known[said] = None
        return self._known[said]


def crossed(scores: Scores) -> list[list[list[float]]]:
    """(settings, pretrainings, shared fine-tuning seeds); empty if they are not crossed."""
    every = [seeds for runs in scores.values() for seeds in runs.values()]
    shared = sorted(set.intersection(*(set(seeds) for seeds in every)), key=str) if every else []
    if len({len(runs) for runs in scores.values()}) != 1:
        return []
    return [[[own[seed] for seed in shared] for own in runs.values()] for runs in scores.values()]


def _row(said: Row, scores: Sequence[Sequence[Sequence[float]]]) -> list[Row]:
    parts = stats.two_stages(scores) if scores and scores[0][0] else None
    if parts is None or parts.shares is None:
        return []
    components = (parts.setting, parts.before, parts.after, parts.residual)
    return [
        {
            **said,
            "settings": len(scores),
            "pretrainings": len(scores[0]),
            "seeds": len(scores[0][0]),
            **{
                f"share_{part}": None if value is None else share
                for part, share, value in zip(PARTS, parts.shares, components, strict=True)
            },
            **{
                f"std_{part}": None if value is None else math.sqrt(value)
                for part, value in zip(PARTS, components, strict=True)
            },
        }
    ]


def _sentences(results: Results) -> list[str]:
    """What the frame says, of the headline scores."""
    frame = results.frame("pretraining")
    rows = frame[frame["at"] == results.at].to_dict("records") if len(frame) else []
    found = []
    for row in rows:
        n, each, seeds = (row[name] for name in ("settings", "pretrainings", "seeds"))
        of = f"{each} pretrainings" if n == 1 else f"{n} settings of {each} pretrainings"
        names = ("settings", "pretrainings", "fine-tuning seeds")
        shares = [
            f"{row[f'share_{part}']:.0%} between {name}"
            for part, name in zip(PARTS, names, strict=False)
            if n > 1 or part != "setting"
        ]
        found.append(
            f"{row['task']} with {row['model']}, {of}, {seeds} seeds each: of the variance "
            f"{', '.join(shares)}, {row['share_rest']:.0%} seeds that act otherwise from each"
        )
    return found


PRETRAINING = Section(
    "pretraining",
    "Pretraining or fine-tuning",
    "Components of variance: settings are fixed by you, pretrainings of several seeds lie within "
    "each, and fine-tuning seeds are crossed with all. Of few pretrainings these are rough.",
    frame=pretraining_frame,
    sentences=_sentences,
)
