"""The grid gives exactly the runs a person means: no knob without its technique, nothing twice.

The expected runs are written out by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluestab.core.errors import ConfigError
from bluestab.sweeps.grid import check_names, expand, technique_names
from hydra_plugins.bluestab.plugins import arms_of, seeds_of, technique_key


def runs(
    *choices: tuple[str, list[str]],
    arms: dict[str, list[str]] | None = None,
    seeds: int | list[int] = 1,
    default: tuple[str, ...] = (),
) -> list[str]:
    """`expand`, each run as one line."""
    spelled = [(key, [f"{key}={value}" for value in values]) for key, values in choices]
    jobs = expand(spelled, arms=arms, seeds=seeds, default_technique=default)
    return [" ".join(job) for job in jobs]


DECAY = ("technique.llrd.decay", ["0.8", "0.9"])


def test_a_knob_applies_only_to_arms_that_contain_its_technique() -> None:
    assert runs(("technique", ["none", "llrd", "[freeze,llrd]"]), DECAY) == [
        "technique=none seed=0",
        "technique=llrd technique.llrd.decay=0.8 seed=0",
        "technique=llrd technique.llrd.decay=0.9 seed=0",
        "technique=[freeze,llrd] technique.llrd.decay=0.8 seed=0",
        "technique=[freeze,llrd] technique.llrd.decay=0.9 seed=0",
    ]


def test_a_name_that_contains_another_is_another_technique() -> None:
    assert runs(("technique", ["llrd2", "llrd"]), ("technique.llrd.decay", ["0.8"])) == [
        "technique=llrd2 seed=0",
        "technique=llrd technique.llrd.decay=0.8 seed=0",
    ]


def test_order_is_arms_then_choices_then_seeds() -> None:
    found = runs(
        ("task", ["a", "b"]),
        ("optim.lr", ["1", "2"]),
        arms={"x": ["technique=none"], "y": ["technique=llrd"]},
        seeds=[7, 3],
    )
    assert found == [
        f"technique={technique} task={task} optim.lr={lr} seed={seed}"
        for technique, task, lr, seed in product(["none", "llrd"], "ab", "12", [7, 3])
    ]


def test_duplicates_vanish() -> None:
    assert runs(("technique", ["llrd", "none", "llrd"]), seeds=2) == [
        "technique=llrd seed=0",
        "technique=llrd seed=1",
        "technique=none seed=0",
        "technique=none seed=1",
    ]
    assert runs(arms={"a": ["technique=none"], "b": ["technique=none"]}) == [
        "technique=none seed=0"
    ]


def test_arms_are_a_union_times_the_rest() -> None:
    arms = {
        "plain": ["technique=none"],
        "decayed": ["technique=llrd", "technique.llrd.decay=0.7", "optim.lr=5"],
    }
    assert runs(("task", ["a", "b"]), arms=arms) == [
        "technique=none task=a seed=0",
        "technique=none task=b seed=0",
        "technique=llrd technique.llrd.decay=0.7 optim.lr=5 task=a seed=0",
        "technique=llrd technique.llrd.decay=0.7 optim.lr=5 task=b seed=0",
    ]


def test_the_command_line_wins_over_arms() -> None:
    arms = {"plain": ["technique=none"], "decayed": ["technique=llrd", "technique.llrd.decay=0.7"]}
    assert runs(DECAY, arms=arms) == [
        "technique=none seed=0",
        "technique=llrd technique.llrd.decay=0.8 seed=0",
        "technique=llrd technique.llrd.decay=0.9 seed=0",
    ]
    # another technique: what the arm says about its own no longer applies
    assert runs(("technique", ["freeze"]), arms=arms) == ["technique=freeze seed=0"]


def test_seeds() -> None:
    assert runs(seeds=3) == ["seed=0", "seed=1", "seed=2"]
    assert runs(seeds=[5, 2]) == ["seed=5", "seed=2"]
    assert runs(("seed", ["8", "9"]), seeds=3) == ["seed=8", "seed=9"], "chosen by name: that wins"


def test_technique_of_the_config_itself() -> None:
    assert runs(DECAY, default=("llrd",)) == [
        "technique.llrd.decay=0.8 seed=0",
        "technique.llrd.decay=0.9 seed=0",
    ]
    assert runs(arms={"a": ["technique.llrd.decay=0.8"]}, default=("llrd",)) == [
        "technique.llrd.decay=0.8 seed=0"
    ]


def test_knobs_of_techniques_that_are_nowhere() -> None:
    with pytest.raises(ConfigError, match=r"technique\.llrd\.decay is set, but no arm .* llrd"):
        runs(("technique", ["none", "freeze"]), DECAY)
    with pytest.raises(ConfigError, match=r"sweep\.arms\.a sets technique\.llrd\.decay"):
        runs(arms={"a": ["technique=none", "technique.llrd.decay=0.8"], "b": ["technique=llrd"]})


def test_a_technique_twice() -> None:
    with pytest.raises(ConfigError, match="lists llrd twice"):
        runs(arms={"a": ["technique=[llrd,freeze,llrd]"]})
    check_names("[llrd,freeze]")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("none", []),
        ("llrd", ["llrd"]),
        ("[freeze, llrd]", ["freeze", "llrd"]),
        ("['freeze',\"llrd\"]", ["freeze", "llrd"]),
        ("[none]", []),
        ("[]", []),
    ],
)
def test_technique_names(value: str, names: list[str]) -> None:
    assert technique_names(value) == names


TECHNIQUES = ["none", "llrd", "freeze", "reinit", "[freeze,llrd]", "[llrd,reinit]"]
KNOBS = ["technique.llrd.decay", "technique.freeze.depth", "technique.reinit.depth", "optim.lr"]


@settings(deadline=None, max_examples=60)
@given(
    techniques=st.lists(st.sampled_from(TECHNIQUES), min_size=1, max_size=4),
    knobs=st.dictionaries(
        st.sampled_from(KNOBS), st.lists(st.sampled_from("123"), min_size=1, max_size=3), max_size=3
    ),
    seeds=st.integers(1, 3),
)
def test_every_grid_is_complete_and_without_repetition(
    techniques: list[str], knobs: dict[str, list[str]], seeds: int
) -> None:
    """Counted independently: per technique, the product of the knobs it can have."""
    contained = {name for value in techniques for name in technique_names(value)}
    owners = {knob: knob.split(".")[1] for knob in knobs if knob.startswith("technique.")}
    choices = [("technique", techniques), *knobs.items()]
    if set(owners.values()) - contained:
        with pytest.raises(ConfigError):
            runs(*choices, seeds=seeds)
        return
    expected = 0
    for value in set(techniques):
        product_of_knobs = 1
        for knob, values in knobs.items():
            if knob not in owners or owners[knob] in technique_names(value):
                product_of_knobs *= len(set(values))
        expected += product_of_knobs * seeds
    found = runs(*choices, seeds=seeds)
    assert len(found) == len(set(found)) == expected
    for run in found:
        used = technique_names(run.split()[0].split("=", 1)[1])
        assert all(owners[k] in used for k in owners if f"{k}=" in run)


# --- what a config may say about a sweep -----------------------------------------------------


def test_sweep_seeds() -> None:
    assert seeds_of(3) == 3
    assert seeds_of([3, 5, 3]) == [3, 5]
    for bad in (0, -1, 1.5, True, None, "3", "abc", [], [1, "a"], [-1], [True], {}):
        with pytest.raises(ConfigError, match=r"sweep\.seeds is .*expected a number of seeds"):
            seeds_of(bad)


def test_sweep_arms() -> None:
    assert arms_of(None) is None
    assert arms_of({"a": ["technique=[freeze,llrd]", "optim.lr=1e-5"], 2: []}) == {
        "a": ["technique=[freeze,llrd]", "optim.lr=1e-5"],
        "2": [],
    }
    for bad in ("llrd", ["a"], {}, 3, {"a": "technique=llrd"}, {"a": None}, {"a": [1]}):
        with pytest.raises(ConfigError, match=r"sweep\.arms"):
            arms_of(bad)
    for bad in ({"a": [{"technique": "llrd"}]}, {"a": ["llrd"]}):
        with pytest.raises(ConfigError, match=r"sweep\.arms\.a .* \[technique=llrd"):
            arms_of(bad)
    for several in ("technique=none,llrd", "optim.lr=range(1,3)", "optim.lr=choice(1,2)"):
        with pytest.raises(ConfigError, match="one arm for each"):
            arms_of({"a": [several]})
    for fixed in ("seed=3", "sweep.seeds=3", "+sweeps=other", "hydra.job.chdir=true"):
        with pytest.raises(ConfigError, match=r"sweep\.arms\.a: .* cannot differ between the arms"):
            arms_of({"a": [fixed]})


def test_knobs_travel_under_another_name_until_an_arm_is_chosen() -> None:
    from bluestab.cli.hydra_app import _carried

    for override in (
        "technique.llrd.decay=0.8",
        "technique=llrd",
        "optim.lr=1",
        "+a.b=technique.c",
    ):
        key, _, value = _carried(override).partition("=")
        assert f"{technique_key(key)}={value}" == override
    assert _carried("technique.llrd.decay=1").startswith("+sweep.knobs.")


@pytest.mark.parametrize(
    "words",
    [
        ("sweep.seeds=100000000",),
        ("seed=range(0,100000000)",),
        ("optim.lr=range(1,1000)", "optim.batch_size=range(1,1000)", "sweep.seeds=1"),
    ],
)
def test_more_runs_than_can_be_planned_are_refused_at_once(
    cli: Callable[..., Any], words: tuple[str, ...]
) -> None:
    """Before, a hundred million seeds took six gigabytes."""
    said = cli("run", "-m", "task=gad", "model=tiny", *words)
    assert said.code == 2
    assert "at most 100,000 can be asked for at once" in said.err


def test_checks_of_many_runs_say_how_far_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bluestab.sweeps import plan

    monkeypatch.setattr(plan, "SILENCE", -1.0)
    monkeypatch.setattr(plan, "resolved", dict)
    jobs = [[f"a={i}", "seed=1"] for i in range(3)]
    plan.check_each(lambda lines: SeedOnly(), jobs, dict)  # type: ignore[arg-type, return-value]
    assert "checked 2 of 3 runs; nothing is started yet" in capsys.readouterr().out


class SeedOnly(dict[str, Any]):
    """A config of a seed alone."""

    seed = 0
