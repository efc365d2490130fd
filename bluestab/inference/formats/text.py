"""Plain text: a line, an item; its answer stands before it."""

from __future__ import annotations

from collections.abc import Iterator

from bluestab.inference.formats.base import Format, Item, Position, bare, entity, lines, plain
from bluestab.inference.formats.delimited import cells
from bluestab.tasks.outputs import Answer


class TextFormat(Format):
    """A line, an item."""

    name = "text"

    def items(self, place: Position) -> Iterator[tuple[Item, Position]]:
        for line, number, offset in lines(self.path, place):
            text, end = bare(line)
            item = self.example(text, None, number)
            place = Position(offset, number, place.items + 1)
            yield Item(end, item.example, text, item.spans), place

    def written(self, item: Item, answer: Answer) -> str:
        said, probability = "", ""
        if self.task.output.per_word:
            said = "; ".join(
                f"{e['start']}-{e['end']} {plain(e['type'])} {e['probability']:.4f}"
                + (f" {e['disagreement']:.3f}" if "disagreement" in e else "")
                for e in (entity(e, item) for e in answer.entities)
            )
        elif answer.prediction is not None:
            said, probability = cells(answer)[:2]
        return f"{said}\t{probability}\t{item.text}{item.raw}"
