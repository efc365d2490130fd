"""From stored predictions to measures: real parquet files, written as a run writes them."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluestab.core.errors import StoreError
from bluestab.core.types import RunRecord
from bluestab.report.frames import instability as frames
from bluestab.report.frames.instability import COLUMNS, MEASURES, instability_frame
from bluestab.report.frames.results import read_results
from bluestab.stats import instability as measure
from bluestab.store.artefacts import read_predictions, write_predictions
from bluestab.store.representations import FILE, write_representations
from bluestab.store.store import Store
from tests.report.test_report import LLRD, record, runs_frame

Items = Sequence[tuple[Any, Any, Sequence[float]]]
"""(prediction, target, logits) of each test item."""


def put(
    root: Path,
    record: RunRecord,
    last: Items,
    best: Items | None = None,
    vectors: Mapping[str, np.ndarray] | None = None,
) -> RunRecord:
    """Store a run with the predictions of its test items; `best` as `last` unless given."""
    store = Store(root)
    rows = [
        {"at": at, "id": f"item {i}", "prediction": p, "target": t, "logits": list(logits)}
        for at, items in (("last", last), ("best", best or last))
        for i, (p, t, logits) in enumerate(items)
    ]
    with store.building(record.key) as work:
        write_predictions(work / "predictions.parquet", rows)
        if vectors is not None:
            write_representations(work / FILE, vectors)
        return store.finish(work, record)


def measured(
    root: Path, records: Sequence[RunRecord], *, at: str = "last", vectors: bool = False
) -> dict[str, Any]:
    """The one row at `at`; None where a number is not there."""
    found = instability_frame(Store(root), runs_frame(records), vectors=vectors)
    assert list(found.frame.columns) == list(COLUMNS)
    (row,) = found.frame[found.frame["at"] == at].to_dict("records")
    return {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}


def there(row: Mapping[str, Any]) -> set[str]:
    """Which measures a row has."""
    return {name for name in MEASURES if row[name] is not None}


def classes(*names: str, sure: float = 2.0) -> Items:
    """Classes a, b; the logit of the predicted one is `sure`."""
    return [(n, "a", [sure, 0.0] if n == "a" else [0.0, sure]) for n in names]


def test_classes(tmp_path: Path) -> None:
    """Du & Nguyen's three measures, at last and at best; scores as in the record."""
    records = [
        put(tmp_path, record(0.5, best=0.6, seed=0), classes(*"abab"), classes(*"aaaa")),
        put(tmp_path, record(0.7, best=0.6, seed=1), classes(*"abbb"), classes(*"aaaa")),
    ]
    row = measured(tmp_path, records)
    assert (row["form"], row["n"], row["n_left_out"], row["n_items"]) == ("classes", 2, 0, 4)
    assert (row["arm"], row["metric"], row["n_vectors"]) == ("none", "pearson", None)
    assert there(row) == {"i_pwd", "i_kappa", "i_jsd"}
    assert row["sd_population"] == pytest.approx(0.1)
    assert row["sd_sample"] == pytest.approx(0.1 * math.sqrt(2))
    assert row["i_pwd"] == 0.25
    votes = [[0, 1, 0, 1], [0, 1, 1, 1]]
    assert row["i_kappa"] == pytest.approx(measure.kappa_instability(votes))
    p = measure.softmax([[2.0, 0.0], [0.0, 2.0]])
    assert row["i_jsd"] == pytest.approx(measure.jensen_shannon(p[:, None]) / 4)  # type: ignore[operator]
    best = measured(tmp_path, records, at="best")
    assert (best["i_pwd"], best["i_kappa"], best["i_jsd"], best["sd_sample"]) == (0, None, 0, 0)


def test_ranked_concepts(tmp_path: Path) -> None:
    """The first one is the answer; what follows it, and how similar it is, is no vote."""

    def items(*firsts: str) -> Items:
        return [([n, "D7", "D8"], "D1", [1.0, 0.9, 7.0, 0.8, 8.0, 0.1]) for n in firsts]

    records = [
        put(tmp_path, record(0.5, seed=0), items("D1", "D2", "D1", "D2")),
        put(tmp_path, record(0.5, seed=1), items("D1", "D2", "D2", "D2")),
    ]
    row = measured(tmp_path, records)
    assert there(row) == {"i_pwd", "i_kappa"}
    assert row["i_pwd"] == 0.25
    empty = [put(tmp_path, record(0.5, seed=s), [([], "D1", [0.0])] * 4) for s in (2, 3)]
    assert there(measured(tmp_path, empty)) == set()


