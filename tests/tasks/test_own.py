"""Own data from the file to the record: keys, parts, folds, sizes, saved tasks, inspection."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError
from bluestab.core.keys import NEUTRAL
from bluestab.core.types import SPLITS
from bluestab.tasks.data import load_task
from tests.support.own_files import brat, conll, pubtator, rows, spans

Make = Callable[..., Any]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "mine.csv").write_text(rows())
    (folder / "mine.jsonl").write_text(
        "".join(
            json.dumps({"text": f"some words number {i}", "label": "yes" if i % 2 else "no"}) + "\n"
            for i in range(40)
        )
    )
    (folder / "pairs.csv").write_text(
        "sentence1,sentence2,score\n" + "".join(f"a {i},b {i},{i % 7}\n" for i in range(40))
    )
    (folder / "many.csv").write_text(
        "text,labels\n" + "".join(f"t {i},{'x;y' if i % 3 else 'y'}\n" for i in range(40))
    )
    (folder / "ask.jsonl").write_text(
        "".join(
            json.dumps({"question": f"why {i}", "context": ["so", "it is"], "answer": "yn"[i % 2]})
            + "\n"
            for i in range(40)
        )
    )
    (folder / "ner.conll").write_text(conll())
    (folder / "ner.pubtator").write_text(pubtator())
    (folder / "ner.jsonl").write_text(spans())
    for name, text in brat().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return folder


CSV = ("task=classification", "task.train=mine.csv", "model=tiny")


# --- keys ----------------------------------------------------------------------------------------


def test_the_key_knows_the_items_not_the_file(make_run: Make, own: Path) -> None:
    run = make_run(*CSV)
    (own / "other.tsv").write_text(rows(sep="\t", header=None))
    other = make_run(
        "task=classification", "task.train=other.tsv", "task.text=0", "task.label=1", "model=tiny"
    )
    assert other.key != run.key, "items are named by their lines, which differ"
    (own / "moved").mkdir()
    (own / "moved" / "again.csv").write_text(rows(sep=";").replace("\n", "\r\n"))
    same = make_run(
        "task=classification", "task.train=moved/again.csv", "model=tiny", "task.name=x"
    )
    assert (same.key, same.cell) == (run.key, run.cell), "separators and names are no data"
    changed = rows().replace("some words number 7,yes", "some words number 7,no")
    (own / "mine.csv").write_text(changed)
    assert make_run(*CSV).key != run.key


def test_what_parts_are_drawn_is_in_the_key(make_run: Make, own: Path) -> None:
    keys = {
        make_run(*CSV, *more).key
        for more in (
            (),
            ("task.split_seed=1",),
            ("task.test_size=10",),
            ("task.folds=4", "task.fold=0"),
        )
    }
    assert len(keys) == 4
    folds = [make_run(*CSV, "task.folds=4", f"task.fold={k}") for k in range(4)]
    assert len({run.key for run in folds}) == 4
    assert len({run.cell for run in folds}) == 1, "folds are one experiment"


# --- parts and folds -----------------------------------------------------------------------------


def test_parts_are_drawn_once_for_all_seeds(make_run: Make, own: Path) -> None:
    one, other = make_run(*CSV), make_run(*CSV, "seed=5", "seeds.split=3")
    assert one.data.splits == other.data.splits
    sizes = {s: len(one.data.splits[s]) for s in SPLITS}
    assert sizes == {"train": 26, "validation": 6, "test": 8}
    for split in SPLITS:
        labels = Counter(e.target for e in one.data.splits[split])
        assert abs(labels["yes"] - labels["no"]) <= 1
    ids = [e.id for s in SPLITS for e in one.data.splits[s]]
    assert len(set(ids)) == 40


def test_one_file_may_be_there(make_run: Make, own: Path) -> None:
    (own / "test.csv").write_text(rows(10))
    run = make_run(*CSV, "task.test=test.csv", "task.validation_size=5")
    assert [len(run.data.splits[s]) for s in SPLITS] == [35, 5, 10]
    assert run.data.select(run.seeds)["validation"] == run.data.splits["validation"]
    assert "no file for validation" in " ".join(run.data.notes)


def test_how_files_were_read_is_said_once_and_how_many_items_are_used_always(
    make_run: Make, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bluestab.report.terminal.tables import print_notes
    from bluestab.store.store import Store

    run, store = make_run(*CSV, "task.train_size=8"), Store(tmp_path / "runs")
    assert len(run.data.notes) > 1
    used = "mine: items that a run uses: 8 of 26 for train (task.train_size)"
    print_notes([run, run], store)
    assert capsys.readouterr().out.splitlines() == [*(f"mine: {n}" for n in run.data.notes), used]
    latest = store.root / run.key
    latest.mkdir(parents=True)
    (latest / "record.json").write_text("{}")
    (latest / "log.txt").write_text("\n".join(f"INFO {note}" for note in run.data.notes))
    print_notes([run], store)
    once, again = capsys.readouterr().out.splitlines()
    assert "read as for the latest run, see" in once
    assert again == used
    (latest / "log.txt").write_text("of other data")
    print_notes([run], store)
    assert len(capsys.readouterr().out.splitlines()) == len(run.data.notes) + 1
    assert make_run(*CSV).notes() == [], "all items are used"


def test_what_belongs_together_stays_together(make_run: Make, own: Path) -> None:
    lines = [f"{i // 4},text {i} {i % 3},{'yes' if i % 2 else 'no'}" for i in range(80)]
    (own / "grouped.csv").write_text("PMID,text,label\n" + "\n".join(lines))
    run = make_run("task=classification", "task.train=grouped.csv", "model=tiny")
    groups = [{e.group for e in run.data.splits[s]} for s in SPLITS]
    assert not (groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2])
    assert sum(map(len, groups)) == 20
    assert "20 documents or groups kept together" in " ".join(run.data.notes)
    loud = rows(20, header=None).upper().replace("YES", "yes").replace("NO\n", "no\n")
    (own / "twice.csv").write_text(rows(20) + loud)
    run = make_run("task=classification", "task.train=twice.csv", "model=tiny")
    texts = [{str(e.text).casefold() for e in run.data.splits[s]} for s in SPLITS]
    assert not (texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2])


def test_folds_test_every_item_once(make_run: Make, small: Path) -> None:
    runs = [
        make_run(
            "task=biosses", "model=tiny", "task.folds=4", f"task.fold={k}", "task.grouping=text"
        )  # its pairs are made of few sentences
        for k in range(4)
    ]
    tested = [e.id for run in runs for e in run.data.splits["test"]]
    everything = make_run("task=biosses", "model=tiny").data.splits
    assert len(tested) == len(set(tested)) == sum(map(len, everything.values()))
    for run, following in zip(runs, [*runs[1:], runs[0]], strict=True):
        parts = [{e.id for e in run.data.splits[s]} for s in SPLITS]
        assert parts[1] == {e.id for e in following.data.splits["test"]}
        assert not parts[0] & (parts[1] | parts[2])


def test_folds_keep_abstracts_whole(make_run: Make, own: Path) -> None:
    """Ids that begin with a PubMed id, and -DOCSTART- lines, name documents."""
    lines = [f"{10000 + i // 4}.T{i}\ttext {i}\t{'yes' if i % 2 else 'no'}" for i in range(60)]
    (own / "ids.tsv").write_text("id\ttext\tlabel\n" + "\n".join(lines))
    marks = "".join(f"-DOCSTART-\n\n{conll(3).replace('colon', f'x{i}y')}" for i in range(9))
    (own / "docs.conll").write_text(marks)
    for kind, file, n in (("classification", "ids.tsv", 15), ("tagging", "docs.conll", 9)):
        run = make_run(
            f"task={kind}", f"task.train={file}", "model=tiny", "task.folds=3", "task.fold=0"
        )
        assert f"{n} documents or groups kept together" in " ".join(run.data.notes)
        found = [
            {e.group or e.id.split(".")[0] for e in run.data.splits[split]} for split in SPLITS
        ]
        assert len(found[0] | found[1] | found[2]) == sum(map(len, found)) == n


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        (
            ("task.folds=4",),
            "task.fold is None: expected one of 0 .. 3; for all of them, one run each: -m "
            "task.folds=4 task.fold=0,1,2,3",
        ),
        (("task.fold=1",), "task.folds is null"),
        (
            ("task.folds=2", "task.fold=0"),
            "task.folds is 2: expected a number of folds from 3 to 10000",
        ),
        (("task.folds=4", "task.fold=4"), "task.fold is 4"),
        (("task.split_seed=-1",), "task.split_seed is -1"),
        (("task.train_size=1.5",), "task.train_size is 1.5"),
        (("task.train_size=0",), "task.train_size is 0"),
        (("task.header=maybe",), "task.header is 'maybe'"),
        (("task.quoting=3",), "task.quoting is 3"),
        (("task.text=1.5",), "task.text is 1.5"),
        (("task.train=null",), "task.train is None: expected the file"),
        (("task.test=3",), "task.test is 3"),
        (("task.positive=[maybe]",), "task.positive names 'maybe'"),
    ],
)
def test_wrong_knobs(make_run: Make, own: Path, knobs: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_run(*CSV, *knobs)
    assert said in str(caught.value)


def test_shares_of_the_training_items_are_nested(make_run: Make, own: Path) -> None:
    runs = [make_run(*CSV, f"task.train_size={size}") for size in (4, 0.25, 0.5, 20)]
    chosen = [{e.id for e in run.data.select(run.seeds)["train"]} for run in runs]
    assert [len(c) for c in chosen] == [4, 6, 13, 20]  # of 26; 6.5 is rounded to the even one
    assert all(small < large for small, large in itertools.pairwise(chosen))
    assert len({run.key for run in runs}) == 4
    other = make_run(*CSV, "task.train_size=4", "seeds.split=1")
    assert {e.id for e in other.data.select(other.seeds)["train"]} != chosen[0]
    assert len(runs[0].data.select(runs[0].seeds)["test"]) == 8, "the test part is not cut"


# --- real runs -----------------------------------------------------------------------------------

RUNS = {
    "csv": CSV,
    "jsonl": ("task=classification", "task.train=mine.jsonl"),
    "pair classification": ("task=pair_classification", "task.train=pairs.csv"),
    "pair regression": ("task=pair_regression", "task.train=pairs.csv"),
    "multilabel": ("task=multilabel", "task.train=many.csv"),
    "question answering": ("task=question_answering", "task.train=ask.jsonl"),
    "conll": ("task=tagging", "task.train=ner.conll"),
    "pubtator": ("task=tagging", "task.train=ner.pubtator"),
    "spans": ("task=tagging", "task.train=ner.jsonl"),
    "brat": ("task=tagging", "task.train=b"),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_kind_runs(make_run: Make, own: Path, tmp_path: Path, name: str) -> None:
    import pyarrow.parquet as pq

    from bluestab.store.store import Store
    from bluestab.training.execute import execute_one

    run = make_run(*RUNS[name], "model=tiny", "optim.steps=1")
    store = Store(tmp_path / "runs")
    store.make_writable()
    record = execute_one(run, store, lambda *_: None)
    assert record.status == "done", record.result["error"]
    folder = store.folder(run.key)
    with (folder / "split.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert Counter(row["split"] for row in listed) == record.result["items"]
    assert {row["id"] for row in listed if row["split"] == "test"} == {
        e.id for e in run.data.splits["test"]
    }
    table = pq.read_table(folder / "predictions.parquet")
    if name in ("pubtator", "spans", "brat"):
        for row in table.to_pylist():
            assert len(row["offsets"]) == 2 * len(row["target"])
    text = b"".join(f.read_bytes() for f in folder.iterdir())
    for secret in (b"some words", b"colon cancer seen", b"case of gout", b"cancer\x00"):
        assert secret not in text, "no text leaves the data folder"


def test_a_run_does_not_depend_on_where_its_file_lies(
    make_run: Make, own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = make_run(*CSV)
    monkeypatch.chdir(tmp_path)
    same = make_run("task=classification", "model=tiny", f"task.train={own / 'mine.csv'}")
    again = make_run(
        "task=classification", "model=tiny", f"task.data_dir={own}", "task.train=mine.csv"
    )
    assert run.key == same.key == again.key
    assert same.data.task.name == "mine"


def test_names(make_run: Make, own: Path) -> None:
    (own / "My Corpus (v1)").mkdir()
    (own / "My Corpus (v1)" / "train.csv").write_text(rows())
    run = make_run("task=classification", "model=tiny", "task.train='My Corpus (v1)/train.csv'")
    assert run.data.task.name == "My_Corpus_v1"
    assert make_run(*CSV, "task.name=other").data.task.name == "other"


# --- inspect and save ----------------------------------------------------------------------------


def test_inspect_says_it_all(cli: Any, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    other = rows(12).replace("number 3,", "NUMBER 3 !,").replace("number 4,no", "number 4,yes")
    (own / "test.csv").write_text(other)
    said = cli("inspect", *CSV, "task.test=test.csv", "--examples", "3", "--html", "page.html")
    assert said.code == 0, said.err
    assert re.search(r"train +32 ", said.out)
    assert re.search(r"train, test +\d+ +0", said.out)
    assert "WARNING: parts share texts" in said.out
    assert "1 text occurs with different targets" in said.out
    assert "always 'yes'" in said.out
    assert "12 test items: one is worth 0.0833" in said.out
    assert "differ on fewer than 6 of them (0.5000)" in said.out
    assert said.out.count(" -> ") == 3
    assert "[CLS]" in said.out
    page = (own / "page.html").read_text()
    assert "[CLS]" not in page
    assert "some words" not in page, "a page that is passed on holds no text"
    assert "0.0833" in page
    assert (own / "page.html").stat().st_mode & 0o077 == 0
    said = cli("inspect", *CSV, "--html", "page.html", "--with-text")
    assert "[CLS]" in (own / "page.html").read_text()
    assert not (own / "runs").exists(), "nothing is trained"


def test_inspect_counts_what_is_cut_and_lost(
    cli: Any, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own)
    said = cli("inspect", *CSV, "task.max_length=8", "--examples", "0")
    assert re.search(r"train +26 +\d+ +\d+ +\d+ +100\.0 %", said.out)
    said = cli("inspect", "task=tagging", "task.train=ner.conll", "model=tiny", "--examples", "1")
    assert re.search(r"D +\d+ +\d+ +\d+ +100\.0 %", said.out)
    assert "/B-D" in said.out
    assert "test entities" in said.out
    assert re.search(r"gets entity_f1 0\.\d+ on test", said.out)
    assert "a run has failed, learned nothing, at entity_f1 0.0000 or below" in said.out


def test_inspect_shows_two_windows_of_a_long_document(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("long.conll").write_text(
        "".join("gout B-D\nis O\n" * 40 + f"x{i} O\n\n" for i in range(9))
    )
    said = cli(
        "inspect", "task=tagging", "task.train=long.conll", "model=tiny", "task.max_length=24",
        "task.overlap=8", "--examples", "1",
    )  # fmt: skip
    assert said.code == 0, said.err
    shown = re.findall(r"\(the first 2 of (\d+) windows\)", said.out)
    assert len(shown) == 1
    assert int(shown[0]) > 5
    assert said.out.count("[CLS]") == 2


@pytest.mark.parametrize(("test", "best"), [("ab", 2 / 3), ("abc", None)])
def test_a_score_that_right_answers_cannot_reach_is_said(
    own: Path, test: str, best: float | None
) -> None:
    for name in ("train", "test"):
        classes = "abc" if name == "train" else test
        table = "".join(f"{name} {i},{classes[i % len(classes)]}\n" for i in range(30))
        (own / f"{name}.csv").write_text(f"text,label\n{table}")
    node = resolved(compose(["task=classification", "model=tiny"]))["task"]
    files = {name: str(own / f"{name}.csv") for name in ("train", "test")}
    said = [n for n in load_task({**node, **files}).notes if "right answers to all" in n]
    if best is None:
        assert said == []
    else:
        assert f"get macro_f1 {best:.4f}, no more (its items lack 'c')" in said[0]
        accuracy = load_task({**node, **files, "metric": "accuracy"}).notes
        assert not any("right answers" in n for n in accuracy)


def test_inspect_a_task_that_ships(cli: Any, small: Path) -> None:
    said = cli("inspect", "task=biosses", "model=tiny", *[f"task.sha256.{s}=null" for s in SPLITS])
    assert said.code == 0
    assert "numbers to predict" in said.out
    assert "a correlation below" in said.out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("-m",), "inspect looks at one task"),
        (("--with-text",), "add --html FILE"),
        (("--save-as", "gad"), "there is a task of that name; choose another (it comes with"),
        (("--save-as", "a b"), "--save-as 'a b': expected a letter"),
        (("--html", "/proc/nothing/x.html"), "/proc/nothing/x.html cannot be written"),
    ],
)
def test_inspect_refuses(
    cli: Any, own: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(own)
    found = cli("inspect", *CSV, "--examples", "0", *line)
    assert found.code == 2
    assert said in found.err


def test_a_saved_task_works_from_anywhere(
    cli: Any, own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BLUESTAB_CONF", str(tmp_path / "conf"))
    monkeypatch.chdir(own)
    given = ("task.text=text", "task.max_length=16", "task.recipe.lr=1e-4", "task.test_size=10")
    saved = cli("inspect", *CSV, *given, "--examples", "0", "--save-as", "kept")
    assert saved.code == 0, saved.err
    file = tmp_path / "conf" / "task" / "kept.yaml"
    text = file.read_text()
    assert "# file or folder with the training items" in text, "comments stay"
    assert str(own / "mine.csv") in text
    before = load_task({**resolved(compose([*CSV, *given]))["task"], "name": None})
    monkeypatch.chdir(tmp_path)
    assert "kept" in cli("list", "task").out
    cfg = resolved(compose(["task=kept", "model=tiny"]))
    after = load_task(cfg["task"])
    assert after.splits == before.splits
    assert (after.task.name, after.task.max_length) == ("kept", 16)
    assert cfg["optim"]["lr"] == 1e-4
    one = cli("check", "task=kept", "model=tiny", "hydra.launcher.dry_step=false")
    assert one.code == 0, one.err
    again = cli("inspect", "task=kept", "model=tiny", "--save-as", "kept")
    assert f"there is a task of that name; choose another (remove {file})" in again.err
    (own / "mine.csv").write_text(rows(41))
    changed = cli("check", "task=kept", "model=tiny")
    assert changed.code == 2
    assert "if you mean to use this file, say task.sha256.train=null" in changed.err


def test_a_saved_task_is_the_same_run(
    make_run: Make, cli: Any, own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BLUESTAB_CONF", str(tmp_path / "conf"))
    monkeypatch.chdir(own)
    from bluestab.training.check import check

    key = check(resolved(compose([*CSV]))).key
    assert cli("inspect", *CSV, "--examples", "0", "--save-as", "same").code == 0
    monkeypatch.chdir(tmp_path)
    assert check(resolved(compose(["task=same", "model=tiny"]))).key == key


def test_fetch_leaves_own_files_alone(cli: Any, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    said = cli("fetch", *CSV)
    assert said.code == 0, said.err
    assert "your own files: nothing to bring" in said.out
    said = cli("fetch", "task=classification", "task.train=gone.csv", "model=tiny")
    assert said.code != 0
    assert "gone.csv: not found" in said.out + said.err


def test_a_yaml_of_an_earlier_version_is_that_of_now(make_run: Callable[..., Any]) -> None:
    """A person's task lacks the keys that came after it was written, and is the same task."""
    later = [path.removeprefix("task.") for path in NEUTRAL if path.startswith("task.")]
    assert {"shots", "grouping", "folds", "fold", "split_seed"} <= {*later}

    def earlier(cfg: dict[str, Any]) -> None:
        for key in later:
            cfg["task"].pop(key, None)

    now, then = make_run("task=gad", "model=tiny"), make_run("task=gad", "model=tiny", edit=earlier)
    assert (then.key, then.hashed) == (now.key, now.hashed)
