"""Every family of encoders under techniques, engines, resume and export: tiny random checkpoints.

The quick part is ALBERT, whose depths are unlike those of the others; the rest is slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bluestab.core.errors import ConfigError
from bluestab.models.importance import read_curvature
from bluestab.testing.claimed_effects import agree, effects_problems
from bluestab.testing.laboratory import Lab, laboratory
from bluestab.testing.observed_training import equal_weights, weights
from bluestab.testing.technique_arms import NAMES, chosen, refusal
from bluestab.testing.techniques import bare_scores
from bluestab.training.assemble import assemble
from tests.support.encoders import checkpoint
from tests.support.family_lab import FamilyLab
from tests.training.test_execute import done

FAMILIES = (
    *("albert", "deberta-v2", "distilbert", "xlm-roberta", "camembert", "mpnet", "longformer"),
    *("big_bird", "eurobert", "megatron-bert"),
)
TASKS = ("gad", "ncbi_disease")
QUICK = {("albert", "gad", "llrd")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, corpora: Path) -> Iterator[Lab]:
    with laboratory(corpora, tmp_path_factory.mktemp("checkpoints")) as found:
        yield FamilyLab(found.folder)


def refusal_of_the_network(lab: Lab, task: str, family: str, name: str) -> str:
    """What only the built network shows to be impossible; "" if nothing is."""
    try:
        lab.trained(task, family, *chosen(name))
    except ConfigError as error:
        return str(error)
    return ""


def cases() -> list[Any]:
    """Every technique on every family; the task alternates."""
    found = []
    for i, family in enumerate(FAMILIES):
        for j, name in enumerate(NAMES):
            case = (family, TASKS[(i + j) % 2], name)
            if (family, "gad", name) in QUICK:
                case = (family, "gad", name)
            found.append(case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow))
    return found


@pytest.mark.parametrize(("family", "task", "name"), cases())
def test_a_technique_does_what_it_says(lab: Lab, family: str, task: str, name: str) -> None:
    """Its effects are those that a witness sees, and an interrupted run goes on bit by bit."""
    if said := refusal(lab, task, family, *chosen(name)):
        pytest.skip(said)
    plain = lab.trained(task, family, "technique=none")[1]
    if said := refusal_of_the_network(lab, task, family, name):
        assert name in said
        pytest.skip(said)
    assembly, seen = lab.trained(task, family, *chosen(name))
    assert effects_problems(assembly.techniques, assembly.effects(), seen, plain, {}) == []
    assert not set(seen.frozen) & set(seen.moved)
    again, spy, goes_on = lab.resumed(task, family, *chosen(name))
    assert again.losses == seen.losses
    assert spy.losses == seen.losses[2:]
    assert equal_weights(weights(goes_on.built.model), seen.end)
    assert agree(goes_on.effects(), assembly.effects())


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_later_run_goes_on_with_the_head(
    lab: Lab, tmp_path: Path, family: str, task: str
) -> None:
    """And holds on to it, by factors that were measured at the end of the first."""
    kept = ("keep=last", "keep_importance=[kronecker-gold-expand]")
    first = done(lab.run(task, family, *kept), tmp_path)
    assert first.status == "done", first.result["error"]
    line = (f"model.init_from={tmp_path / first.key}", "shared_head=true", *chosen("kfac_ewc"))
    run = lab.run(task, family, *line)
    later = done(run, tmp_path)
    assert later.status == "done", later.result["error"]
    (file,) = tmp_path.glob(f"{first.key}/checkpoint/last/importance-*")
    held = {*read_curvature(file, torch.device("cpu")).names}
    built = assemble(run, device=torch.device("cpu"), progress=lambda *_: None).built
    assert built.fresh == frozenset()
    assert built.layers.head & held, "of the head, too"


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_gives_the_same_logits(lab: Lab, family: str, task: str) -> None:
    assembly, seen = lab.trained(task, family, "technique=none")
    assembly.trainer.validate(assembly.module, assembly.loaders["validation"], verbose=False)
    expected, logits = bare_scores(lab.checkpoint(family), assembly, seen)
    for found, bare in zip(assembly.module.item_logits, logits, strict=True):
        assert np.array_equal(found, bare)
    assert dict(assembly.module.scores) == expected


@pytest.mark.slow
@pytest.mark.skipif(find_spec("accelerate") is None, reason="transformers' Trainer needs it")
@pytest.mark.parametrize("task", ["gad", "ncbi_disease"])
@pytest.mark.parametrize("family", FAMILIES)
def test_thirty_losses_equal_transformers_trainer_in_every_family(
    make_assembly: Any, family: str, task: str, tmp_path: Path
) -> None:
    from tests.training.test_parity import OPTIM, compare_with_trainer

    folder = checkpoint(family, tmp_path / "checkpoint")
    rate = OPTIM["lr"] * (3 if family == "big_bird" else 1)  # whose loss hardly moves otherwise
    model = ("model=auto", f"model.path={folder}")
    compare_with_trainer(make_assembly, task, model, tmp_path, {**OPTIM, "lr": rate})
