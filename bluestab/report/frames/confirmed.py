"""What fresh seeds say of the arm that a sweep chose (`sweep.confirm`): no bound of choosing is in
it, for these seeds chose nothing.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pandas as pd

from bluestab import stats
from bluestab.core.errors import StoreError
from bluestab.core.printable import counted
from bluestab.report.frames.bounded import keep_in_range
from bluestab.report.frames.contrasts import contrasts
from bluestab.report.frames.looks import looked_cells
from bluestab.report.frames.runs import gather
from bluestab.report.frames.summary import arm_runs
from bluestab.report.searches import confirmation_of
from bluestab.report.section import Results, Section
from bluestab.report.tables import there
from bluestab.report.words.phrases import p_words
from bluestab.store.store import Store
from bluestab.tasks.metric import DIRECTION, metric_of_row

COLUMNS = (
    "task", "model", "metric", DIRECTION, "arm", "against", "role", "pairs", "n_paired",
    "mean", "mean_against", "delta", "delta_low", "delta_high", "test_name", "p",
    "failed_paired", "failed_baseline", "no_p", "left",
)  # fmt: skip
NAMES = ("arm", "against")


def confirmed_frame(results: Results, store: Store) -> pd.DataFrame:
    """One row per task, model and arm that the chosen one is compared with, on fresh seeds.

    against, role  the baseline as it is (`baseline`), or with all of the chosen arm's that belongs
                   to no technique (`matched`); each comparison stands by itself
    mean, mean_against   of the chosen arm and of the other on the fresh seeds of both
    left           runs of the confirmation that are missing
    """
    manifest = _confirmation(results.name, store)
    if manifest is None:
        return pd.DataFrame(columns=list(COLUMNS))
    arms = manifest["confirms"]["arms"]
    rows, _, _ = gather(store, manifest)
    left = len({run["key"] for run in manifest["runs"]} - {row["key"] for row in rows})
    by_subject: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for row in rows:
        if row["at"] == results.at and row["status"] != "crashed" and row["cell"] in arms:
            role = arms[row["cell"]]["role"]
            by_subject[row["task"], row["model"]].setdefault(role, []).append(row)
    looked, table = looked_cells(store, manifest, pd.DataFrame()), []
    for of_role in by_subject.values():
        for role in ("baseline", "matched"):
            if "winner" not in of_role or role not in of_role:
                continue
            both = of_role["winner"], of_role[role]
            own, other = (arm_runs(part) for part in both)
            cells = [part[0]["cell"] for part in both]
            again = [role] if looked & {*cells} else []
            found = contrasts({role: (own, other)}, looked=again)[role]
            shared = [seed for seed in own.scores if seed in other.scores]
            if not shared:
                continue
            row = {
                **{name: found.get(name) for name in COLUMNS},
                **{name: both[0][0][name] for name in ("task", "model", "metric", DIRECTION)},
                **{"role": role, "left": left},
                **{name: arms[cell]["arm"] for name, cell in zip(NAMES, cells, strict=True)},
                **{
                    name: stats.mean([arm.scores[seed] for seed in shared])
                    for name, arm in (("mean", own), ("mean_against", other))
                },
            }
            keep_in_range(row)
            table.append(row)
    return pd.DataFrame(table, columns=list(COLUMNS))


def _confirmation(name: str, store: Store) -> dict[str, Any] | None:
    """The manifest of the sweep that confirms this one, if it is there and whole."""
    try:
        if confirmation_of(name) not in store.manifests():
            return None
        manifest = store.manifest(confirmation_of(name))
    except StoreError:
        return None
    told = (manifest or {}).get("confirms")
    return manifest if isinstance(told, dict) and told.get("sweep") == name else None


def confirmed_cells(name: str, store: Store) -> frozenset[str]:
    """Cells of the sweep of this name that were measured on fresh seeds as its choice."""
    manifest = _confirmation(name, store)
    arms = {} if manifest is None else manifest["confirms"]["arms"]
    return frozenset(cell for cell, told in arms.items() if told["role"] == "winner")


def confirmed_sentences(results: Results) -> list[str]:
    """One per row."""
    said = []
    for row in results.frame("confirmed").to_dict("records"):
        between = (
            f" [{row['delta_low']:.4f}, {row['delta_high']:.4f}]" if there(row["delta_low"]) else ""
        )
        p = f" ({p_words(row['p'])})" if there(row["p"]) else f" (no p: {row['no_p']})"
        missing = f"; {counted(row['left'], 'run is', 'runs are')} missing" if row["left"] else ""
        n, _, rest = str(row["pairs"]).partition(" ")
        seeds = f"{n} fresh seeds {rest}".rstrip()
        if row["failed_paired"] or row["failed_baseline"]:
            p += f"; {row['failed_paired']:.0f} of its runs failed instead of "
            p += f"{row['failed_baseline']:.0f}"
        said.append(
            f"{row['task']} with {row['model']}, on {seeds}, which chose "
            f"nothing: {row['arm']} has test {metric_of_row(row).words} {row['mean']:.4f} against "
            f"{row['mean_against']:.4f} of {row['against']}: {row['delta']:+.4f}{between}{p}"
            f"{missing}"
        )
    return said


CONFIRMED = Section(
    "confirmed",
    "On fresh seeds",
    "The arm that validation chose over the sweep's seeds, on seeds that had no part in choosing. "
    "Beside the baseline, and the baseline with all else as the chosen arm has it.",
    frame=confirmed_frame,
    sentences=confirmed_sentences,
)
