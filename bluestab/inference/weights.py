"""Trained weights that somebody names: a run that kept them, or a folder that `export` wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bluestab.core import plain_files
from bluestab.core.errors import ConfigError
from bluestab.core.instantiate import instantiate
from bluestab.core.keys import NEUTRAL, OF_THE_MODEL
from bluestab.core.knobs import ATTENTION
from bluestab.core.paths import expanded, real
from bluestab.core.types import At, RunRecord
from bluestab.data.locate import sha256_of
from bluestab.models import untrusted
from bluestab.models.description import Model, check_model
from bluestab.models.init_from import check_saved, finished, parse, verified
from bluestab.store.store import Store
from bluestab.tasks.base import Task
from bluestab.tasks.data import complete_task

MANIFEST = "bluestab.json"
SCHEMA = 1
MEMBER = re.compile(r"\.|[\w-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One trained network in a folder, and all that applying it needs.

    said       how a person names it
    sha256     of model.safetensors
    base       the model that was trained: where `folder` lacks the encoder, it is this one's
    precision  32 | bf16, and attention per device: as in the training
    test       SHA-256 of the task's test file, and the score there; None if the task took a part
    """

    folder: Path
    sha256: str
    task: Task
    labels: tuple[str, ...]
    model: Model
    precision: str
    attention: Mapping[str, str]
    said: str
    test: tuple[str, float | None] | None
    base: Model | None = None


