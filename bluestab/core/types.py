"""The nouns every floor shares: frozen, without behaviour, documented once.

The record is the contract between a run and everything that reads it later; its fields are listed
at `RunRecord`. Torch appears in annotations only, so that reading records needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch


IGNORED = -100
"""Label of a word piece that has none: the value torch's cross-entropy skips."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Status = Literal["done", "diverged", "crashed", "running"]
"""done: trained and scored; diverged: met a non-finite loss (a result); crashed: an exception or a
kill (no result, tried again by the next command); running: claimed and not yet finished."""

At = Literal["last", "best"]
"""Weights after the last step / at the best validation score (the earliest, if tied)."""


@dataclass(frozen=True)
class ImageFile:
    """An image that was found and checked: where it lies, and the SHA-256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Example:
    """One item: its text, or its words (tagging), and the target (class name, number, tags).

    group    what it belongs to (a document): items of one group are never split apart
    offsets  of the words in the text they come from, (start, end exclusive) in characters; None
             where the file gives words
    image    what a question is about
    """

    id: str
    text: str | tuple[str, ...]
    text_pair: str | None
    target: str | float | tuple[str, ...]
    # not in repr, which is what word pieces are cached by
    group: str | None = field(default=None, repr=False)
    offsets: tuple[tuple[int, int], ...] | None = field(default=None, repr=False)
    image: ImageFile | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before any of it is loaded.

    layers: number of blocks; hidden_size: width; max_length: longest input in word pieces;
    pooler: whether the encoder has one that the head uses (sequence heads only); family:
    transformers' `model_type`.
    """

    name: str
    family: str
    layers: int
    hidden_size: int
    max_length: int
    pooler: bool


@dataclass(frozen=True)
class StepOutput:
    """Result of one training step before the backward pass: scalar loss, logits of the batch."""

    loss: torch.Tensor
    logits: torch.Tensor


Batch = Mapping[str, Any]
Step = Callable[[Batch], StepOutput]
Corruption = Callable[[Batch, int, tuple["str | int", ...]], dict[str, Any]]
"""(batch, seed, names of the stream) -> the batch that is trained or scored on; each row draws from
a stream of its own, so that it does not matter which others it meets."""


@dataclass(frozen=True)
class Head:
    """What stands on the encoder: transformers' class for both, and whether it gives logits for
    every word piece, (B, T, C), or for the text, (B, C); or nothing, and it gives the text's vector
    (`models/bi_encoder.py`).

    pretrains  it is what encoders are pretrained with: one with random weights is drawn by the
               run's seed, and logits are computed at the positions of a batch that count, alone
    vector     nothing stands there, and a text gives its vector (`models/bi_encoder.py`)
    """

    auto_class: str
    per_word: bool
    pretrains: bool = False
    vector: bool = False


SEQUENCE = Head("AutoModelForSequenceClassification", per_word=False)
TOKEN = Head("AutoModelForTokenClassification", per_word=True)
MASKED = Head("AutoModelForMaskedLM", per_word=True, pretrains=True)
VECTOR = Head("AutoModelForSequenceClassification", per_word=False, vector=True)
DETECTION = Head("AutoModelForPreTraining", per_word=True, pretrains=True)

Progress = Callable[[int, int, "float | None", "float | None"], None]
"""(step, total steps, training loss, validation score): called often, must be quick."""

Watch = Callable[[Sequence[Mapping[str, Any]]], None]
"""Shown all rows of the curve so far, of which the last is new."""


WEIGHTS_TO_KEEP: Mapping[str, tuple[At, ...]] = {
    "none": (),
    "last": ("last",),
    "best": ("best",),
    "all": ("last", "best"),
}
"""Value of `keep` -> the weights a finished run leaves behind."""

Labels = Literal["gold", "sampled", "exact"]
LABELS: tuple[Labels, ...] = ("gold", "sampled", "exact")
"""Of E_y in Fisher information: the label of the data (the empirical Fisher), one drawn from the
network's own answer, or the expectation over all answers (a backward pass per piece and class)."""

Sharing = Literal["expand", "reduce"]
SHARING: tuple[Sharing, ...] = ("expand", "reduce")
"""How the word pieces of an item go into Kronecker factors (`models/fisher.py`)."""

IMPORTANCES: tuple[str, ...] = (
    *(f"diagonal-{labels}" for labels in LABELS),
    *(f"kronecker-{labels}-{sharing}" for labels in LABELS for sharing in SHARING),
    "sensitivity",
    "weighted",
)
"""What `keep_importance` may list; each is explained in `models/importance.py`."""

RECORD_SCHEMA = 2


@dataclass(frozen=True)
class RunRecord:
    """Everything worth keeping of one run, as written to `record.json`.

    result    canonical: the same config on the same kind of machine gives the same bytes
        key, cell         hex digests: the run / the run without its seeds
        config            the hashed configuration (what decides the result), seeds included
        status            done | diverged | crashed
        metric            name of the headline metric
        metrics           at -> split -> metric name -> float or null (undefined)
        score             at -> test score that statistics use: the metric, or `failure_score`
                          where it is undefined or the run diverged
        degenerate        at -> bool: score not better than `failed_below`, or undefined
        failed_below      the bound that was applied
        failure_score     the score given to runs without one
        best_step         optimizer step of the best validation score
        steps, warmup_steps   optimizer steps taken; of these, steps of warm-up
        items             split -> number of items; truncated: split -> items cut at max_length
        lost              unit, and split -> share in [0, 1] of the items' characters (gold
                          entities, ...) that lie beyond max_length; absent before 0.2
        parameters        total, trainable
        effects           technique name -> what it did to this model
        censored          null, or {step, sign}: stopped there because it showed early signs of
                          failure, and scored as it stood (`stop_degenerate`); absent before 0.2
        earlier           with `score_earlier` alone: for each task of the runs behind
                          `model.init_from`, the first first: task, run (its key), metric, and at
                          -> test metric name -> value, with the head that run left, or
                          the one that all share (`shared_head`)
        micro_batch       items per forward and backward pass; null: the whole batch; absent
                          before 0.2
        error             null, or {type, message} of a crash or divergence
    measured  may differ from one repetition to the next
        names (what a person calls task, model, techniques, seed; init_from: run, at and task of
        the weights it started from, if it did), seconds (prepare, fit, score, total), phases
        (seconds, see `training/loop/phases.py`; profiled: whether the device was waited for),
        peak_memory_mb, memory (bytes of weights, gradients, moments and saved activations where
        these were most in a step of training, of the largest tensor restored from fewer bytes
        (unpacked), and their total: `training/loop/counted_memory.py`; absent before 0.2; of runs
        that trained as one, a share each), tokens_per_second, device, attention, precision,
        eval_batch_size (that memory sufficed for),
        frozen_prefix (blocks whose output was computed once, or null), resumed_from (step of the
        checkpoint, or null), versions, commit, dirty, host, command, finished (UTC)
        files             name below the run's folder -> SHA-256, of all but `record.json`; null in
                          records of schema 1
    """

    schema: int
    result: Mapping[str, Any]
    measured: Mapping[str, Any]

    @property
    def key(self) -> str:
        return str(self.result["key"])

    @property
    def status(self) -> Status:
        return self.result["status"]  # type: ignore[no-any-return]

    @property
    def failed(self) -> bool:
        """Degenerate or diverged at the last step: the only meaning of "failed"."""
        return self.status == "diverged" or bool((self.result["degenerate"] or {}).get("last"))
