"""What techniques share that ask a few items of earlier tasks again in every step.

L = task + alpha * D_Phi(answers to stored items, what is stored of them): the middle term of the
one objective of Wang et al. 2024 (ICLR, arXiv 2403.13249).

Buffer    `buffer_size` training items of all earlier tasks together: a uniform sample without
          replacement, which is what reservoir sampling over them leaves; or as many of each class;
          or those of most Fisher information (`models/exemplars.py`). Kept are rows of the
          tokenised items and, where needed, logits. No text is: rows are read from the earlier
          run's own files, whose content must be what it was. Samples follow `seeds.order`.
Drawing   `draws` times as many items per step as its batch holds (per micro-batch likewise), with
          replacement, from a stream named after step, micro-batch and technique; their passes have
          dropout of their own, from another such stream.
Heads     One per task: earlier tasks answer through their own, which stay as they were left, and
          only the encoder learns from the replay. Or one for all (`shared_head`), which learns too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core.rules import Rule, at_least, one_of, whole
from bluestab.core.seeding import Seeds, generator, stream_seed
from bluestab.core.types import IGNORED, Batch, ModelFacts, Step, StepOutput
from bluestab.models.built import Built, Trained
from bluestab.models.earlier import EarlierTask, on_live_weights, shared
from bluestab.models.exemplars import (
    Row,
    class_balanced,
    every,
    most_informative,
    reservoir,
    trace,
)
from bluestab.models.passes import device_of, fork_dropout_stream
from bluestab.techniques.anchored import earlier_run_problems
from bluestab.techniques.base import Technique

if TYPE_CHECKING:
    import torch

Term = Callable[[EarlierTask, "torch.Tensor", Batch, Sequence[int]], "torch.Tensor"]
"""(task, logits now, batch, its rows) -> a mean over the items of the batch."""


def logit_distance(logits: torch.Tensor, stored: torch.Tensor, labels: torch.Tensor) -> Any:
    """Mean squared difference, over items and classes; of words, over labelled word pieces."""
    if logits.ndim == 3:
        counted = labels != IGNORED
        logits, stored = logits[counted], stored[counted]
    return (logits - stored).square().mean()


BUFFERS = ("reservoir", "class_balanced", "fisher")
ALL = "all"


class Replaying(Technique):
    """buffer_size: items kept of all earlier tasks; buffer: which; draws: of them per step."""

    remembers: ClassVar[bool] = True
    keeps_items: ClassVar[bool] = True
    reads_embeddings: ClassVar[bool] = True  # earlier items have no precomputed output
    name: ClassVar[str]
    weights: ClassVar[tuple[str, ...]]
    """Its knobs that weigh a term; all 0, it is off."""

    buffer_size: int | str
    buffer: str
    draws: int

    def rules(self, model: ModelFacts) -> Mapping[str, Rule]:
        holds, said = whole(1)
        return {
            "buffer_size": (lambda value: value == ALL or holds(value), f"{said}, or {ALL}"),
            "buffer": one_of(*BUFFERS),
            "draws": whole(1),
            **{knob: at_least(0) for knob in self.weights},
        }

    def check(self, cfg: Mapping[str, Any], model: ModelFacts) -> list[str]:
        return [] if self.is_neutral() else earlier_run_problems(self.name, cfg)

    def one_device(self) -> str:
        return "each of them would replay items of its own"

    def is_neutral(self) -> bool:
        return all(getattr(self, knob) == 0 for knob in self.weights)

    def recall(self, earlier: Sequence[EarlierTask], built: Built, seeds: Seeds) -> None:
        if self.is_neutral():
            return
        self._earlier: list[EarlierTask] = []
        self._shared: list[list[str]] = []
        traces = []
        last = built.layers.names(built.layers.n_layers)
        for task in earlier:
            if self.buffer == "fisher":
                own = [name for name in shared(task, built) if name in last]
                traces.append([trace(task, row, own) for row in range(task.size)])
            self._shared.append(on_live_weights(task, built))
            self._earlier.append(task)
        self._buffer = self._chosen(traces, seeds)
        # what was frozen ever since has the value it had; what trains is the live network's
        self._live = dict(built.model.named_parameters())

    def _chosen(self, traces: Sequence[Sequence[float]], seeds: Seeds) -> list[Row]:
        """Task and row of the items that are kept, in order. (traces: of `fisher`.)"""
        random, rows = generator(seeds.order, "buffer"), every(self._earlier)
        size = len(rows) if self.buffer_size == ALL else int(self.buffer_size)
        if self.buffer == "class_balanced":
            return class_balanced(self._earlier, size, random)
        if self.buffer == "fisher":
            return most_informative(traces, size)
        return reservoir(rows, size, random)

    def term(self, batch: Batch, stream: str, of: Term) -> torch.Tensor:
        """`of` items drawn from the buffer, each task weighed by how many of them are its own."""
        import torch

        n = self.draws * len(batch["items"])
        random = torch.Generator().manual_seed(stream_seed(torch.initial_seed(), self.name, stream))
        drawn = torch.randint(len(self._buffer), (n,), generator=random).tolist()
        total: Any = 0.0
        with fork_dropout_stream(device_of(batch), self.name, stream, "dropout"):
            for number, task in enumerate(self._earlier):
                rows = [self._buffer[i][1] for i in drawn if self._buffer[i][0] == number]
                if not rows:
                    continue
                items = task.batch(rows)
                weights = {name: self._live[name] for name in self._shared[number]}
                logits = task.logits(weights, items, training=True)
                total = total + of(task, logits, items, rows) * (len(rows) / n)
        return total  # type: ignore[no-any-return]

    def labels_term(self, batch: Batch) -> torch.Tensor:
        """Mean loss of items drawn, each that of its task."""
        return self.term(
            batch, "labels", lambda task, logits, items, rows: task.loss(logits, items)
        )

    def replayed(self, batch: Batch) -> torch.Tensor:
        """What is added to the loss of a batch."""
        raise NotImplementedError

    def wrap_step(self, step: Step, built: Built) -> Step:
        if self.is_neutral():
            return step

        def with_replay(batch: Batch) -> StepOutput:
            out = step(batch)
            return StepOutput(out.loss + self.replayed(batch), out.logits)

        return with_replay

    def effects(self, built: Built, trained: Trained) -> dict[str, Any]:
        if self.is_neutral():
            return {}
        tasks = [self._earlier[task].name for task, _ in self._buffer]
        return {"replayed_from": {name: tasks.count(name) for name in sorted(set(tasks))}}


class ReplayingLogits(Replaying):
    """A buffer that holds logits as well: those of the network as its task left it, without
    dropout."""

    def recall(self, earlier: Sequence[EarlierTask], built: Built, seeds: Seeds) -> None:
        import torch

        super().recall(earlier, built, seeds)
        if self.is_neutral():
            return
        self._logits: dict[Row, torch.Tensor] = {}
        with torch.no_grad():
            for number, task in enumerate(earlier):  # anew: with the weights that it left
                for row in (row for n, row in self._buffer if n == number):
                    found = task.logits({}, task.batch([row]), training=False)
                    self._logits[number, row] = found[0]

    def logits_term(self, batch: Batch) -> torch.Tensor:
        """Mean squared difference of logits, now and then, of items drawn."""
        return self.term(
            batch,
            "logits",
            lambda task, logits, items, rows: logit_distance(
                logits, self.stored(task, rows, logits), items["labels"]
            ),
        )

    def stored(self, task: EarlierTask, rows: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """Logits of these rows, padded to the width of a batch's."""
        number = next(i for i, one in enumerate(self._earlier) if one is task)
        found = like.detach().clone()
        for at, row in enumerate(rows):
            known = self._logits[number, row]
            found[at, : len(known)] = known
        return found
