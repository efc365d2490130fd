"""Larger networks out of trained ones that answer alike: more feed-forward units, more blocks.

Where the feed-forward layer of a block gets new units, their outgoing weights are 0: what the block
gives is the same, and the new units learn from the first step on, for they are mixtures of two old
ones each, not copies. `net2net` gives them copies instead, and each half of the outgoing weight
(Chen et al. 2016, arXiv 1511.05641, Net2WiderNet); copies learn alike for ever unless something
sets them apart, so they get noise, and the answers are the same up to it.

A new block is a copy of the one below it that adds nothing at first: the two layers that write to
the residual stream are 0. In BERT a norm follows each of them, so that a block which adds nothing
still changes its input; the last norm of the block below therefore hands its scale and shift over
to that of the new block, and a normalised state passes through the others as it is.

In width networks grow within a run, from templates: `techniques/mixture_growth.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import ConfigError
from bluestab.core.seeding import generator

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]

FAMILIES = ("bert", "electra", "roberta", "xlm-roberta", "camembert")
"""transformers' families whose blocks are BERT's."""
BLOCK = re.compile(r"(.*encoder\.layer\.)(\d+)\.(.+)")
HOW = ("zero", "net2net")
NOISE = 0.05
"""Standard deviation of what is added to the copies of net2net, of that of the copied weights."""


def grown(
    weights: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    *,
    ffn: int | None = None,
    layers: int | None = None,
    how: str = "zero",
    seed: int = 0,
) -> tuple[Weights, dict[str, Any]]:
    """The weights and the `config.json` of a larger network.

    ffn     feed-forward units of a block; None: as many as now
    layers  blocks; None: as many as now; new ones are spread evenly
    how     what new feed-forward units are, see above

    Raises ConfigError for another family, and for sizes that are not larger.
    """
    family, old_layers = config.get("model_type"), config.get("num_hidden_layers")
    if family not in FAMILIES:
        raise ConfigError(
            f"networks of family {family} cannot be grown: expected {', '.join(FAMILIES)}"
        )
    sizes = {"intermediate_size": ffn, "num_hidden_layers": layers}
    for flag, name in (("--ffn", "intermediate_size"), ("--layers", "num_hidden_layers")):
        if (asked := sizes[name]) is not None and asked <= config[name]:
            raise ConfigError(f"{flag} is {asked}, but the network has {config[name]}: name more")
    if ffn is None and layers is None:
        raise ConfigError("nothing is to grow: say --ffn UNITS, --layers BLOCKS, or both")
    found = {name: value.clone() for name, value in weights.items()}
    for i in range(int(old_layers or 0)):
        if ffn is not None:
            _widen(found, i, ffn, how, seed)
    for at in _sources(int(old_layers or 0), layers or 0):
        found = _with_block_after(found, at)
    return found, {**config, **{name: n for name, n in sizes.items() if n is not None}}


def _sources(old: int, new: int) -> list[int]:
    """After which block each new one comes, spread evenly, the topmost first: so that the numbers
    of those below stay as they are."""
    return sorted((i * old // (new - old) for i in range(new - old)), reverse=True)


def _of(weights: Mapping[str, torch.Tensor], block: int) -> dict[str, str]:
    """Name inside the block -> whole name."""
    found = {}
    for name in weights:
        match = BLOCK.fullmatch(name)
        if match and int(match[2]) == block and not match[1].startswith("generator."):
            found[match[3]] = name
    return found


def _widen(weights: Weights, block: int, units: int, how: str, seed: int) -> None:
    """More feed-forward units in one block, in place."""
    import torch

    names = _of(weights, block)
    inner, bias = names["intermediate.dense.weight"], names["intermediate.dense.bias"]
    outer = names["output.dense.weight"]
    random = generator(seed, "growth", block)
    w, b, out = weights[inner], weights[bias], weights[outer]  # (I, H), (I,), (H, I)
    n, more = len(w), units - len(w)
    first = torch.arange(more) % n
    if how == "zero":
        other = (first + torch.randint(1, n, (more,), generator=random)) % n
        weights[inner] = torch.cat([w, (w[first] + w[other]) / 2**0.5])
        weights[bias] = torch.cat([b, (b[first] + b[other]) / 2**0.5])
        weights[outer] = torch.cat([out, torch.zeros_like(out[:, first])], dim=1)
        return
    noise = torch.randn((more, w.shape[1]), generator=random).to(w.dtype) * w.std() * NOISE
    copies = 1 + torch.bincount(first, minlength=n).to(out.dtype)  # of each unit
    out = out / copies
    weights[inner] = torch.cat([w, w[first] + noise])
    weights[bias] = torch.cat([b, b[first]])
    weights[outer] = torch.cat([out, out[:, first]], dim=1)


def _with_block_after(weights: Mapping[str, torch.Tensor], block: int) -> Weights:
    """The weights with one block more, after this one, which adds nothing yet."""
    import torch

    found: Weights = {}
    for name, value in weights.items():
        match = BLOCK.fullmatch(name)
        if match is None:
            found[name] = value
            continue
        above = int(match[2]) > block
        found[f"{match[1]}{int(match[2]) + above}.{match[3]}"] = value
    for inside, name in _of(weights, block).items():
        value = weights[name]
        scale, norm = name.endswith("weight"), "LayerNorm" in name
        new = value.clone()
        if norm and not inside.startswith("output."):  # after attention, which adds nothing
            new = torch.ones_like(value) if scale else torch.zeros_like(value)
        elif norm:  # hands over its scale and shift
            found[name] = torch.ones_like(value) if scale else torch.zeros_like(value)
        elif inside.startswith(("attention.output.dense", "output.dense")):
            new = torch.zeros_like(value)
        match = BLOCK.fullmatch(name)
        assert match is not None
        found[f"{match[1]}{block + 1}.{inside}"] = new
    return found


def write_grown(source: Any, target: Any, **sizes: Any) -> tuple[int, int, float]:
    """Read a folder of weights, write one of a larger network that plain transformers loads, its
    tokenizer beside it; returns parameters before and after, and the largest difference between
    what both encoders give for a row of random pieces.

    Raises ConfigError if the source cannot be read, or the target is there.
    """
    import json
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    from bluestab.core.plain_files import read_json
    from bluestab.models.clean_config import FILES
    from bluestab.models.insertion_places import missing_encoder
    from bluestab.models.untrusted import WEIGHTS, check_weights

    check_weights(source)
    if missing_encoder(source) is not None:
        raise ConfigError(
            f"{source} holds layers of technique inner_adaptors without their encoder: there is "
            "nothing to grow; name another run"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"--out is '{target}', which is there and not empty; name a new folder")
    config = read_json(source / "config.json")
    before = load_file(source / WEIGHTS)
    after, larger = grown(before, config, **sizes)
    try:
        target.mkdir(parents=True, exist_ok=True)
        save_file({n: v.contiguous() for n, v in after.items()}, target / WEIGHTS, {"format": "pt"})
        (target / "config.json").write_text(json.dumps(larger, indent=2) + "\n", encoding="utf-8")
        for name in (*FILES, "tokenizer_config.json", "special_tokens_map.json"):
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
    except OSError as error:
        raise ConfigError(f"--out is '{target}': cannot be written ({error.strerror})") from error
    pieces = torch.randint(0, config["vocab_size"], (1, 32), generator=generator(0, "growth"))
    states = [_encoded(folder, pieces) for folder in (source, target)]
    counts = [sum(value.numel() for value in one.values()) for one in (before, after)]
    return counts[0], counts[1], float((states[0] - states[1]).abs().max())


def _encoded(folder: Any, pieces: torch.Tensor) -> torch.Tensor:
    """What the encoder in a folder gives for word pieces (B, T): (B, T, H)."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    from bluestab.models.networks import config_of_folder

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    network = AutoModel.from_pretrained(
        folder, config=config_of_folder(folder, 1), local_files_only=True, dtype=torch.float32
    )
    with torch.no_grad():
        return network.eval()(pieces).last_hidden_state  # type: ignore[no-any-return]
