"""Tasks one after another: what a run that starts from an earlier one can know of that one.

`model.init_from` names the run before, whose own `model.init_from` names the one before that, and
so on: the chain is the sequence of tasks. Nothing is kept of an earlier task but its weights and
its config, and what its run was asked to leave (`keep_importance`, `keep_path_integral`); what else
techniques remember (curvature, items, logits) is computed from these and the task's files when a
run begins, and comes out the same whenever that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core import plain_files
from bluestab.core.errors import ConfigError, DataError
from bluestab.core.seeding import Seeds
from bluestab.core.types import DETECTION, IMPORTANCES
from bluestab.models.description import Model
from bluestab.models.init_from import SavedWeights, find
from bluestab.models.insertion_places import is_inserted
from bluestab.store.artefacts import PATH_INTEGRAL, importance_file
from bluestab.store.store import Store, parse_record
from bluestab.tasks.base import Task
from bluestab.tasks.data import TaskData, load_task, task_of
from bluestab.tasks.outputs import Output
from bluestab.training.loop.batches import collate, evaluation_batches, loader
from bluestab.training.tokenise import tokenised

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import torch

    from bluestab.core.types import At, Batch, Split
    from bluestab.models.built import Built
    from bluestab.models.curvature import Curvature
    from bluestab.models.divergences import Kind
    from bluestab.models.earlier import EarlierTask
    from bluestab.tasks.base import Scores
    from bluestab.techniques.base import Technique
    from bluestab.training.loop.candidates import CandidateVectors


@dataclass(frozen=True)
class Stage:
    """An earlier run: the task it was trained on, with its items, and the weights it left.

    data  None: its items are not here any more, or others; `gone` says so
    """

    weights: SavedWeights
    task: Task
    data: TaskData | None
    seeds: Seeds
    model: Model
    base: Model
    """The model that was trained, whose encoder its weights may lack."""
    gone: str = ""

    @property
    def path_integral(self) -> Path:
        """Where it lies, if its run kept it."""
        return self.weights.folder / PATH_INTEGRAL

    def importance(self, name: str) -> Path | None:
        """Where this one lies, if its run kept it."""
        path = importance_file(self.weights.folder, name)
        return path if path.is_file() else None

    def labels(self) -> Sequence[str]:
        """Of its head, in the order of its outputs."""
        return self.data.labels if self.data else _saved_labels(self.weights.folder)

    def items(self) -> TaskData:
        """Raises DataError if they are gone."""
        if self.data is None:
            raise DataError(f"items of task '{self.task.name}'", f"they {self.gone}")
        return self.data


def stages_before(weights: SavedWeights, model: Model) -> tuple[Stage, ...]:
    """The runs that led to these weights, the first first.

    Raises ConfigError if the weights of one are not here any more, or changed.
    """
    run = weights.folder.parent.parent
    cfg = _config(run)
    record = parse_record(run / "record.json")
    data, gone = None, ""
    try:
        data = load_task(cfg["task"])
    except (ConfigError, DataError) as error:
        gone = f"are not here any more: {error}"
    if data and dict(data.fingerprint) != dict(record.result["config"]["data"]):
        data, gone = None, "have changed since; put the files of then in their place"
    task = data.task if data else task_of(cfg["task"])
    if task.output.head.pretrains:
        raise ConfigError(
            f"run {weights.run} was trained on task '{weights.task}', a pretraining: tasks with "
            "answers alone are remembered"
        )
    stage = stage_of(weights, cfg, task, data, model, gone)
    before = cfg["model"].get("init_from")
    if before is None:
        return (stage,)
    return (*stages_before(find(before, Store(run.parent), model), model), stage)


def _config(run: Path) -> dict[str, Any]:
    """That a finished run was started with, from its folder."""
    found: dict[str, Any] = plain_files.read_yaml(run / "config.yaml", may_refer=("logger",))
    return found


def stage_of(
    weights: SavedWeights,
    cfg: Mapping[str, Any],
    task: Task,
    data: TaskData | None,
    model: Model,
    gone: str = "",
) -> Stage:
    """A run of this config that left these weights. (model: that was trained.)"""
    own = replace(
        model,
        hub=None,
        package=None,
        config=None,
        vocabulary=None,
        init_from=None,
        sha256=None,
        path=str(weights.folder),
        head=cfg["model"].get("head", "default"),
        lower_case=cfg["model"].get("lower_case"),
        vision=cfg["model"].get("vision"),
    )
    same: dict[str, Any] = {n: getattr(own, n) for n in ("head", "lower_case", "vision")}
    base = replace(model, init_from=None, **same)
    seeds = Seeds.from_config(cfg["seed"], cfg["seeds"])
    return Stage(weights, task, data, seeds, own, base, gone)


def item_problems(
    stages: Sequence[Stage], techniques: Mapping[str, Technique], scored: bool
) -> list[str]:
    """Who needs items of earlier tasks that are gone. (scored: their test items are to be.)"""
    problems = []
    for stage in stages:
        if stage.data is not None:
            continue
        kept = [name for name in IMPORTANCES if stage.importance(name)]
        needing = [
            f"technique {name} needs"
            for name, one in techniques.items()
            if not one.is_neutral() and one.needs_items(kept)
        ] + ["score_earlier needs"] * scored
        problems += [
            f"run {stage.weights.run} was trained on task '{stage.weights.task}', whose items "
            f"{who}; they {stage.gone}"
            for who in needing
        ]
    return problems


def head_problems(
    data: TaskData,
    model: Model,
    planned: tuple[TaskData, Model] | None,
    kept: SavedWeights | None,
    stages: Sequence[Stage],
) -> list[str]:
    """Why a run of this task cannot go on with the head of an earlier one.

    planned, kept  the run that it starts from, not finished yet; the weights that one left
    stages         those behind it, as far as anything asks for them
    """
    heads: list[tuple[str, Task, str, Sequence[str]]]
    if planned is not None:
        theirs, network = planned
        heads = [("the stage before", theirs.task, network.head, theirs.labels)]
    elif kept is not None:
        node = _config(kept.folder.parent.parent)
        head, labels = node["model"].get("head", "default"), _saved_labels(kept.folder)
        heads = [(f"run {kept.run}", task_of(node["task"]), head, labels)]
        heads += [(f"run {s.weights.run}", s.task, s.model.head, s.labels()) for s in stages[:-1]]
    else:
        return [
            "shared_head is true, but model.init_from names no earlier run whose head could be "
            "gone on with; say model.init_from=KEY, or shared_head=false"
        ]
    instead = "sequence.head=own" if planned else "shared_head=false"
    return [
        f"shared_head is true, but {run} was trained on task '{task.name}', and this run's is "
        f"'{data.task.name}': {why}; say {instead}"
        for run, task, head, labels in heads
        if (why := _no_common_head((task, head, labels), (data.task, model.head, data.labels)))
    ]


Answering = tuple[Task, str, Sequence[str]]
"""Task, `model.head`, and labels in the order of the outputs."""


def _no_common_head(theirs: Answering, ours: Answering) -> str:
    """What keeps two tasks from having one head; empty if nothing does."""
    output = ours[0].output
    if type(theirs[0].output) is not type(output):
        return "their answers are of different kinds"
    if output.head == DETECTION:
        return "a run leaves its detector without the generator that goes with it"
    if theirs[1] != ours[1]:
        return f"model.head was {theirs[1]} there, and is {ours[1]} here"
    if output.numeric or output.searches or output.head.pretrains or [*theirs[2]] == [*ours[2]]:
        return ""
    if odd := sorted({*theirs[2]} ^ {*ours[2]}):
        return f"'{odd[0]}' is a label of one of them alone"
    return "they have the same labels in different orders"


def path_integral_problems(
    stages: Sequence[Stage], techniques: Mapping[str, Technique]
) -> list[str]:
    """Techniques that need the path integrals of earlier runs which did not keep them."""
    needing = [n for n, t in techniques.items() if t.reads_path_integral and not t.is_neutral()]
    return [
        f"technique {name} needs the path integral of run {stage.weights.run}, which "
        + (
            "is that of its last weights, and model.init_from names the best: say :last"
            if stage.weights.at == "best"
            else "it did not keep; the same command as that run's with keep=last "
            "keep_path_integral=true leaves it"
        )
        for name in needing
        for stage in stages
        if not stage.path_integral.is_file()
    ]


def earlier_tasks(
    stages: Sequence[Stage], attention: str, device: torch.device
) -> Sequence[EarlierTask]:
    """These stages, each loaded when it is asked for."""
    from bluestab.models.earlier import EarlierTasks

    return EarlierTasks([partial(_loaded, stage, attention, device) for stage in stages])


def _loaded(stage: Stage, attention: str, device: torch.device) -> EarlierTask:
    from bluestab.models.earlier import EarlierTask
    from bluestab.models.importance import read_curvature
    from bluestab.models.networks import load_trained
    from bluestab.training.image_features import look_of
    from bluestab.training.loop.module import run_in_float32
    from bluestab.training.path_integral import read_path_integral

    task = stage.task
    network, head = load_trained(
        stage.model,
        head=task.output.head,
        n_labels=task.output.n_outputs(stage.labels()),
        attention=attention,
        base=stage.base,
    )
    for path in head:
        run_in_float32(network.get_submodule(path))

    @cache
    def training() -> tuple[Any, Any, Any]:
        """Rows, tokenizer and what looks at images, of all training items."""
        items = stage.items().select(stage.seeds)["train"]
        table, tokenizer = tokenised(stage.items(), items, stage.model, "training")
        return table, tokenizer, look_of(stage.model.sees, items, device)

    def batch(rows: Sequence[int]) -> Batch:
        table, tokenizer, look = training()
        items = [{**table[row], "item": row} for row in rows]
        found = collate(items, tokenizer.pad_token_id, look=look)
        return {name: value.to(device) for name, value in found.items()}

    def importance(name: str) -> Curvature | None:
        kept = stage.importance(name)
        return None if kept is None else read_curvature(kept, device)

    kept = stage.path_integral
    return EarlierTask(
        name=task.name,
        network=network.to(device),
        kind=kind_of_head(task.output),
        loss=task.loss,
        seeds=stage.seeds,
        rows=lambda: len(training()[0]),
        batch=batch,
        importance=importance,
        path_integral=partial(read_path_integral, kept) if kept.is_file() else None,
    )


def kind_of_head(output: Output) -> Kind:
    """What `divergences.kind_of` would say of its logits and labels."""
    if output.head.per_word:
        return "tagging"
    kinds: Mapping[str, Kind] = {"softmax": "classification", "sigmoid": "multi_label"}
    return kinds.get(output.activation, "regression")


def _saved_labels(folder: Path) -> list[str]:
    """As a folder of weights has them."""
    said: Any = plain_files.read_json(folder / "config.json")
    return list(said["id2label"].values())


def earlier_scores(
    stages: Sequence[Stage],
    tasks: Sequence[EarlierTask],
    built: Built,
    trainer: pl.Trainer,
    vectors: CandidateVectors,
    knobs: Mapping[str, Any],
) -> list[dict[Split, Scores]]:
    """The scores of each stage's task now, on validation and test: the encoder as it stands, under
    the head that the stage left (or the one that all share), and with the layers that it inserted.

    tasks    the same stages
    vectors  of candidates, as far as they are known
    knobs    `trainer` of the config
    """
    import torch

    from bluestab.training.image_features import look_of
    from bluestab.training.loop.candidates import candidates_of
    from bluestab.training.loop.evaluation import ItemLogits, make_evaluator

    state = built.plain(built.model.state_dict())
    own_head = frozenset() if built.shared_head else built.layers.head
    of_this_task = own_head.union(filter(is_inserted, state))
    now = {name: value for name, value in state.items() if name not in of_this_task}
    found = []
    for stage, task in zip(stages, tasks, strict=True):
        own = dict(task.network.named_parameters())
        weights = {n: v for n, v in now.items() if n in own and v.shape == own[n].shape}
        device = next(iter(own.values())).device
        scores: dict[Split, Scores] = {}
        for split in EVALUATED:
            examples = stage.items().select(stage.seeds)[split]
            table, tokenizer = tokenised(stage.items(), examples, stage.model, "scoring")
            logits = ItemLogits()
            candidates = candidates_of(table, len(examples))
            rows = evaluation_batches(table, knobs, candidates)
            vectors.begin(task.network, candidates, weights)
            look = look_of(stage.model.sees, examples, device)
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                for batch in loader(table, tokenizer.pad_token_id, look=look, batch_sampler=rows):
                    if vectors.has(batch["items"]):
                        continue
                    batch = {name: value.to(device) for name, value in batch.items()}
                    answers = task.logits(weights, batch, training=False)
                    logits.update(answers, batch["labels"], batch["items"])
            by_row = vectors.complete(logits.compute())
            _, _, scores[split] = make_evaluator(stage.items(), examples, table)(by_row)
        found.append(scores)
    return found


EVALUATED: tuple[Split, ...] = ("validation", "test")


def earlier_entries(
    stages: Sequence[Stage], by_at: Mapping[At, Sequence[Mapping[Split, Scores]]]
) -> list[dict[str, Any]]:
    """What the record says of earlier tasks, test scores first; the best weights may have been the
    last."""
    entries = []
    for i, stage in enumerate(stages):
        last, best = by_at["last"][i], by_at.get("best", by_at["last"])[i]
        entries.append(
            {
                "task": stage.weights.task,
                "run": stage.weights.run,
                "metric": stage.task.metric,
                "last": dict(last["test"]),
                "best": dict(best["test"]),
                "validation": {"last": dict(last["validation"]), "best": dict(best["validation"])},
            }
        )
    return entries
