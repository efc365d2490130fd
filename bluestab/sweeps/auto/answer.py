"""What is found, in sentences: the answer, and a paragraph for the methods section of a paper.

Test scores are read here for the first time, when everything is decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bluestab.core.provenance import command_line, versions
from bluestab.core.types import RunRecord
from bluestab.report.words.phrases import p_words, percent
from bluestab.sweeps.auto.drive import AutoRun
from bluestab.sweeps.auto.fresh import contrast, row_of
from bluestab.sweeps.auto.plan import FEWEST
from bluestab.tasks.metric import metric_of_row

Row = dict[str, Any]
PLAIN = "plain fine-tuning"
NOTHING = "No remedy is shown to help"


def answer(run: AutoRun, *, stopped: bool = False) -> str:
    """What was asked for, first. stopped: a person stopped it before its end."""
    if stopped:
        n = len(run.records(run.raced)) + len(run.records(run.fresh))
        return (
            f"{NOTHING} yet: it was stopped after {n} of about {run.plan.n_runs} runs; the same "
            "command goes on."
        )
    chosen, confirmed = run.plan.decided("choose"), run.plan.decided("confirm")
    if chosen is None or not chosen["means"]:
        return f"{NOTHING}: no run of {PLAIN} and an arm on a shared seed is finished."
    n_arms = len(run.plan.arms)
    winner = chosen["winner"]
    if winner == run.plan.baseline:
        return (
            f"{NOTHING}: of {n_arms} arms {PLAIN} has the best mean on validation, over "
            f"{chosen['n_seeds']} seeds"
            + ("." if chosen["n_seeds"] >= FEWEST else ", which are too few to tell arms apart.")
        )
    if confirmed is None or not confirmed["seeds"] or not confirmed.get("n_paired"):
        return (
            f"{NOTHING}: {winner} has the best mean of {n_arms} arms on validation, but there were "
            f"no {FEWEST} fresh seeds to confirm it on."
        )
    return _confirmed(run, winner, confirmed)


def _confirmed(run: AutoRun, winner: str, confirmed: Row) -> str:
    metric = metric_of_row(row_of(run.of_role("winner")[0]))
    test = contrast(run.of_role("winner"), run.of_role("baseline"), "test")
    on_test = f"test {metric.words} {_change(test)}"
    seeds = f"on {confirmed['n_paired']} fresh seeds"
    before = f"of {len(run.plan.arms)} arms the best on validation"
    if confirmed["effect"] not in ("better", "ahead"):
        return (
            f"{NOTHING}: {winner}, {before}, is not shown to be better than {PLAIN} {seeds} "
            f"(validation {_change(confirmed)}; {on_test}), and {PLAIN} is delivered."
        )
    if test["effect"] not in ("better", "ahead"):
        return (
            f"{NOTHING} on test: {winner}, {before}, is better than {PLAIN} on validation {seeds} "
            f"({_change(confirmed)}) and is delivered, but {on_test}."
        )
    if "ahead" in (confirmed["effect"], test["effect"]):
        share = percent(max(row["unseen_failed"] or 0 for row in (confirmed, test)))
        return (
            f"Use {winner}, which scored better than {PLAIN} {seeds} ({on_test}); that it helps "
            f"is not shown, for so few seeds cannot exclude that up to {share} of its runs fail, "
            "which would undo that."
        )
    return f"Use {winner}: it is shown to help, {seeds}: {on_test}, against {PLAIN}."


def _change(row: Row) -> str:
    """`0.3140 against 0.2730: +0.0410 [+0.0200, +0.0620], p = 0.004`."""
    said = f"{row['mean']:.4f} against {row['mean_against']:.4f}: {row['delta']:+.4f}"
    if row.get("delta_low") is not None:
        said += f" [{row['delta_low']:+.4f}, {row['delta_high']:+.4f}]"
    return said + (f", {p_words(row['p'])}" if row.get("p") is not None else "")


def more_sentences(run: AutoRun) -> Iterator[str]:
    """What belongs to the answer: failed runs, the baseline at the winner's settings, the race."""
    confirmed = run.plan.decided("confirm")
    if confirmed is not None and run.of_role("winner") and run.of_role("baseline"):
        test = contrast(run.of_role("winner"), run.of_role("baseline"), "test")
        yield (
            f"Failed on fresh seeds, by test score: {test['failed_paired']} of "
            f"{test['n_paired']} runs of the arm, {test['failed_baseline']} of {PLAIN}."
        )
        if run.plan.folds is not None:
            yield (
                f"Each seed has one of {run.plan.folds} folds: p and interval are of these items; "
                "the page allows for other items, too, and its intervals over folds are wider."
            )
        if run.of_role("matched"):
            beside = contrast(run.of_role("winner"), run.of_role("matched"), "test")
            yield (
                f"Against {PLAIN} with all else as the arm has it, such as its learning rate, test "
                f"scores are {_change(beside)}."
            )
    for one in run.plan.decisions:
        for arm, by in (one.get("dropped") or {}).items():
            yield f"{arm} left the race after seed {max(one['seeds'])}: {by} beat it more often."


