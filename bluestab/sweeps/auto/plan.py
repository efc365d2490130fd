"""The plan of `bluestab auto`, made before the first run, and `auto.yaml`, which holds it.

`auto.yaml` is a sweep file, the whole grid of the race, that anybody can run; below its key `auto`
stand the plan and every decision, in order. It is written aside and renamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from bluestab import stats
from bluestab.core import rules
from bluestab.core.errors import ConfigError, StoreError
from bluestab.core.plain_files import read_yaml
from bluestab.core.provenance import command_line
from bluestab.store.files import write_text
from bluestab.sweeps.auto.arms import CandidateArm
from bluestab.sweeps.auto.race import ERROR

FILE = "auto.yaml"
LEVEL = 0.05
"""Of the claim that a remedy helps, two-sided."""
RACE_SHARE = 0.6
"""Of the budget: the rest measures the winner on fresh seeds."""
RACE_SEEDS = 8
"""Seeds for every arm of the race, if the budget suffices: about when evidence can drop one."""
MOST_RACE_SEEDS, MOST_FRESH = 20, 30
FEWEST = stats.fewest_pairs(LEVEL)
"""Seeds below which an exact test over shared seeds cannot reach the level."""
FEWEST_RUNS = 4 * FEWEST
"""Two arms, raced and confirmed on the fewest seeds."""
LOOKS = 12
"""Looks at the race, about: that many rounds share its budget."""
FIRST_FRESH = 1000
"""The first fresh seed: no race reaches it."""

RULES: Mapping[str, rules.Rule] = {
    "auto.hours": rules.above(0, null=True),
    "auto.runs": rules.whole(2, null=True),
    "auto.ensemble": rules.whole(1),
    "auto.out": (lambda v: v is None or (isinstance(v, str) and bool(v.strip())), "a folder"),
}


@dataclass(frozen=True)
class AutoRequest:
    """What the command line asks for.

    fixed   overrides of every run; given: arms that it names, without seeds; none: ours
    budget  hours or runs, one of them None; out: folder to deliver to, None: auto/NAME
    name    of the sweep; None: from task and model
    """

    fixed: tuple[str, ...]
    given: tuple[tuple[str, ...], ...]
    hours: float | None
    runs: int | None
    out: str | None
    ensemble: int
    name: str | None

    def check(self) -> None:
        """Raises ConfigError for a budget that is none."""
        values = {f"auto.{k}": getattr(self, k) for k in ("hours", "runs", "out", "ensemble")}
        wrong = rules.problems({key: (value, RULES[key]) for key, value in values.items()})
        if wrong:
            raise ConfigError(*(line.replace("auto.", "", 1) for line in wrong))
        if (self.hours is None) == (self.runs is None):
            raise ConfigError(
                "auto needs a budget, one of the two: hours=2 (of this machine) or runs=100 (equal "
                "runs give equal results, however long they take)"
            )


@dataclass
class AutoPlan:
    """What is decided before the first run, and what was decided since.

    asked      by the command line: another command is another plan
    fixed      overrides of every run, with what it left open to the machine spelled out
    subject    task, model, metric, data: other data are another plan; look: sentences about them
    arms       of the race, the baseline first; left_out: sentences about others
    folds      of all items together, of which each seed takes one in turn; None: the task's split
    n_runs     that the budget is expected to allow
    decisions  in order, each with its `step`: race, choose, confirm, deliver
    spent      seconds of earlier commands, where the budget is time
    """

    name: str
    asked: Mapping[str, Any]
    fixed: Sequence[str]
    subject: Mapping[str, Any]
    look: Sequence[str]
    arms: Sequence[CandidateArm]
    left_out: Sequence[str]
    n_runs: int
    rule: Sequence[str]
    folds: int | None = None
    decisions: list[dict[str, Any]] = field(default_factory=list)
    spent: float | None = None

    @property
    def baseline(self) -> str:
        return self.arms[0].name

    def job(self, arm: CandidateArm, seed: int, here: Sequence[str]) -> list[str]:
        """Overrides of a run; what an arm sets takes the place of what was fixed.

        here  overrides that say where, and decide nothing
        """
        own = {override.partition("=")[0] for override in arm.overrides}
        fixed = [o for o in self.fixed if o.partition("=")[0] not in own]
        return self.placed([*fixed, *arm.overrides, *here], seed)

    def placed(self, line: Sequence[str], seed: int) -> list[str]:
        """The line with a seed and, in a cross-validation, the fold that this seed takes."""
        rest = [o for o in line if not o.startswith(("seed=", "task.fold="))]
        fold = [] if self.folds is None else [f"task.fold={seed % self.folds}"]
        return [*rest, *fold, f"seed={seed}"]

    def decided(self, step: str) -> dict[str, Any] | None:
        """The last decision of this step."""
        return next((one for one in reversed(self.decisions) if one["step"] == step), None)

    def text(self) -> str:
        """`auto.yaml`."""
        params = dict(override.split("=", 1) for override in self.fixed)
        if self.folds is not None:
            params["task.fold"] = ",".join(map(str, range(self.folds)))
        n_seeds = max(
            [2, *(1 + max(one["seeds"]) for one in self.decisions if one["step"] == "race")]
        )
        tree = {
            "hydra": {"sweeper": {"params": params}},
            "sweep": {
                "name": f"{self.name}-grid",
                "seeds": n_seeds,
                "baseline": "none",
                "arms": {arm.name: list(arm.overrides) for arm in self.arms},
            },
            "auto": {
                "name": self.name,
                "asked": dict(self.asked),
                "fixed": list(self.fixed),
                "subject": dict(self.subject),
                "look": list(self.look),
                "arms": [
                    {"name": arm.name, "reason": arm.reason, "source": arm.source}
                    for arm in self.arms
                ],
                "left_out": list(self.left_out),
                "folds": self.folds,
                "n_runs": self.n_runs,
                "rule": list(self.rule),
                "decisions": self.decisions,
                **({} if self.spent is None else {"spent_seconds": round(self.spent, 1)}),
            },
        }
        head = (
            "# @package _global_\n"
            f"# The plan and the decisions of: {command_line()}\n"
            "# As a sweep, every arm at every seed of the race, without racing:\n"
            f"#   mkdir -p sweeps && cp auto.yaml sweeps/{self.name}.yaml && "
            f"bluestab run -m +sweeps={self.name}\n"
        )
        return head + str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100))

    def write(self, folder: Path) -> None:
        """Raises StoreError if the folder cannot be written."""
        try:
            write_text(folder / FILE, self.text())
        except OSError as error:
            raise StoreError(
                f"{folder / FILE} cannot be written ({error.strerror}); choose another folder: "
                "out=FOLDER"
            ) from error


def read_plan(folder: Path) -> AutoPlan | None:
    """What an earlier command left in the folder; None if there is nothing.

    Raises ConfigError for a file that is no plan.
    """
    path = folder / FILE
    if not path.exists():
        return None
    found = read_yaml(path)
    try:
        node, arms = found["auto"], found["sweep"]["arms"]
        return AutoPlan(
            name=node["name"],
            asked=node["asked"],
            fixed=node["fixed"],
            subject=node["subject"],
            look=node["look"],
            arms=[
                CandidateArm(one["name"], tuple(arms[one["name"]]), one["reason"], one["source"])
                for one in node["arms"]
            ],
            left_out=node["left_out"],
            n_runs=node["n_runs"],
            rule=node["rule"],
            folds=node["folds"],
            decisions=list(node["decisions"]),
            spent=node.get("spent_seconds"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no plan of bluestab auto (it lacks {error}); remove it, or say out=FOLDER"
        ) from error


def n_arms(n_runs: int, n_candidates: int) -> int:
    """Arms that so many runs can race, the baseline among them."""
    race = int(RACE_SHARE * n_runs)
    return max(2, min(1 + n_candidates, race // RACE_SEEDS))


def race_runs(n_runs: int) -> int:
    """Runs of the race: its share, but so that the confirmation has its fewest."""
    return min(int(RACE_SHARE * n_runs), n_runs - 2 * FEWEST) if n_runs >= FEWEST_RUNS else n_runs


def rule_sentences() -> list[str]:
    """The rule of the decision, as the plan and `methods.md` say it."""
    return [
        f"race: all arms on the same seeds, looked at after every round; an arm is dropped when "
        f"another beats it more often than not, by a betting test on the signs of paired "
        f"differences that holds at any look (Ville 1939); that any arm which none beats is "
        f"dropped has probability {ERROR:g} at most",
        "winner: of the arms left, the best mean validation score; a failed run counts with its "
        "failure score",
        "delivered: the winner if its mean validation score on fresh seeds, which chose nothing, "
        f"is better than plain fine-tuning's at {LEVEL:g} (two-sided, sign flips of paired "
        "differences), else plain fine-tuning; of its seeds the one with the best validation score",
        f"said to help: what is delivered by that rule, if its test scores on these seeds are "
        f"better at {LEVEL:g}, too, and failures that so few seeds need not show could turn "
        "neither",
        "race, winner and what is delivered do not depend on any test score",
    ]
