"""Question answering with a closed set of answers (yes, no, maybe) and a passage to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bluestab.core.errors import ConfigError, DataError
from bluestab.core.types import Example
from bluestab.data.readers import read_json
from bluestab.tasks.classification import OneClass, numbered
from bluestab.tasks.encoded import Encoded
from bluestab.tasks.metric import ANSWERS, Compared, Metric

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(OneClass):
    """A question, a passage and one of a few answers, read as [CLS] question [SEP] passage [SEP].

    What does not fit into `max_length` is cut from the end of the passage, never from the question.
    """

    text_pair: str | int

    formats: ClassVar[tuple[str, ...]] = ("json",)
    pair: ClassVar[bool] = True
    metrics: ClassVar[Mapping[str, Metric]] = ANSWERS
    cut: ClassVar[Literal["longest_first", "only_second"]] = "only_second"

    def read(self, path: Path) -> list[Example]:
        table = read_json(path)
        ids = table.ids(self.id, "task.id")
        questions = table.column(self.text, "task.text")
        passages = table.column(self.text_pair, "task.text_pair")
        answers = table.column(self.label, "task.label")
        examples = []
        for row in zip(ids, questions, passages, answers, table.lines, strict=True):
            identifier, question, passage, answer, line = row
            for knob, value in (("text", question), ("text_pair", passage), ("label", answer)):
                if not value.strip():
                    field = getattr(self, knob)
                    raise DataError(path, f"{field} (task.{knob}) of '{identifier}' is empty", line)
            examples.append(Example(identifier, question, passage, answer.strip()))
        return examples

    def size(self, example: Example) -> int:
        return len(example.text_pair or "")

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> Encoded:
        questions = [str(e.text) for e in examples]
        room = self.max_length - tokenizer.num_special_tokens_to_add(pair=True)
        for example, pieces in zip(
            examples, tokenizer(questions, add_special_tokens=False)["input_ids"], strict=True
        ):
            if len(pieces) >= room:
                raise ConfigError(
                    f"task.max_length is {self.max_length}, but the question of item "
                    f"'{example.id}' alone has {len(pieces)} word pieces: no room for a passage"
                )
        return super().encode(examples, labels, tokenizer)

    def compared(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Compared:
        predicted, gold, index = numbered(predictions, targets, self.label_names or ())
        return Compared(predicted, gold, n_classes=len(index))
