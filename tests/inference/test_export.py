"""Runs exported and applied: transformers without bluestab, and `predict`, find the record."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.errors import ConfigError, StoreError  # noqa: E402
from bluestab.inference.cell import best, cell_of_run  # noqa: E402
from bluestab.inference.export import export  # noqa: E402
from bluestab.inference.weights import find_run, open_weights  # noqa: E402
from bluestab.models.clean_config import TOKENIZER_KEYS  # noqa: E402
from bluestab.store.records import to_text  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.testing.corpora import ANY_FILE  # noqa: E402
from tests.conftest import Say  # noqa: E402
from tests.store.test_artefacts import SHORT, recorded, snapshot  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]

KINDS = ("ncbi_disease", "gad", "hoc", "biosses", "pubmedqa", "ebm_pico")

WITHOUT_BLUESTAB = """
import json, sys
sys.modules["bluestab"] = None  # importing it is an error from here on
from transformers import (AutoModelForSequenceClassification, AutoModelForTokenClassification,
                          AutoTokenizer, pipeline)
import torch
folder, items, words = sys.argv[1], json.load(open(sys.argv[2])), sys.argv[3] == "token"
auto = AutoModelForTokenClassification if words else AutoModelForSequenceClassification
model, tokenizer = auto.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
found = []
for text, pair in items:
    inputs = tokenizer(text, *([] if pair is None else [pair]), is_split_into_words=words,
                       truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    if words:
        ids = inputs.word_ids(0)
        logits = logits[[i for i, w in enumerate(ids) if w is not None and w != ids[i - 1]]]
    found.append(logits.flatten().tolist())
text, pair = items[0]
if words:
    pipe = pipeline("ner", model=folder, aggregation_strategy="first")
    text = " ".join(text)
    said = [[s["entity_group"], text[s["start"]:s["end"]], s["word"]] for s in pipe(text)]
else:
    pipe = pipeline("text-classification", model=folder, top_k=None)
    one = text if pair is None else {"text": text, "text_pair": pair}
    said = pipe(one)
    said = {s["label"]: s["score"] for s in (said[0] if isinstance(said[0], list) else said)}
print(json.dumps([found, said]))
"""


def without_bluestab(folder: Path, run: Any, tmp_path: Path) -> tuple[list[list[float]], Any]:
    """Logits of the test items, and what a pipeline says of the first, in a process of its own."""
    items = [[e.text, e.text_pair] for e in run.data.splits["test"]]
    (tmp_path / "items.json").write_text(json.dumps(items))
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_BLUESTAB, folder, tmp_path / "items.json",
         "token" if run.data.task.output.per_word else "sequence"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    logits, said = json.loads(found.stdout.splitlines()[-1])
    return logits, said


def exported(run: Any, tmp_path: Path, at: str = "last", **knobs: Any) -> Any:
    found = find_run(f"{run.key}:{at}", Store(tmp_path / "runs"))
    return export(found, tmp_path / "out", "cpu", **knobs)


@pytest.mark.parametrize(
    ("task", "model", "technique"),
    [
        ("ncbi_disease", "tiny", "none"),
        ("hoc", "tiny_electra", "lora"),
        pytest.param("biosses", "tiny_electra", "lora", marks=pytest.mark.slow),
        pytest.param("gad", "tiny", "lora", marks=pytest.mark.slow),
        pytest.param("ncbi_disease", "tiny_electra", "lora", marks=pytest.mark.slow),
        pytest.param("gad", "tiny_electra", "none", marks=pytest.mark.slow),
        pytest.param("hoc", "tiny", "lora", marks=pytest.mark.slow),
        pytest.param("biosses", "tiny", "none", marks=pytest.mark.slow),
        pytest.param("gad", "tiny_roberta", "none", marks=pytest.mark.slow),
        pytest.param("ncbi_disease", "tiny_modernbert", "none", marks=pytest.mark.slow),
    ],
)
def test_plain_transformers_without_bluestab(
    make_run: Make, tmp_path: Path, task: str, model: str, technique: str
) -> None:
    run = make_run(f"task={task}", f"model={model}", *SHORT, "keep=all", f"technique={technique}")
    record = done(run, tmp_path / "runs")
    found = exported(run, tmp_path, "best")
    assert "equal the recorded ones up to" in found.remarks[-1]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not {n for n in names if n.endswith((".bin", ".pt", ".py", ".pkl"))}
    logits, said = without_bluestab(tmp_path / "out", run, tmp_path)
    expected = recorded(tmp_path / "runs" / record.key, "best")
    largest = max(
        abs(a - b)
        for one, other in zip(logits, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    assert largest < 1e-4
    kind = type(run.data.task).__name__
    if kind == "MultiLabel":
        wanted = [1 / (1 + math.exp(-x)) for x in expected[0]]
        assert [said[n] for n in run.data.labels] == pytest.approx(wanted, abs=1e-4)
    elif kind == "Classification":
        assert sum(said.values()) == pytest.approx(1, abs=1e-4)
        assert set(said) == set(run.data.labels)
    elif kind == "PairRegression":
        assert list(said.values()) == pytest.approx(expected[0], abs=1e-4)
    else:
        assert all(
            group == "Disease" and text.lower().split() == word.lower().split()
            for group, text, word in said
        )


@pytest.mark.parametrize("task", KINDS)
def test_predict_finds_the_recorded_score(
    make_run: Make, cli: Say, small: Path, tmp_path: Path, task: str
) -> None:
    """From the run and from its export, with the scores of the record to the last digit."""
    run = make_run(f"task={task}", "model=tiny", *SHORT, "optim.steps=30", "keep=last")
    record = done(run, tmp_path / "runs")
    exported(run, tmp_path)
    shutil.rmtree(tmp_path / "runs" / record.key / "checkpoint")
    file = small / run.data.task.name / run.data.task.test
    said = cli("predict", str(tmp_path / "out"), "--input", str(file), "--output", "o",
               "--format", "task", "--score", "--device", "cpu")  # fmt: skip
    assert (said.code, said.err) == (0, "")
    found = dict(line.split() for line in said.out.splitlines() if len(line.split()) == 2)
    if task == "biosses":  # numbers: batches of other lengths differ in the last digits
        rows = [json.loads(line)["prediction"] for line in Path("o").read_text().splitlines()]
        expected = [n for (n,) in recorded(tmp_path / "runs" / record.key, "last")]
        assert rows == pytest.approx(expected, abs=1e-5)
        assert run.data.task.score(rows, [e.target for e in run.data.splits["test"]])[
            "pearson"
        ] == float(found["pearson"])
        return
    for name, value in record.result["metrics"]["last"]["test"].items():
        if name in run.data.task.extras:
            continue
        assert found[name] == ("undefined" if value is None else repr(value))
    assert f"{run.data.task.metric} {found[run.data.task.metric]}, the same" in said.out
    if task in ("hoc", "ncbi_disease"):  # several labels, tags: the same scores from a table
        again = cli("predict", str(tmp_path / "out"), "--input", str(file), "--output", "o.csv",
                    "--format", "task", "--score", "--device", "cpu")  # fmt: skip
        assert again.out.partition("\n")[2] == said.out.partition("\n")[2]
        assert Path("o.csv").read_text().startswith("id,")


def test_weights_that_were_not_kept_are_trained_again(make_run: Make, tmp_path: Path) -> None:
    run = make_run("task=gad", "model=tiny", *SHORT)
    record = done(run, tmp_path / "runs")
    before = snapshot(tmp_path / "runs" / record.key)
    found = exported(run, tmp_path, "best")
    assert "kept no best weights: trained again" in found.remarks[0]
    after = snapshot(tmp_path / "runs" / record.key)
    assert {name: after[name] for name in before} == before
    again = find_run(f"{record.key}:best", Store(tmp_path / "runs"))
    assert open_weights([again.said], Store(tmp_path / "runs"))[0].sha256 == (
        open_weights([str(tmp_path / "out")], Store(tmp_path))[0].sha256
    )


def test_another_score_than_the_records_is_refused(make_run: Make, tmp_path: Path) -> None:
    run = make_run("task=gad", "model=tiny", *SHORT)
    record = done(run, tmp_path / "runs")
    path = tmp_path / "runs" / record.key / "record.json"
    from dataclasses import replace

    lie = {"last": 0.987, "best": 0.987}
    path.write_text(to_text(replace(record, result={**record.result, "score": lie})))
    with pytest.raises(StoreError, match="its score came out different from the stored result"):
        exported(run, tmp_path)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_weights_that_are_not_the_runs_are_refused(make_run: Make, tmp_path: Path) -> None:
    """Loaded by plain transformers, they would not find the recorded logits."""
    run = make_run("task=gad", "model=tiny", *SHORT, "keep=last")
    record = done(run, tmp_path / "runs")
    weights = tmp_path / "runs" / record.key / "checkpoint" / "last" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({n: w + 0.1 for n, w in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"is damaged \(its SHA-256 is not the one in record"):
        exported(run, tmp_path)
    content = json.loads((tmp_path / "runs" / record.key / "record.json").read_text())
    del content["measured"]["files"]["checkpoint/last/model.safetensors"]
    from bluestab.core.types import RunRecord

    lacking = RunRecord(2, content["result"], content["measured"])
    (tmp_path / "runs" / record.key / "record.json").write_text(to_text(lacking))
    with pytest.raises(StoreError, match=r"gives other logits than run .* they differ by up to"):
        exported(run, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("head", ["linear", "mean"])
def test_a_head_that_transformers_lacks(
    make_run: Make, cli: Say, small: Path, tmp_path: Path, head: str
) -> None:
    """Refused with the reason; `predict` reads it."""
    run = make_run("task=gad", "model=tiny_electra", *SHORT, "keep=last", f"model.head={head}")
    done(run, tmp_path / "runs")
    with pytest.raises(
        ConfigError, match=f"has model.head={head}, which plain transformers cannot"
    ):
        exported(run, tmp_path)
    said = cli("predict", run.key, "--input", str(small / "gad" / run.data.task.test), "--output",
               "o", "--format", "task", "--score", "--store", str(tmp_path / "runs"))  # fmt: skip
    assert said.code == 0
    assert ", the same" in said.out


def test_an_ensemble(make_run: Make, cli: Say, small: Path, tmp_path: Path) -> None:
    """Mean probabilities and pairwise disagreement, from runs and from the exported folder."""
    import numpy as np

    runs = [
        make_run("task=gad", "model=tiny", *SHORT, "optim.steps=40", "keep=last", f"seed={seed}")
        for seed in range(3)
    ]
    records = [done(run, tmp_path / "runs") for run in runs]
    failed = [r for r in records if r.failed]
    if failed:
        with pytest.raises(ConfigError, match="usable seeds of this configuration"):
            exported(runs[0], tmp_path, ensemble=4)
    file = str(small / "gad" / runs[0].data.task.test)
    store = ("--store", str(tmp_path / "runs"))
    said = cli("predict", *(r.key for r in runs), "--input", file, "--output", "runs.jsonl",
               "--format", "task", *store)  # fmt: skip
    assert (said.code, said.err) == (0, "")
    logits = np.array([recorded(tmp_path / "runs" / r.key, "last") for r in runs])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    votes = p.argmax(-1)
    rows = [json.loads(line) for line in Path("runs.jsonl").read_text().splitlines()]
    for i, row in enumerate(rows):
        assert list(row["probabilities"].values()) == pytest.approx(p.mean(0)[i], abs=1e-4)
        pairs = [(0, 1), (0, 2), (1, 2)]
        apart = sum(votes[a, i] != votes[b, i] for a, b in pairs) / 3
        assert row["disagreement"] == pytest.approx(apart, abs=1e-5)
        assert row["prediction"] == runs[0].data.labels[int(p.mean(0)[i].argmax())]


def test_an_exported_ensemble(make_run: Make, cli: Say, small: Path, tmp_path: Path) -> None:
    found = []
    for seed in range(2):  # failed_below -1: no run counts as failed
        run = make_run("task=ncbi_disease", "model=tiny", *SHORT, "keep=last", f"seed={seed}",
                       "task.failed_below=-1")  # fmt: skip
        found.append(done(run, tmp_path / "runs"))
    exported(run, tmp_path, ensemble=2)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md", "bluestab.json", "seed-0", "seed-1",
    ]  # fmt: skip
    file = str(small / "ncbi_disease" / run.data.task.test)
    outs = []
    for names in ([str(tmp_path / "out")], [found[1].key, found[0].key]):
        said = cli("predict", *names, "--input", file, "--output", f"o{len(outs)}.tsv", "--score",
                   "--store", str(tmp_path / "runs"))  # fmt: skip
        assert (said.code, said.err) == (0, "")
        outs.append(Path(f"o{len(outs)}.tsv").read_text())
    assert outs[0] == outs[1]
    assert all(line.count("\t") == 4 for line in outs[0].splitlines() if line)
    with pytest.raises(ConfigError, match="--ensemble is 3, but the store holds 2 usable"):
        export(find_run(run.key, Store(tmp_path / "runs")), tmp_path / "o", "cpu", ensemble=3)


def test_the_card_tells_the_seeds(make_run: Make, tmp_path: Path) -> None:
    """The whole distribution, the place of this seed in it, and nothing that is rendered."""
    evil = "<img src=x onerror=alert(1)>`|\n## [x](javascript:alert(1))"

    def edit(cfg: dict[str, Any]) -> None:
        cfg["task"]["about"]["licence"] = evil

    for seed in range(3):
        run = make_run("task=biosses", "model=tiny", *SHORT, "keep=last", f"seed={seed}",
                       "technique=llrd", edit=edit)  # fmt: skip
        done(run, tmp_path / "runs")
    exported(run, tmp_path)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    store = Store(tmp_path / "runs")
    records = list(cell_of_run(store, store.read(run.key)).records)
    assert len(records) == 3
    scores = sorted((r.result["score"]["last"] for r in records), reverse=True)
    own = store.read(run.key).result["score"]["last"]
    assert f"**{own:.4f}**, rank {1 + scores.index(own)} of the 3 seeds" in text
    for record in records:
        assert f"| {record.result['score']['last']:.4f} |" in text
    assert "Failed: " in text
    assert "* llrd: " in text
    assert '"decay": 0.9' in text
    assert "<img" not in text
    assert "\n## \\[x" not in text
    assert "\\[x\\](javascript" in text
    assert text.startswith("---\n")
    used = store.read(run.key).result["items"]["train"]
    assert f"fine-tuned on {used} training items of biosses" in text
    assert 'license: "other"' in text, "what nobody knows"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("public domain (United States Government Work)", "other public-domain"),
        ("public domain mark (BigBIO); BioCreative asked users to register", "other public-domain"),
        ("CC BY 4.0 (this conversion); corpus in the public domain (BigBIO)", "cc-by-4.0"),
        ("CC BY-NC 4.0, not for commercial use", "cc-by-nc-4.0"),
        ("MIT", "mit"),
        ("yours", "unknown"),
        ("not stated by the distributors (BigBIO lists CC BY 4.0)", "unknown"),
        ("", "unknown"),
        ("BioASQ participants only", "other"),
    ],
)
def test_the_card_names_the_licence_of_the_data(said: str, expected: str) -> None:
    from bluestab.inference.card import _licence

    assert " ".join(_licence(said).values()) == expected


def test_best_is_chosen_on_validation(make_run: Make, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    for seed in range(3):
        run = make_run("task=gad", "model=tiny", *SHORT, f"seed={seed}", "optim.steps=12")
        done(run, tmp_path / "runs")
    record, why = best(store, "gad", None, "last")
    scores = {
        r.key: r.result["metrics"]["last"]["validation"]["positive_f1"]
        for r in cell_of_run(store, record).records
    }
    assert scores[record.key] == max(scores.values())
    assert "the only one there is" in why
    assert len(cell_of_run(store, record).records) == 3
    with pytest.raises(ConfigError, match=r"--best is 'gda', .* did you mean 'gad'"):
        best(store, "gda", None, "last")
    done(make_run("task=gad", "model=tiny_electra", *SHORT), tmp_path / "runs")
    with pytest.raises(ConfigError, match=r"2 models were trained on .* choose one with --model"):
        best(store, "gad", None, "last")
    assert (
        best(store, "gad", "tiny_electra", "last")[0].measured["names"]["model"] == "tiny_electra"
    )


def test_on_the_command_line(cli: Say, tmp_path: Path) -> None:
    line = ("task=gad", "model=tiny", *SHORT, *ANY_FILE)
    assert cli("run", *line).code == 0
    (key,) = Store("runs").keys()
    said = cli("predict", key, "--input", "x.txt", "--output", "o")
    assert (said.code, "there is no such file" in said.err) == (2, True)
    Path("x.txt").write_text("TP53 in colon cancer\n\nanother line\n")
    said = cli("predict", key, "--input", "x.txt", "--output", "o")
    assert said.code == 2
    assert f"run {key} kept no weights; have it keep them with bluestab run task=gad" in said.err
    said = cli("export", "--best", "--out", "model")
    assert (said.code, "--best names a task, and '--out' is none" in said.err) == (2, True)
    said = cli("export", "--best", "gad", "--out", "model")
    assert (said.code, said.err) == (0, "")
    assert "trained again" in said.out
    assert cli("export", key, "--out", "model").code == 2, "there already"
    said = cli("predict", "model", "--input", "x.txt", "--output", "o.txt")
    assert (said.code, said.err) == (0, "")
    rows = [line.split("\t") for line in Path("o.txt").read_text().splitlines()]
    assert [row[2] for row in rows] == ["TP53 in colon cancer", "", "another line"]
    assert rows[1][:2] == ["", ""]
    assert all(row[0] in ("0", "1") and 0.5 <= float(row[1]) <= 1 for row in (rows[0], rows[2]))
    sure = max(float(rows[0][1]), float(rows[2][1]))
    said = cli("predict", "model", "--input", "x.txt", "--output", "sure.txt",
               "--abstain-below", str(min(1.0, sure + 0.01)))  # fmt: skip
    assert "2 below --abstain-below and left out" in said.out
    assert [r.split("\t")[0] for r in Path("sure.txt").read_text().splitlines()] == ["", "", ""]
    assert (
        "--score reads gold labels"
        in cli("predict", "model", "--input", "x.txt", "--output", "z", "--score").err
    )
    assert cli("export", "--out", "z").code == 2
    assert cli("export", key).code == 2


def test_from_ones_own_file_to_labels(cli: Say) -> None:
    """Test items were drawn: no file holds just these, and nothing is compared with one."""
    rows = [f"patient {i} {'got well' if i % 2 else 'got worse'},{i % 2}" for i in range(40)]
    Path("mine.csv").write_text("\n".join(["text,label", *rows]))
    line = ("task=classification", "task.train=mine.csv", "model=tiny", *SHORT, "keep=last")
    assert cli("run", *line).code == 0
    said = cli("export", "--best", "mine", "--out", "model")
    assert (said.code, said.err) == (0, "")
    assert "* Items used: " in Path("model/README.md").read_text(encoding="utf-8")
    said = cli("predict", "model", "--input", "mine.csv", "--output", "out.csv")
    assert (said.code, said.err) == (0, "")
    assert len(Path("out.csv").read_text().splitlines()) == 41


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_no_answer(
    make_run: Make, tmp_path: Path, value: float, cli: Say
) -> None:
    """Neither exported, nor applied: before, `predict` wrote NaN, which no JSON reader takes."""
    from safetensors.torch import load_file, save_file

    from bluestab.store.files import digest_of

    run = make_run("task=gad", "model=tiny", *SHORT, "keep=last")
    done(run, tmp_path / "runs")
    out = tmp_path / "out"
    export(find_run(run.key, Store(tmp_path / "runs")), out, "cpu")
    file = out / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("classifier.weight"))
    tensors[name][0, 0] = value
    save_file(tensors, file, metadata={"format": "pt"})
    content = json.loads((out / "bluestab.json").read_text())
    content["members"][0]["sha256"] = digest_of(file)
    (out / "bluestab.json").write_text(json.dumps(content))
    (tmp_path / "in.jsonl").write_text('{"text": "a gene"}\n')
    said = cli(
        "predict", str(out), "--input", str(tmp_path / "in.jsonl"), "--output", "answers.jsonl"
    )
    assert said.code == 2
    assert (
        "has weights that are not finite (NaN or infinity), e.g. in 'classifier.weight'" in said.err
    )
    assert "Traceback" not in said.err
    assert not Path("answers.jsonl").exists()
    kept = tmp_path / "runs" / run.key / "checkpoint" / "last" / "model.safetensors"
    from bluestab.inference import export as exporting

    shutil.copyfile(file, kept)
    weights = open_weights([str(out)], Store(tmp_path / "runs"))
    with pytest.raises(ConfigError, match="not finite"):
        exporting._check_finite(weights)


def test_an_export_holds_no_place_of_this_machine(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its card nor its manifest: a home folder is its owner's name."""
    home = tmp_path / "home" / "owner"
    home.mkdir(parents=True)
    rows = "".join(f"a gene {i},{'yes' if i % 2 else 'no'}\n" for i in range(40))
    (home / "mine.csv").write_text("text,label\n" + rows)
    line = (f"task.train={home / 'mine.csv'}", "model=tiny", "keep=last", *SHORT)
    run = make_run("task=classification", *line)
    monkeypatch.setenv("BLUESTAB_COMMAND", shlex.join(["bluestab", "run", *line]))
    done(run, tmp_path / "runs")
    out = tmp_path / "out"
    export(find_run(run.key, Store(tmp_path / "runs")), out, "cpu")
    text = b"".join(f.read_bytes() for f in out.iterdir() if f.suffix in (".json", ".md"))
    assert str(tmp_path).encode() not in text
    assert b"owner" not in text
    assert b"mine.csv" in text
    assert open_weights([str(out)], Store(tmp_path / "runs"))[0].task.name == run.data.task.name
    assert set(json.loads((out / "tokenizer_config.json").read_text())) <= {*TOKENIZER_KEYS}
