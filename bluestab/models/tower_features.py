"""A pretrained image tower that is never trained, and what it gives for an image.

transformers' own classes alone: no code of a checkpoint is run, weights are safetensors. Towers
compute in float32, in evaluation mode, one image at a time: what comes out does not depend on
which other images are asked for. After LLaVA (Liu et al. 2023), which takes the patches of CLIP's
tower without its first token, and trains a projector on top.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import nn

from bluestab.core.errors import ConfigError
from bluestab.models.foreign import check_shapes, foreign
from bluestab.models.frozen_tower import tower_config, tower_folder
from bluestab.models.untrusted import check_code
from bluestab.models.vision_spec import FrozenSpec

NOT_ASKED = ("pooler.", "head.")
"""Parts above what is taken: a checkpoint may lack them."""


class Tower:
    """A frozen tower on a device; called with the pixels of an image, as `images.pixels` gives
    them, it returns its pieces (P, width), float32, on the CPU.

    Raises ConfigError if the weights are not here, not readable, or not what `spec` says.
    """

    def __init__(self, spec: FrozenSpec, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.network = _loaded(spec).to(device)
        self._mean, self._std = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (spec.mean, spec.std)
        )
        known = inspect.signature(self.network.forward).parameters
        # positions of another number of patches than in the pretraining; DINOv2 does it unasked
        self._more = {name: True for name in ("interpolate_pos_encoding",) if name in known}

    @torch.no_grad()
    def __call__(self, pixels: bytes) -> np.ndarray:
        spec, side = self.spec, self.spec.image_size
        image = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(3, side, side)
        scaled = (image.to(self.device).float() / 255.0 - self._mean) / self._std
        with torch.autocast(self.device.type, enabled=False):
            found = self._patches(scaled.unsqueeze(0))
        grid = side // spec.patch
        if found.shape != (grid**2, spec.width):
            raise ConfigError(
                f"model.vision says {grid**2} patches of {spec.width} numbers, but the tower gives "
                f"{tuple(found.shape)}; leave model.vision.patch and width out"
            )
        if spec.pool > 1:
            square = found.T.reshape(1, spec.width, grid, grid)
            found = nn.functional.avg_pool2d(square, spec.pool).flatten(2)[0].T
        return found.float().cpu().contiguous().numpy()

    def _patches(self, images: torch.Tensor) -> torch.Tensor:
        """(1, 3, S, S) -> (patches, width); whatever else a tower gives stands before them."""
        layer = self.spec.layer
        given = self.network(images, output_hidden_states=layer != -1, **self._more)
        states = given.last_hidden_state if layer == -1 else self._hidden(given.hidden_states)
        if states.ndim == 4:  # of convolutions: (1, width, rows, columns)
            return states.flatten(2)[0].T  # type: ignore[no-any-return]
        return states[0, -((self.spec.image_size // self.spec.patch) ** 2) :]  # type: ignore[no-any-return]

    def _hidden(self, states: Any) -> Any:
        """States of all layers, those before the first among them."""
        if -self.spec.layer > len(states):
            raise ConfigError(
                f"model.vision.layer is {self.spec.layer}, but the tower has {len(states) - 1} "
                f"layers: expected -{len(states)} to -1"
            )
        return states[self.spec.layer]


def _loaded(spec: FrozenSpec) -> nn.Module:
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = tower_folder(spec)
    check_code(folder)
    family, kept = tower_config(folder)
    with foreign(folder, "cannot be read as an image tower"):
        config = AutoConfig.for_model(family, **kept)
        check_shapes(AutoModel, config, folder, None, "default")
        network, info = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            local_files_only=True,
        )
    missing = sorted(n for n in info["missing_keys"] if not n.startswith(NOT_ASKED))
    if missing:
        raise ConfigError(
            f"{folder} has no values for {len(missing)} parameters of an image tower of family "
            f"{family}, e.g. '{missing[0]}'"
        )
    if any(not torch.isfinite(value).all() for value in network.parameters()):
        raise ConfigError(f"{folder} has weights that are not finite (NaN or infinity)")
    return network.eval().requires_grad_(False)  # type: ignore[no-any-return]
