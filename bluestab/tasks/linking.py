"""Entity linking: which concept of a dictionary a mention in a text means.

A bi-encoder: one network turns mentions and names into vectors, a mention means the concept with
the nearest name (cosine), found by exact search among all names. Training tells the right name from
those of the other mentions of the batch, and from names of other concepts that are spelt alike
(cross-entropy over cosine / 0.05; van den Oord et al. 2018, arXiv 1807.03748; hard negatives by
character n-grams as the sparse candidates of BioSyn, Sung et al. 2020, arXiv 2005.00239).

What has no single answer takes no part and is counted: mentions without a concept (NIL), and those
of several (composite). Mentions of a concept that the dictionary lacks cannot be trained on; in
validation and test they count as wrong.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.errors import ConfigError, DataError
from bluestab.core.types import Example, Split
from bluestab.data.dictionary import Dictionary, folded, read_dictionary
from bluestab.data.formats.base import Document, Documents, Span
from bluestab.data.formats.offsets import covered
from bluestab.data.formats.pubtator import read_pubtator_documents
from bluestab.data.locate import locate, sha256_of
from bluestab.tasks.base import Corpus, Scores
from bluestab.tasks.encoded import Encoded
from bluestab.tasks.label_names import names_problem
from bluestab.tasks.metric import RANKINGS, Compared, Metric
from bluestab.tasks.nearest import RANKS, first_names, nearest_concepts, unit
from bluestab.tasks.outputs import RANKING, Output
from bluestab.tasks.whole_text import WholeText

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast

NIL = frozenset(("", "-", "-1", "nil", "none", "null", "cui-less", "cuiless", "nan"))
"""What corpora write where a mention has no concept, in small letters."""

SEVERAL = re.compile(r"\s*[|+;,]\s*")
"""Between the ids of a mention that means several concepts."""


@dataclass(frozen=True)
class LinkedMention:
    """A mention of a file; concept: its id, or several, as the file has it."""

    example: Example
    concept: str


@dataclass(frozen=True, kw_only=True)
class Linked(WholeText, ABC):
    """What linking of public corpora and of a person's own files share.

    dictionary         file of concepts and their names (`data.dictionary`)
    dictionary_sha256  of it; None accepts any
    hard_negatives     names of other concepts, spelt like the mention, beside the right one
    """

    dictionary: str
    dictionary_sha256: str | None
    hard_negatives: int

    output: ClassVar[Output] = RANKING
    metrics: ClassVar[Mapping[str, Metric]] = RANKINGS
    extra_files: ClassVar[tuple[str, ...]] = ("dictionary",)
    descriptive: ClassVar[frozenset[str]] = frozenset(("dictionary", "dictionary_sha256"))

    def check(self) -> list[str]:
        problems = super().check()
        if not isinstance(self.dictionary, str) or not self.dictionary.strip():
            problems.append(
                f"task.dictionary is {self.dictionary!r}: expected the file with the concepts and "
                "their names, e.g. task.dictionary=concepts.txt"
            )
        n = self.hard_negatives
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= 64:
            problems.append(f"task.hard_negatives is {n!r}: expected a whole number from 0 to 64")
        if self.shots is not None:
            problems.append("task.shots counts items of a class, of which linking has none")
        return problems

    def dictionary_file(self) -> Path:
        """Where the dictionary is. Raises DataError if it is not there."""
        return locate(self.dictionary, task=self.folder, data_dir=self.data_dir)

    def concepts(self) -> Dictionary:
        """Raises DataError if the dictionary is not there or not one, ConfigError if it is another
        than the yaml's."""
        path = self.dictionary_file()
        if self.dictionary_sha256 not in (None, found := sha256_of(path)):
            raise ConfigError(
                f"{path} has sha256 {found[:16]}..., the published file has "
                f"{str(self.dictionary_sha256)[:16]}...; if you mean to use this file, say "
                "task.dictionary_sha256=null"
            )
        return read_dictionary(path)

    def usable(
        self, found: Mapping[Split, Sequence[LinkedMention]], paths: Mapping[Split, Path]
    ) -> Corpus:
        """The mentions that have one concept, and in training one of the dictionary; what was left
        out is counted."""
        dictionary = self.concepts()
        splits: dict[Split, list[Example]] = {}
        notes = [
            f"{self.dictionary}: {len(dictionary.ids):,} concepts, {dictionary.n_names:,} names"
        ]
        for split, mentions in found.items():
            kept, counts = [], Counter[str]()
            for mention in mentions:
                kind, number = kind_of(mention.concept, dictionary)
                counts[kind] += 1
                target = mention.concept if number is None else dictionary.ids[number]
                if kind == "linked" or (kind == "absent" and split != "train"):
                    kept.append(_with_target(mention.example, target))
            if not kept:
                raise DataError(
                    paths[split], f"holds no mention of one concept of {self.dictionary}"
                )
            splits[split] = kept
            notes.append(f"{paths[split].name}: {_counted(split, counts)}")
        return Corpus(splits, tuple(notes))

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        return self.concepts().ids

    def targets(self, examples: Sequence[Example], labels: Sequence[str]) -> list[int]:
        """The place of the right candidate in its row of logits."""
        return [0] * len(examples)

    def encode_training(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        """The mention, a name of its concept, and the hard negatives.

        The name is one of the concept's, other than the mention itself where there is another, and
        the same for every seed.
        """
        from bluestab.tasks.string_matching import matcher

        columns = self.encode(examples, labels, tokenizer)
        dictionary = self.concepts()
        found = matcher(dictionary, sha256_of(self.dictionary_file()))
        right = [dictionary.number(str(e.target)) or 0 for e in examples]
        texts = [str(e.text) for e in examples]
        wrong = found.negatives(texts, right, self.hard_negatives)
        names = [
            [_right_name(e, dictionary.names[own]), *(found.names[i] for i in others)]
            for e, own, others in zip(examples, right, wrong, strict=True)
        ]
        flat = self._names(tokenizer, [name for row in names for name in row])
        size = len(names[0])
        for column in ("input_ids", "token_type_ids"):
            if column in columns:
                one: list[Any] = columns[column]
                columns[column] = [
                    [own, *flat[column][i * size : (i + 1) * size]] for i, own in enumerate(one)
                ]
        columns["concepts"] = [
            [own, *found.owners[others].tolist()] for own, others in zip(right, wrong, strict=True)
        ]
        return columns

    def candidates(
        self, labels: Sequence[str], tokenizer: PreTrainedTokenizerFast
    ) -> Encoded | None:
        dictionary = self._known(labels)
        pieces = self._names(tokenizer, [name for own in dictionary.names for name in own])
        n = len(pieces["input_ids"])
        found: Encoded = Encoded(
            **{name: list(values) for name, values in pieces.items()},  # type: ignore[typeddict-item]
            labels=[0] * n,
            rows=[[0]] * n,
            example=list(range(n)),
            truncated=[False] * n,
            lost=[0] * n,
        )
        return found

    def _names(self, tokenizer: PreTrainedTokenizerFast, names: Sequence[str]) -> Any:
        return tokenizer(
            list(names),
            truncation=True,
            max_length=self.max_length,
            padding=False,
            return_attention_mask=False,
        )

    def _known(self, labels: Sequence[str]) -> Dictionary:
        """The dictionary. Raises ConfigError if it is not that of the labels."""
        dictionary = self.concepts()
        if dictionary.ids != tuple(labels):
            raise ConfigError(
                f"{self.dictionary_file()} holds other concepts than the network was trained with "
                f"({len(dictionary.ids):,} there, {len(labels):,} here)"
            )
        return dictionary

    def ranked(
        self, vectors: Sequence[np.ndarray], candidates: np.ndarray, labels: Sequence[str]
    ) -> list[np.ndarray]:
        import numpy as np

        starts, names = first_names(self._known(labels).names), unit(candidates)
        mentions = unit(np.concatenate(list(vectors)))
        found = nearest_concepts(
            lambda part: mentions[part] @ names.T, len(mentions), starts, len(names)
        )
        return [np.stack([best, similar], axis=1).astype(np.float32) for best, similar in found]

    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Cross-entropy over the candidates of the batch, mean over its mentions."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, batch["labels"])

    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> list[str]:
        return [labels[int(number)] for number in logits[:, 0]]

    def compared(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Compared:
        return Compared(predictions, targets, n_classes=len(self.concepts().ids))

    def constants(
        self, labels: Sequence[str], items: Sequence[Example]
    ) -> Mapping[str, Sequence[Any]]:
        """The concepts that most mentions have, then any."""
        usual = Counter(str(e.target) for e in items)
        ordered = [concept for concept, _ in usual.most_common(RANKS)]
        ordered += [label for label in labels[: 2 * RANKS] if label not in usual]
        return {f"always '{ordered[0]}'": [ordered[:RANKS]] * len(items)} if items else {}

    def rivals(self, items: Sequence[Example]) -> Mapping[str, Scores]:
        """Of what knows only how names are spelt (`string_matching`)."""
        from bluestab.tasks.string_matching import baselines, matcher

        found = matcher(self.concepts(), sha256_of(self.dictionary_file()))
        targets = [e.target for e in items]
        ranked = baselines(found, [str(e.text) for e in items])
        return {name: self.score(predictions, targets) for name, predictions in ranked.items()}


def kind_of(concept: str, dictionary: Dictionary) -> tuple[str, int | None]:
    """What a mention's concept is, `nil`, `composite`, `absent` from the dictionary or `linked`,
    and its number there. What is an id as it stands is one, whatever signs are in it."""
    if (number := dictionary.number(concept)) is not None:
        return "linked", number
    if concept.strip().casefold() in NIL:
        return "nil", None
    parts = [part for part in SEVERAL.split(concept.strip()) if part]
    if len(parts) > 1:
        return "composite", None
    number = dictionary.number(parts[0]) if parts else None
    return ("absent", None) if number is None else ("linked", number)


def _counted(split: Split, counts: Counter[str]) -> str:
    absent = "cannot be trained on" if split == "train" else "count as wrong"
    return (
        f"{counts.total():,} mentions; left out: {counts['nil']:,} without a concept (NIL), "
        f"{counts['composite']:,} of several (composite); {counts['absent']:,} of concepts that "
        f"the dictionary lacks {absent}"
    )


def _with_target(example: Example, target: str) -> Example:
    return Example(example.id, example.text, example.text_pair, target, example.group)


def _right_name(example: Example, names: Sequence[str]) -> str:
    """One name of the concept; which one, its id decides."""
    others = [name for name in names if folded(name) != folded(str(example.text))] or names
    digest = hashlib.sha256(example.id.encode()).digest()
    return others[int.from_bytes(digest[:8], "big") % len(others)]


def mentions_in(
    read: Documents, types: Sequence[str] | None, context: int
) -> tuple[list[LinkedMention], list[str]]:
    """The mentions of documents with concepts, and notes about these.

    types    those that count; None: all
    context  characters of the text to either side that are read along; 0: the mention alone
    """
    known = {span.type for document in read.documents for span in document.spans}
    if unknown := sorted(set(types or ()) - known):
        raise DataError(read.path, f"has no mention of type {unknown[0]!r}, only {sorted(known)}")
    found = [
        LinkedMention(_example(document, span, context), span.concept)
        for document in read.documents
        for span in document.spans
        if types is None or span.type in types
    ]
    return found, list(read.notes)


def _example(document: Document, span: Span, context: int) -> Example:
    text = " ".join(covered(document.text, span).split())
    around = None
    if context:
        before = document.text[max(0, span.start - context) : span.start]
        around = " ".join((before + document.text[span.start : span.end + context]).split())
    name = f"{document.id}:{span.start}-{span.end}:{span.line}"
    return Example(name, text, around, "", document.id)


@dataclass(frozen=True, kw_only=True)
class Linking(Linked):
    """A public corpus in PubTator, with the concept of each mention in the sixth column.

    corpus   folder that holds its files (`folder`)
    types    of mentions that count; None: all
    context  characters to either side that are read along with the mention; 0: none
    """

    corpus: str
    types: Sequence[str] | None
    context: int

    formats: ClassVar[tuple[str, ...]] = ("pubtator",)

    @property
    def folder(self) -> str:
        return self.corpus

    def check(self) -> list[str]:
        return [
            *super().check(),
            *names_problem("task.types", self.types, null=True),
            *context_problems(self.context),
        ]

    def read(self, path: Path) -> list[Example]:
        return self.read_all({"test": path}).splits["test"]

    def read_all(self, paths: Mapping[Split, Path]) -> Corpus:
        read = {
            split: mentions_in(read_pubtator_documents(path), self.types, self.context)
            for split, path in paths.items()
        }
        corpus = self.usable({split: mentions for split, (mentions, _) in read.items()}, paths)
        said = [f"{paths[split].name}: {n}" for split, (_, notes) in read.items() for n in notes]
        return Corpus(corpus.splits, (*corpus.notes, *said))


def context_problems(context: object) -> list[str]:
    """A sentence if this is no number of characters."""
    if isinstance(context, int) and not isinstance(context, bool) and 0 <= context <= 10_000:
        return []
    return [f"task.context is {context!r}: expected a number of characters from 0 to 10000"]
