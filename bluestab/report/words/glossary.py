"""What the words and the columns of a report mean, a sentence each."""

from __future__ import annotations

TERMS = {
    "run": "one fine-tuning: a pure function of its config; the same config is never run twice.",
    "seed": "the number that draws a run's head, the order of its items and its dropout; runs of "
    "one seed share all three in every arm, which is why arms are compared in pairs.",
    "cell": "all runs whose configs agree in everything but the seeds; only these are averaged.",
    "arm": "a cell as it is called in a table: its techniques and what else differs from the other "
    "cells of the same task and model, e.g. 'llrd(decay=0.8)' or 'none, epochs=20'.",
    "baseline": "the arm that others are compared with, none unless sweep.baseline says otherwise.",
    "sweep": "a declared set of runs: every combination of the choices, over several seeds.",
    "technique": "one remedy for unstable fine-tuning; bluestab list technique shows them.",
    "store": "the folder of results, runs/ by default; what is in it is not run again.",
    "key": "the name of a run in the store: a hash of what decides its result.",
    "manifest": "the file that names the runs of a sweep, written before the first of them.",
    "failed": "of a run: its loss was not finite (diverged), or its test score is no better than "
    "that of a model that ignores its input (degenerate). Failed runs stay in mean, spread "
    "and tests.",
    "degenerate": "of a run: its test score is at or below what a model reaches that ignores its "
    "input (task.failed_below), or undefined.",
    "diverged": "of a run: its loss was not finite.",
    "crashed": "of a run: it ended in an error; it is no result and is tried again.",
    "censored": "of a run: it was stopped early by stop_degenerate and is scored as it stood.",
    "last": "scores of the weights after the last step: the headline.",
    "best": "scores of the weights that were best on validation; beside the headline, never mixed.",
    "at": "which weights of a run are scored: last or best.",
    "word piece": "what a tokenizer cuts a text into, a word or a part of one; lengths are counted "
    "in them (task.max_length).",
    "verdict": "which arm to use, or that nothing can be said yet: validation chooses, test may "
    "only object.",
    "effects": "what a technique did to a model, such as tensors frozen, as seen from outside of "
    "it; in the record of every run.",
    "pairs": "what a comparison is over: seeds that both arms have, or folds, or crossed seeds.",
    "change": "mean of an arm minus mean of the baseline on shared seeds.",
    "std ratio": "standard deviation of an arm over that of the baseline, on shared seeds.",
    "more seeds": "how many more find a change of sweep.difference with a power of 80 % after the "
    "correction over all arms.",
    "interval": "95 %, over seeds: where the mean over ever more seeds lies, on this test set.",
    "max-T": "one test for all arms at once, by flipping the signs of the changes seed by seed; it "
    "corrects for their number and uses that they are correlated (Westfall & Young 1993).",
    "recipe": "length, batch size and learning rate that a task's yaml gives, with their source.",
    "launcher": "where the runs of a sweep go: local, pool, packed or slurm.",
    "packed": "several seeds trained as one batched step; its cells are never mixed with others.",
    "fold": "one of the parts that each test once in a cross-validation (task.folds).",
    "sequence": "tasks that one encoder learns one after another (+sequence=NAME).",
    "stage": "one task of a sequence: a run that starts from the one before.",
    "order": "the order in which the tasks of a sequence are trained (sequence.orders).",
    "point": "of a search: one setting of the knobs, measured over several seeds; also a trial.",
    "soup": "a network whose weights are made of those of several runs (bluestab soup).",
    "dry step": "a few timed steps that leave no trace, for the forecast of bluestab check.",
}
"""Term -> what it means here."""

