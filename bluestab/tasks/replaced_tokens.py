"""Replaced token detection on raw text: ELECTRA's pretraining (Clark et al. 2020) as a task.

Documents, rows and masks are those of masked language modelling; a generator fills the masked
pieces in (`models/replaced_tokens.py`), and the network says of every piece whether it is another
one than stood there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bluestab.core import rules
from bluestab.core.seeding import generator
from bluestab.core.types import IGNORED, Batch, Corruption, Example
from bluestab.tasks.masked_language import MaskedLanguage
from bluestab.tasks.metric import DETECTION, Metric
from bluestab.tasks.outputs import REPLACED_PIECES, Output

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class ReplacedTokenDetection(MaskedLanguage):
    """detection_weight: of the detector's loss beside the generator's."""

    detection_weight: float

    output: ClassVar[Output] = REPLACED_PIECES
    metrics: ClassVar[Mapping[str, Metric]] = DETECTION
    extras: ClassVar[tuple[str, ...]] = ("detection_accuracy", "generator_perplexity")

    def check(self) -> list[str]:
        weight = {"task.detection_weight": (self.detection_weight, rules.above(0))}
        return super().check() + rules.problems(weight)

    def constants(
        self, labels: Sequence[str], items: Sequence[Example]
    ) -> Mapping[str, Sequence[Any]]:
        """Nothing is found."""
        return {"no piece is a replaced one": [[0.0, 0.0, 1.0]] * len(items)}

    def corruption(self, tokenizer: PreTrainedTokenizerFast) -> Corruption:
        masking = super().corruption(tokenizer)

        def corrupted(batch: Batch, seed: int, names: tuple[str | int, ...]) -> dict[str, Any]:
            import torch

            found = masking(batch, seed, names)
            at, right = found.pop("positions"), found["labels"]  # (B, K)
            streams = (generator(seed, *names, "draw", row) for row in batch["items"].tolist())
            draws = [torch.rand(at.shape[1], generator=stream) for stream in streams]
            real = batch["attention_mask"].bool()
            scale = real.sum() / (right != IGNORED).sum().clamp(min=1)
            return {
                **found,
                "masked_at": at,
                "originals": right,
                "draws": torch.stack(draws).to(at.device),
                "masked_scale": scale.float().repeat(len(at)),
                "labels": torch.where(real, 1, IGNORED),
            }

        return corrupted

    def loss(self, logits: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Generator: cross-entropy, mean over masked pieces; detector: binary cross-entropy, mean
        over all pieces, times `detection_weight`. Parts of a batch add up to the whole."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        real = batch["labels"] != IGNORED
        detected, replaced, surprise, _ = logits[real].unbind(dim=-1)
        generated = surprise.sum() / real.sum() * batch["masked_scale"][0]
        detection = binary_cross_entropy_with_logits(detected, replaced.detach())
        total: torch.Tensor = generated + self.detection_weight * detection
        return total

    def preprocess_logits_for_metrics(
        self, logits: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        return logits

    def decode(
        self, logits: np.ndarray, rows: Sequence[int], example: Example, labels: Sequence[str]
    ) -> list[float]:
        said, is_replaced = logits[:, 0] > 0, logits[:, 1] > 0.5
        counts = (said & is_replaced, said & ~is_replaced, ~said & is_replaced)
        return [float(count.sum()) for count in counts]

    def calibration(
        self, logits: Sequence[np.ndarray], targets: Sequence[Any], labels: Sequence[str]
    ) -> dict[str, float | None]:
        """Share of all pieces that are judged rightly, and how well the generator says masked
        ones."""
        import numpy as np

        from bluestab.tasks.scoring import perplexity

        pieces = np.concatenate(list(logits)).astype(np.float64)  # (all pieces, 4)
        asked = pieces[:, 3] > 0.5
        right = (pieces[:, 0] > 0) == (pieces[:, 1] > 0.5)
        return {
            "detection_accuracy": float(right.mean()) if len(right) else None,
            "generator_perplexity": perplexity([pieces[asked, 2].tolist()]),
        }
