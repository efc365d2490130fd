"""Keys: what decides a result is in them, nothing else is, and stored runs keep theirs for ever.

`assets/golden_keys.json` holds twenty runs: the overrides that ask for them, the configuration that
was hashed, key and cell. The hash must give these keys, and composing the overrides today must give
this configuration, so that neither a new knob nor an edited default silently renames stored runs.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bluestab.core import keys
from bluestab.core.config import compose, resolved
from bluestab.core.keys import TRAINER_COMPUTATIONAL, cell_of, hashed_config, key_of
from bluestab.core.paths import conf_dir
from bluestab.core.seeding import Seeds
from bluestab.core.spaces import SEARCH_SPACE

ASSET = Path(__file__).parents[1] / "assets" / "golden_keys.json"
GOLDEN: list[dict[str, Any]] = json.loads(ASSET.read_text(encoding="utf-8"))

NOT_HASHED = {
    "store", "device", "sweep", "checkpoint_every", "on_oom", "keep", "on_crash", "timeout",
    "keep_representations", "keep_path_integral", "keep_importance", "profile", "logger",
}  # fmt: skip
"""Top-level keys of the config that decide where a run goes or how many there are, not its result.
(`device` may change the last bits; the record says which it was.)"""

NOT_HASHED_OF_TRAINER = {"gradient_checkpointing", "loader_workers", "prefix_gb"}
"""Knobs of the trainer that leave every bit alone."""

MODEL = "random:0123456789abcdef"
DATA = {"train": "aa", "validation": "bb", "test": "cc"}


def composed(*overrides: str) -> dict[str, Any]:
    return resolved(compose(overrides))


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return composed("task=gad", "model=tiny", "technique=[freeze,llrd]")


def hashed(cfg: dict[str, Any], model_id: str = MODEL, data: Any = None) -> dict[str, Any]:
    return hashed_config(cfg, model_id=model_id, fingerprint=data or DATA)


def changed(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    cfg = copy.deepcopy(base)
    *parents, last = path.split(".")
    node = cfg
    for part in parents:
        node = node[part]
    node[last] = value
    return cfg


def entry(overrides: list[str], model_id: str, data: dict[str, str]) -> dict[str, Any]:
    """A line for the asset, as this version of bluestab would write it."""
    config = hashed(composed(*overrides), model_id, data)
    return {
        "overrides": overrides,
        "key": key_of(config),
        "cell": cell_of(config),
        "hashed": config,
    }


# --- for ever ------------------------------------------------------------------------------------


def test_the_asset_is_worth_having() -> None:
    assert len(GOLDEN) >= 20
    assert len({golden["key"] for golden in GOLDEN}) == len(GOLDEN)
    assert all(re.fullmatch("[0-9a-f]{16}", g[k]) for g in GOLDEN for k in ("key", "cell"))
    tasks = {golden["hashed"]["task"]["name"] for golden in GOLDEN}
    techniques = {name for golden in GOLDEN for name, _ in golden["hashed"]["technique"]}
    assert tasks >= {"biosses", "gad", "ncbi_disease"}
    assert techniques >= {"freeze", "llrd", "reinit"}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["key"])
def test_stored_configs_keep_their_keys(golden: dict[str, Any]) -> None:
    assert key_of(golden["hashed"]) == golden["key"], "the hash itself has changed"
    assert cell_of(golden["hashed"]) == golden["cell"]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["key"])
def test_the_same_request_is_still_the_same_run(golden: dict[str, Any]) -> None:
    """Fails when a knob was added without an entry in `keys.NEUTRAL`, or a default was edited.

    An edited default: add the old value to the overrides of this line. The recipe version is left
    out, because raising it is the declared way to rename every run.
    """
    stored = golden["hashed"]
    now = entry(golden["overrides"], stored["model"], stored["data"])
    without = [{k: v for k, v in h.items() if k != "recipe_version"} for h in
               (now["hashed"], stored)]  # fmt: skip
    assert without[0] == without[1], f"this version would write:\n{json.dumps(now)}"


def test_a_new_knob_stays_out_at_its_neutral_value(
    base: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(hashed(base))
    knobs = ("optim.sharpness", "technique.llrd.tilt", "trainer.attention.tpu")
    later = base
    for knob in knobs:
        later = changed(later, knob, 0.0)
        assert key_of(hashed(later)) != key
    neutral = {**dict.fromkeys(knobs, 0), "task.absent": None, "absent.knob": 1}
    neutral |= {**keys.NEUTRAL, "technique.reinit.knob": 0}
    monkeypatch.setattr(keys, "NEUTRAL", neutral)
    assert key_of(hashed(later)) == key
    assert key_of(hashed(base)) == key
    for knob in knobs:
        assert key_of(hashed(changed(later, knob, 0.5))) != key
    assert later["optim"]["sharpness"] == 0.0, "the config itself is left alone"
    assert later["trainer"]["attention"]["tpu"] == 0.0


@pytest.mark.parametrize("knob", keys.REVISED)
def test_a_value_whose_meaning_changed_has_another_key(
    knob: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value that is listed can be said, and no other value of the knob is touched."""
    name, _, leaf = knob.partition(".")
    for old, new in keys.REVISED[knob].items():
        cfg = composed("task=gad", "model=tiny", f"technique={name}", f"technique.{knob}={old}")
        number = changed(cfg, f"technique.{knob}", 0.5)
        found, plain = hashed(cfg), hashed(number)
        assert found["technique"][0][1][leaf] == new
        assert cfg["technique"][name][leaf] == old, "the config itself is left alone"
        with monkeypatch.context() as patch:
            patch.setattr(keys, "REVISED", {})
            assert key_of(hashed(cfg)) != key_of(found)
            assert hashed(number) == plain


