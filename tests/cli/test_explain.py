"""What there is, and what one thing of it is, from the places where it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bluestab.core.catalogue import KINDS, files
from tests.support.refusals import refused

Say = Callable[..., Any]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llrd", ["technique=llrd", "Formula ", "Clark et al. 2020", "technique.llrd.decay=0.9"]),
        (
            "gad",
            [
                "task=gad",
                "gene-disease",
                "counts train 4,261, validation 535",
                "task.train_size=null",
            ],
        ),
        ("biomedbert_base", ["model=biomedbert_base", "PubMed", "Gu et al. 2022"]),
        ("quickstart", ["bluestab run -m +sweeps=quickstart"]),
        ("entity_f1", ["task.metric=entity_f1", "higher is better", "start and end agree"]),
        ("rmse", ["lower is better"]),
        ("llrd.convention", ["ulmfit: top block 1/2.6"]),
        ("technique.llrd.convention", ["ulmfit: top block 1/2.6"]),
        ("optim.warmup", ["optim.warmup=0.1", "Mosbach et al. 2021"]),
        ("warmup", ["optim.warmup=0.1", "technique.ema.warmup"]),
        ("model.vision.pool", ["model.vision.pool=1", "2 makes a quarter of the pieces"]),
        ("model.vision.patch", ["model.vision.patch=16", "[conv]", "[frozen]"]),
        ("hydra.launcher.per_gpu", ["workers that share a GPU"]),
        ("p_adjusted", ["column of summary.csv", "for all arms"]),
        ("ci_low", ["lower end of the 95 % interval of the mean"]),
        ("failed_high", ["upper end of the 95 % interval of failed_share"]),
        ("arm", ["a term"]),
        ("Cells", ["a term", "only these are averaged"]),
        ("max-T", ["a term"]),
    ],
)
def test_names(cli: Say, name: str, expected: list[str]) -> None:
    said = cli("explain", *name.split())
    assert (said.code, said.err) == (0, "")
    for part in expected:
        assert part in " ".join(said.out.split())


def test_every_metric_is_explained() -> None:
    from bluestab.cli.explain import scorers
    from bluestab.tasks.metric import KNOWN

    said = scorers()
    assert {*said} == {*KNOWN}
    assert all(said.values())


def test_names_that_nothing_has(cli: Say) -> None:
    refused(cli, ("explain", "freez"), "did you mean 'freeze'?")
    refused(cli, ("explain", "learning_rate"), "here it is optim.lr")
    refused(cli, ("explain", "frobnicate"), "bluestab explain lists names")


def test_alone_they_list(cli: Say) -> None:
    said = cli("list").out
    every = [name for kind in KINDS for name in files(kind)]
    assert [name for name in every if f"\n{name} " not in f"\n{said}"] == []
    said = cli("explain").out
    assert [name for name in every if name not in said] == []
    assert max(map(len, said.splitlines())) <= 100


def test_a_list_fits_the_window(cli: Say) -> None:
    lines = cli("list", "technique", COLUMNS="60").out.splitlines()
    assert max(map(len, lines)) <= 60
    assert len(cli("list", "technique", COLUMNS="200").out.splitlines()) == len(files("technique"))
