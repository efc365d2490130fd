"""The BLURB benchmark: which tasks it has, and the one number it makes of their scores.

Gu et al. 2022, "Domain-Specific Language Model Pretraining for Biomedical NLP", section 2.3.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from bluestab import stats

GROUPS: Mapping[str, tuple[str, ...]] = {
    "ner": ("bc5cdr_chem", "bc5cdr_disease", "ncbi_disease", "bc2gm", "jnlpba"),
    "pico": ("ebm_pico",),
    "relation": ("chemprot", "ddi", "gad"),
    "similarity": ("biosses",),
    "document": ("hoc",),
    "qa": ("pubmedqa", "bioasq"),
}
"""Task type -> names of its tasks, in the order of the published tables."""

TASKS: tuple[str, ...] = tuple(task for tasks in GROUPS.values() for task in tasks)

COUNTS: Mapping[str, tuple[int, int, int]] = {
    "bc5cdr_chem": (5203, 5347, 5385),
    "bc5cdr_disease": (4182, 4244, 4424),
    "ncbi_disease": (5134, 787, 960),
    "bc2gm": (15197, 3061, 6325),
    "jnlpba": (46750, 4551, 8662),
    "ebm_pico": (339167, 85321, 16364),
    "chemprot": (18035, 11268, 15745),
    "ddi": (25296, 2496, 5716),
    "gad": (4261, 535, 534),
    "biosses": (64, 16, 20),
    "hoc": (1295, 186, 371),
    "pubmedqa": (450, 50, 500),
    "bioasq": (670, 75, 140),
}
"""Task -> published sizes of train, dev and test (Gu et al. 2022, Table 3). They count what is
scored: entities (`ner`), labelled words (`ebm_pico`), pairs, abstracts (`hoc`) or questions."""


def missing(scores: Container[str]) -> tuple[str, ...]:
    """Tasks that are not among those with a score, in the order of `TASKS`."""
    return tuple(task for task in TASKS if task not in scores)


def group_means(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Task type -> unweighted mean of its tasks' scores; None where one is missing.

    Names that are no task of BLURB are left out. Raises ValueError if a score is not finite.
    """
    return {
        group: stats.mean([scores[task] for task in tasks]) if scores.keys() >= {*tasks} else None
        for group, tasks in GROUPS.items()
    }


def blurb_score(scores: Mapping[str, float]) -> float | None:
    """Mean of the means of the six task types; None unless all 13 tasks have a score.

    So BIOSSES weighs as much as five sets of entities. (Gu et al. 2022, section 2.3 and caption of
    Table 6.) In the unit of the scores: percent in papers, 0 .. 1 here; Pearson may be negative.
    Names that are no task of BLURB are left out. Raises ValueError if a score is not finite.
    """
    means = [mean for mean in group_means(scores).values() if mean is not None]
    return stats.mean(means) if len(means) == len(GROUPS) else None
