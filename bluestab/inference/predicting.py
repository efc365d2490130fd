"""The verb `predict`: weights and a file in, the file with answers out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bluestab.core.errors import ConfigError
from bluestab.core.paths import expanded
from bluestab.data.images import image_file
from bluestab.data.locate import sha256_of
from bluestab.inference.answers import check_threshold
from bluestab.inference.formats.base import (
    SUFFIXES,
    Format,
    as_json,
    item_of,
    needs_pair,
    suffix_of,
)
from bluestab.inference.formats.recognise import FORMATS, format_of
from bluestab.inference.stream import Counts, Progress, answered, predict_file
from bluestab.inference.weights import Weights, look_at_images, open_weights
from bluestab.store.store import Store
from bluestab.tasks.base import Task
from bluestab.tasks.data import digest_of

OVERLAP = 64
"""Word pieces that windows of a long text share, where its task would cut it."""


@dataclass(frozen=True)
class Order:
    """What a person asks for; see the options of `bluestab predict`."""

    names: tuple[str, ...]
    source: Path
    output: Path
    form: str | None
    text: str | None
    text_pair: str | None
    image: str | None
    threshold: float | None
    score: bool


@dataclass(frozen=True)
class Done:
    """What came of it."""

    counts: Counts
    weights: list[Weights]
    form: str
    format: Format | None
    output: Path

    def sentence(self, seconds: float) -> str:
        counts = self.counts
        fresh = counts.items - counts.begun
        said = f"wrote {self.output}: {counts.items:,} items"
        if self.weights[0].task.output.per_word:
            said += f", {counts.entities:,} mentions"
        for number, what in (
            (counts.begun, "from before"),
            (counts.empty, "without text"),
            (counts.truncated, "cut at task.max_length"),
            (counts.abstained, "below --abstain-below and left out"),
        ):
            said += f", {number:,} {what}" if number else ""
        rate = fresh / max(seconds, 1e-9)
        return f"{said}; {rate:,.{0 if rate >= 10 else 2}f} items per second with loading"


def carry_out(
    order: Order, store: Store, device: str, pieces: int, progress: Progress = lambda *_: None
) -> Done:
    """Raises BluestabError for whatever is wrong with weights, options, input or output."""
    if not order.source.exists():
        raise ConfigError(f"--input is '{order.source}': there is no such file")
    if not order.output.parent.is_dir():
        raise ConfigError(f"--output is '{order.output}': there is no folder {order.output.parent}")
    weights = open_weights(order.names, store)
    task, labels = weights[0].task, weights[0].labels
    check_threshold(task, order.threshold)
    name = format_of(order.source, order.form, task)
    if order.form == "task" and SUFFIXES.get(suffix_of(order.output)) in ("csv", "jsonl"):
        name = "task"  # words, too: what is written is what the name of the output says
    if order.score and (name not in ("conll", "task") or order.threshold is not None):
        raise ConfigError(
            "--score reads gold labels as the task does, so it needs --format task (or conll), and "
            "no --abstain-below"
        )
    form = None
    if name != "brat":
        form = FORMATS[name](
            order.source,
            task,
            labels,
            text=order.text,
            text_pair=order.text_pair,
            several=len(weights) > 1,
            image=order.image,
            sees=look_at_images(weights),
        )
        form.writes_to(order.output)
    elif not order.source.is_dir():
        raise ConfigError(f"--format brat reads a folder of .txt files; {order.source} is none")
    elif order.text or order.text_pair or order.image:
        raise ConfigError("--text, --text-pair and --image name columns; --format brat has none")
    if form is None or not form.as_trained:
        weights = [replace(one, task=in_windows(one.task)) for one in weights]

    from bluestab.inference.brat import predict_folder
    from bluestab.inference.predictor import Predictor

    predictor = Predictor(weights, device, threshold=order.threshold, pieces=pieces)
    made = {
        "weights": [one.sha256 for one in weights],
        "options": {
            "format": name,
            "text": order.text,
            "text_pair": order.text_pair,
            **({} if order.image is None else {"image": order.image}),
            "abstain_below": order.threshold,
        },
    }
    answering = predictor.answers
    if form is None:
        counts = predict_folder(order.source, task, labels, answering, order.output, made, progress)
    else:
        counts = predict_file(form, answering, order.output, made, progress)
    return Done(counts, weights, name, form, order.output)


def predict_texts(
    weights: Sequence[Weights],
    texts: Sequence[Any],
    device: str,
    threshold: float | None = None,
    pieces: int = 8192,
) -> list[dict[str, Any]]:
    """An answer per text, as `formats.base.as_json` gives it.

    texts      texts, or pairs of texts where the task reads two; where a network looks at images,
               questions with the paths of these
    threshold  probability in [0, 1] below which nothing is predicted
    pieces     word pieces per batch, with padding

    Raises ConfigError if the task cannot abstain, or for what is no text or pair of texts;
    DataError for what is no image.
    """
    from bluestab.inference.predictor import Predictor

    task, labels = weights[0].task, weights[0].labels
    check_threshold(task, threshold)
    sees = look_at_images(weights)
    wanted = 2 if sees or needs_pair(task) else 1
    items = []
    for number, given in enumerate(texts):
        parts = tuple(given) if isinstance(given, list | tuple) else (given,)
        parts = tuple(str(part) if isinstance(part, Path) else part for part in parts)
        if len(parts) != wanted or not all(isinstance(part, str) for part in parts):
            what = "a pair of texts" if wanted == 2 else "a text"
            what = "a question and the path of an image" if sees else what
            raise ConfigError(f"texts[{number}] is {given!r}: task '{task.name}' reads {what}")
        text, pair = (*parts, None)[:2]
        image = None
        if sees:
            file, pair = expanded(parts[1]), None
            image = image_file(file.parent, file.name, file, None)
        items.append(item_of(task, labels, text, pair, f"text {number}", image))
    own = [replace(one, task=in_windows(one.task)) for one in weights]
    predictor = Predictor(own, device, threshold=threshold, pieces=pieces)
    return [
        as_json(a, i) for a, i in zip(answered(task, predictor.answers, items), items, strict=True)
    ]


def in_windows(task: Task) -> Task:
    """New text is never cut silently where it can be read in windows."""
    if task.output.per_word and getattr(task, "overlap", 0) is None:
        return replace(task, overlap=OVERLAP)  # type: ignore[call-arg]
    return task


def score_lines(order: Order, done: Done) -> Iterator[str]:
    """The task's scores of what was written; beside the record's, if it is the record's file."""
    assert done.format is not None
    task = done.weights[0].task
    items = task.read(order.source)
    predictions = list(done.format.predictions(order.output))
    if len(items) != len(predictions):
        raise ConfigError(
            f"{order.source} holds {len(items)} items as its task reads it, but --format "
            f"{done.form} answered {len(predictions)}: no score"
        )
    scores = task.score(predictions, [example.target for example in items])
    digest = digest_of(items) if task.own else sha256_of(order.source)
    for name in task.metrics:
        value = scores[name]
        yield f"  {name} {'undefined' if value is None else repr(value)}"
    for one in done.weights:
        if one.test is not None and one.test[0] == digest:
            recorded, found = one.test[1], scores[task.metric]
            same = "the same" if recorded == found else _apart(recorded, found)
            several = " of this seed alone" if len(done.weights) > 1 else ""
            yield f"  record {one.said}{several}: {task.metric} {recorded!r}, {same}"


def _apart(recorded: float | None, found: float | None) -> str:
    """Numbers of other batches differ in their last digits; classes and tags hardly ever do."""
    if recorded is None or found is None:
        return "another score"
    return f"{found - recorded:+.1e} apart"
