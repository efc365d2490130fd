"""`model.init_from`: the encoder of an earlier run, the head of the baseline, and whose it was."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from bluestab.core.errors import ConfigError  # noqa: E402
from bluestab.core.keys import cell_of  # noqa: E402
from bluestab.core.paths import conf_dir  # noqa: E402
from bluestab.core.types import Step  # noqa: E402
from bluestab.models import networks  # noqa: E402
from bluestab.models.built import Built  # noqa: E402
from bluestab.models.init_from import parse  # noqa: E402
from bluestab.report.frames.arms import with_sources  # noqa: E402
from bluestab.report.frames.results import read_results  # noqa: E402
from bluestab.store.records import to_text  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.techniques.base import Technique  # noqa: E402
from bluestab.techniques.effects import distance  # noqa: E402
from bluestab.testing.corpora import ANY_FILE  # noqa: E402
from bluestab.training.dry_run_step import dry_step  # noqa: E402
from bluestab.training.execute import execute_one  # noqa: E402
from tests.conftest import Say  # noqa: E402
from tests.support.interrupted_runs import compare  # noqa: E402
from tests.test_docs import commands  # noqa: E402
from tests.training.test_execute import NotFinite, done, kept, quiet  # noqa: E402

Make = Callable[..., Any]
MODELS = {"tiny": "bert", "tiny_electra": "electra", "tiny_roberta": "roberta",
          "tiny_modernbert": "model"}  # fmt: skip
SHORT = ("device=cpu", "optim.batch_size=8", "optim.steps=3", "optim.lr=3e-3")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec")


@pytest.fixture
def source(make_run: Make, tmp_path: Path) -> Callable[..., str]:
    """Overrides -> key of a run that kept its weights."""

    def source(*overrides: str) -> str:
        line = ("task=gad", "model=tiny", "keep=last", *SHORT, *overrides)
        record = done(make_run(*line), tmp_path / "runs")
        assert record.status == "done"
        return record.key

    return source


def weights(root: Path, key: str, at: str = "last") -> Path:
    return root / "runs" / key / "checkpoint" / at / "model.safetensors"


def values(assembly: Any) -> dict[str, Any]:
    return {n: p.detach().clone() for n, p in assembly.built.model.named_parameters()}


def equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {n for n in one if n in other and torch.equal(one[n], other[n])}


# --- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "tasks"),
    [*((model, ("gad", "biosses")) for model in MODELS), ("tiny", ("gad", "ncbi_disease"))],
)
def test_the_encoder_is_that_of_the_run_and_the_head_that_of_the_baseline(
    source: Callable[..., str],
    make_assembly: Make,
    tmp_path: Path,
    model: str,
    tasks: tuple[str, str],
) -> None:
    first, then = tasks
    key = source(f"task={first}", f"model={model}")
    line = (f"task={then}", f"model={model}", "seed=3", *SHORT)
    baseline = make_assembly(*line)
    assembly = make_assembly(*line, f"model.init_from={key}")
    plain, ours, theirs = values(baseline), values(assembly), load_file(weights(tmp_path, key))
    encoder = {name for name in ours if name.startswith(f"{MODELS[model]}.")}
    head = ours.keys() - encoder
    assert equal(ours, theirs) >= encoder, "bit for bit"
    # layers that no gradient reached (rows of unused pieces do not count: whole tensors moved)
    assert len(encoder - equal(ours, plain)) > 0.9 * len(encoder), "and not the checkpoint's"
    assert head, "there is a head"
    assert equal(ours, plain) >= head, "as without init_from at this seed"
    assert assembly.built.fresh == baseline.built.fresh
    assert equal(assembly.built.reference, theirs) >= encoder
    again = values(make_assembly(*line))
    assert equal(again, plain) == set(plain), "the shared weights of the model are untouched"


def test_a_pooler_is_taken_where_there_is_one(
    source: Callable[..., str], make_assembly: Make, tmp_path: Path
) -> None:
    """Taggers train none, and neither do runs with another head."""
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    line = ("task=biosses", "model=tiny", *SHORT)
    plain = values(make_assembly(*line))
    for overrides, taken in (
        (("task=gad",), True),
        (("task=ncbi_disease",), False),
        (("task=gad", "model.head=mean"), False),
    ):
        key = source(*overrides)
        ours = values(make_assembly(*line, f"model.init_from={key}"))
        theirs = load_file(weights(tmp_path, key))
        assert pooler <= equal(ours, theirs if taken else plain)
        assert not pooler & equal(ours, plain if taken else theirs)
        assert "bert.encoder.layer.0.attention.self.query.weight" in equal(ours, theirs)


def test_a_pooler_that_the_checkpoint_lacks(
    source: Callable[..., str], make_assembly: Make, tmp_path: Path
) -> None:
    """It is drawn at random, and trained by the first run: the second goes on with it."""
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    folder = weights(tmp_path, source()).parent
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    encoder = {
        name: value
        for name, value in load_file(folder / "model.safetensors").items()
        if name.startswith("bert.") and name not in pooler
    }
    save_file(encoder, bare / "model.safetensors", metadata={"format": "pt"})
    line = ("task=gad", f"model.path={bare}", "seed=1")
    key = source(*line)
    then = ("task=biosses", "model=tiny", f"model.path={bare}", "seed=2", *SHORT)
    assert make_assembly(*then).built.fresh >= pooler
    assembly = make_assembly(*then, f"model.init_from={key}")
    assert pooler <= equal(values(assembly), load_file(weights(tmp_path, key)))
    assert not pooler & assembly.built.fresh


def test_learnt_pooling_is_of_the_head(
    source: Callable[..., str], make_assembly: Make, tmp_path: Path
) -> None:
    key = source("model.head=attention", "task=gad")
    line = ("task=gad", "model=tiny", "model.head=attention", "seed=1", *SHORT)
    plain, assembly = values(make_assembly(*line)), make_assembly(*line, f"model.init_from={key}")
    (score,) = [name for name in plain if "score" in name]
    assert score in load_file(weights(tmp_path, key)), "its values are there"
    assert score in equal(values(assembly), plain)
    assert score in assembly.built.fresh


def test_a_third_task_after_the_second(
    source: Callable[..., str], make_run: Make, make_assembly: Make, tmp_path: Path
) -> None:
    first = source()
    second = source("task=biosses", f"model.init_from={first}")
    ours = values(make_assembly("task=hoc", "model=tiny", f"model.init_from={second}"))
    theirs = load_file(weights(tmp_path, second))
    assert {n for n in ours if n.startswith("bert.")} <= equal(ours, theirs)


# --- the key -------------------------------------------------------------------------------------


def test_the_key_knows_content_not_names(
    source: Callable[..., str], make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = source("keep=all", "trainer.eval_every=1", "optim.steps=6")
    line = ("task=biosses", "model=tiny", *SHORT)

    def of(name: object) -> Any:
        return make_run(*line, f"model.init_from={name}")

    plain, run = make_run(*line), of(key)
    assert run.key != plain.key
    assert "init_from" not in plain.hashed
    assert plain.key == make_run(*line, "model.init_from=null").key
    assert run.hashed["init_from"] == f"sha256:{run.init_from.sha256}"
    folder = tmp_path / "runs" / key
    shutil.copytree(folder, tmp_path / "elsewhere" / key)
    monkeypatch.chdir(tmp_path)
    for name in (
        f"{key[:4]}:last", f"{key}:last", f"{key[:7]}:last", folder, f"{folder}:last",
        folder / "checkpoint" / "last", f"runs/{key}", f"./runs/{key}/checkpoint/last:last",
        tmp_path / "elsewhere" / key,
    ):  # fmt: skip
        assert of(name).key == run.key, name
    assert of(f"{key}:best").key != run.key
    assert of(folder / "checkpoint" / "best").key == of(f"{key}:best").key
    assert make_run(*line, "seed=1", f"model.init_from={key}").cell == run.cell
    assert run.cell == cell_of(run.hashed) != plain.cell
    # the config says it in full: a beginning may mean two runs tomorrow
    assert of(f"{key[:4]}:last").cfg["model"]["init_from"] == f"{key}:last"
    elsewhere = of(f"elsewhere/{key}").cfg["model"]["init_from"]
    assert elsewhere == f"{tmp_path}/elsewhere/{key}:last"
    assert of(elsewhere).key == run.key
    # other weights under the same name are another run
    other = tmp_path / "elsewhere" / key / "checkpoint" / "last" / "model.safetensors"
    changed = {name: value + 1.0 for name, value in load_file(other).items()}
    forget(tmp_path / "elsewhere", key)
    save_file(changed, other, metadata={"format": "pt"})
    assert of(f"elsewhere/{key}").key not in (run.key, plain.key)
    assert of(f"elsewhere/{key}").init_from.run == key


def forget(root: Path, key: str) -> None:
    """Make the record one of a run that got its weights later: they are not listed in it."""
    path = root / key / "record.json"
    record = Store(root).read(key)
    files = {n: d for n, d in record.measured["files"].items() if "checkpoint" not in n}
    path.write_text(to_text(replace(record, measured={**record.measured, "files": files})))


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_says_whose_weights_it_began_with(
    source: Callable[..., str], make_run: Make, tmp_path: Path, cli: Say
) -> None:
    key = source()
    line = ("task=biosses", "model=tiny", *SHORT)
    plain = done(make_run(*line), tmp_path / "runs")
    run = make_run(*line, f"model.init_from={key[:6]}:last")
    record = done(run, tmp_path / "runs")
    assert (record.status, record.key) == ("done", run.key)
    assert record.measured["names"]["init_from"] == {"run": key, "at": "last", "task": "gad"}
    assert "init_from" not in plain.measured["names"]
    assert record.result["score"] != plain.result["score"]
    assert f"init_from: {key}:last" in (tmp_path / "runs" / run.key / "config.yaml").read_text()
    said = cli("run", *ANY_FILE, *line, f"store={tmp_path}/runs", f"model.init_from={key}")
    assert said.code == 0
    assert f"encoder from the last weights of gad {key}" in said.out
    assert cli("store", "verify", str(tmp_path / "runs")).code == 0
    assert cli("store", "gc", str(tmp_path / "runs")).code == 0
    assert weights(tmp_path, key).is_file()


@pytest.mark.slow
def test_starting_from_a_failed_run_is_said(
    source: Callable[..., str], tmp_path: Path, cli: Say
) -> None:
    line = (*ANY_FILE, "task=biosses", "model=tiny", *SHORT, f"store={tmp_path}/runs")
    for bound, failed in (("1.0", True), ("-1.0", False)):
        key = source(f"task.failed_below={bound}")
        told = (
            f"model.init_from={key}:last: a failed run: with these weights it is no better on gad"
        )
        for one in (("check", "technique=llrd"), ("check", "-m", "technique=none,llrd")):
            said = cli(*one, *line, f"model.init_from={key}")
            assert said.code == 0
            assert said.out.count(told) == failed


def test_it_goes_on_after_an_interruption(
    source: Callable[..., str], make_run: Make, tmp_path: Path
) -> None:
    """Frozen layers are not in a checkpoint: what is not saved comes from the run again."""
    key = source()
    short = ("device=cpu", "optim.batch_size=7", "optim.epochs=3", "optim.lr=3e-3")
    frozen = ("technique=freeze", "technique.freeze.depth=1")
    line = ("task=biosses", "model=tiny", *short, *frozen, f"model.init_from={key}")
    compare(lambda: make_run(*line), tmp_path, 5)


@pytest.mark.slow
def test_the_same_bytes_alone_and_beside_the_baseline(
    source: Callable[..., str], make_run: Make, tmp_path: Path, cli: Say
) -> None:
    """In one process, the arms of a sweep share what is loaded."""
    keys = source(), source("seed=1")
    line = ("task=biosses", "model=tiny", *SHORT)
    alone = make_run(*line, f"model.init_from={keys[0]}", "seed=1")
    done(alone, tmp_path / "alone")
    store = f"store={tmp_path}/runs"
    arms = f"model.init_from=null,{keys[0]},{keys[1][:8]}:last"
    said = cli("run", "-m", *ANY_FILE, *line, store, arms, "sweep.seeds=[1]")
    assert (said.code, said.err) == (0, "")
    assert kept(tmp_path / "runs", alone.key) == kept(tmp_path / "alone", alone.key)
    store_ = Store(tmp_path / "runs")
    results = read_results(store_, store_.manifest(None))
    names = [f"none, init_from=gad/{key[:8]}:last" for key in keys]
    last = results.summary[results.summary["at"] == "last"].set_index("arm")
    assert set(last.index) == {"none", *names}
    assert set(last["n"]) == {1}
    assert [last.loc[name, "n_paired"] for name in names] == [1, 1], "compared with the baseline"
    assert set(results.runs["init_from"].dropna()) == {f"{key}:last" for key in keys}
    said = cli("report", str(tmp_path / "runs"), "--out", str(tmp_path / "report"))
    assert said.code == 0
    assert all(name in said.out for name in names)


@pytest.mark.slow
def test_in_a_pool(source: Callable[..., str], tmp_path: Path, cli: Say) -> None:
    key = source()
    line = ("task=biosses", "model=tiny", *SHORT, f"store={tmp_path}/runs")
    arms = f"model.init_from=null,{key[:5]}:last"
    pool = ("hydra/launcher=pool", "hydra.launcher.workers=2")
    said = cli("run", "-m", *ANY_FILE, *line, arms, "sweep.seeds=2", *pool)
    assert (said.code, said.err) == (0, "")
    assert len(Store(tmp_path / "runs").keys()) == 5


def test_arms_of_a_sweep_file_check_and_fetch(
    source: Callable[..., str], make_run: Make, tmp_path: Path, cli: Say
) -> None:
    key = source()
    sweeps = tmp_path / "here" / "sweeps"
    sweeps.mkdir()
    (sweeps / "mine.yaml").write_text(
        "# @package _global_\n# Question: does it help? Cost: none.\n"
        "defaults: [override /task: biosses, override /model: tiny]\n"
        f"sweep: {{seeds: 2, arms: {{none: [technique=none], intermediate: "
        f"[model.init_from={key}], both: [technique=reinit, 'model.init_from={key}:last']}}}}\n"
    )
    line = ("-m", "+sweeps=mine", *ANY_FILE, *SHORT, f"store={tmp_path}/runs")
    said = cli("check", *line, "hydra.launcher.dry_step=false")
    assert (said.code, said.err) == (0, "")
    assert "6 runs" in said.out
    assert dry_step(make_run("task=biosses", "model=tiny", f"model.init_from={key}")).step > 0
    # a machine that has not the run yet: data and models can be brought to it
    there = [*line[:-1], f"store={tmp_path}/none"]
    assert cli("fetch", *there).code == 0
    said = cli("check", *there)
    assert said.code == 2
    assert said.err.count("has no run whose key begins so") == 2, "once per way to write it"
    said = cli("fetch", *there, "model.init_from=nowhere")
    assert said.code == 2
    assert "model.init_from is 'nowhere'" in said.err


# --- techniques ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("technique", "extra"),
    [("mixout", ()), ("prior_decay", ()), ("recadam", ("technique.recadam.gamma=100",))],
)
def test_the_pretrained_point_is_the_one_started_from(
    source: Callable[..., str],
    make_assembly: Make,
    tmp_path: Path,
    technique: str,
    extra: tuple[str, ...],
) -> None:
    key = source()
    line = ("task=biosses", "model=tiny", f"model.init_from={key}", *SHORT)
    assembly = make_assembly(*line, f"technique={technique}", *extra)
    assert distance(assembly.built) == 0.0
    theirs = load_file(weights(tmp_path, key))
    encoder = {n for n in assembly.built.reference if n.startswith("bert.")}
    assert encoder <= equal(assembly.built.reference, theirs)


def test_prior_decay_pulls_back_to_it(
    source: Callable[..., str], make_assembly: Make, tmp_path: Path
) -> None:
    key = source()
    line = ("task=biosses", "model=tiny", f"model.init_from={key}", *SHORT)
    theirs = load_file(weights(tmp_path, key))

    def away(*overrides: str) -> float:
        assembly = make_assembly(*line, *overrides)
        assembly.trainer.fit(assembly.module, assembly.loaders["train"])
        found = values(assembly)
        names = [name for name in found if name.startswith("bert.encoder.")]
        return sum(float((found[n] - theirs[n]).abs().sum()) for n in names)

    strong = ("technique=prior_decay", "technique.prior_decay.alpha=300")
    assert 0 < away(*strong) < 0.5 * away()


# --- what can be wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0a1b", ("0a1b", None)),
        ("0a1b:best", ("0a1b", "best")),
        ("0123456789abcdef:last", ("0123456789abcdef", "last")),
        (1234567890123456, ("1234567890123456", None)),
        ("runs/a:b/c", ("runs/a:b/c", None)),
        ("runs/a:b/c:best", ("runs/a:b/c", "best")),
        ("~x", ("~x", None)),
        ("..", ("..", None)),
    ],
)
def test_names(value: object, expected: tuple[str, str | None]) -> None:
    assert parse(value) == expected


@pytest.mark.parametrize(
    "value", ["", "abc", "ABCD", "gad", "0a1b:first", "0a1b2c3d4e5f60718", True, ["0a1b"], ":last"]
)
def test_what_is_no_name(value: object) -> None:
    with pytest.raises(ConfigError, match=r"model\.init_from is .*: expected the key of a run"):
        parse(value)


def test_digits_that_are_read_as_a_number(make_run: Make) -> None:
    """`12e45678` is a key to us and infinity to yaml."""
    assert make_run("task=gad", "model=tiny").cfg["model"]["init_from"] is None
    with pytest.raises(ConfigError, match=r"model\.init_from is inf: .* say KEY:last"):
        make_run("task=gad", "model=tiny", "model.init_from=12e45678")
    with pytest.raises(ConfigError, match="has no run whose key begins so"):
        make_run("task=gad", "model=tiny", "model.init_from=12e45678:last")
    with pytest.raises(ConfigError, match=r"is '1234567890123456': the store"):
        make_run("task=gad", "model=tiny", "model.init_from=1234567890123456")


@pytest.fixture
def refused(make_run: Make) -> Callable[..., str]:
    """What is said to a run on BIOSSES that names these weights; one sentence."""

    def refused(name: object, *overrides: str) -> str:
        with pytest.raises(ConfigError) as caught:
            make_run("task=biosses", "model=tiny", *SHORT, f"model.init_from={name}", *overrides)
        (problem,) = caught.value.problems
        assert problem.startswith("model.init_from is ")
        return problem

    return refused


def test_no_such_run(refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused("0a1b2c3d")
    assert f"the store '{tmp_path}/runs' has no run whose key begins so" in said
    assert "bluestab report --all" in said
    said = refused(tmp_path / "nowhere")
    assert f"{tmp_path}/nowhere is no folder of a finished run" in said
    assert "model.path=FOLDER" in said


def test_two_runs_begin_so(
    source: Callable[..., str], refused: Callable[..., str], tmp_path: Path
) -> None:
    key = source()
    other = key[:5] + "".join("1" if c == "0" else "0" for c in key[5:])
    shutil.copytree(tmp_path / "runs" / key, tmp_path / "runs" / other)
    first, second = sorted((key, other))
    assert f"2 runs begin so ({first}, {second}); write more digits" in refused(f"{key[:5]}:last")


def test_a_run_that_kept_no_weights(
    refused: Callable[..., str],
    make_run: Make,
    source: Callable[..., str],
    cli: Say,
    tmp_path: Path,
) -> None:
    line = ("task=gad", "model=tiny", *SHORT)
    store = f"store={tmp_path}/runs"
    # one run, whose own command is in its record
    said = cli("run", *ANY_FILE, *line, store, "seed=2", "keep=none")
    assert said.code == 0
    (key,) = Store(tmp_path / "runs").keys()
    said_of_it = refused(key)
    assert f"run {key} kept no weights; have it keep them with bluestab run " in said_of_it
    command = said_of_it.partition("with bluestab ")[2]
    assert command.endswith(f"{store} seed=2 keep=last")
    assert cli(*command.split()).code == 0, "and that line helps"
    run = make_run("task=biosses", "model=tiny", f"model.init_from={key}")
    assert run.init_from.run == key
    said_of_it = refused(f"{key}:best")
    assert f"kept its last weights only; say {key}:last, or have it keep" in said_of_it
    assert said_of_it.endswith("keep=best")
    # a run of a sweep, whose own overrides are in the manifest
    record = done(make_run(*line, "seed=5"), tmp_path / "runs")
    assert refused(record.key).endswith("have it keep them with its own command and keep=last")
    mine = {"key": record.key, "overrides": ["task=gad", "keep=none", "seed=5"]}
    store_ = Store(tmp_path / "runs")
    store_.write_manifest("s", {"name": "s", "command": "bluestab run -m", "runs": [mine]})
    assert refused(record.key).endswith("with bluestab run task=gad seed=5 keep=last")


def test_a_run_of_another_model(
    source: Callable[..., str], refused: Callable[..., str], make_run: Make
) -> None:
    key = source("model=tiny_electra")
    said = refused(key)
    assert "trained model 'tiny_electra' (electra, 2 blocks of 32; random:" in said
    assert "this run's is 'tiny' (bert, 2 blocks of 32; random:" in said
    assert "say model=tiny_electra, or name a run of tiny" in said
    wider = source("model.config.intermediate_size=128")
    assert "trained model 'tiny' (bert, 2 blocks of 32; random:" in refused(wider)
    assert make_run("task=biosses", "model=tiny_electra", f"model.init_from={key}").init_from


class Breaks(Technique):
    def wrap_step(self, step: Step, built: Built) -> Step:
        raise RuntimeError("no")


def test_a_run_that_crashed_or_diverged_or_is_not_done(
    refused: Callable[..., str], make_run: Make, tmp_path: Path
) -> None:
    store = Store(tmp_path / "runs")
    store.make_writable()
    run = make_run("task=gad", "model=tiny", *SHORT)
    crashed = execute_one(replace(run, techniques={"t": Breaks()}), store, quiet)
    assert crashed.status == "crashed"
    assert f"run {run.key} crashed (see {store.root}/.crashed/{run.key}/log.txt)" in refused(
        run.key
    )
    run = make_run("task=gad", "model=tiny", *SHORT, "seed=1")
    diverged = execute_one(replace(run, techniques={"t": NotFinite(2, float("nan"))}), store, quiet)
    assert diverged.status == "diverged"
    said = refused(run.key)
    assert f"run {run.key} diverged (loss or output was not finite" in said
    assert "name another run" in said
    key = "0123456789abcdef"
    claim = store.claims.take(key)
    assert claim is not None
    with claim:
        assert f"run {key} is not finished; wait for it" in refused(key[:8])


def test_damaged_files(
    source: Callable[..., str], refused: Callable[..., str], make_run: Make, tmp_path: Path
) -> None:
    key = source()
    file = weights(tmp_path, key)
    whole = file.read_bytes()

    def write(content: bytes) -> None:
        file.write_bytes(content)
        later = os.stat(file).st_mtime_ns + 10**9
        os.utime(file, ns=(later, later))

    write(whole[:-1] + bytes([whole[-1] ^ 1]))
    said = refused(key)
    assert f"{file} is damaged (its SHA-256 is not the one in record.json)" in said
    assert f"remove {file.parent} and have the run keep it anew with " in said
    # weights that were added later are not listed: a header that lies is found, and no code is run
    forget(tmp_path / "runs", key)
    for content in (whole[:-7], b"\x80\x04cos\nsystem\n", b"", whole[:8] + b"x" * 40):
        write(content)
        assert f"{file} is damaged (" in refused(key)
    write(whole)
    assert make_run("task=gad", "model=tiny", f"model.init_from={key}").init_from.run == key
    record = tmp_path / "runs" / key / "record.json"
    record.write_text(record.read_text().replace("gad", "dag"))
    said = refused(key)
    assert "record.json is damaged" in said


def test_files_that_lack_something(
    source: Callable[..., str], make_run: Make, make_assembly: Make, tmp_path: Path
) -> None:
    key = source()
    forget(tmp_path / "runs", key)
    file = weights(tmp_path, key)
    whole = load_file(file)
    name = "bert.encoder.layer.1.output.dense.weight"
    for content in (
        {n: v for n, v in whole.items() if n != name},
        {**whole, name: whole[name].T.contiguous()},
    ):
        save_file(content, file, metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=f"for 1 parameters of the encoder .*'{name}'"):
            make_assembly("task=biosses", "model=tiny", f"model.init_from={key}")


def test_weights_that_were_replaced_after_the_check(
    source: Callable[..., str], make_run: Make, tmp_path: Path
) -> None:
    """What a key was made of is what is trained, or nothing is."""
    key = source()
    forget(tmp_path / "runs", key)
    run = make_run("task=biosses", "model=tiny", *SHORT, f"model.init_from={key}")
    networks._pristine.cache_clear()  # else an earlier test may have left the right weights here
    file = weights(tmp_path, key)
    save_file({n: v + 1.0 for n, v in load_file(file).items()}, file, metadata={"format": "pt"})
    record = done(run, tmp_path / "runs")
    assert record.status == "crashed"
    assert (
        f"{file} was replaced after model.init_from={key}:last" in record.result["error"]["message"]
    )
    anew = make_run("task=biosses", "model=tiny", *SHORT, f"model.init_from={key}")
    assert anew.key != run.key
    assert done(anew, tmp_path / "runs").status == "done"


def test_two_names_for_the_weights(
    source: Callable[..., str], refused: Callable[..., str], tmp_path: Path
) -> None:
    folder = weights(tmp_path, source()).parent
    assert "names the weights 'last' and 'best'; drop ':best'" in refused(f"{folder}:best")


# --- reports and documents -----------------------------------------------------------------------


def test_weights_that_differ_have_names_that_differ() -> None:
    """One run, made on two machines, may give two sets of weights."""
    source = {"run": "0123456789abcdef", "at": "last", "task": "gad"}
    configs = {
        "a": {"init_from": "sha256:" + "1" * 64},
        "b": {"init_from": "sha256:" + "2" * 64},
        "c": {"init_from": "sha256:" + "3" * 64},
        "d": {"x": 1},
    }
    sources = {"a": source, "b": source, "c": {**source, "at": "best"}}
    named = with_sources(configs, sources)
    assert [named[cell].get("init_from") for cell in "abcd"] == [
        "gad/01234567:last 11111111", "gad/01234567:last 22222222", "gad/01234567:best", None
    ]  # fmt: skip
    assert named["d"] == configs["d"]
    alone = with_sources({"a": configs["a"]}, {"a": source})
    assert alone == {"a": {"init_from": "gad/01234567:last"}}


def test_blurb_keeps_such_arms_apart(
    source: Callable[..., str], make_run: Make, tmp_path: Path
) -> None:
    key = source()
    for task in ("biosses", "gad"):
        for overrides in ((), (f"model.init_from={key}",)):
            run = make_run(f"task={task}", "model=tiny", *SHORT, "seed=7", *overrides)
            done(run, tmp_path / "runs")
    blurb = read_results(Store(tmp_path / "runs"), None).frames["blurb"]
    assert {*blurb["arm"]} == {"none", f"none, init_from=gad/{key[:8]}:last"}
    assert not any(blurb["ambiguous"])


def test_what_the_docs_say(source: Callable[..., str], cli: Say, tmp_path: Path) -> None:
    page = conf_dir().parent / "docs/how-to/another-task-first.md"
    lines = [c for c in commands(page) if "init_from" in c or "keep=last" in c]
    assert len(lines) == 3
    key = source()
    small = [*ANY_FILE, *SHORT, f"store={tmp_path}/runs"]
    for command in lines:
        line = re.sub("biomedbert_base", "tiny", command).replace("KEY", key).split()[2:]
        said = cli("check", *line, *small, "hydra.launcher.dry_step=false")
        assert (said.code, said.err) == (0, "")
