"""What the documentation says of tasks one after another, from the runs behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bluestab.core.config import compose, resolved
from bluestab.core.types import RunRecord
from bluestab.report.frames.results import read_results
from bluestab.store.store import Store
from bluestab.training.check import check
from tests.conftest import real_data
from tests.support.stored_tables import PAGE, shown, unpacked

STORES = Path(__file__).parents[1] / "assets/sequences"
SWEEPS = {"forgetting_linking": 3, "forgetting_ner": 3, "forgetting_heads": 5}
"""Sweep -> its seeds."""

Matrix = dict[tuple[str, str], float]
"""(task of a stage, task that is scored) -> score."""


def records(store: Store) -> dict[str, RunRecord]:
    return {key: store.read(key) for key in sorted(store.keys())}


@dataclass(frozen=True)
class Chained:
    """Runs to a last stage: tasks, scores on each after each, those on validation at the end."""

    seed: int
    names: tuple[str, ...]
    scores: Matrix
    validation: list[float]


def sequences(found: Mapping[str, RunRecord]) -> dict[str, list[Chained]]:
    """Arm -> of every chain of runs to its last stage. Joint runs, which are trained on all tasks
    at once, are none."""
    n_tasks = max(len(chain(found, key)) for key in found)
    last = [key for key in found if len(chain(found, key)) == n_tasks and not joint(found[key])]
    arms = defaultdict(list)
    several = strengths(found[key] for key in last)
    for key in last:
        runs = chain(found, key)
        names = tuple(run.result["config"]["task"]["name"] for run in runs)
        scores: Matrix = {}
        for name, run in zip(names, runs, strict=True):
            metric = run.result["metric"]
            scores[name, name] = run.result["metrics"]["last"]["test"][metric]
            for entry in run.result.get("earlier") or ():
                scores[name, entry["task"]] = entry["last"][entry["metric"]]
        entries = run.result["earlier"]
        own = run.result["metrics"]["last"]["validation"][run.result["metric"]]
        known = all("validation" in entry for entry in entries)  # an earlier version did not ask
        arm = "+".join(
            f"{name}(strength={knobs['strength']})" if len(several[name]) > 1 else name
            for name, knobs in found[key].result["config"]["technique"]
        )
        validation = (
            [*(e["validation"]["last"][e["metric"]] for e in entries), own] if known else []
        )
        arm, seed = arm or "none", found[key].result["config"]["seeds"]["init"]
        arm += ", one head" if found[key].result["config"].get("shared_head") else ""
        arms[arm].append(Chained(seed, names, scores, validation))
    return arms


def strengths(runs: Iterable[RunRecord]) -> dict[str, set[Any]]:
    """Technique -> the strengths that its arms have, none if it has no such knob."""
    found = defaultdict(set)
    for run in runs:
        for name, knobs in run.result["config"]["technique"]:
            found[name] |= {knobs["strength"]} if "strength" in knobs else set()
    return found


def chain(found: Mapping[str, RunRecord], key: str) -> list[RunRecord]:
    before = found[key].result["config"].get("predecessor")
    return [*(chain(found, before["key"]) if before else []), found[key]]


def joint(record: RunRecord) -> bool:
    before = record.result["config"].get("predecessor")
    return before is not None and before["at"] == "start"


def of_one(one: Chained) -> dict[str, float]:
    """By hand: average, forgetting, backward transfer, and the average on validation."""
    names, scores = one.names, one.scores
    end, early = names[-1], names[:-1]
    best = {
        task: max(scores[stage, task] for stage in names[names.index(task) : -1]) for task in early
    }
    return {
        "average": float(np.mean([scores[end, task] for task in names])),
        "forgetting": float(np.mean([best[task] - scores[end, task] for task in early])),
        "backward": float(np.mean([scores[end, task] - scores[task, task] for task in early])),
        **({"validation": float(np.mean(one.validation))} if one.validation else {}),
    }


@pytest.mark.parametrize("sweep", SWEEPS)
def test_forgetting(sweep: str, tmp_path: Path) -> None:
    store = unpacked(STORES / f"{sweep}.tar.gz", tmp_path)
    arms = sequences(records(store))
    frame = read_results(store, store.manifest(sweep)).frame("forgetting")
    rows: dict[str, Any] = {r["arm"]: r for r in frame[frame["at"] == "last"].to_dict("records")}
    assert rows.keys() == arms.keys()
    lines = []
    for arm, row in rows.items():
        found = [of_one(one) for one in arms[arm]]
        assert len(found) == row["n_orders"] * row["n_seeds"]
        assert row["n_seeds"] == SWEEPS[sweep]
        for name in found[0]:
            assert row[name] == pytest.approx(np.mean([one[name] for one in found])), (arm, name)
        lines.append([arm, f"{row['n_orders']} x {row['n_seeds']}", *row_cells(row)])
    assert shown(sweep) == lines


def row_cells(row: Mapping[str, Any]) -> list[str]:
    def span(name: str, sign: str = "+") -> str:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        return f"{row[name]:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"

    plain = row["baseline"] is None or row["baseline"] != row["baseline"]
    reduction = ""
    if not plain:
        known = row["reduction"] is not None and row["reduction"] == row["reduction"]
        low, high = row["reduction_low"], row["reduction_high"]
        reduction = f"{row['reduction']:.0%} [{low:.0%}, {high:.0%}]" if known else "-"
    known = row["validation"] == row["validation"]
    on_validation = [f"{row['validation']:.3f}"] if known else []
    return [span("average", ""), *on_validation, span("forgetting"),
            "" if plain else span("change"), reduction]  # fmt: skip


def mean_and_ends(values: Any) -> tuple[float, float, float]:
    """Mean, and the ends of its 95 % interval (t)."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return values.mean(), values.mean() - half, values.mean() + half


