"""A run made again, elsewhere or later, and what that says of the first.

identical         the canonical half of the record and every stored logit, byte for byte
within the noise  another score, no further from the recorded one than two seeds of this cell are
                  from one another in 95 of 100 cases: |difference| <= t * std * sqrt(2), with the
                  std of the cell's seeds and Student's t for their number
different         further, or there is no third seed by which it could be judged
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bluestab import stats
from bluestab.core import devices
from bluestab.core.errors import StoreError
from bluestab.core.printable import counted
from bluestab.core.provenance import provenance
from bluestab.core.types import RunRecord
from bluestab.inference.cell import cell_of_run
from bluestab.inference.remake import checked
from bluestab.inference.weights import FinishedRun
from bluestab.stats.intervals import t_quantile
from bluestab.store.artefacts import read_predictions
from bluestab.store.records import to_json
from bluestab.store.store import Store
from bluestab.sweeps.lifecycle import make_ready
from bluestab.training.execute import execute_one

FEWEST = 3
"""Seeds of a cell by which its noise is judged."""


@dataclass(frozen=True)
class Reproduction:
    """word: identical | within the noise | different; why: sentences."""

    word: str
    why: tuple[str, ...]


def surroundings(record: RunRecord, device: str) -> list[str]:
    """What differs between the environment of a record and this one, a line each."""
    now: Mapping[str, Any] = provenance(devices.resolve(device))
    then = record.measured
    lines = []
    for name in ("device", "host", "commit", "dirty"):
        if then.get(name) != now[name]:
            lines.append(f"{name}: {then.get(name)} then, {now[name]} now")
    packed = (then.get("packed") or {}).get("runs", 1)
    if packed > 1:
        lines.append(f"packed: with {packed - 1} others in one step then, by itself now")
    versions = then.get("versions") or {}
    for name in {**versions, **now["versions"]}:
        if versions.get(name) != now["versions"].get(name):
            lines.append(f"{name}: {versions.get(name)} then, {now['versions'].get(name)} now")
    return lines


def reproduce(run: FinishedRun, device: str, keep_in: Path | None) -> Reproduction:
    """Run it again and compare.

    keep_in  store for the new run; None: it is not kept

    Raises ConfigError if it cannot be made again here, StoreError if it crashes.
    """
    with tempfile.TemporaryDirectory(prefix="bluestab-") as scratch:
        store = Store(scratch if keep_in is None else keep_in)
        nothing: dict[str, Any] = {"keep_representations": False, "keep_path_integral": False}
        nothing |= {"keep": "none", "keep_importance": []}
        again = checked(run, store, device, **nothing)
        make_ready([again], store)
        # as large as the parts were for which its memory sufficed then
        used = {"micro_batch": run.record.result.get("micro_batch")}
        if "eval_batch_size" in run.record.measured:
            used["eval_batch_size"] = run.record.measured["eval_batch_size"]
        cfg = {**again.cfg, "trainer": {**again.cfg["trainer"], **used}}
        record = execute_one(replace(again, cfg=cfg), store, lambda *_: None)
        if record.status == "crashed":
            error = record.result["error"]
            raise StoreError(
                f"run {record.key} crashed when it was made again: {error['type']}: "
                f"{error['message']}"
            )
        same = _same_logits(run.folder, store.folder(record.key))
        return judge(run, record, same)


def _same_logits(one: Path, other: Path) -> bool:
    """Are the stored predictions of two runs equal to the last bit?"""
    name = "predictions.parquet"
    if not (one / name).is_file() or not (other / name).is_file():
        return (one / name).is_file() == (other / name).is_file()
    return bool(read_predictions(one / name).equals(read_predictions(other / name)))


def judge(run: FinishedRun, again: RunRecord, same_logits: bool) -> Reproduction:
    """What the second run says of the first."""
    first, at = run.record, run.at
    then = {**dict.fromkeys(again.result), **first.result}
    differing = [n for n in then if to_json(then[n]) != to_json(again.result.get(n))]
    old, new = first.result["score"][at], again.result["score"][at]
    metric = first.result["metric"]
    scores = f"test {metric} {old:.6f} then, {new:.6f} now"
    if not differing and same_logits:
        return Reproduction(
            "identical", (scores, "every byte of the result and of its logits is equal")
        )
    what = f"differing: {', '.join([*differing, *([] if same_logits else ['logits'])])}"
    if old == new and first.status == again.status:
        return Reproduction("within the noise", (scores, f"the same score; {what}"))
    others = cell_of_run(run.store, first).scores(at)
    spread = stats.std(others)
    if first.status != again.status:
        return Reproduction("different", (scores, f"{first.status} then, {again.status} now"))
    if spread is None or len(others) < FEWEST:
        few = counted(len(others), "seed of this cell is", "seeds of this cell are")
        return Reproduction("different", (scores, what, f"{few} too few to know its noise"))
    bound = t_quantile(len(others) - 1, 0.95) * spread * math.sqrt(2)
    said = (
        f"{abs(new - old):.6f} apart; two of its {len(others)} seeds (std {spread:.6f}) are within "
        f"{bound:.6f} in 95 of 100 cases"
    )
    word = "within the noise" if abs(new - old) <= bound else "different"
    return Reproduction(word, (scores, what, said))
