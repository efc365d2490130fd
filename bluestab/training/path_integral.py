"""The path integral of every weight over a training: what technique `si` of a later run needs.

w_i = sum over steps of -g_i (change of theta_i), g the gradient of the loss at the start of the
step, before clipping and before what techniques add to it (the pull of `si` itself): how much of
the fall of the loss is weight i's (Zenke, Poole & Ganguli 2017, ICML, arXiv 1703.04200, equation
3; their code, github.com/ganguli-lab/pathint, takes the gradient without the penalty, too). It
changes no weight and no random number: a run that keeps it is the same run.

Left in `checkpoint/last/path_integral.safetensors`: `integral.NAME` and `moved.NAME`, the whole
change of a weight. An interrupted run goes on with the sums so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from bluestab.models.built import Built


class PathIntegral(pl.Callback):
    """Sums it up; comes before the callbacks of techniques.

    start  values before the first step, by name
    """

    def __init__(self, built: Built, start: Mapping[str, torch.Tensor]) -> None:
        self._start = start
        self._parameters = {n: p for n, p in built.model.named_parameters() if n in start}
        self._integral: dict[str, torch.Tensor] = {}
        self._before: dict[str, torch.Tensor] = {}
        self._gradient: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, *_: Any) -> None:
        self._before = {n: p.detach().clone() for n, p in self._parameters.items()}

    def on_before_optimizer_step(self, *_: Any) -> None:
        self._gradient = {
            n: p.grad.detach().clone() for n, p in self._parameters.items() if p.grad is not None
        }

    def on_train_batch_end(self, *_: Any) -> None:
        with torch.no_grad():
            for name, gradient in self._gradient.items():
                step = gradient * (self._before[name] - self._parameters[name])
                self._integral[name] = (
                    self._integral[name] + step if name in self._integral else step
                )
        self._before, self._gradient = {}, {}

    def state_dict(self) -> dict[str, Any]:
        return dict(self._integral)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        device = {name: parameter.device for name, parameter in self._parameters.items()}
        self._integral = {name: value.to(device[name]) for name, value in state_dict.items()}

    def write(self, path: Path) -> None:
        """Of the weights as they stand, which are the last."""
        from safetensors.torch import save_file

        found: dict[str, torch.Tensor] = {}
        for name, value in self._integral.items():
            now = self._parameters[name].detach().cpu()
            found[f"integral.{name}"] = value.cpu().contiguous()
            found[f"moved.{name}"] = (now - self._start[name].to(now)).contiguous()
        save_file(found, path)


def read_path_integral(path: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Name of a weight -> its integral and how far it moved, as `write` left them."""
    from safetensors.torch import load_file

    found = load_file(path)
    names = [n.removeprefix("integral.") for n in found if n.startswith("integral.")]
    return {name: (found[f"integral.{name}"], found[f"moved.{name}"]) for name in names}