# --- what is in and what is out ------------------------------------------------------------------


def test_every_key_of_the_config_is_hashed_or_declared_not_to_be(base: dict[str, Any]) -> None:
    assert set(base) == {"task", "model", "technique", "optim", "trainer", "seed", "seeds"} | {
        "stop_degenerate", "score_earlier", "shared_head", *NOT_HASHED
    }  # fmt: skip
    config = hashed(base)
    assert config.keys() == {
        "recipe_version", "task", "data", "model", "technique", "optim", "trainer", "seeds"
    }  # fmt: skip
    for knob in ("stop_degenerate", "score_earlier", "shared_head"):
        assert hashed({**base, knob: True})[knob] is True
    for knob, value in (("head", "linear"), ("lower_case", False), ("head_dropout", 0)):
        assert hashed(changed(base, f"model.{knob}", value)) == {**config, knob: value}
    for group in ("optim", "trainer"):
        for file in (conf_dir() / group).glob("*.yaml"):
            later = {path.partition(".")[2] for path in keys.NEUTRAL if path.startswith(group)}
            known = {*config[group], *later, *(NOT_HASHED_OF_TRAINER if group == "trainer" else ())}
            assert set(OmegaConf.load(file)) == known, f"{file.name}: a key is lost"
    assert set(base["seeds"]) == set(config["seeds"])
    assert {*TRAINER_COMPUTATIONAL, *NOT_HASHED_OF_TRAINER} == set(base["trainer"])
    for name, knobs in config["technique"]:
        assert {"kind", *base["technique"][name]} - {"_target_", SEARCH_SPACE} == set(knobs)


def leaves(node: Any, path: str = "") -> list[str]:
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in leaves(value, f"{path}.{key}")]
    return [path.removeprefix(".")]


def test_grouping_counts_where_parts_are_drawn(base: dict[str, Any]) -> None:
    """And only there: the files' own parts, and all that was drawn by text, keep their keys."""
    without = {**base, "task": {k: v for k, v in base["task"].items() if k != "grouping"}}
    shared, text = (changed(base, "task.grouping", v) for v in ("shared", "text"))
    folded = [changed(changed(cfg, "task.folds", 4), "task.fold", 0) for cfg in (shared, text)]
    old = changed(changed(without, "task.folds", 4), "task.fold", 0)
    assert hashed(shared) == hashed(text) == hashed(without)
    assert key_of(hashed(folded[1])) == key_of(hashed(old))
    assert cell_of(hashed(folded[0])) != cell_of(hashed(folded[1]))
    for files in ({"train": "aa"}, {"train": "aa", "test": "cc"}):
        one, other, before = (hashed(cfg, data=files) for cfg in (shared, text, without))
        assert one["task"]["grouping"] == "shared"
        assert other == before
        assert cell_of(one) != cell_of(other)


