"""Every task in conf/task keeps the contract, and describes its published data truly.

On small corpora: each yaml instantiates, every key of it is either hashed or descriptive, a step of
training and a scoring work, perfect predictions get the best score and constant ones count as
failed. On the published files (BLUESTAB_DATA; NCBI-disease ships with the package): counts, labels,
first and last items, and the bounds below which a run counts as failed.
"""

from __future__ import annotations

import inspect
import itertools
import math
import pkgutil
from collections import Counter
from functools import cache
from importlib import import_module
from typing import Any

import pytest
import torch
from conftest import ANY_FILE, real_data
from omegaconf import OmegaConf

import bluestab.tasks
from bluestab.checks import check
from bluestab.data import TaskData, load_task
from bluestab.errors import ConfigError
from bluestab.hydra_app import compose
from bluestab.instantiate import instantiate
from bluestab.keys import TASK_DESCRIPTIVE
from bluestab.paths import conf_dir, corpora_dir
from bluestab.planning import resolved
from bluestab.tasks.base import Task
from bluestab.types import SPLITS, Example

FILES = {file.stem: file for file in sorted((conf_dir() / "task").glob("*.yaml"))}
NODES: dict[str, Any] = {n: OmegaConf.to_container(OmegaConf.load(f)) for n, f in FILES.items()}
KINDS = {
    cls.__name__: cls
    for module in pkgutil.iter_modules(bluestab.tasks.__path__)
    for cls in vars(import_module(f"bluestab.tasks.{module.name}")).values()
    if inspect.isclass(cls) and issubclass(cls, Task) and cls is not Task
}
SHIPPED = ("ncbi_disease",)

each = pytest.mark.parametrize("name", FILES)


def task_of(name: str) -> Task:
    return instantiate(NODES[name], Task, "task")  # type: ignore[type-abstract]


# --- the yaml ------------------------------------------------------------------------------------


def test_every_kind_is_used_and_every_yaml_has_a_kind() -> None:
    assert {"biosses", "gad", "ncbi_disease"} <= set(FILES)
    used = {node["_target_"].rpartition(".")[2] for node in NODES.values()}
    assert used == set(KINDS)


@each
def test_the_yaml_describes_itself(name: str) -> None:
    node, task = NODES[name], task_of(name)
    assert task.name == name
    assert type(task) is KINDS[node["_target_"].rpartition(".")[2]]
    assert task.check() == []
    assert task.metric in task.metrics
    assert task.failure_score <= task.failed_below
    assert node["recipe"].keys() == {"lr", "batch_size", "epochs"}
    assert node["about"].keys() == {"summary", "licence", "citation", "url", "counts"}
    assert all(str(value).strip() for value in node["about"].values())
    assert node["about"]["counts"].keys() == set(SPLITS)
    assert node["sha256"].keys() == set(SPLITS)
    assert all(len(digest) == 64 for digest in node["sha256"].values())
    for count in node["about"]["counts"].values():
        assert str(count) in node["about"]["summary"].replace(",", "")


