"""Runs of several tasks merged into one encoder with a head for each, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.keys import key_of  # noqa: E402
from bluestab.data.locate import sha256_of  # noqa: E402
from bluestab.inference.members import members_of  # noqa: E402
from bluestab.inference.merging import How  # noqa: E402
from bluestab.inference.soup import make_soups  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.store.verify import problems  # noqa: E402
from tests.conftest import Say  # noqa: E402
from tests.store.test_artefacts import SHORT, snapshot  # noqa: E402
from tests.training.test_execute import done  # noqa: E402

Make = Callable[..., Any]
MERGES = ("uniform", "task_arithmetic", "ties", "regmean")


def trained(make_run: Make, root: Path, task: str, *more: str) -> str:
    """Key of a run that kept its weights."""
    line = (f"task={task}", "model=tiny", *SHORT, "keep=last", *more)
    return done(make_run(*line), root).key  # type: ignore[no-any-return]


@pytest.fixture
def two(make_run: Make, tmp_path: Path) -> list[str]:
    """A relation task and a tagging task from one checkpoint."""
    kept = "keep_importance=[weighted]"  # which is theirs alone
    return [trained(make_run, tmp_path / "runs", task, kept) for task in ("gad", "ncbi_disease")]


def weights_of(store: Store, key: str) -> dict[str, Any]:
    return load_file(store.folder(key) / "checkpoint" / "last" / "model.safetensors")  # type: ignore[no-any-return]


def test_two_tasks_share_an_encoder_and_keep_their_heads(two: list[str], tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    before = [weights_of(store, key) for key in two]
    seen = {}
    for kind in MERGES:
        soups = make_soups(members_of(two, store), How(kind=kind), "cpu")
        tasks = [one.record.measured["names"]["task"] for one in soups]
        assert tasks == ["gad", "ncbi_disease"]
        after = [weights_of(store, one.record.key) for one in soups]
        common = [n for n in before[1] if n.startswith("bert.")]
        assert all(torch.equal(after[0][n], after[1][n]) for n in common), "one encoder"
        for was, now in zip(before, after, strict=True):
            assert set(was) == set(now)
            rest = [n for n in was if n not in common]
            assert rest
            assert all(torch.equal(was[n], now[n]) for n in rest), "its own head"
        name = "bert.encoder.layer.0.output.dense.weight"
        seen[kind] = after[0][name]
        if kind == "uniform":
            mean = (before[0][name].double() + before[1][name].double()) / 2
            assert torch.equal(after[0][name], mean.float())
            assert [one.average for one in soups] == [None, None]
            averages = [one.record.result["score"]["last"] for one in soups]
        else:
            assert [one.average for one in soups] == pytest.approx(averages)
        for one, key in zip(soups, two, strict=True):
            own = one.record.result["effects"]["soup"]
            assert own["members"] == [key]
            assert own["tasks"] == dict(zip(tasks, ([k] for k in two), strict=True))
            assert key_of(one.record.result["config"]) == one.record.key
            there = store.folder(key), store.folder(one.record.key)
            found = [{file.name for file in run.glob("checkpoint/*/*")} for run in there]
            assert found[0] - found[1] == {"importance-weighted.safetensors"}
    assert len({tuple(v.flatten().tolist()) for v in seen.values()}) == len(MERGES)
    assert list(problems(store)) == []
    files = snapshot(store.root)
    assert make_soups(members_of(two, store), How(kind="ties"), "cpu")
    assert snapshot(store.root) == files, "nothing is done twice"


@pytest.mark.slow
def test_merges_of_other_seeds_are_one_cell(make_run: Make, tmp_path: Path) -> None:
    """Like seeds: what they are merged from decides the key, not the cell."""
    store = Store(tmp_path / "runs")
    found = []
    for seed in (0, 1):
        two = [
            trained(make_run, store.root, task, f"seed={seed}") for task in ("gad", "ncbi_disease")
        ]
        found.append(make_soups(members_of(two, store), How(kind="task_arithmetic"), "cpu")[0])
    first, second = (one.record for one in found)
    assert first.key != second.key
    assert first.result["cell"] == second.result["cell"]
    assert [r.measured["names"]["seed"] for r in (first, second)] == [0, 1]


@pytest.mark.slow
def test_seeds_of_one_task_from_their_start(make_run: Make, tmp_path: Path) -> None:
    """Half of each task vector is the mean of the encoders; heads are averaged by every kind."""
    store = Store(tmp_path / "runs")
    keys = [trained(make_run, store.root, "gad", f"seed={s}", "seeds.init=0") for s in (0, 1)]
    members = members_of(keys[:1], store)
    how = How(kind="task_arithmetic", coefficient=0.5)
    ((half,), (mean,)) = (make_soups(members, one, "cpu") for one in (how, How()))
    assert half.record.key != mean.record.key
    assert half.average == pytest.approx(mean.record.result["score"]["last"])
    one, other = (weights_of(store, soup.record.key) for soup in (half, mean))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-7)


@pytest.mark.slow
def test_the_verb_for_two_tasks(two: list[str], cli: Say, tmp_path: Path) -> None:
    """It says what each member and the plain mean score; the report has it as an arm, and plain
    transformers loads what is exported."""
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    store = Store(tmp_path / "runs")
    where = ("--store", str(store.root))
    said = cli("soup", *two, "--kind", "ties", "--density", "0.5", *where, "--device", "cpu")
    assert (said.code, said.err) == (0, "")
    for task in ("gad", "ncbi_disease"):
        assert f"\n{task}:\n1 of 1 seed is in it; alone they score" in said.out
    assert said.out.count("the plain mean of the same weights scores") == 2
    assert cli("report", str(store.root), "--all", "--out", str(tmp_path / "all")).code == 0
    arms = (tmp_path / "all" / "summary.csv").read_text().splitlines()
    assert sum("soup" in row for row in arms) == 4, "an arm per task, at last and best"
    beside = (tmp_path / "all" / "merges.csv").read_text().splitlines()
    assert len(beside) == 1 + 2 * 3, "per task its member, the plain average, the merge"
    kinds = {
        "gad": AutoModelForSequenceClassification,
        "ncbi_disease": AutoModelForTokenClassification,
    }
    for key in set(store.keys()) - set(two):
        folder = tmp_path / key
        assert cli("export", key, "--out", str(folder), *where).code == 0
        auto = kinds[store.read(key).measured["names"]["task"]]
        network, info = auto.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"]
        stored = weights_of(store, key)
        assert all(torch.equal(p, stored[n]) for n, p in network.named_parameters())


@pytest.mark.slow
def test_coefficients_by_texts(two: list[str], cli: Say, tmp_path: Path) -> None:
    """It says that it saw them; other texts are another run."""
    store = Store(tmp_path / "runs")
    texts = tmp_path / "new.txt"
    texts.write_text("colon cancer was found\n\nthe gene TP53 in patients\n")
    line = ("soup", *two, "--kind", "adamerging", "--steps", "3", "--device", "cpu")
    where = ("--store", str(store.root))
    said = cli(*line, "--texts", str(texts), *where)
    assert (said.code, said.err) == (0, "")
    assert said.out.count("fitted to the texts of this file, without labels") == 2
    made = set(store.keys()) - set(two)
    for key in made:
        record = store.read(key)
        assert record.result["effects"]["soup"]["texts_seen"] == 2
        coefficients = record.result["effects"]["soup"]["mean_coefficient_by_member"]
        assert len(coefficients) == 2
        assert all(abs(c - 0.3) <= 0.0031 for c in coefficients), "three steps of 1e-3"
        knobs = dict(record.result["config"]["technique"])["soup"]
        assert knobs["steps"] == 3
        assert knobs["texts"] == f"sha256:{sha256_of(texts)}"
    texts.write_text("another text\n")
    assert cli(*line, "--texts", str(texts), *where).code == 0
    assert len(set(store.keys()) - set(two) - made) == 2
    (tmp_path / "none.txt").write_text("\n")
    said = cli(*line, "--texts", str(tmp_path / "none.txt"), *where)
    assert (said.code, "holds no text that gad reads" in said.err) == (2, True)


@pytest.mark.slow
def test_numbers_have_no_entropy(make_run: Make, two: list[str], cli: Say, tmp_path: Path) -> None:
    other = trained(make_run, tmp_path / "runs", "biosses")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text,text_pair\none text,another text\n")
    line = ("soup", two[0], other, "--kind", "adamerging", "--texts", str(pairs))
    said = cli(*line, "--store", str(tmp_path / "runs"), "--device", "cpu")
    assert said.code == 2
    assert "biosses predicts numbers, which have none" in said.err


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_other_starts_are_refused(make_run: Make, two: list[str], tmp_path: Path) -> None:
    root = tmp_path / "runs"
    electra = done(
        make_run("task=ncbi_disease", "model=tiny_electra", *SHORT, "keep=last"), root
    ).key
    later = trained(make_run, root, "ncbi_disease", f"model.init_from={two[0]}")
    for other, part in ((electra, "model is"), (later, "init_from is None and sha256:")):
        with pytest.raises(ConfigError, match=f"did not start from the same weights .{part}"):
            members_of([two[0], other], Store(root))
    with pytest.raises(ConfigError, match="the same run is named twice"):
        members_of([*two, two[0]], Store(root))


@pytest.mark.slow
def test_reinitialised_weights_have_no_task_vector(
    make_run: Make, two: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    anew = trained(make_run, root, "gad", "technique=reinit", "technique.reinit.depth=1")
    members = members_of([anew, two[1]], Store(root))
    with pytest.raises(ConfigError, match="reinit, which draws weights of the encoder anew"):
        make_soups(members, How(kind="ties"), "cpu")


@pytest.mark.slow
def test_greedy_takes_one_task(two: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="these are runs of 2 tasks"):
        make_soups(members_of(two, Store(tmp_path / "runs")), How(kind="greedy"), "cpu")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--kind", "tie"), "--kind is 'tie'; did you mean 'ties'?"),
        (("--kind", "uniform", "--density", "0.5"), "--kind uniform has none; it belongs to ties"),
        (("--kind", "regmean", "--coefficient", "1"), "belongs to task_arithmetic and ties"),
        (("--kind", "adamerging"), "--kind adamerging needs --texts FILE"),
        (("--kind", "adamerging", "--texts", "no.txt"), "there is no such file"),
        (("--kind", "ties", "--texts", "no.txt"), "--kind ties reads no texts"),
        (("--kind", "ties", "--steps", "9"), "--steps is 9, but --kind ties has none"),
        (("--kind", "ties", "--density", "0"), r"--density is 0: expected a number in (0, 1]"),
        (("--kind", "ties", "--coefficient", "nan"), "--coefficient is nan: expected a number"),
    ],
)
def test_wrong_options_are_one_sentence(cli: Say, options: tuple[str, ...], said: str) -> None:
    answer = cli("soup", "abcd", "ef01", *options)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err


def lie(store: Store, key: str, change: Callable[[Path], None]) -> None:
    """Change kept files, and the record's list of their hashes with them."""
    folder = store.folder(key) / "checkpoint" / "last"
    change(folder)
    path = store.folder(key) / "record.json"
    record = json.loads(path.read_text())
    for name in record["measured"]["files"]:
        record["measured"]["files"][name] = sha256_of(store.folder(key) / name)
    path.write_text(json.dumps(record))