def test_changing_any_hashed_value_changes_the_key(base: dict[str, Any]) -> None:
    key, cell = key_of(hashed(base)), cell_of(hashed(base))
    described = re.compile(
        r"task\.(about|recipe|data_dir|train|validation|test|sha256|fetch)(\.|$)"
        r"|technique\.\w+\.search_space\."
    )
    for path in leaves({k: v for k, v in base.items() if k not in {*NOT_HASHED, "model"}}):
        if path.removeprefix("trainer.") in NOT_HASHED_OF_TRAINER or path == "task.grouping":
            continue  # how parts are drawn: these are those of the files, see below
        # a kind is named by its class alone: moving it to another module changes no result
        other = hashed(changed(base, path, "a.Other" if path.endswith("_target_") else 12345))
        assert (key_of(other) == key) == bool(described.match(path)), path
        varies = path.split(".")[0] in ("seed", "seeds") or path == "task.fold"
        in_cell = not (described.match(path) or varies)
        assert (cell_of(other) != cell) == in_cell, path
    assert key_of(hashed(base, model_id="sha256:00")) != key
    assert key_of(hashed(base, data={**DATA, "test": "dd"})) != key
    assert key_of(hashed(base, data={**DATA, "test": "dd"})) != cell


@pytest.mark.parametrize(
    "override",
    [
        "store=/elsewhere",
        "device=cuda:1",
        "task.data_dir=/elsewhere",
        "task.train=other.tsv",
        "task.sha256.train=null",
        "task.about.licence=none",
        "checkpoint_every=10min",
        "on_oom=crash",
        "keep=all",
        "trainer.loader_workers=2",
        "trainer.prefix_gb=1",
        "trainer.gradient_checkpointing=true",
        "sweep.name=mine",
        "sweep.seeds=3",
        "model.path=/elsewhere",
        "model.about.summary=mine",
    ],
)
def test_where_things_lie_does_not_change_the_key(override: str) -> None:
    ask = ("task=gad", "model=tiny")
    assert key_of(hashed(composed(*ask, override))) == key_of(hashed(composed(*ask)))


def test_a_seed_is_the_same_by_whatever_name(base: dict[str, Any]) -> None:
    by_stream = copy.deepcopy(base)
    by_stream["seeds"] = {"init": 5, "order": 5, "dropout": 5, "split": 0}
    assert key_of(hashed(changed(base, "seed", 5))) == key_of(hashed(by_stream))
    assert hashed(by_stream)["seeds"] == Seeds(5, 5, 5, 0).as_dict()
    assert cell_of(hashed(by_stream)) == cell_of(hashed(base))


def test_where_a_class_lies_does_not_change_the_key(base: dict[str, Any]) -> None:
    moved = changed(base, "technique.freeze._target_", "bluestab.elsewhere.Freeze")
    moved = changed(moved, "task._target_", "bluestab.elsewhere.Classification")
    assert key_of(hashed(moved)) == key_of(hashed(base))


def test_the_order_of_techniques_counts_the_order_of_keys_does_not(base: dict[str, Any]) -> None:
    turned = changed(base, "technique", dict(reversed(base["technique"].items())))
    assert key_of(hashed(turned)) != key_of(hashed(base))
    shuffled = {name: dict(reversed(node.items())) if name in ("optim", "task") else node
                for name, node in reversed(base.items())}  # fmt: skip
    assert key_of(hashed(shuffled)) == key_of(hashed(base))


def test_epochs_do_not_count_where_steps_decide(base: dict[str, Any]) -> None:
    in_steps = [
        changed(changed(base, "optim.steps", 100), "optim.epochs", epochs) for epochs in (3, 30)
    ]
    assert key_of(hashed(in_steps[0])) == key_of(hashed(in_steps[1]))
    assert key_of(hashed(in_steps[0])) != key_of(hashed(base))


def test_whole_floats_are_integers(base: dict[str, Any]) -> None:
    for path in ("optim.clip", "technique.llrd.decay", "task.failure_score"):
        one, same, other = (key_of(hashed(changed(base, path, v))) for v in (1, 1.0, 1.5))
        assert one == same != other
    ones = [key_of(hashed(changed(base, "optim.clip", [{"a": v}]))) for v in (1, 1.0)]
    assert ones[0] == ones[1], "inside lists and maps as well"
    flag, number = (key_of(hashed(changed(base, "optim.clip", v))) for v in (True, 1))
    assert flag != number


def test_hashing_changes_nothing_and_is_plain_json(base: dict[str, Any]) -> None:
    before = copy.deepcopy(base)
    config = hashed(base)
    assert base == before
    assert json.loads(json.dumps(config)) == config
    assert hashed(base) == config


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_key_is_sixteen_digits_and_survives_storage(config: dict[str, Any]) -> None:
    key = key_of(config)
    assert re.fullmatch("[0-9a-f]{16}", key)
    assert key_of(json.loads(json.dumps(config, indent=1))) == key
    assert cell_of({**config, "seeds": 1}) == cell_of({**config, "seeds": 2})


def test_a_number_that_json_lacks_is_refused(base: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        key_of(hashed(changed(base, "optim.lr", float("nan"))))
