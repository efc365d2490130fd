"""Where the trainings of the suites happen: one per question, shared by all that ask it."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from bluestab.core.config import compose, resolved
from bluestab.core.instantiate import instantiate
from bluestab.core.paths import conf_dir
from bluestab.techniques.base import Technique
from bluestab.testing.corpora import ANY_FILE
from bluestab.testing.observed_training import (
    SHORT,
    EndOfProcess,
    ObservedTraining,
    Spy,
    fit,
    spy_on,
    watch,
    weights,
)
from bluestab.training.assemble import Assembly, assemble
from bluestab.training.check import Run, check
from bluestab.training.loop.checkpoints import find, identity


class Lab:
    """Trains tiny models on the small corpora, each combination once.

    The models are read from checkpoints on disk whose every tensor differs from what random
    initialisation would give, so that a re-initialised tensor can always be told apart.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._configs: dict[tuple[str, ...], dict[str, Any]] = {}
        self._plain: dict[str, dict[str, torch.Tensor]] = {}
        self._seen: dict[tuple[str, ...], tuple[Assembly, ObservedTraining]] = {}

    def checkpoint(self, model: str) -> Path:
        """A folder as `save_pretrained` leaves it."""
        from transformers import AutoConfig, AutoModel

        from bluestab.models.description import Model
        from bluestab.models.tokenizers import load_tokenizer

        folder = self.folder / model
        if not folder.is_dir():
            node: Any = OmegaConf.to_container(
                OmegaConf.load(conf_dir() / "model" / f"{model}.yaml")
            )
            config = AutoConfig.for_model(node["family"], **node["config"])
            with torch.random.fork_rng():
                torch.manual_seed(1)
                network = AutoModel.from_config(config)
            random = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter += 0.05 * torch.randn(parameter.shape, generator=random)
            network.save_pretrained(folder)
            load_tokenizer(instantiate(node, Model, "model")).save_pretrained(folder)
        return folder

    def plain_transformers(self, model: str) -> dict[str, torch.Tensor]:
        """Names in the fine-tuned network -> weights of the checkpoint."""
        from transformers import AutoModel

        if model not in self._plain:
            network, info = AutoModel.from_pretrained(
                self.checkpoint(model), dtype=torch.float32, output_loading_info=True
            )
            prefix, made_up = network.base_model_prefix, info["missing_keys"]
            self._plain[model] = {
                f"{prefix}.{n}": w for n, w in weights(network).items() if n not in made_up
            }
        return self._plain[model]

    def composed(self, *asked: str) -> dict[str, Any]:
        """What the command line composes and resolves, each line once."""
        if asked not in self._configs:
            self._configs[asked] = resolved(compose((*SHORT, *ANY_FILE, *asked)))
        return self._configs[asked]

    def config(self, task: str, model: str, *overrides: str) -> dict[str, Any]:
        """Composing costs as much as training: task and model are composed once, and each technique
        with its knobs once; a test holds that together they are what one line gives."""
        path = f"model.path={self.checkpoint(model)}"
        ours = [o for o in overrides if o.startswith("technique")]
        rest = [o for o in overrides if o not in ours]
        cfg = dict(self.composed(f"task={task}", f"model={model}", path, *rest))
        if ours and ours[0] != "technique=none":
            assert ours[0].startswith("technique=")
            cfg["technique"] = {}
            for name in re.findall(r"\w+", ours[0].partition("=")[2]):
                knobs = [o for o in ours if o.startswith(f"technique.{name}.")]
                cfg["technique"] |= self.composed(f"technique={name}", *knobs)["technique"]
        return cfg

    def run(self, task: str, model: str, *overrides: str) -> Run:
        """Checked; techniques are new objects every time."""
        return check(self.config(task, model, *overrides))

    def assembly(
        self,
        run: Run,
        techniques: Mapping[str, Technique] | None = None,
        resume: Path | None = None,
        checkpoint_every: int | None = None,
    ) -> Assembly:
        run = replace(
            run,
            cfg={**run.cfg, "checkpoint_every": checkpoint_every},
            techniques=run.techniques if techniques is None else techniques,
        )
        cpu = torch.device("cpu")
        return assemble(run, device=cpu, progress=lambda *_: None, resume=resume)

    def trained(self, task: str, model: str, *overrides: str) -> tuple[Assembly, ObservedTraining]:
        """The training of these overrides, done once."""
        asked = (task, model, *overrides)
        if asked not in self._seen:
            self._seen[asked] = self.train_again(task, model, *overrides)
        return self._seen[asked]

    def train_again(
        self, task: str, model: str, *overrides: str
    ) -> tuple[Assembly, ObservedTraining]:
        assembly = self.assembly(self.run(task, model, *overrides))
        return assembly, watch(assembly, self.plain_transformers(model))

    def resumed(
        self, task: str, model: str, *overrides: str, step: int = 2
    ) -> tuple[Spy, Spy, Assembly]:
        """A second start, ended one step after its checkpoint at `step`, and a third that goes on.

        Returns what the second saw, what the third saw, and what the third has become.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        run = self.run(task, model, *overrides)
        begun = self.assembly(run, resume=folder, checkpoint_every=step)
        lost = spy_on(begun, stop_after=step + 1)
        with contextlib.suppress(EndOfProcess):
            fit(begun)
        found = find(folder, identity(run.key, torch.device("cpu")))
        assert found is not None
        assert found.step == step
        goes_on = self.assembly(self.run(task, model, *overrides), resume=folder)
        spy = spy_on(goes_on)
        fit(goes_on, found.path)
        return lost, spy, goes_on


@contextlib.contextmanager
def laboratory(corpora: Path, checkpoints: Path) -> Iterator[Lab]:
    """A lab on the small corpora that lie there, on one thread of torch."""
    threads, before = torch.get_num_threads(), os.environ.get("BLUESTAB_DATA")
    torch.set_num_threads(1)
    os.environ["BLUESTAB_DATA"] = str(corpora)
    try:
        yield Lab(checkpoints)
    finally:
        torch.set_num_threads(threads)
        os.environ.pop("BLUESTAB_DATA")
        if before is not None:
            os.environ["BLUESTAB_DATA"] = before