def methods(run: AutoRun, said: str) -> str:
    """`methods.md`: data, arms, seeds, rule, result, versions; cost in a line of its own."""
    plan = run.plan
    records = [*run.records(run.raced).values(), *run.records(run.fresh).values()]
    about = plan.subject
    items = ", ".join(f"{n:,} {split}" for split, n in about["items"].items())
    raced = {seed for _, seed in run.raced}
    arms = "; ".join(f"{arm.name} ({arm.source})" for arm in plan.arms)
    known = versions()
    lines = [
        "# Methods",
        "",
        f"We fine-tuned {about['model']} on {about['task']} ({items} items) and scored "
        f"{about['metric']}. {_parts(run)}{_recipe(run)} {len(plan.arms)} arms entered a race over "
        f"{len(raced)} random seeds, which drive initialisation, order of the examples and "
        f"dropout: {arms}. {' '.join(_sentence(rule) for rule in plan.rule)} "
        f"In all {len(records)} runs were made, and test scores of all of them were recorded when "
        "they were made, but read only when every decision had been taken.",
        "",
        said,
        *more_sentences(run),
        "",
        _delivered(plan.decided("deliver")),
        "",
        "Software: " + ", ".join(f"{name} {version}" for name, version in known.items()) + ".",
        "",
        _cost(records),
        "",
        f"Command: `{command_line()}`",
    ]
    return "\n".join(lines) + "\n"


def _delivered(decided: Mapping[str, Any] | None) -> str:
    if decided is None or decided["key"] is None:
        return "Delivered: no model."
    return (
        f"Delivered: seed {decided['seed']} of {decided['arm']}, best on validation of its "
        f"{decided['n_seeds']} seeds; its own validation score is therefore optimistic."
    )


def _cost(records: Sequence[RunRecord]) -> str:
    hours = sum(r.measured["seconds"]["total"] for r in records) / 3600
    devices = ", ".join(sorted({str(r.measured.get("device")) for r in records}))
    return f"Cost: {hours:.2f} hours of computing" + (f" on {devices}." if devices else ".")


def _parts(run: AutoRun) -> str:
    if run.plan.folds is None:
        return ""
    return (
        f"All items together were divided into {run.plan.folds} folds, and each seed tested on one "
        "of them in turn, validated on the next and trained on the others. "
    )


def _recipe(run: AutoRun) -> str:
    """How the baseline was trained."""
    first = next(iter(run.records(run.raced).values()), None)
    if first is None:
        return ""
    optim = first.result["config"]["optim"]
    return (
        f"Plain fine-tuning used AdamW with a peak learning rate of {optim['lr']:g}, batches of "
        f"{optim['batch_size']}, {first.result['steps']} steps, a warm-up of {optim['warmup']:g} "
        f"and weight decay {optim['weight_decay']:g}."
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
