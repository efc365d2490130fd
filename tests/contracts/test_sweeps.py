"""Every sweep file says its question and cost, and every run it declares can be started.

A sweep that follows a paper also says of each of its values whether it was published.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.paths import conf_dir, sweeps_dir
from bluestab.sweeps.launchers.fetch import Fetch
from bluestab.sweeps.plan import SEED, Compose, Job, check_each
from bluestab.training.check import check_parts
from tests.support.texts import general_and_domain

TEXTS = {file.stem: file.read_text() for file in sorted(sweeps_dir().glob("*.yaml"))}
SEARCHES = [name for name, text in TEXTS.items() if "\n  search: true\n" in text]
GRIDS = [name for name in TEXTS if name not in SEARCHES]
PAPERS = [name for name, text in TEXTS.items() if "\n# Paper: " in text]
REAL = os.environ.get("BLUESTAB_DATA")
OURS = [name for name in GRIDS if name not in PAPERS and name != "quickstart"]


def all_but(names: list[str], *slower: str) -> list[Any]:
    """All names, those slow that are named."""
    return some_of(names, *(n for n in names if n not in slower))


def some_of(names: list[str], *quicker: str) -> list[Any]:
    """All names, those slow that are not named: composing every arm of a file takes seconds."""
    return [n if n in quicker else pytest.param(n, marks=pytest.mark.slow) for n in names]


def check(cli: Callable[..., Any], name: str, *overrides: str, **env: str) -> Any:
    # a dry step takes seconds
    return cli("check", "-m", f"+sweeps={name}", *overrides, "hydra.launcher.dry_step=false", **env)


def test_all_files_are_yaml() -> None:
    assert TEXTS, "no sweep was found"
    assert all(file.suffix == ".yaml" for file in sweeps_dir().iterdir())


@pytest.mark.parametrize("name", TEXTS)
def test_opens_with_question_and_cost(name: str) -> None:
    opening = TEXTS[name].split("\ndefaults:")[0]
    assert opening.startswith("# @package _global_\n# Question: ")
    assert "\n# Cost: " in opening
    assert f"name: {name}\n" in TEXTS[name]


SEQUENCES = [name for name in GRIDS if "+sequence:" in TEXTS[name]]


@pytest.mark.parametrize(
    "name", all_but(sorted({*GRIDS} - {*SEQUENCES}), "techniques_biosses", "du_nguyen2023")
)
def test_every_arm_fits_its_own_model_and_the_runs_are_as_many_as_said(
    name: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that can be checked without data and weights, on the models that the file names."""
    caught: list[Job] = []

    def take(self: Fetch, compose: Compose, jobs: Sequence[Job], name: str | None) -> None:
        cells = dict.fromkeys(tuple(o for o in job if not SEED.fullmatch(o)) for job in jobs)
        check_each(compose, list(cells), check_parts)
        caught.extend(jobs)

    monkeypatch.setattr(Fetch, "take", take)
    said = cli("fetch", "-m", f"+sweeps={name}")
    assert said.code == 0, said.err
    cost = re.search(r"\n# Cost: (\d+) runs", TEXTS[name])
    assert cost is not None
    assert len({tuple(job) for job in caught}) == int(cost[1])


@pytest.mark.parametrize(
    "name",
    [n if n.endswith("_small") else pytest.param(n, marks=pytest.mark.slow) for n in SEQUENCES],
)
def test_every_sequence_fits_its_own_model(
    name: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tasks, for every arm that is known before a stage has run."""
    brought: list[Any] = []
    monkeypatch.setattr(Fetch, "bring", lambda self, parts: brought.extend(parts))
    said = cli("fetch", "-m", f"+sweeps={name}")
    assert said.code == 0, said.err
    assert len({parts.task.name for parts in brought}) >= 2


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_fits_its_own_model_and_costs_at_most_what_it_says(
    name: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its space is checked on the model that the file names, without data and weights."""
    caught: list[Any] = []
    monkeypatch.setattr(Fetch, "search", lambda self, search: caught.append(search))
    said = cli("fetch", "-m", f"+sweeps={name}")
    assert said.code == 0, said.err
    (search,) = caught
    assert search.name == name
    cost = re.search(r"\n# Cost: at most (\d+) runs", TEXTS[name])
    assert cost is not None
    assert int(cost[1]) == search.n_trials * len(search.seeds) + 4 * len(search.confirm)


def test_searches_are_found() -> None:
    assert sorted(f for f in TEXTS if f.startswith("search_")) == SEARCHES
    assert len(SEARCHES) == 5


def test_quickstart_needs_nothing_but_the_package(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BLUESTAB_DATA")
    said = check(cli, "quickstart", f"store={tmp_path}", "model=tiny", "technique.freeze.depth=1")
    assert said.code == 0, said.err
    assert "12 runs in 4 cells, 0 done" in said.out


@pytest.mark.parametrize("name", some_of(OURS, "vocabulary", "biosses_remedies", "decay_small"))
def test_composes_and_checks(name: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    if REAL is None:
        pytest.skip("real corpora: set BLUESTAB_DATA to the folder that holds them")
    # tiny has two blocks; to re-initialise one of them is the default
    deep = [f for f in ("freeze", "reinit.depth") if f in TEXTS[name]]
    depth = [f"technique.{f.removesuffix('.depth')}.depth=1" for f in deep]
    if name == "pretraining_settings":
        general_and_domain(Path.cwd())
    said = check(cli, name, f"store={tmp_path}", "model=tiny", *depth, BLUESTAB_DATA=REAL)
    assert said.code == 0, said.err


# --- sweeps that follow a paper ----------------------------------------------------------------

OURS_BECAUSE = re.compile(r"chosen by us(?:, because |, as |: )\w")


def values(text: str) -> list[str]:
    """The lines of a sweep file that set something; neither headings nor the sweep's name."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    heading = re.compile(r"\s*\w+:\s*(#.*)?|\s*name: .*")
    return [line for line in lines if not heading.fullmatch(line)]


def test_lines_that_set_something_are_found() -> None:
    text = "# a: 1\n\na:\n  name: x\n  b: 2  # why\n  - override /c: d\nsweep: # e\n  f-1: [g=1]\n"
    assert values(text) == ["  b: 2  # why", "  - override /c: d", "  f-1: [g=1]"]


def test_files_named_after_a_year_follow_a_paper() -> None:
    dated = [name for name in TEXTS if re.search(r"\D20\d\d(_|$)", name)]
    assert [name for name in dated if not name.endswith("_small")] == PAPERS
    assert len(PAPERS) >= 7


@pytest.mark.parametrize("name", PAPERS)
def test_every_value_is_published_or_chosen_by_us(name: str) -> None:
    found = values(TEXTS[name])
    assert found
    for line in found:
        comment = line.partition(" # ")[2]
        assert "published" in comment or OURS_BECAUSE.search(comment), f"{name}: {line.strip()}"
        said = comment.count("chosen by us")
        assert len(OURS_BECAUSE.findall(comment)) == said, f"{name}: and why? {line.strip()}"


@pytest.mark.parametrize("name", PAPERS)
def test_the_docs_say_how_many_runs(name: str) -> None:
    cost = re.search(r"\n# Cost: (\d+) runs", TEXTS[name])
    assert cost is not None
    page = (conf_dir().parent / "docs/how-to/papers.md").read_text()
    assert re.search(rf"^\| `{name}` \|.*\| {cost[1]} \|$", page, re.M), f"{name}, {cost[1]} runs"
