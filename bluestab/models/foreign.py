"""Libraries at work on files of others: what they raise becomes a sentence about the folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab.core.errors import BluestabError, ConfigError

if TYPE_CHECKING:
    from torch import nn

SLACK = 50_000_000
"""Parameters that a network may have beyond twice those its weights hold (a fresh head)."""


@contextmanager
def foreign(folder: Path | str, what: str) -> Iterator[None]:
    """`FOLDER WHAT (the library's words)` for any error inside; the trace stays as its cause.

    Memory that is lacking, and errors that are sentences already, pass as they are.
    """
    try:
        yield
    except (BluestabError, MemoryError):
        raise
    except BaseException as error:
        # a panic of the tokenizers library is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if type(error).__name__ == "OutOfMemoryError":
            raise
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{folder} {what} ({type(error).__name__}: {said})") from error


def check_shapes(auto: Any, config: Any, folder: Path, attention: str | None, head: str) -> None:
    """Compare the network that a config promises with the weights beside it, before it is made.

    auto       transformers' class of networks; head: `model.head`
    attention  its kernel; None: transformers' choice

    Raises ConfigError if a tensor has another shape, or if the network is far larger than its
    weights: it would fill any memory.
    """
    import torch
    from safetensors import safe_open

    with torch.device("meta"):
        kernel = {} if attention is None else {"attn_implementation": attention}
        network: nn.Module = auto.from_config(config, **kernel)
    prefix = f"{network.base_model_prefix}."
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    for name, parameter in network.named_parameters():
        if head != "default" and not name.startswith(prefix):
            continue
        others = (name.removeprefix(prefix), f"{prefix}{name}")
        held = next((shapes[n] for n in (name, *others) if n in shapes), None)
        if held is not None and held != tuple(parameter.shape):
            raise ConfigError(
                f"{folder}: config.json promises {name} of shape {tuple(parameter.shape)}, "
                f"model.safetensors holds {held}"
            )
    held_all = sum(_size(shape) for shape in shapes.values())
    promised = sum(p.numel() for p in network.parameters())
    if promised > 2 * held_all + SLACK:
        raise ConfigError(
            f"{folder}: config.json promises {promised} parameters, model.safetensors holds "
            f"{held_all}"
        )


def _size(shape: tuple[int, ...]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product
