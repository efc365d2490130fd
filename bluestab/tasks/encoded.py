"""What items are for a model: columns of word pieces and labels."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Encoded(TypedDict):
    """Columns of a tokenised split. A row is one input of the model; a long item may take several.

    input_ids       word pieces of the row, (pieces,)
    token_type_ids  which text of a pair each belongs to, (pieces,); where the tokenizer gives it
    labels          what the loss takes: a label's number per piece (-100 where none counts), or of
                    the item a label's number, a number, or a flag per label
    rows            which parts of the item (word, or 0 for the whole text) the rows of its logits
                    stand for
    example         position of the item the row belongs to; every item in order has one at least
    truncated       parts of the item are in no row; said once per item
    lost            how many of the item's units (`Task.size`) that concerns; counted once per item
    image           (3, size, size) uint8, where the model looks at images; SHA-256 of the image's
                    file, where a frozen tower does

    In training rows of a kind that searches (`Output.searches`) input_ids, and token_type_ids, hold
    several texts, (texts, pieces): the item's, the right candidate's, those of wrong ones.

    concepts        of each candidate, (texts - 1,): candidates of one number are alike right
    """

    input_ids: list[list[int]]
    token_type_ids: NotRequired[list[list[int]]]
    labels: list[Any]
    rows: list[list[int]]
    example: list[int]
    truncated: list[bool]
    lost: list[int]
    concepts: NotRequired[list[list[int]]]
    image: NotRequired[list[bytes] | list[str]]