def test_sentences_about_mentions(tmp_path: Path) -> None:
    store = unpacked(STORES / "forgetting_ner.tar.gz", tmp_path)
    chains = sequences(records(store))["none"]
    names = ("ncbi_disease", "bc5cdr_chem", "bc2gm", "bc5cdr_disease")
    assert {one.names for one in chains} == {names}
    genes = [np.mean([one.scores[stage, "bc2gm"] for one in chains]) for stage in names[2:]]
    results = read_results(store, store.manifest(None))
    frame = results.frame("references")
    joint_and_alone = frame.groupby("reference")["score"].mean()
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"(F1 {genes[0]:.3f}, then {genes[1]:.3f})" in text
    assert (
        f"reaches {joint_and_alone['joint']:.3f} on average, alone each corpus "
        f"{joint_and_alone['alone']:.3f}"
    ) in text
    arms = {arm: [of_one(one) for one in own] for arm, own in sequences(records(store)).items()}
    forgot = {arm: np.array([one["forgetting"] for one in own]) for arm, own in arms.items()}
    on_validation = {arm: np.mean([one["validation"] for one in own]) for arm, own in arms.items()}
    names = (
        "ewc(strength=0.1)",
        "ewc(strength=10)",
        "kfac_ewc(strength=0.01)",
        "kfac_ewc(strength=0.1)",
    )
    said = (
        "`ewc` forgets {:.3f} at 0.1 and {:.3f} at 10, `kfac_ewc` {:.3f} at 0.01 and {:.3f} at 0.1"
    )
    assert said.format(*(forgot[name].mean() for name in names)) in text
    of_kind = [
        [a for a in arms if a.startswith(f"{n}(") and "+" not in a] for n in ("ewc", "kfac_ewc")
    ]
    best = [max(arms_of, key=on_validation.__getitem__) for arms_of in of_kind]
    assert best == ["ewc(strength=10)", "kfac_ewc(strength=0.1)"]
    rows = results.frame("forgetting").set_index(["arm", "at"])["reduction"]
    reduced = [f"{rows[arm, 'last']:.0%}" for arm in best]
    assert (
        "`ewc` at 10 (reduction {}) and, without refreshing, `kfac_ewc` at 0.1 ({})".format(
            *reduced
        )
        in text
    )
    change = mean_and_ends(forgot[best[0]] - forgot[best[1]])
    assert "differs by {:+.3f} [{:+.3f}, {:+.3f}]".format(*change) in text
    assert (
        max(on_validation[arm] for arm in arms if arm not in ("er", "derpp")) < on_validation["er"]
    )
    kept = {
        sum(r.result["effects"]["er"]["replayed_from"].values())
        for r in records(store).values()
        if "er" in r.result["effects"] and not joint(r)
    }
    assert f"has room for all {max(kept)} earlier sentences" in text


def test_sentences_about_heads(tmp_path: Path) -> None:
    """Averages with one head less those with two, of each seed over both orders."""
    store = unpacked(STORES / "forgetting_heads.tar.gz", tmp_path)
    arms = sequences(records(store))
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    said = "one head less a head for each: `none` {}, `ewc` {}, `er` {}"
    found = []
    for arm in ("none", "ewc", "er"):
        own, one = (
            np.array([
                np.mean([of_one(chain)["average"] for chain in arms[name] if chain.seed == seed])
                for seed in range(5)
            ])
            for name in (arm, f"{arm}, one head")
        )  # fmt: skip
        change = mean_and_ends(one - own)
        assert change[1] < 0 < change[2], "none is shown to differ"
        found.append("{:+.3f} [{:+.3f}, {:+.3f}]".format(*change))
    assert said.format(*found) in text, said.format(*found)


