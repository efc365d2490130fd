"""Words of the report, a sentence each: what a reader of the page sees who points at one."""

from __future__ import annotations

from collections.abc import Mapping

GLOSSARY: Mapping[str, str] = {
    "arm": "One configuration that is compared: a technique with its knobs, and whatever else "
    "differs. All runs of an arm differ in their seeds alone.",
    "baseline": "The arm that the others are compared with: plain fine-tuning unless the sweep "
    "declared another.",
    "seed": "The number that decides the head's first weights, the order of the training items and "
    "the dropout of a run.",
    "n": "Runs of the arm with a result, failed ones included.",
    "mean": "Mean test score over the seeds, failed runs included.",
    "mean \u00b1 std": "Mean and standard deviation (with n - 1) of the test score over the seeds, "
    "failed runs included.",
    "std": "Standard deviation of the test score over the seeds, with n - 1.",
    "95 % interval": "Where the mean of very many seeds would lie, by a method that is right in 95 "
    "of 100 studies. It knows nothing of other test items.",
    "with test items": "The same interval for other seeds and other test items of the same kind.",
    "failed": "A run fails when its loss is not finite, or when its test score is no better than "
    "that of a model that ignores its input. Failed runs stay in every mean.",
    "baseline failed": "Runs of the baseline that failed, on the same seeds.",
    "without failed": "Mean of the runs that did not fail: how good the arm is when it works.",
    "mean of the others": "Mean of the runs that did not fail: how good the arm is when it works.",
    "change": "Mean difference of the test score against the baseline, on the seeds of both.",
    "difference": "Ours minus the other, with its 95 % interval.",
    "p": "How often chance alone would give a difference like this or a larger one, corrected for "
    "all arms that are compared at once.",
    "ratio of std": "Spread over the seeds as a multiple of the baseline's: below 1 is steadier.",
    "pairs": "Seeds that the arm and its baseline share: only these are compared.",
    "std of score": "Standard deviation of the test score over the seeds, with n - 1.",
    "validation": "Score on the validation items: what an arm may be chosen by. The test score is "
    "only reported.",
    "key": "Name of a run: a hash of everything that decides its result.",
    "status": "done: trained and scored; diverged: its loss was not finite; crashed: no result, "
    "tried again by the same command.",
}
"""Term, as a heading or a label has it -> what it means."""
