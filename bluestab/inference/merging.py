"""Weights of members put together and scored on a task; one network per task is in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluestab.core.errors import ConfigError
from bluestab.core.plain_files import read_json
from bluestab.core.types import Example, Split
from bluestab.data.locate import sha256_of
from bluestab.inference.members import quality
from bluestab.inference.weights import Weights, look_at_images
from bluestab.models import merging
from bluestab.models.adamerging import UnlabelledTask, adamerge
from bluestab.models.insertion_places import BASE, missing_encoder
from bluestab.models.untrusted import WEIGHTS
from bluestab.store.artefacts import PATH_INTEGRAL, importance_file
from bluestab.store.files import write_text
from bluestab.tasks.base import Scores
from bluestab.training.check import Run

if TYPE_CHECKING:
    import torch

AVERAGES = ("uniform", "greedy")
FROM_THE_START = ("task_arithmetic", "ties")
BY_TEXTS = ("adamerging",)
KINDS = (*AVERAGES, *FROM_THE_START, "regmean", *BY_TEXTS)
COEFFICIENTS = {"task_arithmetic": 0.4, "ties": 1.0, "adamerging": 0.3}
"""What Yadav et al. 2023 take where no validation items are at hand to choose it by; of adamerging
where it begins (Yang et al. 2024)."""
DENSITY = 0.2
STEPS = 500
TEXTS_PER_STEP = 16
SCALE = 0.9
REGMEAN_ITEMS = 1000
"""Training items of a member, at most, whose inputs `regmean` looks at (Jin et al. 2023)."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How members are merged; None: the kind's own default. Raises ConfigError.

    coefficient  how far along the merged task vectors, above 0, at most 10; of `adamerging` where
                 it begins
    texts        of `adamerging`: a file of texts without labels, as `predict` reads them
    steps        of `adamerging`
    density      of `ties`: the share of a task vector that trimming leaves, in (0, 1]
    """

    kind: str = "uniform"
    coefficient: float | None = None
    density: float | None = None
    texts: Path | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, kinds, top in (
            ("coefficient", (*FROM_THE_START, *BY_TEXTS), 10.0),
            ("density", ("ties",), 1.0),
            ("steps", BY_TEXTS, 1e6),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if self.kind not in kinds:
                raise ConfigError(
                    f"--{name} is {value:g}, but --kind {self.kind} has none; it belongs to "
                    f"{' and '.join(kinds)}"
                )
            if not 0.0 < value <= top:
                raise ConfigError(f"--{name} is {value:g}: expected a number in (0, {top:g}]")
        if self.kind in BY_TEXTS and self.texts is None:
            raise ConfigError(
                f"--kind {self.kind} needs --texts FILE, texts without labels that its "
                "coefficients are fitted to"
            )
        if self.kind not in BY_TEXTS and self.texts is not None:
            raise ConfigError(f"--texts is {self.texts}, but --kind {self.kind} reads no texts")
        if self.texts is not None and not self.texts.is_file():
            raise ConfigError(f"--texts is '{self.texts}': there is no such file")

    def knobs(self) -> dict[str, Any]:
        """What decides the weights, beside the members."""
        said: dict[str, Any] = {"kind": self.kind}
        if self.kind in COEFFICIENTS:
            chosen = self.coefficient
            said["coefficient"] = COEFFICIENTS[self.kind] if chosen is None else chosen
        if self.kind == "ties":
            said["density"] = DENSITY if self.density is None else self.density
        if self.texts is not None:
            said["steps"] = STEPS if self.steps is None else self.steps
            said["texts"] = f"sha256:{sha256_of(self.texts)}"
        if self.kind == "regmean":
            said |= {"scale": SCALE, "items": REGMEAN_ITEMS}
        return said


class MergedTask:
    """The members of one task: their weights, a network with the merged ones, and its scores.

    weights  of the members, the best on validation first
    """

    def __init__(self, run: Run, weights: Sequence[Weights], device: str) -> None:
        from safetensors.torch import load_file

        from bluestab.inference.predictor import Predictor

        self.run, self.weights = run, weights
        self.predictor = Predictor([weights[0]], device)
        self.examples: Mapping[Split, Sequence[Example]] = run.data.select(run.seeds)
        whole = dict(self.predictor.network.state_dict()) if self._is_alone() else {}
        self.states = [whole | load_file(one.folder / WEIGHTS) for one in weights]
        self.rows: list[dict[str, Any]] = []
        self.tried: list[dict[str, Any]] = []
        self.merged: dict[str, torch.Tensor] = {}
        self.fitted: dict[str, Any] = {}

    def _is_alone(self) -> bool:
        """Whether the members' files lack the encoder, which is one for all."""
        return missing_encoder(self.weights[0].folder) is not None

    def take(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put these weights into the network: they are the merged ones from now on."""
        self.merged = dict(state)
        self.predictor.take(self.merged)

    def mix(self, chosen: Sequence[int]) -> None:
        """Put the mean of these members into the network."""
        self.take(merging.mean([self.states[i] for i in chosen]))

    def greedy(self) -> list[int]:
        """Positions of the members that stay in."""
        metric = self.run.data.task.headline
        chosen: list[int] = []
        best = -float("inf")
        for i in range(len(self.weights)):
            self.mix([*chosen, i])
            score = self.score("validation")[0][metric.name]
            found = quality(score, metric)
            stays = not chosen or found >= best
            noted = -float("inf") if score is None else score
            self.tried.append({"member": i, "validation": noted, "stays": stays})
            if stays:
                chosen.append(i)
                best = found
        return chosen

    def score(self, split: Split) -> tuple[Scores, list[Any], list[np.ndarray]]:
        """Scores, predictions and logits of a split, by the task's own code."""
        task, labels, examples = self.run.data.task, self.run.data.labels, self.examples[split]
        found = self.predictor.logits(examples)
        logits = [one for _, _, (one,) in found]
        predictions = [
            task.decode(one, parts, example, labels)
            for (parts, _, (one,)), example in zip(found, examples, strict=True)
        ]
        targets = [e.target for e in examples]
        scores = task.score(predictions, targets) | task.calibration(logits, targets, labels)
        return scores, predictions, logits

    def finished(self) -> dict[str, Scores]:
        """Scores of the merged weights on validation and test; test items become `rows`."""
        scores, predictions, logits = self.score("test")
        self.rows = [
            {
                "at": at,
                "id": example.id,
                "prediction": predicted,
                "target": _listed(example),
                "logits": own.ravel().tolist(),
            }
            for at in ("last", "best")
            for example, predicted, own in zip(
                self.examples["test"], predictions, logits, strict=True
            )
        ]
        return {"validation": self.score("validation")[0], "test": scores}

    def write(self, folder: Path) -> None:
        """The merged weights, as transformers reads them, with the first member's other files."""
        from safetensors.torch import save_file

        of_a_member = shutil.ignore_patterns(PATH_INTEGRAL, str(importance_file(Path(), "*")))
        shutil.copytree(self.weights[0].folder, folder, ignore=of_a_member)
        if self._is_alone():
            config = read_json(folder / "config.json")
            config.pop(BASE)
            write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
        save_file(self.merged, folder / WEIGHTS, {"format": "pt"})

    def start(self) -> dict[str, torch.Tensor]:
        """The weights of the encoder that training began with; what was random then is not there.

        Raises ConfigError if a technique of the run drew some of them anew.
        """
        from bluestab.models.networks import load

        run, task = self.run, self.run.data.task
        for name, technique in run.techniques.items():
            if technique.fresh_depths(run.model.facts()):
                raise ConfigError(
                    f"{self.weights[0].said} was trained with {name}, which draws weights of the "
                    "encoder anew: what it added to the checkpoint is no task vector; merge runs "
                    "without it"
                )
        loaded = load(
            run.model,
            head=task.output.head,
            n_labels=task.output.n_outputs(run.data.labels),
            attention=self.weights[0].attention["cpu"],
            init_from=run.init_from,
        )
        random = loaded.fresh | loaded.layers.head
        return {n: value for n, value in loaded.reference.items() if n not in random}

    def encoder(self) -> str:
        """What the names of the encoder's parameters begin with."""
        return f"{self.predictor.network.base_model_prefix}."

    def input_factors(self) -> list[list[Any]]:
        """Of every member those of its linear maps, on training items of its own."""
        found = []
        for run_state in self.states:
            self.predictor.take(run_state)
            found.append(self.predictor.input_factors(self.examples["train"][:REGMEAN_ITEMS]))
        return found


def merge(tasks: Sequence[MergedTask], how: How) -> None:
    """Put the merged weights into the network of every task: one encoder, a head for each.

    The encoder is merged over all members, what stands outside it over those of its task: their
    mean. So is what only some of the tasks' networks have (a pooler), and, where task vectors are
    asked for, what had random values at the start. Raises ConfigError if shapes differ.
    """
    shared = _shared(tasks)
    members = [state for task in tasks for state in task.states]
    encoder = [{n: state[n] for n in shared} for state in members]
    knobs = how.knobs()
    if how.kind in (*FROM_THE_START, *BY_TEXTS):
        start = {n: v for n, v in tasks[0].start().items() if n in shared}
        if how.texts is not None:
            merged = _by_texts(tasks, start, encoder, how.texts, knobs)
        elif how.kind == "ties":
            merged = merging.ties(start, encoder, knobs["coefficient"], knobs["density"])
        else:
            merged = merging.task_arithmetic(start, encoder, knobs["coefficient"])
    elif how.kind == "regmean":
        factors = [own for task in tasks for own in task.input_factors()]
        merged = merging.regmean(encoder, factors, SCALE)
    else:
        merged = merging.mean(encoder)
    for task in tasks:
        task.take(merging.mean(task.states) | merged)


def _by_texts(
    tasks: Sequence[MergedTask],
    start: Mapping[str, torch.Tensor],
    members: Sequence[Mapping[str, torch.Tensor]],
    texts: Path,
    knobs: Mapping[str, Any],
) -> dict[str, torch.Tensor]:
    """The encoder by `adamerging`, under heads that are the mean of each task's. Raises ConfigError
    or DataError for texts that a task cannot read, and for answers without an entropy."""
    unlabelled, n_texts = [], []
    for task in tasks:
        task.take(merging.mean(task.states))
        items = _texts(task, texts)
        output = task.run.data.task.output
        if output.activation == "none":
            raise ConfigError(
                f"--kind adamerging lowers the entropy of answers, and {task.run.data.task.name} "
                "predicts numbers, which have none; leave its runs out"
            )
        batches = task.predictor.endless(items, TEXTS_PER_STEP)
        unlabelled.append(UnlabelledTask(task.predictor.network, output.activation, batches))
        n_texts.append(len(items))
    device = tasks[0].predictor.device
    merged, coefficients = adamerge(
        {n: v.to(device) for n, v in start.items()},
        [{n: v.to(device) for n, v in state.items()} for state in members],
        unlabelled,
        initial=knobs["coefficient"],
        steps=knobs["steps"],
    )
    mean = [sum(own) / len(own) for own in zip(*coefficients.values(), strict=True)]
    for task, n in zip(tasks, n_texts, strict=True):
        task.fitted = {"texts_seen": n, "mean_coefficient_by_member": mean}
    return {name: value.cpu() for name, value in merged.items()}


def _texts(task: MergedTask, path: Path) -> list[Example]:
    """What a task reads in a file of texts; empty ones are left out."""
    from bluestab.inference.formats.base import Position
    from bluestab.inference.formats.recognise import FORMATS, format_of

    kind = task.run.data.task
    name = format_of(path, None, kind)
    sees = look_at_images(task.weights)
    form = FORMATS[name](path, kind, task.run.data.labels, sees=sees)
    found = [item.example for item, _ in form.items(Position()) if item.example is not None]
    if not found:
        raise ConfigError(f"--texts is '{path}', which holds no text that {kind.name} reads")
    return found


def _shared(tasks: Sequence[MergedTask]) -> list[str]:
    """Numbers of the encoder that every member has. Raises ConfigError."""
    first = tasks[0]
    shapes: dict[str, tuple[Any, str]] = {}
    states = [pair for t in tasks for pair in zip(t.weights, t.states, strict=True)]
    for weights, state in states:
        for name, value in state.items():
            if not name.startswith(first.encoder()) or not value.is_floating_point():
                continue
            shape, said = shapes.setdefault(name, (value.shape, weights.said))
            if shape != value.shape:
                raise ConfigError(
                    f"'{name}' has the shape {tuple(shape)} in {said} and {tuple(value.shape)} in "
                    f"{weights.said}: these are networks of two kinds"
                )
    return [name for name in shapes if all(name in state for _, state in states)]


def _listed(example: Example) -> Any:
    return list(example.target) if isinstance(example.target, tuple) else example.target
