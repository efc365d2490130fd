"""Multi-label classification: any number of labels per text, for instance per document."""

from __future__ import annotations

import re
from abc import ABC
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bluestab.core.errors import DataError, did_you_mean
from bluestab.core.types import Example, Split
from bluestab.data.readers import read_table
from bluestab.data.stratify import rarest
from bluestab.tasks.label_names import label_problems, names_problem
from bluestab.tasks.metric import LABEL_SETS, Compared, Metric
from bluestab.tasks.outputs import LABEL_SET, Output
from bluestab.tasks.whole_text import WholeText

if TYPE_CHECKING:
    import numpy as np
    import torch

FLAG = re.compile(r"(\d+)_([01])")


@dataclass(frozen=True, kw_only=True)
class LabelSets(WholeText, ABC):
    """What all tasks share whose items have any number of labels: one yes-or-no decision per label
    (a logit above 0 is yes).

    `micro_f1` pools the decisions over items and labels; `macro_f1` is the mean over labels.
    """

    label_names: Sequence[str]

    output: ClassVar[Output] = LABEL_SET
    metrics: ClassVar[Mapping[str, Metric]] = LABEL_SETS

    def labels(self, train: Sequence[Example]) -> tuple[str, ...]:
        return tuple(str(name) for name in self.label_names)

    def problems(
        self, split: Split, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[str]:
        found = ((name, e.id) for e in examples for name in e.target)  # type: ignore[union-attr]
        return label_problems(split, found, labels, needed=labels)

    def strata(self, examples: Sequence[Example]) -> list[Hashable]:
        return list(rarest([e.target for e in examples]))  # type: ignore[misc]

    def targets(self, examples: Sequence[Example], labels: Sequence[str]) -> list[Any]:
        return [[float(name in e.target) for name in labels] for e in examples]  # type: ignore[operator]

    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Binary cross-entropy, mean over items and labels."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(logits, batch["labels"])

    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> list[str]:
        return [name for name, logit in zip(labels, logits[0], strict=True) if logit > 0]

    def compared(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Compared:
        names = [str(name) for name in self.label_names]
        predicted, gold = (
            [[int(name in found) for name in names] for found in sets]
            for sets in (predictions, targets)
        )
        return Compared(predicted, gold)

    def constants(
        self, labels: Sequence[str], items: Sequence[Example]
    ) -> Mapping[str, Sequence[Any]]:
        """The k most frequent labels, for every k: one of these sets has the best micro F1, since
        each label more costs the same and brings what it occurs. And the set that most items have:
        it has the best exact match."""
        counts = Counter(name for e in items for name in e.target)  # type: ignore[union-attr]
        ordered = sorted(labels, key=lambda name: -counts[name])
        found = {
            f"the {k} most frequent": [ordered[:k]] * len(items) for k in range(1, len(ordered) + 1)
        }
        sets = Counter(frozenset(e.target) for e in items)  # type: ignore[arg-type]
        usual = [name for name in labels if name in sets.most_common(1)[0][0]] if items else []
        return {**found, "the most frequent set": [usual] * len(items)}


@dataclass(frozen=True, kw_only=True)
class MultiLabel(LabelSets):
    """A text, or the texts of a document, and the set of its labels.

    With `group`, rows are joined: `group_pattern` takes the name of the document out of that
    column, the texts of a document are joined by a blank in the order of the file, and its labels
    are those of any of its rows (BLURB's HoC: sentences in the file, abstracts in the score).
    """

    header: bool
    text: str | int
    label: str | int
    label_form: Literal["flags", "names"]
    label_separator: str
    id: str | int | None
    group: str | int | None
    group_pattern: str | None

    formats: ClassVar[tuple[str, ...]] = ("tsv",)

    def check(self) -> list[str]:
        problems = super().check() + names_problem("task.label_names", self.label_names, null=False)
        if self.label_form not in ("flags", "names"):
            problems.append(
                f"task.label_form is {self.label_form!r}"
                + did_you_mean(str(self.label_form), ("flags", "names"))
            )
        if not isinstance(self.label_separator, str) or not self.label_separator:
            problems.append(
                f"task.label_separator is {self.label_separator!r}: expected the text between two "
                "labels, such as ','"
            )
        if self.group is None and self.group_pattern is not None:
            problems.append("task.group_pattern is set, but task.group is null: no rows to join")
        if self.group_pattern is not None:
            try:
                one = re.compile(self.group_pattern).groups == 1
            except (re.error, TypeError):
                one = False
            if not one:
                problems.append(
                    f"task.group_pattern is {self.group_pattern!r}: expected a regular expression "
                    "with one group, the name of the document"
                )
        return problems

    def read(self, path: Path) -> list[Example]:
        table = read_table(path, header=self.header)
        texts = table.column(self.text, "task.text")
        labels = table.column(self.label, "task.label")
        ids = table.ids(self.id, "task.id")
        names = ids if self.group is None else table.column(self.group, "task.group")
        joined: dict[str, list[str]] = {}
        found: dict[str, set[str]] = {}
        for text, label, name, line in zip(texts, labels, names, table.lines, strict=True):
            if not text.strip():
                raise DataError(path, "the text is empty", line)
            document = self._document(path, name, line)
            joined.setdefault(document, []).append(text)
            found.setdefault(document, set()).update(self._labels(path, label, line))
        return [
            Example(document, " ".join(parts), None, self._in_order(found[document]))
            for document, parts in joined.items()
        ]

    def _document(self, path: Path, name: str, line: int) -> str:
        if self.group_pattern is None:
            return name
        match = re.fullmatch(self.group_pattern, name)
        if match is None:
            raise DataError(
                path,
                f"{name!r} (task.group) does not match task.group_pattern {self.group_pattern!r}",
                line,
            )
        return match.group(1)

    def _labels(self, path: Path, text: str, line: int) -> list[str]:
        parts = [part.strip() for part in text.split(self.label_separator)]
        if self.label_form == "names":
            return [part for part in parts if part]
        present = []
        for i, part in enumerate(parts):
            flag = FLAG.fullmatch(part)
            if flag is None or int(flag[1]) != i:
                raise DataError(path, f"expected '{i}_0' or '{i}_1' as label {i}: {part!r}", line)
            if flag[2] == "1":
                present.append(i)
        if len(parts) != len(self.label_names):
            raise DataError(
                path,
                f"{len(parts)} labels, where task.label_names has {len(self.label_names)}",
                line,
            )
        return [str(self.label_names[i]) for i in present]

    def _in_order(self, found: set[str]) -> tuple[str, ...]:
        """In the order of the yaml, unknown ones (which `problems` will name) behind them."""
        known = [str(name) for name in self.label_names]
        return (*(n for n in known if n in found), *sorted(found - set(known)))
