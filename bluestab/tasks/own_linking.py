"""A person's own mentions and dictionary: rows of a table, or texts in PubTator or BioC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bluestab.core.errors import DataError
from bluestab.core.types import Example, Split
from bluestab.data.formats.base import as_text
from bluestab.data.formats.bioc import read_bioc
from bluestab.data.formats.columns import choose, texts
from bluestab.data.formats.pubtator import read_pubtator_documents
from bluestab.data.locate import locate_own
from bluestab.tasks.base import Corpus
from bluestab.tasks.label_names import names_problem
from bluestab.tasks.linking import Linked, LinkedMention, context_problems, mentions_in
from bluestab.tasks.own import READING, ROW_FORMATS, OwnFiles, describe, noted

WITH_CONCEPTS = {"pubtator": read_pubtator_documents, "bioc": read_bioc}
"""Format -> its reader, of documents whose mentions have concepts."""


@dataclass(frozen=True, kw_only=True)
class OwnLinking(OwnFiles, Linked):
    """Mentions, the id of the concept of each, and a dictionary.

    text       column of the mention; text_pair: of a text that it is read with; label: of the id
    types      in PubTator and BioC, of mentions that count; None: all
    context    there, characters to either side that are read along; 0: the mention alone
    """

    text: str | int | None
    text_pair: str | int | None
    label: str | int | None
    types: Sequence[str] | None
    context: int

    formats: ClassVar[tuple[str, ...]] = (*ROW_FORMATS, *WITH_CONCEPTS)
    descriptive: ClassVar[frozenset[str]] = READING | Linked.descriptive

    def check(self) -> list[str]:
        return [
            *super().check(),
            *names_problem("task.types", self.types, null=True),
            *context_problems(self.context),
        ]

    def dictionary_file(self) -> Path:
        """From where the command is given, or from `data_dir`. Raises DataError."""
        return locate_own(self.dictionary, self.data_dir)

    def read_all(self, paths: Mapping[Split, Path]) -> Corpus:
        found: dict[Split, list[LinkedMention]] = {}
        said: dict[Split, tuple[Path, list[str]]] = {}
        for split, path in paths.items():
            kind = self.format_of(path)
            if kind in WITH_CONCEPTS:
                read = WITH_CONCEPTS[kind](path)
                found[split], notes = mentions_in(read, self.types, self.context)
            else:
                found[split], notes = self._rows(path, kind)
            said[split] = (path, notes)
        if (
            len({mention.example.text_pair is None for own in found.values() for mention in own})
            > 1
        ):
            raise DataError(
                next(iter(paths.values())),
                "one file gives mentions with a text around them and another alone; say "
                "task.text_pair=COLUMN for all, or name the files alike",
            )
        corpus = self.usable(found, paths)
        return Corpus(corpus.splits, (*noted(said), *corpus.notes))

    def _rows(self, path: Path, kind: str) -> tuple[list[LinkedMention], list[str]]:
        rows = self.rows(path, kind, [self.id, self.group, self.text, self.text_pair, self.label])
        if not rows.rows:
            raise DataError(path, "holds no mentions")
        mention = choose(rows, "mention", self.text, knob="task.text")
        concept = choose(rows, "concept", self.label, taken=[mention], knob="task.label")
        roles = {"text": mention, "label": concept}
        around = None
        if self.text_pair is not None:
            around = rows.columns[rows.index(self.text_pair, "task.text_pair")]
            roles["text_pair"] = around
        ids, groups, notes = self.names_and_groups(rows, roles)
        one = texts(rows, mention, "task.text")
        two = texts(rows, around, "task.text_pair") if around else [None] * len(one)
        concepts = [as_text(value) or "" for value in rows.column(concept, "task.label")]
        found = [
            LinkedMention(Example(name, text, pair, "", group), concept)
            for name, text, pair, group, concept in zip(
                ids, one, two, groups, concepts, strict=True
            )
        ]
        return found, [*rows.notes, describe(rows, kind, roles), *notes]
