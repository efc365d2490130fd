"""Every yaml of conf/model as a model, a folder of a person's own, and sentences to try them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from bluestab.core.instantiate import instantiate
from bluestab.core.paths import conf_dir
from bluestab.core.types import SEQUENCE, TOKEN, Head
from bluestab.models.description import Model
from bluestab.models.networks import load
from bluestab.models.tokenizers import load_tokenizer

FILES = {file.stem: file for file in sorted((conf_dir() / "model").glob("*.yaml"))}
AUTO = FILES.pop("auto")  # describes no model of its own
NODES: dict[str, Any] = {n: OmegaConf.to_container(OmegaConf.load(f)) for n, f in FILES.items()}
HUB = [name for name, node in NODES.items() if node["hub"] is not None]
RANDOM = [name for name, node in NODES.items() if node["config"] is not None]
PACKAGED = [name for name, node in NODES.items() if node["package"] is not None]
LOADED = [
    pytest.param(n, marks=pytest.mark.slow if n in RANDOM and NODES[n]["hidden_size"] > 128 else ())
    for n in (*RANDOM, *PACKAGED)
]
"""Those whose weights, or their like, are here without a download."""
HEADS: dict[Head, Any] = {
    SEQUENCE: AutoModelForSequenceClassification,
    TOKEN: AutoModelForTokenClassification,
}
FAMILIES = {
    "bert": "tiny",
    "electra": "tiny_electra",
    "roberta": "tiny_roberta",
    "modernbert": "tiny_modernbert",
}


def model_of(yaml: str, **changes: Any) -> Model:
    return instantiate({**NODES[yaml], **changes}, Model, "model")


def skip_unless_installed(request: pytest.FixtureRequest) -> None:
    """Skips what needs a Python package that is not here."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    needed = name in NODES and (NODES[name]["package"] or NODES[name]["vocabulary"])
    if needed and find_spec(needed.split("/")[0]) is None:
        pytest.skip(f"model {name}: its Python package is not installed (extra: embedded)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete checkpoint of the tiny model, as transformers saves it."""
    network = load(model_of("tiny"), head=SEQUENCE, n_labels=2, attention="eager").network
    network.base_model.save_pretrained(tmp_path)  # type: ignore[union-attr, operator]
    load_tokenizer(model_of("tiny")).save_pretrained(tmp_path)
    return tmp_path


SENTENCES = ["BRCA1 binds RAD51.", "p53", "Loss of TP53 is found in half of all colon cancers (1)."]


def sharpened(network: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough for every piece to matter to the others."""
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter += 0.3 * torch.randn(parameter.shape, generator=random)
    return network.eval()
