"""A few real steps of a run, timed: what a forecast rests on where nothing like it has finished.

The run is assembled as it would be, on a few of its items, and trained and evaluated by the same
code; only nothing is written to the store. Batches are drawn from all of the training items, so
their lengths are those of the run; the first, untimed one holds the longest, for the peak of
memory.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bluestab.core import devices
from bluestab.core.errors import ConfigError
from bluestab.core.provenance import peak_memory_mb
from bluestab.core.seeding import Seeds, generator
from bluestab.core.types import SPLITS, WEIGHTS_TO_KEEP, Batch, Example, Split
from bluestab.models.description import Model
from bluestab.models.hub import local_copy
from bluestab.models.passes import model_logits
from bluestab.models.vision_spec import FrozenSpec
from bluestab.tasks.data import TaskData
from bluestab.training.check import Run
from bluestab.training.loop.batches import ShuffledOrder, loader
from bluestab.training.loop.memory import counted_mb, keep_freed
from bluestab.training.loop.schedules import updates
from bluestab.training.stages import kind_of_head
from bluestab.training.tokenise import tokenised

if TYPE_CHECKING:
    from bluestab.models.earlier import EarlierTask
    from bluestab.techniques.base import Technique
    from bluestab.training.assemble import Assembly

STEPS = 5  # timed steps, unless they take longer than:
SECONDS = 5.0
RECALLED = (2, 6)  # items of tasks that stand for earlier ones
SPREAD = 8  # batches of candidates that are timed
RANKED_BYTES = 250  # of 64 concepts and their similarities, compressed: an estimate
ITEM_BYTES = 40  # of an item's id, prediction and target in a file of predictions


@dataclass(frozen=True)
class DryStep:
    """What was measured on a few real batches.

    prepare     seconds from nothing to the first step
    step        seconds of one optimizer step
    evaluate    split -> seconds to evaluate all its items
    candidates  seconds in which the names of a dictionary pass the network
    memory_mb   peaks of the process and the GPU, and of the count (`loop/counted_memory.py`)
    test_bytes  what the predictions of all test items take on disk, once
    recall      seconds to take in what techniques remember of an earlier task as large as this one,
                which they do once for each when a stage begins
    importance  seconds to measure what it leaves of its weights' importance (`keep_importance`)
    memory_per_task_mb  what each further earlier task takes for them; the first is in memory_mb
    """

    prepare: float
    step: float
    evaluate: Mapping[Split, float]
    memory_mb: Mapping[str, float]
    parameters: int
    test_bytes: float
    device: str = ""
    recall: float = 0.0
    importance: float = 0.0
    memory_per_task_mb: float = 0.0
    candidates: float = 0.0


def planned_steps(run: Run) -> tuple[int, int]:
    """Optimizer steps of a run, and of one of its epochs; where items take several rows and the
    weights are not here, as if each took one."""
    optim, items = run.cfg["optim"], _train_items(run)
    n = len(items)
    if run.data.task.windows and is_here(run.model):
        n = len(tokenised(run.data, items, run.model)[0])
    return (
        updates(n, optim["batch_size"], optim["epochs"], optim["steps"]),
        updates(n, optim["batch_size"], 1, None),
    )


def is_here(model: Model) -> bool:
    """Whether the weights of a model, and of its image tower, are on this machine. Nothing is
    fetched."""
    tower = model.sees
    if (
        isinstance(tower, FrozenSpec)
        and tower.hub is not None
        and local_copy(tower.hub, tower.revision, tokenizer=False) is None
    ):
        return False
    if model.path is not None or model.hub is None:
        model.folder()  # raises ConfigError with its reason
        return True
    return local_copy(model.hub, model.revision) is not None


def dry_step(run: Run) -> DryStep:
    """Train and evaluate on a few batches. Raises ConfigError if weights or device are not here.

    Of a stage whose earlier tasks are not trained yet, its own task stands for these, at the
    weights that it begins with.
    """
    techniques = copy.deepcopy(dict(run.techniques))  # what they hold goes with the copy
    holding = [one for one in techniques.values() if one.remembers and not one.is_neutral()]
    run = replace(run, techniques=techniques)
    if run.waits:
        free = {name: one for name, one in techniques.items() if not one.remembers}
        run = replace(run, techniques=free)
    name = devices.resolve(run.cfg["device"])
    if not is_here(run.model):
        raise ConfigError(f"the weights of model '{run.model.name}' are not on this machine")
    import torch

    from bluestab.training.assemble import assemble

    device = torch.device(name)
    torch.set_num_threads(run.cfg["trainer"]["threads"])
    keep_freed()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    data, n_items = _sampled(run)
    sample = replace(run, cfg=_shortened(run.cfg), data=data)
    ticks: list[float] = []
    running: list[Assembly] = []

    def progress(step: int, total: int, loss: float | None, score: float | None) -> None:
        ticks.append(time.perf_counter())
        if len(ticks) > 2 and ticks[-1] - ticks[0] > SECONDS:
            running[0].trainer.should_stop = True

    for _ in range(2):  # the first reads files, which a sweep does once
        running.clear()
        gc.collect()
        started = time.perf_counter()
        assembly = assemble(sample, device=device, progress=progress)
        prepare = time.perf_counter() - started
        running.append(assembly)
    importance = recall = per_task_mb = 0.0
    if names := run.cfg.get("keep_importance"):
        importance = _measured(assembly, run.seeds, names) * len(WEIGHTS_TO_KEEP[run.cfg["keep"]])
    if run.waits and holding:
        recall, per_task_mb = _recalled(assembly, holding, seeds=run.seeds)
        whole = replace(sample, techniques=techniques)
        earlier = [_like(assembly, run.seeds, RECALLED[0], holding)]
        assembly = assemble(whole, device=device, progress=progress, instead=earlier)
        running[:] = [assembly]
    assembly.trainer.fit(assembly.module, assembly.loaders["train"])
    step_seconds = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    evaluate: dict[Split, float] = {"train": 0.0}
    candidates = 0.0
    for split in ("validation", "test"):
        if run.data.task.output.searches:
            n = len(assembly.examples[split])
            of_items, candidates = _passing(assembly, split, n)
            evaluate[split] = of_items * n_items[split] / n
            continue
        begun = time.perf_counter()
        if split == "validation":
            assembly.trainer.validate(assembly.module, assembly.loaders[split], verbose=False)
        else:
            assembly.trainer.test(assembly.module, assembly.loaders[split], verbose=False)
        share = n_items[split] / len(assembly.examples[split])
        evaluate[split] = (time.perf_counter() - begun) * share
    numbers = sum(logits.size for logits in assembly.module.item_logits)
    per_item = ITEM_BYTES + 4 * numbers / len(assembly.examples["test"])
    if run.data.task.output.searches:
        per_item = ITEM_BYTES + RANKED_BYTES
    found = DryStep(
        prepare=prepare,
        step=step_seconds,
        evaluate=evaluate,
        memory_mb={**peak_memory_mb(device), **counted_mb(assembly.module.ledger.report())},
        parameters=sum(p.numel() for p in assembly.built.model.parameters()),
        test_bytes=per_item * n_items["test"],
        device=name,
        recall=recall * n_items["train"],
        importance=importance * n_items["train"],
        memory_per_task_mb=per_task_mb,
        candidates=candidates,
    )
    running.clear()
    del assembly
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def _like(
    assembly: Assembly, seeds: Seeds, size: int, holding: Sequence[Technique] = ()
) -> EarlierTask:
    """The run's own task as an earlier one: a copy of its network, and some of its items.

    holding  techniques for which its run has kept the importance of its weights
    """
    import torch

    from bluestab.models.earlier import EarlierTask

    network = copy.deepcopy(assembly.built.model).eval()
    place = next(network.parameters())
    batches = assembly.loaders["train"]
    table, collated = batches.dataset, batches.collate_fn

    def batch(rows: Sequence[int]) -> Batch:
        found: Batch = collated([table[row] for row in rows])
        return {name: value.to(place.device) for name, value in found.items()}

    def path() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        return {
            n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in network.named_parameters()
        }

    size = min(size, len(table))  # type: ignore[arg-type]
    task = EarlierTask(
        name="like it",
        network=network,
        kind=kind_of_head(assembly.data.task.output),
        loss=assembly.data.task.loss,
        seeds=seeds,
        rows=lambda: size,
        batch=batch,
        path_integral=path,
    )
    wanted = [one.importance for one in holding if one.importance is not None]
    kept = {one.name: one.measure(task) for one in wanted}
    return replace(task, importance=kept.get)


def _measured(assembly: Assembly, seeds: Seeds, names: Sequence[str]) -> float:
    """Seconds to measure these importances over one item."""
    from bluestab.models.importance import Importance

    def seconds(task: EarlierTask) -> float:
        begun = time.perf_counter()
        for name in names:
            Importance.named(name).measure(task)
        return time.perf_counter() - begun

    tasks = (_like(assembly, seeds, size) for size in RECALLED)  # one copy of the network at a time
    # the shorter of two: what else the machine does, and a first time, slows one down
    return _per_item(*(min(seconds(task), seconds(task)) for task in tasks))


def _per_item(few: float, more: float) -> float:
    """Seconds of one item, from those of `RECALLED` of them."""
    return max(0.0, more - few) / (RECALLED[1] - RECALLED[0])


def _recalled(
    assembly: Assembly, holding: Sequence[Technique], seeds: Seeds
) -> tuple[float, float]:
    """Seconds to recall one item of one earlier task, and MiB that a second task takes."""
    took, numbers = [], []
    for sizes in ([RECALLED[0]], [RECALLED[1]], [RECALLED[0]] * 2):
        tried = copy.deepcopy(holding)
        earlier = [_like(assembly, seeds, size, holding) for size in sizes]
        begun = time.perf_counter()
        for one in tried:
            one.recall(earlier, assembly.built, seeds)
        took.append(time.perf_counter() - begun)
        numbers.append(sum(one.memory_numel() for one in tried))
    return _per_item(*took[:2]), 4 * (numbers[2] - numbers[0]) / 2**20


def _passing(assembly: Assembly, split: Split, n_items: int) -> tuple[float, float]:
    """Seconds in which the items pass the network, and in which all candidates do: of these some
    batches, spread over the lengths, since a dictionary may be a hundred times larger than a part
    of items. The search itself takes little beside it.

    n_items  that are in the split
    """
    batches = assembly.loaders[split]
    rows: list[list[int]] = list(batches.batch_sampler)  # type: ignore[arg-type]
    of_candidates = [batch for batch in rows if batch[0] >= n_items]
    chosen = of_candidates[:: max(1, len(of_candidates) // SPREAD)]
    share = sum(map(len, chosen)) / sum(map(len, of_candidates))
    items = [batch for batch in rows if batch[0] < n_items]
    return _passes(assembly, split, items), _passes(assembly, split, chosen) / share


def _passes(assembly: Assembly, split: Split, rows: Sequence[Sequence[int]]) -> float:
    """Seconds in which these batches of a split pass the network."""
    import torch

    batches = loader(
        assembly.loaders[split].dataset.remove_columns("item"),  # type: ignore[attr-defined]
        assembly.tokenizer.pad_token_id,
        batch_sampler=rows,
    )
    model = assembly.module.model
    device = next(model.parameters()).device
    model.eval()
    begun = time.perf_counter()
    with torch.no_grad(), assembly.trainer.precision_plugin.forward_context():
        for batch in batches:
            model_logits(model, {n: value.to(device) for n, value in batch.items()})
    took = time.perf_counter() - begun
    model.train()
    return took


def _train_items(run: Run) -> Sequence[Example]:
    items: Sequence[Example] = run.data.select(run.seeds)["train"]
    for technique in run.techniques.values():
        items = technique.edit_data(items, run.seeds)
    return items


def _shortened(cfg: Any) -> dict[str, Any]:
    """The config of a run of one untimed and a few timed steps, without evaluations between."""
    return {
        **cfg,
        "optim": {**cfg["optim"], "steps": 1 + STEPS},
        "trainer": {**cfg["trainer"], "eval_every": None},
    }


def _sampled(run: Run) -> tuple[TaskData, dict[Split, int]]:
    """The run's data cut to what a dry step needs, and how many items the run itself has."""
    items = run.data.select(run.seeds)
    n_items = {split: len(items[split]) for split in SPLITS}
    evaluated = int(run.cfg["trainer"]["eval_batch_size"])
    splits: dict[Split, Sequence[Example]] = {
        "train": _batches(items["train"], run.cfg["optim"]["batch_size"], run.seeds.order),
        "validation": _spread(items["validation"], evaluated),
        "test": _spread(items["test"], evaluated),
    }
    all_of_it: dict[str, Any] = {f"{split}_size": None for split in SPLITS}
    task = replace(run.data.task, **all_of_it)
    return replace(run.data, task=task, splits=splits), n_items


def _spread(items: Sequence[Example], n: int) -> list[Example]:
    """n of the items from everywhere in the file; all, if there are no more."""
    return [items[i * len(items) // n] for i in range(n)] if n < len(items) else list(items)


def _batches(items: Sequence[Example], size: int, seed: int) -> list[Example]:
    """One batch of the longest items, then random ones, as the shuffled order will find them.

    All items, if there are not enough for that: then the dry step goes through them again.
    """
    import torch

    n = size * (1 + STEPS)
    if len(items) <= n:
        return list(items)
    longest = sorted(items, key=_length, reverse=True)[:size]
    random = generator(seed, "dry step")
    drawn = torch.randperm(len(items), generator=random).tolist()[: n - size]
    wanted = [*longest, *(items[i] for i in drawn)]
    placed: list[Example] = list(wanted)
    for example, place in zip(wanted, ShuffledOrder(n, seed), strict=True):
        placed[place] = example
    return placed


def _length(example: Example) -> int:
    words = example.text if isinstance(example.text, str) else " ".join(example.text)
    return len(words) + len(example.text_pair or "")
