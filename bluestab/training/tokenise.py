"""Checked examples -> word pieces, once per content and machine: all runs of a sweep share them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from bluestab.core.caching import Shared
from bluestab.core.keys import TASK_DESCRIPTIVE
from bluestab.core.provenance import versions
from bluestab.core.types import Example, ImageFile
from bluestab.data import cache
from bluestab.data.images import pixels
from bluestab.models.vision_spec import FROZEN
from bluestab.tasks.base import Task
from bluestab.tasks.data import TaskData
from bluestab.tasks.encoded import Encoded

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from bluestab.models.description import Model
    from bluestab.models.vision_spec import VisionSpec

NOT_ENCODED = TASK_DESCRIPTIVE | {
    *("name", "train_size", "shots", "validation_size", "test_size", "folds", "fold", "split_seed"),
    *("metric", "failure_score", "failed_below"),
}
"""Fields of a task that its word pieces do not depend on: the items themselves are looked at."""


Purpose = Literal["items", "training", "scoring"]
"""What rows are for. They differ only where a kind searches (`Output.searches`): training rows hold
candidates, and the rows of candidates stand behind those of the items that are to be scored."""


def tokenised(
    data: TaskData, examples: Sequence[Example], model: Model, purpose: Purpose = "items"
) -> tuple[Dataset, PreTrainedTokenizerFast]:
    """Examples as word pieces (Arrow), computed once per content: see `data/cache.py`."""
    if not data.task.output.searches:
        purpose = "items"
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(example).encode())
        if model.sees is not None and example.image is not None:
            digest.update(example.image.sha256.encode())
    task = data.task
    knobs = {k: v for k, v in vars(task).items() if k not in NOT_ENCODED}
    extra = [data.fingerprint[name] for name in task.extra_files]
    content_of = [knobs, data.labels, *([purpose, extra] if extra else [])]
    said = json.dumps(content_of, sort_keys=True, default=repr)
    parts = {"examples": digest.hexdigest(), "task": [type(task).__name__, said]}
    if model.sees is not None:
        parts["vision"] = model.sees.rows
    seen = None if model.sees is None else model.sees.rows
    content = (digest.hexdigest(), said, type(task), model.identity(), model.lower_case, seen)
    return _tokenised(Shared(content, data, examples, model, parts, purpose))


def encoded(
    task: Task,
    labels: Sequence[str],
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    sees: VisionSpec | None,
    purpose: Purpose = "items",
) -> Encoded:
    """Columns of these items but for their images, for each piece of which stands a placeholder
    after the first word piece. These are no padding: positions and masks count them."""
    if sees is None:
        make = task.encode_training if purpose == "training" else task.encode
        return make(examples, labels, tokenizer)
    short = replace(task, max_length=task.max_length - sees.pieces)
    columns = short.encode(examples, labels, tokenizer)
    fill = tokenizer.unk_token_id
    columns["input_ids"] = [_opened(row, sees.pieces, fill) for row in columns["input_ids"]]
    if "token_type_ids" in columns:
        types = columns["token_type_ids"]
        columns["token_type_ids"] = [_opened(row, sees.pieces, 0) for row in types]
    return columns


def _shown(images: Iterable[ImageFile | None], sees: VisionSpec) -> list[bytes] | list[str]:
    """What rows say of their images."""
    if sees.kind == FROZEN:
        return [image.sha256 for image in images if image is not None]
    return [pixels(image, sees.image_size) for image in images if image is not None]


def _opened(row: list[int], n: int, value: int) -> list[int]:
    return [*row[:1], *[value] * n, *row[1:]]


@lru_cache(maxsize=32)
def _tokenised(shared: Shared) -> tuple[Dataset, PreTrainedTokenizerFast]:
    from datasets import Dataset

    from bluestab.models.tokenizers import load_tokenizer

    data, examples, model, parts, purpose = shared.values
    kind: type[Task] = type(data.task)
    tokenizer = load_tokenizer(model, words=data.task.output.per_word)

    def encode() -> pa.Table:
        task, sees = data.task, model.sees
        columns: dict[str, Any] = dict(
            encoded(task, data.labels, examples, tokenizer, sees, purpose)
        )
        if sees is not None:
            columns["image"] = _shown((examples[i].image for i in columns["example"]), sees)
        more = task.candidates(data.labels, tokenizer) if purpose == "scoring" else None
        if more is not None:
            shifted = {**more, "example": [len(examples) + i for i in more["example"]]}
            columns = {name: [*values, *shifted[name]] for name, values in columns.items()}
        return Dataset.from_dict(columns).data.table

    libraries = {name: versions()[name] for name in ("tokenizers", "transformers")}
    key = cache.key_of(
        {
            **parts,
            "code": cache.code_of(kind),
            "tokenizer": cache.tokenizer_content(tokenizer),
            **libraries,
        }
    )
    table = cache.cached(key, encode)
    return Dataset(table, fingerprint=key), tokenizer
