"""Trained networks, loaded once, that answer items by the thousand.

Words become pieces, and pieces logits, by the code that trained and scored the networks. Batches
hold items of like length, so that little of them is padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from bluestab.core.devices import cores
from bluestab.core.errors import ConfigError
from bluestab.core.seeding import generator
from bluestab.core.types import Batch, Example
from bluestab.inference.answers import answer, check_threshold
from bluestab.inference.weights import Weights
from bluestab.models.curvature import InputFactor
from bluestab.models.fisher import input_factors
from bluestab.models.networks import load_trained
from bluestab.models.passes import model_logits
from bluestab.models.tokenizers import load_tokenizer
from bluestab.tasks.outputs import Answer
from bluestab.training.image_features import look_anew
from bluestab.training.loop.batches import collate, squares
from bluestab.training.loop.evaluation import ItemLogits
from bluestab.training.loop.module import run_in_float32
from bluestab.training.tokenise import encoded

PIECES = 8192
"""Word pieces, padding included, that one batch may hold unless told otherwise."""


class Predictor:
    """device  as `devices.resolve` names it; pieces: of one batch; threshold: see `answers`.

    Raises ConfigError if weights cannot be loaded.
    """

    def __init__(
        self,
        weights: Sequence[Weights],
        device: str,
        *,
        threshold: float | None = None,
        pieces: int = PIECES,
    ) -> None:
        first = weights[0]
        check_threshold(first.task, threshold)
        self.weights, self.threshold, self.pieces = weights, threshold, pieces
        self.task, self.labels = first.task, first.labels
        self.device = torch.device(device)
        torch.set_num_threads(cores())
        self._networks = [self._load(one) for one in weights]
        words = self.task.output.per_word
        self._tokenizers = [load_tokenizer(one.model, words=words) for one in weights]
        self._candidates: dict[int, np.ndarray] = {}
        sees = [one.model.sees for one in weights]
        anew = {spec: look_anew(spec, self.device) for spec in sees if spec is not None}
        self._looks = [squares if spec is None else anew[spec] for spec in sees]
        # seeds of one model read the same pieces: they are made once
        rules = {t.backend_tokenizer.to_str() for t in self._tokenizers}
        self._same = len(rules) == len({spec and spec.pieces for spec in sees}) == 1

    def _load(self, weights: Weights) -> nn.Module:
        network, head = load_trained(
            weights.model,
            head=weights.task.output.head,
            n_labels=weights.task.output.n_outputs(weights.labels),
            attention=weights.attention[self.device.type],
            base=weights.base,
        )
        if weights.precision == "bf16":
            for path in head:
                run_in_float32(network.get_submodule(path))
        check_finite(network.named_parameters(), weights.said)
        return network.to(self.device)

    @property
    def network(self) -> nn.Module:
        """The first one."""
        return self._networks[0]

    def take(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put other weights into the first network. Raises RuntimeError if one is missing."""
        self._candidates.pop(0, None)
        self.network.load_state_dict(dict(state), strict=True)

    def logits(self, examples: Sequence[Example]) -> list[tuple[list[int], bool, list[np.ndarray]]]:
        """Per item: which parts its rows stand for, whether it was cut, logits per network."""
        columns = self._encoded(0, examples)
        parts = _parts(columns, len(examples))
        found = []
        for number, network in enumerate(self._networks):
            if number and not self._same:
                columns = self._encoded(number, examples)
                if _parts(columns, len(examples)) != parts:
                    raise ConfigError(
                        f"{self.weights[0].said} and {self.weights[number].said} read different "
                        "parts of a long sentence: their words cannot be averaged"
                    )
            of_items = self._by_item(network, number, columns, len(examples))
            if self.task.output.searches:
                names = self._vectors_of_candidates(network, number)
                of_items = self.task.ranked(of_items, names, self.labels)
            found.append(of_items)
        cut = [False] * len(examples)
        for item, truncated in zip(columns["example"], columns["truncated"], strict=True):
            cut[item] = cut[item] or truncated
        return [(parts[i], cut[i], [one[i] for one in found]) for i in range(len(examples))]

    def input_factors(self, examples: Sequence[Example]) -> list[InputFactor]:
        """Of the linear maps of the first network's encoder, on these items."""
        inside = f"{self.network.base_model_prefix}."
        names = {n for n, _ in self.network.named_parameters() if n.startswith(inside)}
        return input_factors(self.network, names, self.batches(0, self._encoded(0, examples)))

    def answers(self, examples: Sequence[Example]) -> list[Answer]:
        """One per item, in order."""
        if not examples:
            return []
        found = self.logits(examples)
        for example, (_, _, logits) in zip(examples, found, strict=True):
            if not all(np.isfinite(one).all() for one in logits):
                raise ConfigError(
                    f"{self.weights[0].said} gives item {example.id} an output that is not finite "
                    "(NaN or infinity), which is no answer; name another run"
                )
        return [
            answer(
                self.task,
                self.labels,
                example,
                rows,
                logits,
                threshold=self.threshold,
                truncated=cut,
            )
            for example, (rows, cut, logits) in zip(examples, found, strict=True)
        ]

    def _encoded(self, number: int, examples: Sequence[Example]) -> Any:
        """Columns of these items, as the network of this number reads them."""
        tokenizer, sees = self._tokenizers[number], self.weights[number].model.sees
        columns: Any = encoded(self.task, self.labels, examples, tokenizer, sees)
        if sees is not None:
            columns["image"] = [examples[i].image for i in columns["example"]]
        return columns

    def _by_item(
        self, network: nn.Module, number: int, columns: Any, n_items: int
    ) -> list[np.ndarray]:
        """Item -> its logits (n_rows, n_labels), float32."""
        gathered = ItemLogits()
        with torch.inference_mode(), _autocast(self.weights[number].precision, self.device):
            for tensors in self.batches(number, columns):
                logits = model_logits(network, tensors)
                gathered.update(logits.cpu(), tensors["labels"].cpu(), tensors["items"].cpu())
        by_row = gathered.compute()
        parts: list[list[np.ndarray]] = [[] for _ in range(n_items)]
        for row, item in enumerate(columns["example"]):
            parts[item].append(by_row[row])
        return [np.concatenate(own) for own in parts]

    def _vectors_of_candidates(self, network: nn.Module, number: int) -> np.ndarray:
        """Of all texts that answers are looked for among, (N, D): computed once per network."""
        if number not in self._candidates:
            columns = self.task.candidates(self.labels, self._tokenizers[number])
            assert columns is not None
            rows = self._by_item(network, number, columns, len(columns["input_ids"]))
            self._candidates[number] = np.concatenate(rows)
        return self._candidates[number]

    def endless(self, examples: Sequence[Example], size: int) -> Iterator[Batch]:
        """These items for the first network, `size` rows at a time, shuffled anew when all have
        been; the order is the same every time."""
        columns = self._encoded(0, examples)
        random = generator(0, "endless")
        while True:
            order = torch.randperm(len(columns["input_ids"]), generator=random).tolist()
            rows = [order[i : i + size] for i in range(0, len(order), size)]
            yield from self.batches(0, columns, rows)

    def batches(
        self, number: int, columns: Any, rows: Iterable[list[int]] | None = None
    ) -> Iterator[Batch]:
        """What was encoded for the network of this number, in batches of rows of like length unless
        it is said which."""
        padding = self._tokenizers[number].pad_token_id
        assert padding is not None
        names = [n for n in columns if n in ("input_ids", "token_type_ids", "labels", "image")]
        lengths = [len(ids) for ids in columns["input_ids"]]
        for batch in _batches(lengths, self.pieces) if rows is None else rows:
            items = [{n: columns[n][row] for n in names} | {"item": row} for row in batch]
            found = collate(items, padding, look=self._looks[number])
            yield {name: value.to(self.device) for name, value in found.items()}


def check_finite(parameters: Iterable[tuple[str, torch.Tensor]], where: object) -> None:
    """Raises ConfigError for weights that are no numbers: nothing they answer would be one."""
    for name, values in parameters:
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise ConfigError(
                f"{where} has weights that are not finite (NaN or infinity), e.g. in '{name}': its "
                "training diverged, or the file was changed; name another run"
            )


def _parts(encoded: Any, n_items: int) -> list[list[int]]:
    """Item -> which of its parts have logits, in order."""
    found: list[list[int]] = [[] for _ in range(n_items)]
    for item, parts in zip(encoded["example"], encoded["rows"], strict=True):
        found[item] += parts
    return found


def _batches(lengths: Sequence[int], pieces: int) -> Iterator[list[int]]:
    """Rows in batches of like length, each of at most `pieces` pieces with its padding."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch and (len(batch) + 1) * lengths[batch[0]] > pieces:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


Answering = Callable[[Sequence[Example]], list[Answer]]
"""What a stream needs of a predictor."""