def look_at_images(weights: Sequence[Weights]) -> bool:
    """Whether any of these networks does."""
    return any(one.model.sees is not None for one in weights)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, which of its weights are meant, and its resolved config."""

    folder: Path
    at: At
    record: RunRecord
    cfg: Mapping[str, Any]

    @property
    def store(self) -> Store:
        return Store(self.folder.parent)

    @property
    def said(self) -> str:
        return f"{self.record.key}:{self.at}"

    def test(self) -> tuple[str, float | None] | None:
        """SHA-256 of the file of test items, and their score; None if no file holds just these."""
        result = self.record.result
        if self.cfg["task"]["test_size"] is not None or result["metrics"] is None:
            return None
        digest = result["config"]["data"].get("test")
        if digest is None:  # test items were drawn: no file holds them
            return None
        return digest, result["metrics"][self.at]["test"][result["metric"]]


def find_run(text: str, store: Store, knob: str = "RUN") -> FinishedRun:
    """The finished run that a person names by its key, its first digits, or its folder; `:best`
    behind it means the best weights. Raises ConfigError."""
    folder, at, record = finished(text, store, knob)
    if record.status != "done":
        raise ConfigError(
            f"{knob} is '{text}': run {record.key} {record.status} "
            f"({record.result['error']['message']}), so it has no weights; name another run"
        )
    cfg = plain_files.read_yaml(folder / "config.yaml", may_refer=("logger",))
    for part in ("task", "model", "trainer", "technique"):
        if not isinstance(cfg.get(part), dict):
            raise ConfigError(f"{folder / 'config.yaml'} holds no {part}")
    return FinishedRun(folder, at, record, cfg)


def is_export(text: str) -> bool:
    return (expanded(text) / MANIFEST).is_file()


def open_weights(names: Sequence[str], store: Store) -> list[Weights]:
    """All networks that these runs and exported folders hold, in order.

    Raises ConfigError if something is missing, damaged, or does not answer the same question.
    """
    found: list[Weights] = []
    for name in names:
        if is_export(name):
            found += of_export(expanded(name))
        elif (expanded(name) / "config.json").is_file() and "checkpoint" not in name:
            raise ConfigError(
                f"{name} holds no {MANIFEST}, which says what the task is and how its words are "
                "read; name a run, or a folder that bluestab export wrote"
            )
        else:
            _check_named(name)
            found.append(of_run(find_run(name, store)))
    first = found[0]
    for other in found[1:]:
        if _question(other) != _question(first):
            raise ConfigError(
                f"{first.said} answers for {first.task.name} {list(first.labels)}, {other.said} "
                f"for {other.task.name} {list(other.labels)}: only equal questions are averaged"
            )
    if len({real(w.folder) for w in found}) < len(found):
        raise ConfigError("the same weights are named twice; several runs must be different ones")
    return found


def _check_named(name: str) -> None:
    """Raises ConfigError for what is neither the key of a run nor a path; an export that is not
    there, or not written yet, looks so."""
    try:
        parse(name, "RUN")
    except ConfigError as error:
        raise ConfigError(
            f"{error}, or one that bluestab export wrote; there is no folder {name} here"
        ) from error


def _question(weights: Weights) -> tuple[str, tuple[str, ...]]:
    """What is answered. An own task is called after its file, which may have been renamed."""
    task = weights.task
    return type(task).__name__ if task.own else task.name, weights.labels


def of_run(run: FinishedRun) -> Weights:
    """What a run kept. Raises ConfigError if it kept nothing, or if it is damaged."""
    where = f"RUN is '{run.said}'"
    check_saved(run.folder, run.at, run.record, run.store, where)
    digest = verified(run.folder, run.at, run.record, run.store, where)
    folder = run.folder / "checkpoint" / run.at
    parts = {"task": run.cfg["task"], "model": run.cfg["model"]}
    trainer = run.cfg["trainer"]
    return _weights(
        folder, parts, digest, run.said, trainer["precision"], trainer["attention"], run.test()
    )


def of_export(folder: Path) -> list[Weights]:
    """The networks of a folder that `export` wrote: one, or the members of an ensemble."""
    file = folder / MANIFEST
    said = plain_files.read_json(file)
    if said.get("schema") != SCHEMA:
        raise ConfigError(
            f"{file} has schema {said.get('schema')!r}, this version of bluestab reads {SCHEMA}"
        )
    try:
        found = []
        for member in said["members"]:
            if not MEMBER.fullmatch(str(member["folder"])):
                raise ConfigError(f"{file} names the folder {member['folder']!r}: no plain name")
            alone = member["folder"] == "."
            inner = folder if alone else plain_files.inside(folder, member["folder"], str(file))
            weights = plain_files.inside(inner, untrusted.WEIGHTS, str(file))
            untrusted.check_weights(inner)
            if (digest := sha256_of(weights)) != member["sha256"]:
                raise ConfigError(
                    f"{weights} is damaged or another one: its SHA-256 is not the one in {MANIFEST}"
                )
            name = str(inner) if len(said["members"]) > 1 else str(folder)
            test = None if member["test"] is None else tuple(member["test"])
            parts = {"task": said["task"], "model": said["model"]}
            found.append(
                _weights(inner, parts, digest, name, said["precision"], said["attention"], test)
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file} lacks {error}: it is not what bluestab export writes") from error
    if not found:
        raise ConfigError(f"{file} names no members")
    return found


def _weights(
    folder: Path,
    parts: Mapping[str, Any],
    digest: str,
    said: str,
    precision: object,
    attention: Mapping[str, str],
    test: Any,
) -> Weights:
    config = untrusted.check_weights(folder)
    task = instantiate(complete_task(parts["task"]), Task, "task")  # type: ignore[type-abstract]
    if task.output.head.pretrains:
        raise ConfigError(
            f"{said} is a pretrained encoder, which answers no question: fine-tune it on a task, "
            f"with model.init_from={said} or model.path={folder}"
        )
    # the folder is the model now, whatever its training began with
    base = replace(instantiate(_complete(parts["model"]), Model, "model"), init_from=None)
    model = replace(
        base,
        hub=None,
        package=None,
        config=None,
        vocabulary=None,
        path=str(folder),
        sha256=digest,
    )
    problems = task.check() + check_model(model)
    if problems:
        raise ConfigError(*(f"{folder}: {problem}" for problem in problems))
    names = config.get("id2label")
    if not isinstance(names, dict) or set(names) != {str(i) for i in range(len(names))}:
        raise ConfigError(f"{folder / 'config.json'} does not name its labels (id2label)")
    labels = tuple(str(names[str(i)]) for i in range(len(names)))
    if (
        str(precision) not in ("32", "bf16")
        or not isinstance(attention, Mapping)
        or set(attention) != {"cpu", "cuda", "mps"}
        or not all(map(ATTENTION[0], attention.values()))  # transformers takes names of hub code
    ):
        raise ConfigError(f"{folder}: precision {precision!r} or attention {attention!r} is wrong")
    return Weights(
        folder=folder,
        sha256=digest,
        task=task.settled(labels, ()),
        labels=labels,
        model=model,
        precision=str(precision),
        attention=dict(attention),
        said=said,
        test=test,
        base=base,
    )


def _complete(node: Mapping[str, Any]) -> dict[str, Any]:
    """The yaml of a model as runs of earlier versions kept it, with the fields added since."""
    return {"final_norm": None, **{knob: NEUTRAL[knob] for knob in OF_THE_MODEL}, **node}


def to_manifest(content: Mapping[str, Any]) -> str:
    """Text of `bluestab.json`."""
    return json.dumps({"schema": SCHEMA, **content}, indent=1, ensure_ascii=False) + "\n"
