"""What differs between runs that stand in one table, in sentences for the reader to judge.

Crashed runs are in no number, so nothing is said of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bluestab.core.printable import counted
from bluestab.report.frames.designs import design_sentences
from bluestab.report.frames.judging import judging_sentences
from bluestab.report.frames.pairing import pairing_sentences
from bluestab.report.words import preserved

if TYPE_CHECKING:
    import pandas as pd

    from bluestab.report.section import Results

DIFFERENCES = {
    "recipe_version": (
        "recipe versions",
        "training behaviour changed between them, so their scores are not comparable",
    ),
    "bluestab": ("bluestab versions", "read CHANGELOG.md for what changed between them"),
    "torch": ("torch versions", "the last digits may differ between them"),
    "commit": ("commits", "their code may differ"),
    "micro_batch": ("micro-batches", "dropout draws and rounding differ between them"),
}
"""Column -> what it is called, and why it matters that it differs."""


def mind(results: Results) -> list[str]:
    """All that is to be minded about results: arms that are not compared, runs that differ."""
    unpaired = pairing_sentences(results.summary, results.runs, results.at)
    return [*unpaired, *flags(results.runs)]


def flags(runs: pd.DataFrame) -> list[str]:
    """Sentences about a table of runs, as `read_results` gives it; none if all is alike."""
    if runs.empty:
        return []
    scored = runs[(runs["at"] == "last") & (runs["status"] != "crashed")]
    n = len(scored)
    sentences = []
    for column, (name, why) in DIFFERENCES.items():
        found = Counter(_label(column, value) for value in scored[column])
        if len(found) > 1:
            each = ", ".join(
                f"{value} ({counted(count, 'run')})" for value, count in found.most_common()
            )
            sentences.append(f"{name} differ: {each}; {why}")
    dirty = sum(value is True for value in scored["dirty"])
    if dirty:
        sentences.append(
            f"{dirty} of {n} runs come from a checkout with uncommitted changes: no commit holds "
            "their code"
        )
    censored = int(scored["censored"].sum())
    if censored:
        sentences.append(
            f"{censored} of {n} runs were stopped early (censored) and are scored as they stood"
        )
    misjudged = int(scored["misjudged"].sum())
    if misjudged:
        names = ", ".join(sorted(set(scored[scored["misjudged"]]["metric"])))
        sentences.append(
            f"{misjudged} of {n} runs were made when every metric was taken to grow with quality, "
            f"and {names} does not: their best step is the worst, and failed or not is turned "
            "around; run them again"
        )
    return [
        *sentences,
        *judging_sentences(scored),
        *design_sentences(scored),
        *_groupings(scored),
        *_engines(scored),
        *_folds(scored),
        *_idle(scored),
        *_lost(scored),
        *preserved.of_arms(scored),
    ]


def _groupings(scored: pd.DataFrame) -> Iterator[str]:
    """Tasks whose parts were drawn by two rules: they have other test items."""
    if "grouping" not in scored:
        return
    tasks = sorted({task for task in scored["task"] if str(task).endswith(")")})
    named = sorted({str(task).rpartition(" (grouping=")[0] for task in tasks} - {""})
    for name in named:
        yield (
            f"{name}: parts were drawn by two rules (task.grouping=shared and text), so that test "
            "items differ: their runs are two tasks here, and are not compared"
        )


def _engines(scored: pd.DataFrame) -> Iterator[str]:
    """Arms of two engines: dropout draws differ, so they have no baseline in common."""
    for (task, model), runs in scored.groupby(["task", "model"], sort=False):
        arms = runs.groupby("engine", sort=False)["arm"].unique()
        if len(arms) > 1:
            said = "; ".join(f"{engine}: {', '.join(found)}" for engine, found in arms.items())
            yield (
                f"{task} with {model}: arms of several engines, which are not compared with each "
                f"other ({said}); run all of them under another launcher than packed"
            )


def _folds(scored: pd.DataFrame) -> Iterator[str]:
    """That arms were cross-validated, and folds without a run: the mean lacks their items."""
    part = scored[scored["fold"].notna()]
    for (task, model, arm), runs in part.groupby(["task", "model", "arm"], sort=False):
        folds = int(runs["folds"].iloc[0])
        missing = sorted(set(range(folds)) - {int(fold) for fold in runs["fold"]})
        if missing:
            yield (
                f"{task} with {model}, {arm}: fold {', '.join(map(str, missing))} of {folds} has "
                "no run, and is not in the mean; arms need the same folds for advice"
            )
    if len(part):
        yield (
            "cross-validated arms: mean of the means of the folds; std over seeds, within folds; "
            "p and intervals by the corrected resampled t-test over folds (Nadeau & Bengio 2003)"
        )


def _idle(scored: pd.DataFrame) -> Iterator[str]:
    """Techniques that did nothing: a neutral value, or another technique left them nothing."""
    found = Counter(
        (run["task"], run["model"], run["arm"], name)
        for run in scored.to_dict("records")
        for name in run["idle"]
    )
    for (task, model, arm, name), count in found.items():
        runs = counted(count, "run")
        yield f"{task} with {model}, {arm}: technique {name} did nothing in {runs}"


def _lost(scored: pd.DataFrame) -> Iterator[str]:
    """What the models could not read, per task and model; the largest share if runs differ."""
    for (task, model), runs in scored.groupby(["task", "model"], sort=False):
        shares = runs[["lost_train", "lost_test"]].astype(float).max()
        if shares.max() > 0:
            train, test = (f"{100 * (0.0 if x != x else x):.2f} %" for x in shares)
            unit = runs["lost_unit"].dropna().iloc[0]
            yield (
                f"{task} with {model}: {train} of the {unit} of train and {test} of test lie "
                "beyond task.max_length"
            )


def _label(column: str, value: Any) -> str:
    if value is None or value != value:
        return "the whole batch" if column == "micro_batch" else "unknown"
    if column == "commit":
        return str(value)[:8]
    return f"{value:g}" if isinstance(value, float) else str(value)
