"""What every task promises, tried on any of them with small files.

Its yaml instantiates and describes itself; a wrong value is one sentence; every key is part of a
run's identity or says nothing about it; its columns fit what the loop reads of them; a step of
training and a scoring work; perfect predictions get the best score and constant ones count as
failed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from bluestab.core.config import compose, resolved
from bluestab.core.instantiate import instantiate
from bluestab.core.keys import NEUTRAL, TASK_DESCRIPTIVE
from bluestab.core.types import SPLITS
from bluestab.models.tokenizers import load_tokenizer
from bluestab.tasks.base import Task
from bluestab.tasks.data import TaskData, complete_task
from bluestab.testing.corpora import ANY_FILE, write_corpus
from bluestab.testing.plugins import Suite, node, yaml_of
from bluestab.training.assemble import Assembly, assemble
from bluestab.training.check import Run, check

WRONG = (
    ({"metric": "elegance"}, "task.metric is 'elegance'"),
    ({"train_size": 0}, "task.train_size is 0"),
    ({"max_length": 1}, "task.max_length is 1"),
    ({"format": "docx"}, "task.format is 'docx'"),
    ({"failed_below": "low"}, "task.failed_below is 'low'"),
    ({"failure_score": None}, "task.failure_score is None"),
)
"""A change of the yaml -> how the sentence about it begins."""


class TaskSuite(Suite):
    """A child names its yaml, and files where the small ones of `corpora` are of another format.

    task   name of the yaml, which is that of the task
    files  folder with the files that the yaml names; None: small ones are made
    best   metric -> its value for perfect predictions, where that is not 1
    """

    task: ClassVar[str]
    files: ClassVar[Path | None] = None
    best: ClassVar[Mapping[str, float]] = {"rmse": 0.0}

    @pytest.fixture(scope="class")
    @classmethod
    def name(cls) -> str:
        """The task that is tried."""
        return cls.task

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, surroundings: None, name: str) -> dict[str, Any]:
        """What its yaml holds."""
        return node(yaml_of("task", name))  # type: ignore[no-any-return]

    @pytest.fixture(scope="class")
    @classmethod
    def run(
        cls, small_corpora: Path, name: str, found: dict[str, Any], tmp_path_factory: Any
    ) -> Run:
        """One run of it, with a tiny model."""
        folder = cls.files
        if folder is None:
            folder = small_corpora / found.get("corpus", name)
            if not folder.is_dir():
                write_corpus(small_corpora, found)
        overrides = [f"task={name}", "model=tiny", "device=cpu", f"task.data_dir={folder}"]
        overrides += [f"task.{key}=null" for key in found if key.endswith("_sha256")]
        step = ["optim.steps=1", "optim.batch_size=4", "optim.warmup=0"]
        store = f"store={tmp_path_factory.mktemp('runs')}"
        return check(resolved(compose([*ANY_FILE, *overrides, *step, store])))

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, run: Run) -> tuple[Assembly, dict[str, torch.Tensor]]:
        """It after a step of training and a test, and the weights that it began with."""
        assembly = assemble(
            run,
            device=torch.device("cpu"),
            progress=lambda *_: None,
        )
        before = {n: p.detach().clone() for n, p in assembly.built.model.named_parameters()}
        loaders = assembly.loaders
        assembly.trainer.fit(assembly.module, loaders["train"], loaders["validation"])
        assembly.trainer.test(assembly.module, loaders["test"], verbose=False)
        return assembly, before

    def test_the_yaml_and_the_class_agree(self, name: str, found: dict[str, Any]) -> None:
        task = task_of(found)
        assert task.name == name
        assert task.check() == []
        assert task.metric in task.metrics
        assert task.failed_below is None or task.failure_score <= task.failed_below
        assert found["recipe"].keys() == {"lr", "batch_size", "epochs"}
        assert found["sha256"].keys() == set(SPLITS)

    def test_a_wrong_value_is_one_sentence(self, found: dict[str, Any]) -> None:
        for change, sentence in WRONG:
            (problem,) = task_of({**found, **change}).check()
            assert problem.startswith(sentence)

    def test_every_key_is_hashed_or_descriptive(self, run: Run, found: dict[str, Any]) -> None:
        hashed = run.hashed["task"]
        keys = {"kind" if key == "_target_" else key for key in found}
        neutral = {path.removeprefix("task.") for path in NEUTRAL if path.startswith("task.")}
        descriptive = TASK_DESCRIPTIVE | run.data.task.descriptive
        assert hashed.keys() | (descriptive & keys) == keys - (neutral - hashed.keys())
        assert not hashed.keys() & descriptive
        assert keys >= TASK_DESCRIPTIVE, "a descriptive key that no yaml has"

    def test_columns_fit_together(self, run: Run) -> None:
        """Each item has a row, in order; a row's labels and parts are as many as its logits."""
        task, model = run.data.task, run.model
        examples = run.data.splits["train"]
        columns = task.encode(examples, run.data.labels, load_tokenizer(model))
        wanted = {"input_ids", "labels", "rows", "example", "truncated", "lost"}
        assert wanted <= columns.keys()
        assert len({len(columns[name]) for name in columns}) == 1  # type: ignore[literal-required]
        assert list(dict.fromkeys(columns["example"])) == list(range(len(examples)))
        assert columns["example"] == sorted(columns["example"])
        assert max(map(len, columns["input_ids"])) <= task.max_length
        for labels, rows in zip(columns["labels"], columns["rows"], strict=True):
            if task.output.per_word:
                assert sum(label != -100 for label in labels) == len(rows)
            else:
                assert rows == [0]

    def test_a_step_and_a_score(self, fitted: tuple[Assembly, dict[str, torch.Tensor]]) -> None:
        assembly, before = fitted
        task, scores = assembly.data.task, assembly.module.scores
        assert tuple(scores) == (*task.metrics, *task.extras)
        assert all(value is None or math.isfinite(value) for value in scores.values())
        assert len(assembly.module.predictions) == len(assembly.examples["test"])
        parameters = dict(assembly.built.model.named_parameters())
        if task.output.head.vector:  # it has no parameters: what gives the vector moves
            top = assembly.built.layers.names(assembly.built.layers.n_layers)
            head = {n: parameters[n] for n in top if n.endswith("weight")}
        else:
            head = {n: p for n, p in parameters.items() if n.startswith("class")}
        assert head
        assert all(not torch.equal(before[n], p) for n, p in head.items())

    def test_perfect_is_the_maximum(self, run: Run) -> None:
        judge_extremes(run.data, self.best)


def task_of(found: Mapping[str, Any]) -> Task:
    """The task that a yaml's node describes, which may be of an earlier version."""
    return instantiate(complete_task(found), Task, "task")  # type: ignore[type-abstract]


def judge_extremes(data: TaskData, best: Mapping[str, float] = TaskSuite.best) -> None:
    """Perfect predictions have the best scores and are no failure; no score is one."""
    task = data.task
    targets = [e.target for e in data.splits["test"]]
    perfect = task.score([list(t) if isinstance(t, tuple) else t for t in targets], targets)
    assert perfect == pytest.approx({metric: best.get(metric, 1.0) for metric in task.metrics})
    assert not task.is_degenerate(perfect[task.metric])
    assert task.is_degenerate(None)
    assert task.is_degenerate(task.failure_score)
