"""Masked language modelling on raw text: what encoders are pretrained with, as a task.

An item is a document. Its word pieces are packed into rows of `max_length`, none of which holds
parts of two documents; which pieces are masked is drawn whenever a row is used (`masking.py`): in
training from the stream of the run's step, in evaluation from one of the row, the same for all
runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.types import Corruption, Example, Split
from bluestab.data.formats.raw_text import (
    DOCUMENTS,
    TABLES,
    TEXT,
    Raw,
    documents_of_rows,
    documents_of_text,
    files_in,
    format_of_raw,
)
from bluestab.tasks.base import Corpus
from bluestab.tasks.encoded import Encoded
from bluestab.tasks.metric import PERPLEXITY, Metric
from bluestab.tasks.outputs import MASKED_PIECES, Output
from bluestab.tasks.own import READING, OwnFiles, noted

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast

GUESSES = 30_522
"""Pieces of BERT's uncased vocabulary."""
AT_ONCE = 1_000_000
"""Characters of documents that are cut into word pieces together: 100 MB at once would take
gigabytes."""


@dataclass(frozen=True, kw_only=True)
class MaskedLanguage(OwnFiles):
    """Documents, of which some word pieces are hidden and to be said.

    documents    what one is in a text file, see `raw_text.DOCUMENTS`
    mask_share   of the pieces that are chosen; masked, randomly: of these, become [MASK], or
                 another piece; whole_words: all pieces of a word are chosen together
    """

    text: str | int | None
    documents: str
    mask_share: float
    masked: float
    randomly: float
    whole_words: bool

    formats: ClassVar[tuple[str, ...]] = ("auto", TEXT, *TABLES)
    output: ClassVar[Output] = MASKED_PIECES
    metrics: ClassVar[Mapping[str, Metric]] = PERPLEXITY
    extras: ClassVar[tuple[str, ...]] = ("masked_accuracy",)
    descriptive: ClassVar[frozenset[str]] = READING | {"documents"}
    columns: ClassVar[tuple[str, ...]] = ("text",)
    windows: ClassVar[bool] = True

    def check(self) -> list[str]:
        problems = super().check()
        if self.documents not in DOCUMENTS:
            problems.append(
                f"task.documents is {self.documents!r}"
                + did_you_mean(str(self.documents), DOCUMENTS)
            )
        if not _is_share(self.mask_share) or self.mask_share in (0, 1):
            problems.append(f"task.mask_share is {self.mask_share!r}: expected a share in (0, 1)")
        shares = {"masked": self.masked, "randomly": self.randomly}
        problems += [
            f"task.{knob} is {value!r}: expected a share in [0, 1]"
            for knob, value in shares.items()
            if not _is_share(value)
        ]
        if all(map(_is_share, shares.values())) and self.masked + self.randomly > 1:
            problems.append(
                f"task.masked={self.masked} and task.randomly={self.randomly} are more than all "
                "of the chosen pieces: expected a sum of at most 1"
            )
        if not isinstance(self.whole_words, bool):
            problems.append(f"task.whole_words is {self.whole_words!r}: expected true or false")
        return problems

    # --- documents ---

    def read_all(self, paths: Mapping[Split, Path]) -> Corpus:
        splits: dict[Split, list[Example]] = {}
        said: dict[Split, tuple[Path, list[str]]] = {}
        for split, path in paths.items():
            files = files_in(path)
            items: list[Example] = []
            notes: list[str] = []
            for file in files:
                found, notes = self.documents_in(file)
                within = f"{file.relative_to(path)} " if len(files) > 1 else ""
                items += (Example(f"{within}{name}", text, None, 0.0) for name, text in found)
            if len(files) > 1:
                notes = [f"{len(items)} documents in {len(files)} files"]
            splits[split], said[split] = items, (path, notes)
        return Corpus(splits, noted(said))

    def documents_in(self, path: Path) -> tuple[list[Raw], list[str]]:
        """Documents of one file, and notes. Raises DataError for what cannot be read."""
        kind = format_of_raw(path) if self.format == "auto" else self.format
        if kind == TEXT:
            return documents_of_text(path, self.documents)
        rows = self.rows(path, kind, [self.text])
        return documents_of_rows(rows, lambda rows: self.column(rows, "text"))

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        return ("masked piece",)

    def constants(
        self, labels: Sequence[str], items: Sequence[Example]
    ) -> Mapping[str, Sequence[Any]]:
        """A guess among as many pieces as BERT has; how many this model has is not known here."""
        return {f"a guess among {GUESSES:,} pieces": [math.log(GUESSES)] * len(items)}

    # --- rows ---

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        """Every document in rows of `max_length` pieces and a rest; those without any piece (white
        space of a kind) in an empty row."""
        import numpy as np

        before, after = _around(tokenizer)
        width = self.max_length - len(before) - len(after)
        rows: list[Any] = []  # int32 arrays: as lists, pieces would take thirty times the text
        example: list[int] = []
        for i, pieces in enumerate(_pieces(examples, tokenizer)):
            for start in range(0, max(1, len(pieces)), width):
                window = [*before, *pieces[start : start + width], *after]
                rows.append(np.asarray(window, dtype=np.int32))
                example.append(i)
        n = len(rows)
        return Encoded(
            input_ids=rows,
            labels=[0] * n,  # drawn with the masks
            rows=[[0]] * n,
            example=example,
            truncated=[False] * n,
            lost=[0] * n,
        )

    def corruption(self, tokenizer: PreTrainedTokenizerFast) -> Corruption:
        """Raises ConfigError for a vocabulary without a mask."""
        from bluestab.tasks.masking import masking_of

        if tokenizer.mask_token_id is None:
            raise ConfigError(
                f"task '{self.name}' masks word pieces, but the vocabulary of this model has no "
                "mask token; name another model, or a model.vocabulary that has one"
            )
        return masking_of(
            tokenizer,
            share=self.mask_share,
            masked=self.masked,
            randomly=self.randomly,
            whole_words=self.whole_words,
        )

    # --- loss and scores ---

    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Cross-entropy over the vocabulary, mean over masked pieces."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())

    def preprocess_logits_for_metrics(
        self, logits: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Of logits (B, K, V): negative log-likelihood of the right piece, and whether it is the
        likeliest, (B, K, 2)."""
        import torch
        from torch.nn.functional import cross_entropy

        flat, right = logits.flatten(0, 1), labels.flatten()
        surprise = cross_entropy(flat, right, reduction="none")
        correct = (flat.argmax(dim=-1) == right).to(surprise.dtype)
        return torch.stack([surprise, correct], dim=-1).view(*labels.shape, 2)

    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> list[float]:
        return [float(x) for x in logits[:, 0]]

    def calibration(
        self, logits: Sequence[np.ndarray], targets: Sequence[Any], labels: Sequence[str]
    ) -> dict[str, float | None]:
        """Share of the masked pieces that the network would have said."""
        import numpy as np

        right = np.concatenate([item[:, 1] for item in logits])
        return {"masked_accuracy": float(right.mean(dtype=np.float64)) if len(right) else None}


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _around(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """The special pieces before and after a text."""
    encoded: Any = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    inner = [i for i, is_special in enumerate(special) if not is_special]
    return ids[: inner[0]], ids[inner[-1] + 1 :]


def _pieces(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast
) -> Iterator[Sequence[int]]:
    """Word pieces of every document, in order."""
    held: list[str] = []
    size = 0
    for i, example in enumerate(examples):
        held.append(str(example.text))
        size += len(held[-1])
        if i + 1 == len(examples) or size > AT_ONCE:
            encoded: Any = tokenizer(
                held,
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
            yield from encoded["input_ids"]
            held, size = [], 0