def test_numbers(tmp_path: Path) -> None:
    values = [[0.5, 1.0, 4.0], [1.0, 1.0, 2.0], [0.0, 1.5, 3.0]]
    targets = [0.0, 2.0, 4.0]
    records = [
        put(tmp_path, record(0.5, seed=i), [(p, t, [p]) for p, t in zip(row, targets, strict=True)])
        for i, row in enumerate(values)
    ]
    row = measured(tmp_path, records)
    assert row["form"] == "numbers"
    assert there(row) == {"i_difference", "i_discordance"}
    assert row["i_difference"] == pytest.approx(measure.difference(values, targets))
    assert row["i_discordance"] == pytest.approx(measure.discordance(values))


def test_labels(tmp_path: Path) -> None:
    """Three labels, of which nobody gives the last: one logit for each."""

    def items(*given: Sequence[str]) -> Items:
        return [
            (list(g), ["u", "v"], [2.0 if "u" in g else -2.0, 2.0 if "v" in g else -2.0, -2.0])
            for g in given
        ]

    records = [
        put(tmp_path, record(0.5, seed=0), items("u", "uv", "", "v")),
        put(tmp_path, record(0.5, seed=1), items("u", "u", "", "u")),
    ]
    row = measured(tmp_path, records)
    assert row["form"] == "labels"
    u, v = [[1, 1, 0, 0], [1, 1, 0, 1]], [[0, 1, 0, 1], [0, 0, 0, 0]]
    assert there(row) == {"i_pwd", "i_kappa", "i_jsd"}
    assert row["i_pwd"] == pytest.approx((1 / 4 + 2 / 4 + 0) / 3)
    kappas = [measure.kappa_instability(votes) for votes in (u, v)]
    assert row["i_kappa"] == pytest.approx(sum(kappas) / 2)  # type: ignore[arg-type]
    apart = measure.jensen_shannon(measure.yes_or_no([[2.0], [-2.0]]))
    assert row["i_jsd"] == pytest.approx(apart * 3 / 12)  # type: ignore[operator]


@pytest.mark.parametrize("target", [["u"], []])
@pytest.mark.parametrize("given", [[[], []], [["u"], []], [["O"], ["B"]]])
def test_hardly_any_labels(tmp_path: Path, given: list[list[str]], target: list[str]) -> None:
    """Labels may be called as tags are, too."""
    items = [(one, target, [-2.0, 2.0]) for one in given]
    records = [put(tmp_path, record(0.5, seed=seed), items) for seed in (0, 1)]
    row = measured(tmp_path, records)
    assert (row["form"], row["i_pwd"], row["i_jsd"]) == ("labels", 0, 0)


def words(*sentences: str, read: int | None = None) -> Items:
    """Tags from `.bi` (O, B-X, I-X); the first `read` words of each sentence have logits."""
    tags = {".": "O", "b": "B-X", "i": "I-X"}
    return [
        (
            [tags[c] for c in sentence],
            ["O"] * len(sentence),
            [2.0 * (c == tag) for c in sentence[:read] for tag in ".bi"],
        )
        for sentence in sentences
    ]


def test_words(tmp_path: Path) -> None:
    """Entities of the first seed: 2, of the second: 2, one of them the same. A word each of the
    ten differs in class, and the last word of the first sentence in nothing but its place."""
    records = [
        put(tmp_path, record(0.5, seed=0), words("bi..b", "", "....")),
        put(tmp_path, record(0.5, seed=1), words("bi...", "", "b...")),
    ]
    row = measured(tmp_path, records)
    assert (row["form"], row["n_items"]) == ("words", 3)
    assert there(row) == {"i_pwd", "i_kappa", "i_jsd", "i_entity"}
    votes = [[1, 2, 0, 0, 1, 0, 0, 0, 0], [1, 2, 0, 0, 0, 1, 0, 0, 0]]
    assert row["i_pwd"] == pytest.approx(2 / 9)
    assert row["i_kappa"] == pytest.approx(measure.kappa_instability(votes))
    assert row["i_entity"] == pytest.approx(1 - 2 * 1 / (2 + 2))
    p = measure.softmax([[[2.0, 0, 0]], [[0, 2.0, 0]]])
    assert row["i_jsd"] == pytest.approx(measure.jensen_shannon(p) * 2 / 9)  # type: ignore[operator]


