"""Which runs of a sweep train as one, in which order, and how many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bluestab.core import devices, rules
from bluestab.core.config import resolved
from bluestab.core.errors import ConfigError
from bluestab.core.printable import counted
from bluestab.core.types import RunRecord
from bluestab.sweeps.plan import SEED, Compose, Job, PlannedRun
from bluestab.training.check import Run, check_parts
from bluestab.training.families import pack_group_key
from bluestab.training.packable import packable_problems

if TYPE_CHECKING:
    from bluestab.sweeps.queue import Source

ENGINE = "trainer.engine="

GROUP = rules.whole(1, null=True)
"""What a number of siblings that train as one may be (`hydra.launcher.group`)."""

BLOCK = 20
"""Seeds of one arm that are done before those of the next, where the size of groups is not given:
an interrupted sweep is then a smaller one that still pairs its arms."""

MOST = 64
"""Runs of one group where nothing limits them: beyond it a GPU is full, and a death dear."""

SHARE = 0.85
"""Of a GPU's free memory that a group is planned to fill; of the host's, half of that."""

WORDS = 30_522
"""Rows of the table of word pieces, where the model is not yet known better."""

HOST_MB = 2_000
"""What a process holds besides its group: libraries, data."""


def with_engines(compose: Compose, jobs: Sequence[Job]) -> tuple[list[Job], Counter[str]]:
    """Jobs with `trainer.engine=packed` where that is possible and no other engine was named; and,
    of those that train alone, reason -> how many."""
    known: dict[tuple[str, ...], str] = {}
    alone: Counter[str] = Counter()
    found: list[Job] = []
    for job in jobs:
        rest = tuple(override for override in job if not SEED.fullmatch(override))
        if rest not in known:
            known[rest] = _why_alone(compose, rest)
        if known[rest]:
            alone[known[rest]] += 1
            found.append(job)
        else:
            found.append((*rest, ENGINE + "packed", *(o for o in job if SEED.fullmatch(o))))
    return found, alone


def _why_alone(compose: Compose, overrides: Sequence[str]) -> str:
    for override in overrides:
        if override.startswith(ENGINE):
            return "" if override == ENGINE + "packed" else f"{override} was asked for"
    cfg = resolved(compose(overrides))
    try:
        parts = check_parts(cfg)
    except ConfigError:
        return "its config has problems"  # which planning will tell
    return "; ".join(packable_problems(cfg, parts.model.facts(), parts.techniques))


def packing_summary(runs: Sequence[PlannedRun], alone: Counter[str]) -> list[str]:
    """What trains as one, and what does not and why, in lines."""
    packed = [p.run for p in runs if is_packed(p.run)]
    families = len({pack_group_key(run) for run in packed})
    lines = []
    if packed:
        kinds = "all alike" if families == 1 else f"of {families} kinds"
        lines.append(f"{counted(len(packed), 'run trains', 'runs train')} packed, {kinds}")
    for why, n in alone.items():
        lines.append(f"{counted(n, 'run')} by {'themselves' if n > 1 else 'itself'}: {why}")
    return lines


def is_packed(run: Run) -> bool:
    return bool(run.cfg["trainer"]["engine"] == "packed")


def next_group(source: Source, room: Callable[[Run], int]) -> list[PlannedRun]:
    """The next run, and siblings that follow it, as many as there is room for; none if there is
    none now."""

    def trains_alone(planned: PlannedRun) -> bool:
        key = planned.run.key
        return not is_packed(planned.run) or key in source.run_alone or source.store.has(key)

    first = source.next()
    if first is None:
        return []
    group = [first]
    if trains_alone(first) or (size := room(first.run)) == 1:
        return group
    family = pack_group_key(first.run)
    while len(group) < size and (following := source.next()) is not None:
        if trains_alone(following) or pack_group_key(following.run) != family:
            source.put_back(following)
            break
        group.append(following)
    return group


def in_blocks(runs: Sequence[PlannedRun], group: int | None) -> list[PlannedRun]:
    """Siblings one behind another, `group` of one family and then of the next, in the order in
    which the first of each was planned. None: the size of groups is not given."""
    size = group or BLOCK
    if size == 1:
        return list(runs)
    families: dict[str, list[PlannedRun]] = {}
    for planned in runs:
        family = pack_group_key(planned.run) if is_packed(planned.run) else planned.run.key
        families.setdefault(family, []).append(planned)
    place = {id(planned): i for i, planned in enumerate(runs)}
    blocks = [
        members[start : start + size]
        for members in families.values()
        for start in range(0, len(members), size)
    ]
    blocks.sort(key=lambda block: place[id(block[0])])
    return [planned for block in blocks for planned in block]


class PackSizer:
    """The size of groups, by kind of run.

    most  what was asked for; None: decide by memory
    of    processes that share a device and its memory, which others of them fill; None: this one
          has what is free of it now
    """

    def __init__(self, most: int | None, of: int | None = None) -> None:
        self.most, self.of = most, of
        self._limits: dict[str, int] = {}
        self._halved: dict[str, int] = {}

    def size(self, run: Run) -> int:
        """How many siblings of this run may train as one."""
        if self.most == 1:
            return 1
        family = pack_group_key(run)
        if family not in self._limits:
            available = _available(run, self.of)
            self._limits[family] = self.most or _fitting(available, expected_bytes(run))
        return self._limits[family]

    def too_large(self, run: Run, n: int, why: str) -> str:
        """Groups of n did not fit: half of that from now on. Returns what to say of it."""
        self._limits[pack_group_key(run)] = self._halved[pack_group_key(run)] = max(1, n // 2)
        said = " ".join(why.split())[:200]
        return f"out of memory ({said}); groups of {max(1, n // 2)} from here on"

    def measured(self, run: Run, records: Sequence[RunRecord]) -> None:
        """After a group: on a GPU, what one of its runs took says how many fit."""
        peaks = [r.measured.get("peak_memory_mb", {}).get("gpu") for r in records]
        if self.most is not None or len(records) < 2 or not peaks or peaks[0] is None:
            return
        family, each = pack_group_key(run), float(peaks[0]) * 2**20 / len(records)
        fitting = _fitting(_available(run, self.of), each)
        self._limits[family] = min(fitting, self._halved.get(family, fitting))


def expected_bytes(run: Run, length: int | None = None) -> float:
    """Memory of one sibling, from what is known of its model before it is loaded.

    Weights, gradients, two moments and the best weights so far, float32; activations of a batch as
    long as its longest item, and of one block in evaluation, by the count of
    Korthikanti et al. 2022 (arXiv 2205.05198, equation 2: 34 bytes per unit and 5 per attention
    probability in half precision, twice that in float32).

    length  word pieces of the longest item; None: looked up, for which its items are tokenised
    """
    layers, hidden, heads = run.model.layers, run.model.hidden_size, run.model.hidden_size // 64 + 1
    config = run.model.config or {}
    parameters = 12 * layers * hidden**2 + int(config.get("vocab_size", WORDS)) * hidden
    items, length = run.cfg["optim"]["batch_size"], longest(run) if length is None else length
    items = min(items, run.cfg["trainer"]["micro_batch"] or items)
    precise = 1 if str(run.cfg["trainer"]["precision"]) == "bf16" else 2
    kept = 1 if run.cfg["trainer"]["gradient_checkpointing"] else layers
    per_item = precise * length * (34 * hidden + 5 * heads * length)
    evaluated, tokens = (run.cfg["trainer"][name] for name in ("eval_batch_size", "eval_tokens"))
    if tokens is not None:
        evaluated = min(evaluated, max(1, tokens // length))
    return float(20 * parameters + (items * kept + evaluated) * per_item)


def longest(run: Run) -> int:
    """Word pieces of its longest training item, which are kept for its training."""
    from bluestab.training.tokenise import tokenised

    table, _ = tokenised(run.data, run.data.select(run.seeds)["train"], run.model)
    return max(len(pieces) for pieces in table["input_ids"])


def _fitting(available: float, each: float) -> int:
    return max(1, min(MOST, int(available / max(each, 1.0))))


def _available(run: Run, of: int | None) -> float:
    """Bytes that a group may fill on the device of this run, where `of` groups share it."""
    device = devices.resolve(run.cfg["device"])
    if device.startswith("cuda"):
        import torch

        if of is not None:  # asked by one that trains nothing itself: free is what workers left
            return SHARE * float(torch.cuda.get_device_properties(device).total_memory) / of
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return SHARE * float(free)
    return max(0.0, SHARE * (devices.memory_mb() / 2 / (of or 1) - HOST_MB)) * 2.0**20