BOTH = {"low": "lower", "high": "upper"}
COLUMNS = {
    "cell": "hash of the config without seeds: runs of one cell are averaged.",
    "task": "name of the task.",
    "model": "name of the model.",
    "technique": "techniques of the arm in their order, joined by +; none.",
    "arm": TERMS["arm"],
    "config_diff": "what tells the arm from the others of its task and model, beside techniques.",
    "metric": "the task's metric, in which all scores of the row are.",
    "higher_is_better": "whether a higher score is the better one.",
    "at": "last: weights after the last step; best: those that were best on validation.",
    "n": "runs with a result.",
    "n_degenerate": "of the runs with a result, those that learned nothing (degenerate).",
    "n_diverged": "of the runs with a result, those whose loss was not finite.",
    "n_crashed": "runs without a result, because they ended in an error.",
    "n_censored": "of the runs with a result, those that stop_degenerate ended early.",
    "failed_share": "(n_degenerate + n_diverged) / n.",
    "failed": "end of the 95 % interval of failed_share (Wilson).",
    "mean": "mean test score over seeds, failed runs included.",
    "mean_without_failed": "mean test score of the runs that did not fail.",
    "std": "standard deviation over seeds, with n - 1.",
    "median": "median test score.",
    "iqm": "mean of the middle half of the scores.",
    "min": "lowest test score.",
    "max": "highest test score.",
    "ci": "end of the 95 % interval of the mean over seeds.",
    "ci_method": "how the interval of the mean was made.",
    "items": "end of the 95 % interval over seeds and test items together.",
    "ci_all": "the same as ci, for all arms of the task and model at once (Bonferroni).",
    "validation_mean": "mean validation score, by which the verdict chooses.",
    "validation_bound": "bound of validation_mean on its worse side.",
    "spread_ratio": "std over that of the baseline, as the verdict judges it.",
    "spread_ratio_bound": "upper bound of spread_ratio.",
    "standing": "of the verdict: baseline, approved, undecided or ruled out.",
    "against": "why an arm is ruled out.",
    "baseline": "arm that this one is compared with; empty where there is none.",
    "n_paired": "runs at seeds that both arms have.",
    "delta": "change: mean minus the baseline's mean on shared seeds.",
    "test_name": "test of the change.",
    "p": "p of the change, for this arm alone.",
    "p_adjusted": "p of the change, for all arms of the task and model at once.",
    "delta_all": "end of the interval of the change for all arms at once.",
    "p_equivalent": "p of two one-sided tests that the change is smaller than `difference`.",
    "effect": "what is shown: better or worse; ahead or behind, where failures that the seeds did "
    "not show could turn it; alike, where the change lies within `difference`; open.",
    "improvement": "probability of improvement over the baseline; ties are half.",
    "failed_paired": "runs that failed, at shared seeds.",
    "failed_baseline": "runs of the baseline that failed, at the same seeds.",
    "failed_change": "difference of the failed shares at shared seeds, with Newcombe's interval.",
    "p_failed": "p of the change of the failed share (McNemar's exact test).",
    "p_failed_adjusted": "p of the change of the failed share, corrected over the arms (Holm).",
    "unseen_failed": "share of failed runs that the seeds at hand cannot exclude.",
    "spread_n": "runs at which neither arm failed, by which spread_ratio is judged; six at least.",
    "std_ratio": "std over the baseline's std, with a jackknife interval.",
    "p_std_name": "test of the ratio of stds.",
    "p_std": "p of the ratio of stds, for this arm alone.",
    "p_std_adjusted": "p of the ratio of stds, corrected over the arms (Holm).",
    "pairs": TERMS["pairs"],
    "n_units": "independent repetitions among the pairs.",
    "no_p": "why there is no p of the change.",
    "no_p_std": "why there is no p of the ratio of stds.",
    "no_ratio": "why the ratio of stds has no interval.",
    "looked": "whether seeds were added after results had been seen.",
    "delta_items": "end of the interval of the change over seeds and test items together.",
    "difference": "change worth finding, as it was declared (sweep.difference).",
    "more_seeds": "seeds still lacking to find a change of `difference` with a power of 80 %, for "
    "all arms at once.",
    "seconds_mean": "mean seconds of a run.",
    "memory_mean": "mean bytes of weights, gradients, moments and saved activations, where a step "
    "of training needs most.",
    "n_folds": "folds, of a cross-validation.",
    "std_folds": "standard deviation over folds.",
    "design": "which seeds vary: empty where every run has its own.",
    "not_paired": "why the arm is not compared with the baseline.",
}
"""Column of summary.csv -> what it holds; ends of intervals without _low and _high."""

HEADINGS = {
    **{
        name: TERMS[name]
        for name in ("arm", "baseline", "seed", "failed", "change", "pairs", "key")
    },
    "n": COLUMNS["n"],
    "mean": COLUMNS["mean"],
    "mean \u00b1 std": "mean and standard deviation (with n - 1) of the test score over seeds, "
    "failed runs included.",
    "std": COLUMNS["std"],
    "std of score": COLUMNS["std"],
    "95 % interval": TERMS["interval"],
    "with test items": "the same interval for other seeds and other test items of the same kind.",
    "baseline failed": COLUMNS["failed_baseline"],
    "without failed": COLUMNS["mean_without_failed"],
    "mean of the others": COLUMNS["mean_without_failed"],
    "difference": "ours minus the other, with its 95 % interval.",
    "p": "how often chance alone would give a change like this or a larger one, corrected for all "
    "arms that are compared at once.",
    "ratio of std": "spread over seeds as a multiple of the baseline's: below 1 is steadier.",
    "validation": "score on the validation items: what an arm may be chosen by. The test score is "
    "only reported.",
    "status": "done: trained and scored; diverged: its loss was not finite; crashed: no result, "
    "tried again by the same command.",
}
"""Heading or label of the page -> what a reader sees who points at it."""


def column(name: str) -> str | None:
    """What a column of summary.csv holds; None where there is no such column."""
    stem, _, end = name.rpartition("_")
    if end in BOTH and stem in COLUMNS:
        return (
            f"{BOTH[end]} {COLUMNS[stem]}"
            if COLUMNS[stem].startswith("end")
            else (f"{BOTH[end]} end of its 95 % interval: {COLUMNS[stem]}")
        )
    return COLUMNS.get(name)