def test_sentences_that_were_cut(tmp_path: Path) -> None:
    """Words beyond `max_length` have a tag, but no logits."""
    items = [[*words("bi.", "b"), *words("..bi.", read=2)] for _ in range(2)]
    items[1][1] = words("i")[0]  # an `I` that continues nothing is no entity
    records = [put(tmp_path, record(0.5, seed=i), one) for i, one in enumerate(items)]
    row = measured(tmp_path, records)
    p = measure.softmax([[[0, 2.0, 0]], [[0, 0, 2.0]]])
    assert row["i_jsd"] == pytest.approx(measure.jensen_shannon(p) / 6)  # type: ignore[operator]
    assert row["i_pwd"] == pytest.approx(1 / 9)
    assert row["i_entity"] == pytest.approx(1 - 2 * 2 / (3 + 2))


def test_an_entity_does_not_go_on_in_the_next_sentence(tmp_path: Path) -> None:
    records = [
        put(tmp_path, record(0.5, seed=0), words(".b", "i.")),
        put(tmp_path, record(0.5, seed=1), words(".b", "..")),
    ]
    assert measured(tmp_path, records)["i_entity"] == 0


def test_elements_without_a_beginning_are_no_entities(tmp_path: Path) -> None:
    """Word tagging has `I-` alone."""
    records = [put(tmp_path, record(0.5, seed=seed), words("ii.", ".i")) for seed in (0, 1)]
    row = measured(tmp_path, records)
    assert there(row) == {"i_pwd", "i_kappa", "i_jsd"}


def test_one_seed(tmp_path: Path) -> None:
    row = measured(tmp_path, [put(tmp_path, record(0.5), classes(*"ab"))])
    assert (row["n"], row["form"], row["n_items"]) == (1, "classes", 2)
    assert there(row) == set()
    assert row["sd_population"] is row["sd_sample"] is None


def test_only_runs_of_one_cell_are_compared(tmp_path: Path) -> None:
    records = [
        put(tmp_path, record(0.5, technique, seed), classes(*names))
        for technique, seed, names in (((), 0, "aa"), ((), 1, "aa"), (LLRD, 0, "bb"))
    ]
    found = instability_frame(Store(tmp_path), runs_frame(records)).frame
    last = found[found["at"] == "last"].set_index("arm")
    assert last["n"].to_dict() == {"none": 2, "llrd": 1}
    assert last["i_pwd"]["none"] == 0


def test_runs_without_predictions(tmp_path: Path) -> None:
    """Diverged and crashed runs have none; what a record without files lacks is no damage."""
    records = [
        put(tmp_path, record(0.5, seed=0), classes(*"ab")),
        put(tmp_path, record(0.9, seed=1), classes(*"ab")),
        put(tmp_path, record(None, seed=2, status="diverged"), []),
        record(None, seed=3, status="crashed"),
    ]
    with Store(tmp_path).building(records[-1].key) as work:
        Store(tmp_path).keep_crash(work, records[-1])
    bare = record(0.1, seed=4)
    with Store(tmp_path).building(bare.key) as work:
        records.append(Store(tmp_path).finish(work, bare))
    found = instability_frame(Store(tmp_path), runs_frame(records))
    assert not found.left_out
    row = measured(tmp_path, records)
    assert (row["n"], row["n_left_out"]) == (2, 2)
    assert row["sd_sample"] == pytest.approx(0.4 / math.sqrt(2)), "of the runs compared alone"
    nothing = instability_frame(Store(tmp_path), runs_frame(records[2:]))
    assert nothing.frame.empty
    assert list(nothing.frame.columns) == list(COLUMNS)
    assert instability_frame(Store(tmp_path), runs_frame([])).frame.empty