def wider(folder: Path) -> None:
    """A vocabulary of more rows, of which its config tells."""
    state = load_file(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    state[name] = torch.cat([state[name], state[name][:1]])
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] += 1
    (folder / "config.json").write_text(json.dumps(config))


def narrower(folder: Path) -> None:
    """A matrix of another shape than its config says."""
    state = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    state[name] = state[name][:, 1:].clone()
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def infinite(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["bert.embeddings.word_embeddings.weight"][0, 0] = float("nan")
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def other_words(folder: Path) -> None:
    """Two pieces of the vocabulary have changed places."""
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text())
    vocabulary = said["model"]["vocab"]
    one, two = sorted(vocabulary)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    path.write_text(json.dumps(said))


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [wider, narrower, infinite, other_words])
def test_members_of_a_stranger_are_refused(
    two: list[str], cli: Say, tmp_path: Path, hostile: Callable[[Path], None]
) -> None:
    """What a record says of its files is the stranger's own word."""
    store = Store(tmp_path / "runs")
    stranger = Store(tmp_path / "strange")
    shutil.copytree(store.folder(two[1]), stranger.folder(two[1]))
    lie(stranger, two[1], hostile)
    where = ("--store", str(store.root), "--device", "cpu")
    names = ("soup", two[0], str(stranger.folder(two[1])), *where)
    for kind in ("uniform", "regmean"):
        said = cli(*names, "--kind", kind)
        assert said.code == 2, said.out + said.err
        assert "Traceback" not in said.err
    assert set(store.keys()) == set(two), "nothing is left behind"
