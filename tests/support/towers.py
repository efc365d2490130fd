"""Tiny image towers with random weights, saved as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SQUARE: dict[str, Any] = {"image_size": 32, "patch_size": 8}
VIT: dict[str, Any] = {**SQUARE, "hidden_size": 32, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "intermediate_size": 64}  # fmt: skip
DINO: dict[str, Any] = {**SQUARE, "hidden_size": 32, "num_hidden_layers": 2, "mlp_ratio": 2,
                        "num_attention_heads": 2}  # fmt: skip
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
SMALL: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "deit": VIT,
    "dinov2": DINO,
    "dinov2_with_registers": {**DINO, "num_register_tokens": 2},
    "clip_vision_model": VIT,
    "siglip_vision_model": VIT,
    "convnext": {**STAGES, "image_size": 32},
    "convnextv2": {**STAGES, "image_size": 32},
    "resnet": {**STAGES, "embedding_size": 8, "layer_type": "basic"},
}
"""Family -> a config of a few thousand parameters."""
USUAL = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": 32}


def tower_of(family: str, **changes: Any) -> Any:
    """A network of this family, in evaluation mode; batch norms have seen something."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(3)
    network = AutoModel.from_config(AutoConfig.for_model(family, **{**SMALL[family], **changes}))
    with torch.no_grad():
        for name, value in (*network.named_parameters(), *network.named_buffers()):
            if value.is_floating_point() and "running_var" not in name:
                value.add_(torch.randn_like(value) * 0.1)
    return network.eval()


def saved(folder: Path, network: Any, expects: dict[str, Any] | None = USUAL) -> Path:
    """The folder that `save_pretrained` leaves, with what images it expects beside it."""
    network.save_pretrained(folder)
    if expects is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(expects))
    return folder


def frozen(folder: Path, **changes: Any) -> dict[str, Any]:
    """`model.vision` of model/vision=frozen, as the command line has it."""
    from bluestab.core.config import compose, resolved

    node = resolved(compose(["model/vision=frozen"]))["model"]["vision"]
    return {**node, "path": str(folder), **changes}