@each
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"metric": "elegance"}, "task.metric is 'elegance'"),
        ({"train_size": 0}, "task.train_size is 0"),
        ({"max_length": 1}, "task.max_length is 1"),
        ({"format": "docx"}, "task.format is 'docx'"),
        ({"failed_below": "low"}, "task.failed_below is 'low'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_one_sentence(name: str, change: dict[str, Any], sentence: str) -> None:
    task: Task = instantiate({**NODES[name], **change}, Task, "task")  # type: ignore[type-abstract]
    (problem,) = task.check()
    assert problem.startswith(sentence)


@each
def test_every_key_is_hashed_or_descriptive(make_run: Any, name: str) -> None:
    hashed = make_run(f"task={name}", "model=tiny").hashed["task"]
    keys = {"kind" if key == "_target_" else key for key in NODES[name]}
    assert hashed.keys() | (TASK_DESCRIPTIVE & keys) == keys
    assert not hashed.keys() & TASK_DESCRIPTIVE
    assert keys >= TASK_DESCRIPTIVE, "a descriptive key that no yaml has"


# --- small corpora -------------------------------------------------------------------------------


@each
def test_a_step_and_a_score(make_assembly: Any, name: str) -> None:
    assembly = make_assembly(
        f"task={name}", "model=tiny", "optim.steps=1", "optim.batch_size=4", "optim.warmup=0"
    )
    before = {n: p.detach().clone() for n, p in assembly.built.model.named_parameters()}
    assembly.trainer.fit(assembly.module, assembly.loaders["train"], assembly.loaders["validation"])
    assembly.trainer.test(assembly.module, assembly.loaders["test"], verbose=False)
    task, scores = assembly.data.task, assembly.module.scores
    assert tuple(scores) == task.metrics
    assert all(value is None or math.isfinite(value) for value in scores.values())
    assert len(assembly.module.predictions) == len(assembly.examples["test"])
    head = {n: p for n, p in assembly.built.model.named_parameters() if n.startswith("classifier")}
    assert all(not torch.equal(before[n], p) for n, p in head.items())


def constant(task: Task, train: list[Example], items: list[Example]) -> list[Any]:
    """Predictions that ignore the input: the most frequent answer, or the mean."""
    if task.head == "token":
        ((tag, _),) = Counter(t for e in train for t in e.target).most_common(1)  # type: ignore[union-attr]
        return [[tag] * len(e.text) for e in items]
    if isinstance(train[0].target, float):
        return [sum(e.target for e in train) / len(train)] * len(items)  # type: ignore[misc]
    ((label, _),) = Counter(e.target for e in train).most_common(1)
    return [label] * len(items)


@each
def test_perfect_is_the_maximum_and_constant_has_failed(make_run: Any, name: str) -> None:
    data = make_run(f"task={name}", "model=tiny").data
    judge_extremes(data)


def judge_extremes(data: TaskData) -> None:
    task = data.task
    items = list(data.splits["test"])
    targets = [e.target for e in items]
    perfect = task.score([list(t) if isinstance(t, tuple) else t for t in targets], targets)
    best = {metric: 0.0 if metric == "rmse" else 1.0 for metric in task.metrics}
    assert perfect == pytest.approx(best)
    assert not task.is_degenerate(perfect[task.metric])
    flat = task.score(constant(task, list(data.splits["train"]), items), targets)
    assert task.is_degenerate(flat[task.metric])
    assert task.is_degenerate(None)
    assert task.is_degenerate(task.failure_score)


# --- the published files -------------------------------------------------------------------------


@pytest.fixture
def published(name: str, monkeypatch: pytest.MonkeyPatch) -> TaskData:
    """A task with its real files, checksums verified; skips where they may not be shipped."""
    if name in SHIPPED:
        monkeypatch.delenv("BLUESTAB_DATA", raising=False)
    else:
        real_data()
    return _loaded(name)


@cache
def _loaded(name: str) -> TaskData:
    return load_task(NODES[name])


@each
def test_counts_and_content(published: TaskData, name: str) -> None:
    assert dict(published.fingerprint) == NODES[name]["sha256"]
    counts = {split: len(items) for split, items in published.splits.items()}
    assert counts == NODES[name]["about"]["counts"]
    for items in published.splits.values():
        assert len({e.id for e in items}) == len(items)
        for example in items:
            words = example.text if isinstance(example.text, tuple) else (example.text,)
            assert words
            assert all(word.strip() for word in words)
            assert example.text_pair is None or example.text_pair.strip()
            if published.task.head == "token":
                assert len(example.target) == len(words)  # type: ignore[arg-type]
    assert published.labels == published.task.labels(published.splits["train"])
    judge_extremes(published)


def tagged(identifier: str, sentence: str) -> Example:
    """`a b/B c/I` -> words and tags of type Disease."""
    pairs = [w.rsplit("/", 1) if w[-2:] in ("/B", "/I") else (w, "O") for w in sentence.split()]
    tags = tuple("O" if tag == "O" else f"{tag}-Disease" for _, tag in pairs)
    return Example(identifier, tuple(word for word, _ in pairs), None, tags)


FIRST_AND_LAST: dict[str, tuple[Example, Example]] = {
    "ncbi_disease": (
        tagged(
            "line 1",
            "Identification of APC2 , a homologue of the adenomatous/B polyposis/I coli/I tumour/I "
            "suppressor .",
        ),
        tagged(
            "line 25398",
            "Conversely , BRCA1 expression was reduced or undetectable in the majority of high - "
            "grade , ductal/B carcinomas/I , suggesting that absence of BRCA1 may contribute to "
            "the pathogenesis of a significant percentage of sporadic/B breast/I cancers/I . .",
        ),
    ),
    "biosses": (
        Example(
            "78",
            "Here, looking for agents that could specifically kill KRAS mutant cells, they found "
            "that knockdown of GATA2 was synthetically lethal with KRAS mutation",
            "Not surprisingly, GATA2 knockdown in KRAS mutant cells resulted in a striking "
            "reduction of active GTP-bound RHO proteins, including the downstream ROCK kinase",
            2.2,
        ),
        Example(
            "20",
            "Recently, miR-126 was identified as a metastasis suppressing miRNA that is "
            "downregulated in relapsing breast cancer, leukemia, and cervical cancer.",
            "MiR-155 is upregulated in several human tumors, such as chronic lymphocytic leukemia, "
            "melanoma, head and neck squamous cell carcinoma, clear-cell kidney cancer , "
            "hepatocellular carcinoma, lymphoma, thyroid carcinoma], breast cancer, colon cancer, "
            "cervical cancer, pancreatic cancer, and lung cancer.",
            2.0,
        ),
    ),
    "gad": (
        Example(
            "0",
            "this study proposes that A/A genotype at position -607 in @GENE$ gene can be used as "
            "a new genetic maker in Thai population for predicting @DISEASE$ development.",
            None,
            "1",
        ),
        Example(
            "533",
            "This result suggests that susceptibility to @DISEASE$ may be associated with the RsaI "
            "and @GENE$ polymorphism of the P450IIE1 gene.",
            None,
            "0",
        ),
    ),
}
"""First item of train and last item of test, word for word."""


@each
def test_first_and_last_item(published: TaskData, name: str) -> None:
    first, last = FIRST_AND_LAST[name]
    assert published.splits["train"][0] == first
    assert published.splits["test"][-1] == last


TARGETS: dict[str, dict[str, dict[Any, int]]] = {
    "ncbi_disease": {
        "train": {"B-Disease": 5134},
        "validation": {"B-Disease": 787},
        "test": {"B-Disease": 960},
    },
    "gad": {
        "train": {"1": 2227, "0": 2034},
        "validation": {"1": 293, "0": 242},
        "test": {"1": 281, "0": 253},
    },
    "biosses": {"train": {0.0: 3}, "validation": {0.0: 1}, "test": {0.0: 1}},
}
"""How often some targets occur: mentions as BLURB counts them, both classes of GAD,
unrelated pairs of BIOSSES."""


@each
def test_target_counts(published: TaskData, name: str) -> None:
    for split, expected in TARGETS[name].items():
        targets = [e.target for e in published.splits[split]]  # type: ignore[index]
        found = Counter(
            itertools.chain(*targets) if published.task.head == "token" else targets  # type: ignore[arg-type]
        )
        assert {target: found[target] for target in expected} == expected
        if published.task.head == "sequence":
            assert set(targets) <= set(published.labels) or isinstance(targets[0], float)


def test_bound_of_gad_is_the_score_of_always_one() -> None:
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
    task = task_of("ncbi_disease")
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