DAMAGE: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda f: f.write_bytes(f.read_bytes()[:-9]), "its SHA-256 is not the one in"),
    "gone": (Path.unlink, "No such file"),
    "a folder": (lambda f: (f.unlink(), f.mkdir()), "Is a directory"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_predictions_take_nobody_with_them(tmp_path: Path, kind: str) -> None:
    records = [
        put(tmp_path, record(0.5, seed=seed), classes(*"ab" if seed else "bb")) for seed in range(3)
    ]
    path = tmp_path / records[0].key / "predictions.parquet"
    do, said = DAMAGE[kind]
    do(path)
    found = instability_frame(Store(tmp_path), runs_frame(records))
    (sentence,) = found.left_out
    assert str(path) in sentence
    assert said in sentence
    row = measured(tmp_path, records)
    assert (row["n"], row["n_left_out"], row["i_pwd"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("content", "said"), [(b"PAR1", "cannot be used"), (b"", "cannot be used")]
)
def test_damage_without_a_known_digest(tmp_path: Path, content: bytes, said: str) -> None:
    """Records of schema 1 list no files."""
    path = tmp_path / "predictions.parquet"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=said):
        read_predictions(path)
    write_predictions(path, [{"at": "last", "id": "1", "prediction": "a", "logits": [1.0]}])
    with pytest.raises(StoreError, match="it lacks target"):
        read_predictions(path)


def test_other_items_are_not_compared(tmp_path: Path) -> None:
    """As an own task could make them whose file changed under one name."""
    records = [
        put(tmp_path, record(0.5, seed=0), classes(*"ab")),
        put(tmp_path, record(0.5, seed=1), classes(*"abb")),
    ]
    found = instability_frame(Store(tmp_path), runs_frame(records))
    (sentence,) = found.left_out
    assert f"its test items are not those of {records[0].key}" in sentence
    assert list(found.frame["n"]) == [1, 1]
    records[1] = put(tmp_path, record(0.5, seed=2), [(p, "b", x) for p, _, x in classes(*"ab")])
    assert len(instability_frame(Store(tmp_path), runs_frame(records)).left_out) == 1


def test_logits_of_other_shapes_have_no_divergence(tmp_path: Path) -> None:
    even, uneven = classes(*"ab"), [("a", "a", [1.0]), ("b", "a", [1.0, 2.0, 3.0])]
    for first, second in ((even, uneven), (uneven, uneven)):
        root = tmp_path / str(first is second)
        records = [put(root, record(0.5, seed=i), x) for i, x in enumerate((first, second))]
        row = measured(root, records)
        assert there(row) == {"i_pwd", "i_kappa"}


# --- vectors ---------------------------------------------------------------------------------

X, Y, Z = np.random.default_rng(0).normal(size=(3, 6, 4)).astype(np.float16)


def test_vectors(tmp_path: Path) -> None:
    """Best is last where it is not there; runs without vectors count in the other measures."""
    items = classes(*"ababab")
    records = [
        put(tmp_path, record(0.5, seed=0), items, vectors={"last": X}),
        put(tmp_path, record(0.5, seed=1), items, vectors={"last": Y, "best": Z}),
        put(tmp_path, record(0.5, seed=2), items),
    ]
    for at, other in (("last", Y), ("best", Z)):
        row = measured(tmp_path, records, at=at, vectors=True)
        assert (row["n"], row["n_vectors"]) == (3, 2)
        assert row["i_cka"] == pytest.approx(1 - measure.cka(X, other))  # type: ignore[operator]
        assert row["i_op"] == pytest.approx(measure.vector_instability([X, other])[1])
    without = measured(tmp_path, records)
    assert (without["n_vectors"], without["i_cka"], without["i_op"]) == (None, None, None)


def test_damaged_vectors_leave_the_predictions_in(tmp_path: Path) -> None:
    items = classes(*"ababab")
    records = [
        put(tmp_path, record(0.5, seed=seed), items, vectors={"last": v})
        for seed, v in enumerate((X, Y, X, X[:5]))
    ]
    file = tmp_path / records[2].key / FILE
    file.write_bytes(file.read_bytes()[:-1])
    found = instability_frame(Store(tmp_path), runs_frame(records), vectors=True)
    cut, short = sorted(found.left_out, key=lambda s: "items" in s)
    assert cut.startswith(f"{file} cannot be used")
    assert "keep_representations=true makes it again" in cut
    assert "not of the items of predictions.parquet" in short
    assert list(found.frame["n"]) == [4, 4]
    assert list(found.frame["n_vectors"]) == [2, 2]


# --- the report ------------------------------------------------------------------------------


def sweep(root: Path, records: Sequence[RunRecord], name: str = "s") -> None:
    runs = [{"key": one.key, "overrides": []} for one in records]
    Store(root).write_manifest(name, {"name": name, "command": "bluestab run -m", "runs": runs})


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_what_the_report_shows_and_writes(cli: Callable[..., Any]) -> None:
    root = Path("runs")
    records = [
        put(root, record(0.5, technique, seed), classes(*names), vectors={"last": v})
        for technique, seed, names, v in (
            ((), 0, "abab", X[:4]),
            ((), 1, "abbb", Y[:4]),
            (LLRD, 0, "abab", X[:4]),
        )
    ]
    sweep(root, records)
    said = cli("report", "--out", "results")
    assert (said.code, said.err) == (0, "")
    assert "results/instability.csv" in said.out
    shown = said.out[said.out.index("how far seeds come apart") :].splitlines()
    assert shown[1].split() == [
        *("task", "model", "arm", "n", "pairwise", "1-kappa", "JSD", "1-CKA", "Procrustes"),
    ]
    assert shown[2].split()[:5] == ["biosses", "small", "none", "2", "0.2500"]
    assert not shown[3].strip().startswith("llrd"), "one seed has nothing to differ from"
    rows = read(Path("results/instability.csv"))
    assert list(rows[0]) == list(COLUMNS)
    assert [(r["arm"], r["at"], r["n"], r["n_vectors"]) for r in rows] == [
        (arm, at, n, n) for arm, n in (("none", "2"), ("llrd", "1")) for at in ("last", "best")
    ]
    assert float(rows[0]["i_pwd"]) == 0.25
    assert float(rows[0]["i_op"]) == pytest.approx(measure.vector_instability([X[:4], Y[:4]])[1])
    assert rows[2]["i_pwd"] == rows[0]["i_difference"] == ""
    # the closing table of a sweep does without what takes long
    assert read_results(Store(root), None).frames["instability"]["i_op"].isna().all()


def test_a_report_without_predictions_has_no_such_file(cli: Callable[..., Any]) -> None:
    root = Path("runs")
    bare = record(0.5)
    with Store(root).building(bare.key) as work:
        Store(root).finish(work, bare)
    sweep(root, [bare])
    left = Path("results/instability.csv")
    left.parent.mkdir()
    left.write_text("of an earlier report")
    said = cli("report", "--out", "results")
    assert (said.code, said.err) == (0, "")
    assert "how far" not in said.out
    assert not left.exists()


def test_the_report_names_what_it_could_not_read(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestab.report.words.phrases.SHOWN", 1)
    root = Path("runs")
    records = [put(root, record(0.5, seed=seed), classes(*"ab")) for seed in range(3)]
    sweep(root, records)
    for one in records[:2]:
        (root / one.key / "predictions.parquet").write_bytes(b"")
    said = cli("report")
    assert (said.code, said.err) == (0, "")
    assert said.out.count("not compared: runs/") == 1
    assert "and 1 more" in said.out


def test_only_files_of_the_sweep_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [put(tmp_path, record(0.5, seed=seed), classes(*"ab")) for seed in range(4)]
    sweep(tmp_path, records[:2])
    opened: list[str] = []
    real = read_predictions

    def noted(path: Path, digest: str | None = None) -> Any:
        opened.append(path.parent.name)
        assert digest
        return real(path, digest)

    monkeypatch.setattr(frames, "read_predictions", noted)
    store = Store(tmp_path)
    results = read_results(store, store.manifest("s"))
    assert sorted(opened) == sorted(one.key for one in records[:2]), "and each once"
    assert list(results.frames["instability"]["n"]) == [2, 2]


def test_predictions_of_another_kind_have_no_measure(tmp_path: Path) -> None:
    items: Items = [(True, True, [1.0])]
    records = [put(tmp_path, record(0.5, seed=seed), items) for seed in (0, 1)]
    row = measured(tmp_path, records)
    assert (row["form"], there(row), row["n"]) == (None, set(), 2)
    assert row["sd_sample"] == 0


def test_logits_that_are_not_finite(tmp_path: Path) -> None:
    items = [("a", "a", [math.inf, 0.0])]
    records = [put(tmp_path, record(0.5, seed=seed), items) for seed in (0, 1)]
    row = measured(tmp_path, records)
    assert there(row) == {"i_pwd"}