LINKED = {
    "ncbi_linking": "diseases of NCBI-disease, MEDIC",
    "bc5cdr_disease_linking": "diseases of BC5CDR, MeSH",
    "bc5cdr_chem_linking": "chemicals of BC5CDR, MeSH",
}


def alone_scores(folder: Path) -> dict[str, list[float]]:
    """Task -> accuracy@1 of the runs that begin from the model's own weights."""
    found = defaultdict(list)
    for record in records(unpacked(STORES / "forgetting_linking.tar.gz", folder)).values():
        if not record.result["config"].get("predecessor"):
            name = record.result["config"]["task"]["name"]
            found[name].append(record.result["metrics"]["last"]["test"]["accuracy_at_1"])
    return found


def test_linking_alone(tmp_path: Path) -> None:
    scores = alone_scores(tmp_path)
    lines = []
    for name, words in LINKED.items():
        own = scores[name]
        lines.append([words, str(len(own)), f"{np.mean(own):.3f}", f"{np.std(own, ddof=1):.3f}"])
    assert [[words, *rest] for words, _, _, *rest in shown("linking alone")] == lines


def test_sentences_about_linking(tmp_path: Path) -> None:
    store = unpacked(STORES / "forgetting_linking.tar.gz", tmp_path)
    arms = {a: [of_one(one) for one in own] for a, own in sequences(records(store)).items()}
    by = {
        name: {arm: np.array([one[name] for one in own]) for arm, own in arms.items()}
        for name in ("average", "forgetting", "validation")
    }
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    ewc, kfac = "ewc(strength=0.1)", "kfac_ewc(strength=0.1)"
    for kind, best in (("ewc", ewc), ("kfac_ewc", kfac)):
        of_kind = [arm for arm in arms if arm.startswith(f"{kind}(")]
        assert len(of_kind) == 2
        assert max(of_kind, key=lambda arm: by["validation"][arm].mean()) == best
    assert f"Plain training loses {by['forgetting']['none'].mean():.3f} of accuracy@1" in text
    assert f"forgets nothing that is shown ({by['forgetting'][kfac].mean():+.3f})" in text
    assert max(arms, key=lambda arm: by["average"][arm].mean()) == kfac

    def change(name: str, arm: str, other: str) -> tuple[float, float, float]:
        return mean_and_ends(by[name][arm] - by[name][other])

    above = "{:.3f} [{:.3f}, {:.3f}] above plain training"
    assert above.format(*change("average", kfac, "none")) in text
    differs = "at 0.1 differs by {:+.3f} [{:+.3f}, {:+.3f}]"
    assert differs.format(*change("forgetting", kfac, ewc)) in text
    results = read_results(store, store.manifest(None))
    rows = {row[0]: row[-1] for row in shown("forgetting_linking")}
    assert f"here, at 0.1, it is {rows[ewc]} and {rows[kfac]}" in text
    used = [
        effect["strength_used"]
        for record in records(store).values()
        for name, knobs in record.result["config"]["technique"]
        if knobs.get("strength") == "auto since 0.3"
        for effect in [record.result["effects"][name]]
    ]
    assert f"Auto sets {min(used):.1f} to {max(used):.1f} here" in text
    joint = results.frame("references").set_index("reference")["score"]["joint"].mean()
    assert f"Joint training on all three reaches {joint:.3f} on average" in text


def test_what_is_held_of_an_earlier_task(tmp_path: Path) -> None:
    found = records(unpacked(STORES / "forgetting_linking.tar.gz", tmp_path))
    weights = {r.result["parameters"]["total"] for r in found.values()}
    kept = {"ewc": set(), "kfac_ewc": set()}  # type: dict[str, set[int]]
    for key, record in found.items():
        for name in kept.keys() & record.result["effects"].keys():
            if len(chain(found, key)) == 2:
                kept[name].add(record.result["effects"][name]["numbers_kept"])
    millions = [round(numbers.pop() / 1e6) for numbers in (*kept.values(), weights)]
    assert not any((*kept.values(), weights)), "the same in all of them"
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert (
        "`ewc` holds {} million numbers and `kfac_ewc` {} million, at {} million weights"
    ).format(*millions) in text


@pytest.mark.parametrize("name", LINKED)
def test_what_needs_no_network_on_the_same_mentions(name: str) -> None:
    real_data()
    sizes = ("task.train_size=1024", "task.validation_size=256", "task.test_size=512")
    run = check(resolved(compose([f"task={name}", "model=tiny", "device=cpu", *sizes])))
    found = run.data.task.rivals(run.data.select(run.seeds)["test"])
    line = [f"{scores['accuracy_at_1']:.3f}" for scores in found.values()]
    (row,) = (row for row in shown("linking alone") if row[0] == LINKED[name])
    assert row[1:3] == line
