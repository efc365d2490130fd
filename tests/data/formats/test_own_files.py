"""A person's own files: the same corpus is the same in every format, and real ones are whole.

Every broken file gives one error that names the file, the line where there is one, and the reason;
or a repair that is said. Never a traceback, never a silent wrong count. They are in the files of
the formats beside this one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from bluestab.tasks.data import TaskData
from tests.conftest import real_data
from tests.data.formats import (
    test_brat,
    test_columnar,
    test_columns,
    test_conll,
    test_delimited,
    test_label_studio,
    test_objects,
    test_pubtator,
    test_recognise,
    test_schemes,
    test_spans,
)
from tests.support.own_files import JSON, JSONL, TSV, WORDS, Load, label_studio, spans
from tests.tasks import test_own_tagging, test_own_texts

FILES = (
    test_recognise,
    test_delimited,
    test_columns,
    test_own_texts,
    test_objects,
    test_conll,
    test_schemes,
    test_own_tagging,
    test_label_studio,
    test_spans,
    test_pubtator,
    test_brat,
    test_columnar,
)
BROKEN = {name: file for of in FILES for name, file in of.BROKEN.items()}


def test_there_are_forty_and_more() -> None:
    assert len(BROKEN) >= 40


EXPECTED = [(f"case {i} of colon cancer seen", 10 + (i > 9), 22 + (i > 9)) for i in range(20)]


def entities(data: TaskData) -> Counter[tuple[str, ...]]:
    """Words of every entity, of all parts."""
    found: Counter[tuple[str, ...]] = Counter()
    for examples in data.splits.values():
        for e in examples:
            tags, words = list(e.target), list(e.text)  # type: ignore[arg-type]
            for i, tag in enumerate(tags):
                if tag.startswith("B"):
                    end = next(
                        (j for j in range(i + 1, len(tags)) if not tags[j].startswith("I")),
                        len(tags),
                    )
                    found[(tag[2:], *words[i:end])] += 1
    return found


def test_a_corpus_is_the_same_in_every_format(load: Load, tmp_path: Path) -> None:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [text for text, _, _ in EXPECTED]
    tagged = [["O"] * 3 + ["B-D", "I-D", "O"] for _ in texts]
    lists = [{"tokens": t.split(), "tags": tags} for t, tags in zip(texts, tagged, strict=True)]
    columns: dict[str, str | bytes] = {
        WORDS: "".join(
            "".join(f"{w}\t{t}\n" for w, t in zip(x["tokens"], x["tags"], strict=True)) + "\n"
            for x in lists
        ),
        "g.conll": "".join(
            "".join(f"{w} NN {t[2:] or 'O'}\n" for w, t in zip(x["tokens"], x["tags"], strict=True))
            + "\n"
            for x in lists
        ),
        JSONL: spans(),
        JSON: json.dumps(lists),
        "doccano.jsonl": spans().replace("spans", "label"),
        "spacy.jsonl": "".join(
            json.dumps({"text": t, "entities": [{"start": a, "end": b, "label": "D"}]}) + "\n"
            for t, a, b in EXPECTED
        ),
        TSV: "tokens\ttags\n"
        + "".join(f"{t}\t{' '.join(g)}\n" for t, g in zip(texts, tagged, strict=True)),
        "words.csv": "Sentence #,Word,POS,Tag\n"
        + "".join(
            f"{'' if i else f'Sentence: {n}'},{w},NN,{t}\n"
            for n, x in enumerate(lists)
            for i, (w, t) in enumerate(zip(x["tokens"], x["tags"], strict=True))
        ),
        "words.tsv": "token\tner\tsentence_id\n"
        + "".join(
            f"{w}\t{t}\t{n}\n"
            for n, x in enumerate(lists)
            for w, t in zip(x["tokens"], x["tags"], strict=True)
        ),
        "label_studio.json": json.dumps(
            [
                label_studio(
                    {"text": t},
                    ("labels", {"start": a, "end": b, "text": t[a:b], "labels": ["D"]}),
                    id=i,
                )
                for i, (t, a, b) in enumerate(EXPECTED)
            ]
        ),
        "label_studio_min.json": json.dumps(
            [
                {"text": t, "id": i, "label": [{"start": a, "end": b, "labels": ["D"]}]}
                for i, (t, a, b) in enumerate(EXPECTED)
            ]
        ),
    }
    for name in columns:
        found = entities(load("tagging", {name: columns[name]}))
        assert found == {("D", "colon", "cancer"): 20}, name
    pq.write_table(pa.Table.from_pylist(lists), tmp_path / "f.parquet")
    names = ["O", "B-D", "I-D"]
    numbered = [
        {"tokens": x["tokens"], "ner_tags": [names.index(t) for t in x["tags"]]} for x in lists
    ]
    features = datasets.Features(
        tokens=datasets.Sequence(datasets.Value("string")),
        ner_tags=datasets.Sequence(datasets.ClassLabel(names=names)),
    )
    whole = datasets.Dataset.from_list(numbered, features=features)
    whole.save_to_disk(tmp_path / "saved")
    whole.to_parquet(tmp_path / "named.parquet")
    parts = datasets.DatasetDict(
        train=whole.select(range(12)).flatten_indices(),
        validation=whole.select(range(12, 16)).flatten_indices(),
        test=whole.select(range(16, 20)).flatten_indices(),
    )
    parts.save_to_disk(tmp_path / "parts")
    for name in ("f.parquet", "saved", "named.parquet", "parts"):
        data = load("tagging", {"unused": "x"}, train=name)
        assert entities(data) == {("D", "colon", "cancer"): 20}, name
    sizes = [
        len(load("tagging", {"unused": "x"}, train="parts").splits[s])
        for s in ("train", "validation", "test")
    ]
    assert sizes == [12, 4, 4], "the parts of a saved dataset are taken as they are"


def test_counts_of_real_corpora(load: Load) -> None:
    """Lines that say an entity starts here, counted with a regular expression and nothing else."""

    root = real_data()
    ner = {s: root / "scierc" / "ner" / f"{s}.txt" for s in ("train", "dev", "test")}
    data = load(
        "tagging",
        {"unused": "x"},
        train=str(ner["train"]),
        validation=str(ner["dev"]),
        test=str(ner["test"]),
    )
    assert [
        sum(t.startswith("B") for e in data.splits[s] for t in e.target)
        for s in ("train", "validation", "test")
    ] == [5572, 808, 1683]
    for file, n in (
        ("bc5cdr/pubtator/CDR_TestSet.PubTator.txt", 5385 + 4424),
        ("ncbi_disease/pubtator/NCBItestset_corpus.txt", 960),
    ):
        path = root / file
        lines = re.findall(r"(?m)^\d+\t(\d+)\t(\d+)\t", path.read_text(encoding="utf-8"))
        assert len(lines) == n
        data = load("tagging", {"unused": "x"}, train=str(path))
        kept = sum(
            t.startswith("B") for part in data.splits.values() for e in part for t in e.target
        )
        dropped = sum(
            int(note.split()[0])
            for note in data.notes
            if " mentions " in note and "widened" not in note
        )
        assert kept + dropped == n, data.notes
    gad = root / "gad" / "train.tsv"
    counts = Counter(line.rsplit("\t", 1)[1] for line in gad.read_text().splitlines()[1:])
    data = load("classification", {"unused": "x"}, train=str(gad))
    assert Counter(e.target for part in data.splits.values() for e in part) == counts
    table = root / "medical_abstracts" / "medical_tc_test.csv"
    data = load(
        "classification",
        {"unused": "x"},
        train=str(table),
        text="medical_abstract",
        label="condition_label",
    )
    counts = Counter(str(e.target) for part in data.splits.values() for e in part)
    assert counts == {"1": 633, "2": 299, "3": 385, "4": 610, "5": 961}
