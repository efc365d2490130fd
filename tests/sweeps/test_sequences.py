"""Tasks one after another inside a sweep: which runs they are, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluestab.cli.hydra_app import composed
from bluestab.core.catalogue import files
from bluestab.core.config import compose
from bluestab.core.errors import ConfigError
from bluestab.report.frames.results import read_results
from bluestab.store.records import to_json
from bluestab.store.store import Store
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.sequence_yaml import Plan, read_plan
from bluestab.sweeps.sequences import chains_of
from bluestab.sweeps.slurm import task
from bluestab.testing.technique_arms import technique_class
from bluestab.training import dry_run_step
from bluestab.training.dry_run_step import dry_step
from tests.support.simulated_slurm import queue_of, submitted
from tests.sweeps.test_plan import ANY_FILE, alone

Cli = Callable[..., Any]

YAML = """\
# Two tasks of the tests.
tasks: [gad, ncbi_disease]
orders: 1
order_seed: 0
from: last
head: own
keep_data: true
references: []
"""
SHORT = (*ANY_FILE, "model=tiny", "device=cpu", "optim.steps=1", "task.max_length=32")
TWO = ("+sequence=two", *SHORT, "sweep.seeds=2", "hydra/launcher=local")


@pytest.fixture
def two(cli: Cli) -> Cli:
    """The console entry in a folder with a sequence of two tasks."""
    Path("conf/sequence").mkdir(parents=True)
    Path("conf/sequence/two.yaml").write_text(YAML, encoding="utf-8")
    return cli


@pytest.fixture
def planned(two: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sweep]:
    caught: list[Sweep] = []

    def plan(*arguments: str) -> Sweep:
        with monkeypatch.context() as patch:  # other commands of the test do launch
            launch = "bluestab.sweeps.launchers.local.Local.launch"
            patch.setattr(launch, lambda self, sweep: caught.append(sweep))
            said = two("run", "-m", *TWO, *arguments)
        assert said.code == 0, said.err
        return caught.pop()

    return plan


def stages(sweep: Sweep) -> dict[str, list[Any]]:
    """Task and technique -> its runs."""
    found: dict[str, list[Any]] = {}
    for planned in sweep.runs:
        name = f"{planned.run.data.task.name} {'+'.join(planned.run.techniques) or 'none'}"
        found.setdefault(name, []).append(planned)
    return found


def test_arms_share_their_first_stage_and_seeds_a_cell(planned: Callable[..., Sweep]) -> None:
    sweep = planned("technique=none,ewc,er,[llrd,ewc]")
    found = stages(sweep)
    assert {name: len(runs) for name, runs in found.items()} == {
        "gad none": 2,
        "gad llrd": 2,
        **{f"ncbi_disease {arm}": 2 for arm in ("none", "ewc", "er", "llrd+ewc")},
    }
    assert all(len({one.run.cell for one in runs}) == 1 for runs in found.values())
    first = {one.run.cfg["seed"]: one.run for one in found["gad none"]}
    for one in found["ncbi_disease ewc"]:
        before = first[one.run.cfg["seed"]]
        assert one.run.predecessor == {"key": before.key, "cell": before.cell, "at": "last"}
        assert one.run.cfg["score_earlier"]
        assert one.run.waits
        assert one.run.cfg["keep"] == "none", "nothing goes on from it"
    assert all(one.run.cfg["keep"] == "last" and one.lends for one in found["gad none"])
    plain = alone([o for o in found["gad none"][0].overrides if not o.startswith("keep")])
    assert plain.key == found["gad none"][0].run.key, "a first stage is a run like any other"
    seeds = [one.run.cfg["seed"] for one in sweep.runs]
    assert seeds == sorted(seeds), "an interrupted sweep is a smaller one"


@pytest.mark.slow
def test_stages_before_si_keep_what_it_needs(planned: Callable[..., Sweep]) -> None:
    """Whoever shares them: the first stage is that of all arms."""
    for arms in ("none,si", "si,none"):
        found = stages(planned(f"technique={arms}"))
        assert {name: len(runs) for name, runs in found.items()} == {
            "gad none": 2,
            "ncbi_disease none": 2,
            "ncbi_disease si": 2,
        }
        assert all(one.run.cfg["keep_path_integral"] and one.lends for one in found["gad none"])
        assert not any(one.run.cfg["keep_path_integral"] for one in found["ncbi_disease si"])
        key = found["gad none"][0].run.key
        assert key == alone([o for o in found["gad none"][0].overrides if "keep" not in o]).key


def test_stages_keep_what_any_arm_needs(planned: Callable[..., Sweep]) -> None:
    """The first stage is that of all arms, and is the same run with it and without."""
    for arms in ("none,ewc,[kfac_ewc,refresh],mas,er", "er,mas,[kfac_ewc,refresh],none,ewc"):
        found = stages(planned(f"technique={arms}", "technique.kfac_ewc.sharing=reduce"))
        for one in found["gad none"]:
            assert one.run.cfg["keep_importance"] == [
                "diagonal-gold", "kronecker-gold-reduce", "sensitivity", "weighted"
            ]  # fmt: skip
            (said,) = [o for o in one.overrides if o.startswith("keep_importance=")]
            assert alone([*one.overrides]).cfg["keep_importance"] == one.run.cfg["keep_importance"]
            plain = [o for o in one.overrides if o != said and not o.startswith("keep=")]
            assert alone(plain).key == one.run.key
            assert one.run.cfg["sweep"]["arm"] is None or "keep" not in one.run.cfg["sweep"]["arm"]
        assert not any(one.run.cfg["keep_importance"] for one in found["ncbi_disease ewc"])
    found = stages(planned("technique=none,ewc,er", "technique.ewc.strength=0"))
    assert not any(one.run.cfg["keep_importance"] for one in found["gad none"])


@pytest.mark.slow
def test_references_beside_a_sequence(planned: Callable[..., Sweep]) -> None:
    """A run on each task, of which the first is the first stage; and one on both at once, which
    every arm shares, and which starts where the first stages do."""
    for arms in ("none,ewc", "ewc"):
        found = stages(planned(f"technique={arms}", "sequence.references=[alone,joint]"))
        assert {name: len(runs) for name, runs in found.items()} == {
            "gad none": 2,
            "ncbi_disease none": 4 if arms == "none,ewc" else 2,
            "ncbi_disease ewc": 2,
            "ncbi_disease er": 2,
        }
        for one in found["ncbi_disease er"]:
            assert one.run.predecessor["at"] == "start"
            assert one.run.start is None
            assert one.run.cfg["score_earlier"]
            assert one.run.cfg["technique"]["er"]["buffer_size"] == "all"
        first = {one.run.key for one in found["gad none"]}
        assert {one.run.predecessor["key"] for one in found["ncbi_disease er"]} == first


@pytest.mark.slow
def test_a_joint_run_starts_from_the_model_s_own_weights(two: Cli) -> None:
    """Not from those of the stage before; and is repeated alone."""
    import torch

    from bluestab.training.assemble import assemble

    said = two(
        *("run", "-m", *TWO, "technique=none", "sweep.seeds=1", "optim.steps=3", "optim.lr=1e-3"),
        *("sequence.references=[joint]", "keep=last"),
    )
    assert said.code == 0, said.err
    store = Store("runs")
    (manifest,) = store.whole_manifests()
    lines = {entry["key"]: entry["overrides"] for entry in manifest["runs"]}
    (joint,) = (key for key in lines if any(one.endswith(":start") for one in lines[key]))
    record = store.read(joint)
    first = record.result["config"]["predecessor"]["key"]
    n_items = store.read(first).result["items"]["train"]
    assert record.result["effects"]["er"] == {"replayed_from": {"gad": n_items}}
    (entry,) = record.result["earlier"]
    assert (entry["task"], entry["run"]) == ("gad", first)

    def start(key: str, change: str = "") -> torch.Tensor:
        run = alone([one.replace(":start", change or ":start") for one in lines[key]])
        assert change or run.key == key
        built = assemble(run, device=torch.device("cpu"), progress=lambda *_: None).built
        return built.reference["bert.embeddings.word_embeddings.weight"]

    assert torch.equal(start(joint), start(first))
    assert not torch.equal(start(joint), start(joint, ":last"))


def test_one_head_for_all_tasks(two: Cli) -> None:
    """Every stage but the first goes on with the head of the one before, and is scored on the
    earlier tasks with it: on the same items it scores the same. So it is in joint training."""
    Path("conf/task").mkdir()
    gad = files("task")["gad"].read_text(encoding="utf-8")
    again = gad.replace("name: gad", "name: gad_again")
    again = again.replace("data_dir: null", f"data_dir: {os.environ['BLUESTAB_DATA']}/gad")
    Path("conf/task/gad_again.yaml").write_text(again, encoding="utf-8")
    yaml = YAML.replace("ncbi_disease", "gad_again").replace("[]", "[alone, joint]")
    yaml = yaml.replace("head: own", "head: shared")
    Path("conf/sequence/one.yaml").write_text(yaml, encoding="utf-8")
    line = ("-m", "+sequence=one", *TWO[1:], "technique=none,ewc", "optim.lr=3e-3")
    said = two("run", *line, "optim.steps=3", "optim.warmup=0")
    assert said.code == 0, said.err
    store = Store(Path("runs"))
    records = [store.read(key) for key in sorted(store.keys())]
    shared = [r for r in records if r.result["config"].get("shared_head")]
    assert len(records) == 10, "two seeds of a first stage, two arms, alone and joint"
    assert len(shared) == 6
    assert all("predecessor" in one.result["config"] for one in shared)
    for one in shared:
        assert one.result["earlier"][0]["last"] == one.result["metrics"]["last"]["test"]
    results = read_results(store, store.manifest(None))
    rows = results.frame("forgetting")
    rows = rows[rows["at"] == "last"].set_index("arm")
    assert set(rows.index) == {"none, one head", "ewc, one head"}
    assert rows.loc["ewc, one head", "baseline"] == "none, one head"
    found = results.frame("references")
    assert set(found["reference"]) == {"alone", "joint, one head"}


@pytest.mark.slow
def test_orders_differ_in_their_cells(planned: Callable[..., Sweep]) -> None:
    sweep = planned("technique=none,ewc", "sequence.orders=all", "sequence.from=best")
    found = stages(sweep)
    assert {name: len(runs) for name, runs in found.items()} == {
        "gad none": 4,
        "ncbi_disease none": 4,
        "gad ewc": 2,
        "ncbi_disease ewc": 2,
    }, "a task alone is the first stage of one order, and comes second in the other"
    second = [one for one in found["gad none"] if one.run.predecessor]
    assert len({one.run.cell for one in found["gad none"]}) == 2
    assert second[0].run.predecessor["at"] == "best"
    assert all(one.run.cfg["keep"] == "best" for one in sweep.runs if not one.run.predecessor)


@pytest.mark.slow
def test_what_keep_asks_for_stays(planned: Callable[..., Sweep]) -> None:
    found = stages(planned("technique=none", "keep=best"))
    assert {one.run.cfg["keep"] for one in found["gad none"]} == {"all"}
    assert {one.run.cfg["keep"] for one in found["ncbi_disease none"]} == {"best"}
    found = stages(planned("technique=none", "keep=last"))
    assert not any(one.lends for one in found["gad none"]), "they are asked for"


@pytest.mark.parametrize(
    ("technique", "n"), [("none", 2), pytest.param("none,ewc", 3, marks=pytest.mark.slow)]
)
def test_stages_are_done_in_order_and_repeated_alone(two: Cli, technique: str, n: int) -> None:
    """Real runs: each stage goes on from the one before; its own command makes the same."""
    said = two("run", "-m", *TWO, f"technique={technique}", "sweep.seeds=1")
    assert said.code == 0, said.err
    store = Store("runs")
    (manifest,) = store.whole_manifests()
    assert len(manifest["runs"]) == n
    for entry in manifest["runs"]:
        record = store.read(entry["key"])
        assert record.status == "done"
        run = alone(entry["overrides"])
        assert (run.key, run.cell) == (record.key, record.result["cell"])
        if "predecessor" in record.result["config"]:
            (before,) = record.result["earlier"]
            assert before["task"] == "gad"
            assert before["run"] == record.result["config"]["predecessor"]["key"]
            assert record.measured["names"]["init_from"]["run"] == before["run"]
    if n > 2:
        again = two("run", "-m", *TWO, "technique=none,er", "sweep.seeds=1")
        assert "3 runs, 2 already there" in again.out


@pytest.mark.slow
def test_weights_that_were_lent_may_go_when_all_is_done(two: Cli) -> None:
    """They are made again for a stage that needs them, and for nothing else."""
    import shutil

    assert two("run", "-m", *TWO, "technique=none", "sweep.seeds=1").code == 0
    store = Store("runs")
    (first,) = (
        key for key in list(store.keys()) if "predecessor" not in store.read(key).result["config"]
    )
    shutil.rmtree(store.folder(first) / "checkpoint")
    said = two("run", "-m", *TWO, "technique=none", "sweep.seeds=1")
    assert said.code == 0
    assert "2 runs, 2 already there" in said.out
    assert not (store.folder(first) / "checkpoint").exists()
    said = two("run", "-m", *TWO, "technique=ewc", "sweep.seeds=1")
    assert said.code == 0, said.err
    assert (store.folder(first) / "checkpoint" / "last").is_dir()


@pytest.mark.slow
def test_a_stage_that_crashes_stops_no_other_sequence(
    two: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own later stages are not started, which is said; the same command goes on with them."""
    from bluestab.testing import simulated_runs
    from bluestab.training import execute as module

    real = module.execute_one

    def crashing(run: Any, store: Any, progress: Any) -> Any:
        first = run.cfg["seed"] == 1 and run.data.task.name == "gad"
        return (simulated_runs.execute if first else real)(run, store, progress)

    store = Store("runs")
    simulated_runs.acts(store, s1=["crash"])
    monkeypatch.setattr("bluestab.training.execute.execute_one", crashing)
    said = two("run", "-m", *TWO, "technique=none,ewc")
    assert said.code == 1
    assert "2 stages were not started: one before crashed or diverged" in said.out
    assert "1 of 6 runs crashed" in said.err
    assert len(list(store.keys())) == 3
    monkeypatch.setattr("bluestab.training.execute.execute_one", real)
    assert two("run", "-m", *TWO, "technique=none,ewc").code == 0
    assert len(list(store.keys())) == 6


def bytes_of(store: Store) -> dict[str, str]:
    """Key -> what its record says was computed."""
    return {key: to_json(store.read(key).result) for key in sorted(store.keys())}


@pytest.mark.slow
def test_stages_on_a_cluster_are_those_of_one_machine(
    planned: Callable[..., Sweep], two: Cli, tmp_path: Path
) -> None:
    """A stage is left alone while another task works on the one before it."""
    here = planned("technique=none,ewc", "store=here")
    assert two("run", "-m", *TWO, "technique=none,ewc", "store=local").code == 0
    one = submitted(here, runs_per_task=100)
    claim = here.store.claims.take(here.runs[0].run.key)
    assert claim is not None
    with claim:  # another task works on the first stage: what waits for it is left alone
        queue = queue_of(one)
        taken = [found.run for found in iter(queue.next, None)]
        assert [run.data.task.name for run in taken] == ["gad"]
        assert len(queue.early) == 4
        queue.close()
    assert task.work(one, 0, "1_0.0") == 0
    assert bytes_of(here.store) == bytes_of(Store("local"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["sequence.orders=3"],
            "sequence.orders is 3: expected all (at most 1,000), a number from",
        ),
        pytest.param(["keep=some"], "keep is 'some': expected one of none", marks=pytest.mark.slow),
        pytest.param(
            ["sweep.confirm=3"], "sweep.confirm chooses an arm of a task", marks=pytest.mark.slow
        ),
        pytest.param(
            ["sequence.orders=[[gad,gad]]"],
            "sequence.orders lists ['gad', 'gad']",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["sequence.from=first"],
            "sequence.from is 'first': expected one of last, best",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["sequence.tasks=[gad]"], "expected two or more different tasks", marks=pytest.mark.slow
        ),
        pytest.param(
            ["sequence.tasks=[gad,ncbi_diseas]"],
            "there is no task 'ncbi_diseas'; did you mean 'ncbi_disease'?",
            marks=pytest.mark.slow,
        ),
        pytest.param(["+sequence.order=2"], "sequence.order", marks=pytest.mark.slow),
        pytest.param(
            ["sequence.references=[single]"],
            "sequence.references is ['single']: expected a list of alone, joint, or [] for none",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["sequence.references=[joint]", "sequence.keep_data=false"],
            "sequence.references holds joint, which needs the items of all tasks at once",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["sequence.references=[joint]", "sequence.from=best"],
            "but sequence.from is best; say sequence.references=[alone], or from=last",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["technique=si", "sequence.from=best"],
            "technique si needs path integrals, which are those of the last weights",
            marks=pytest.mark.slow,
        ),
        (["task=biosses"], "task=biosses: with +sequence each stage sets task; leave it out"),
        (["shared_head=true"], "each stage sets shared_head; say sequence.head=shared"),
        (["sequence.head=both"], "sequence.head is 'both': expected one of own, shared"),
        (
            ["sequence.head=shared"],
            "'gad', and this run's is 'ncbi_disease': their answers are of",
        ),
        (["technique=er", "sequence.keep_data=false"], "technique er asks items of earlier tasks"),
        (["hydra/launcher=packed"], "hydra/launcher=packed trains siblings as one"),
        pytest.param(
            ["hydra/launcher=slurm", "hydra.launcher.group=2"],
            "hydra/launcher=slurm trains siblings as one",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["hydra/sweeper=optuna", "optim.lr=interval(1e-5,1e-4)"],
            "a search draws",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    two: Cli, arguments: list[str], said: str
) -> None:
    found = two("run", "-m", *TWO, *arguments)
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("argument", ["sequence=two", "sequence.orders=all"])
def test_a_sequence_is_added_with_a_plus(two: Cli, argument: str) -> None:
    said = two("run", "-m", argument, *SHORT)
    assert said.code == 2
    assert "a sequence of tasks is bluestab run -m +sequence=NAME" in said.err


def test_one_run_is_no_sequence(two: Cli) -> None:
    said = two("run", "+sequence=two", *SHORT)
    assert said.code == 2
    assert "add -m" in said.err


def test_drawn_orders_begin_with_the_listed_one() -> None:
    tasks = ("ncbi_disease", "bc2gm", "bc5cdr_chem", "jnlpba")
    plan = Plan(tasks, 5, 0, "last", True)
    assert plan.in_orders()[0] == tasks
    assert len(set(plan.in_orders())) == 5
    assert plan.in_orders() == Plan(tasks, 5, 0, "last", True).in_orders()
    assert plan.in_orders() != Plan(tasks, 5, 1, "last", True).in_orders()
    assert Plan(tasks, 3, 0, "last", True).in_orders() == plan.in_orders()[:3]
    assert len(Plan(tasks, "all", 0, "last", True).in_orders()) == 24


def test_a_sequence_of_ours_names_tasks_that_there_are() -> None:
    from omegaconf import OmegaConf

    from bluestab.core.paths import conf_dir

    for file in (conf_dir() / "sequence").glob("*.yaml"):
        read_plan(OmegaConf.to_container(OmegaConf.load(file)))


def test_a_damaged_link_is_one_sentence() -> None:
    from bluestab.models.init_from import predecessor_of

    with pytest.raises(ConfigError, match="with all 16 digits"):
        predecessor_of("stage:12ab:last")
    assert predecessor_of(f"stage:{'0' * 16}:start") == ("0" * 16, "start")
    assert predecessor_of(f"stage:{'0' * 16}:best") == ("0" * 16, "best")


def test_a_stage_needs_the_weights_of_all_before_it(tmp_path: Path) -> None:
    """Three stages by hand: what is done again, and what waits for what."""
    from types import SimpleNamespace

    from bluestab.sweeps.stages import StageOrder, still_to_do

    def planned(key: str, before: str | None, keep: str = "last") -> Any:
        cfg = {"keep": keep, "keep_representations": False}
        link = None if before is None else {"key": before}
        run = SimpleNamespace(key=key, predecessor=link, cfg=cfg)
        return SimpleNamespace(run=run, lends=keep == "last")

    first, second = planned("1" * 16, None), planned("2" * 16, "1" * 16)
    third, other = planned("3" * 16, "2" * 16, "none"), planned("4" * 16, "2" * 16, "none")
    done, weights, bad = [first, second, third], [second], []

    class Fake:
        def has(self, key: str) -> bool:
            return any(one.run.key == key for one in done)

        def read(self, key: str) -> Any:
            return SimpleNamespace(status="diverged" if key in bad else "done")

    def finished(run: Any, store: Any) -> bool:
        (one,) = (p for p in (first, second, third, other) if p.run is run)
        return one in done and (not one.lends or one in weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bluestab.sweeps.stages.is_done", finished)
        store: Any = Fake()
        assert still_to_do([first, second, third], store) == []
        runs = [first, second, third, other]
        left = still_to_do(runs, store)
        assert left == [first, other], "its first task is held on to as well"
        order = StageOrder(runs, left, store)
        assert not order.is_hopeless(other)
        assert order.is_early(other)
        weights.append(first)
        assert not order.is_hopeless(other)
        assert not order.is_early(other)
        done.clear()
        order = StageOrder(runs, runs, store)
        done.append(first)
        bad.append(first.run.key)
        assert order.is_hopeless(second)
        assert order.is_hopeless(other)


def test_a_dry_step_knows_what_holding_on_takes(
    planned: Callable[..., Sweep], two: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory what the record says it took; a pull to the last task alone takes no more later."""
    arms = ("kfac_ewc", "ewc")
    chosen = (f"technique={','.join(arms)}", "technique.ewc.anchors=online", "sweep.seeds=1",
              "optim.steps=3", "optim.warmup=0")  # fmt: skip
    found = stages(planned(*chosen))
    dry = {arm: dry_step(found[f"ncbi_disease {arm}"][0].run) for arm in arms}
    assert dry["ewc"].memory_per_task_mb == 0
    first = found["gad none"][0].run  # at whose end importances are measured
    with monkeypatch.context() as seconds:
        seconds.setattr(dry_run_step, "_per_item", lambda few, more: 1.0)
        assert dry_step(first).importance == first.data.size("train")
    said = two("run", "-m", *TWO, *chosen)
    assert said.code == 0, said.err
    ran = found["ncbi_disease kfac_ewc"][0].run
    effects = Store(Path("runs")).read(ran.key).result["effects"]["kfac_ewc"]
    assert dry["kfac_ewc"].memory_per_task_mb == 4 * effects["numbers_kept"] / 2**20


@pytest.mark.slow
def test_every_technique_that_remembers_is_tried_out(planned: Callable[..., Sweep]) -> None:
    names = [n for n in files("technique") if n != "none" and technique_class(n).remembers]
    assert len(names) >= 9
    arms = ",".join(f"[ewc,{name}]" if name == "refresh" else name for name in names)
    waiting = [one.run for one in planned(f"technique={arms}", "sweep.seeds=1").runs
               if one.run.waits and one.run.techniques]  # fmt: skip
    assert {name for run in waiting for name in run.techniques} == {*names}
    for run in waiting:
        assert dry_step(run).step > 0, run.techniques


@pytest.mark.slow
def test_check_forecasts_a_sequence(two: Cli) -> None:
    said = two("check", "-m", *TWO, "technique=none,ewc", "sequence.orders=all")
    assert said.code == 0, said.err
    assert "12 runs in 6 cells" in said.out
    assert "ewc, after=gad" in said.out
    assert "as if these were as large as the stage's own" in said.out
    assert not Path("runs").exists()


LINKING = ("ncbi_linking", "bc5cdr_disease_linking", "bc5cdr_chem_linking")


@pytest.mark.parametrize("chosen", ["+sequence=linking", "+sweeps=forgetting_linking"])
def test_knobs_of_the_tasks_alone_can_be_set(chosen: str) -> None:
    cfg = composed([chosen, "task.hard_negatives=3"], multirun=True)
    assert (cfg.task.name, cfg.task.hard_negatives) == ("ncbi_linking", 3)
    with pytest.raises(ConfigError, match=r"no key 'task\.hard_negative_s'"):
        composed([chosen, "task.hard_negative_s=3"], multirun=True)


def test_each_stage_has_its_own_task_and_the_knobs_of_all() -> None:
    job = ["+sequence=linking", "sequence.orders=1", "task=ncbi_linking", "task.hard_negatives=3"]
    chains = chains_of(job, compose(job))
    tasks = [[o for o in s.overrides if o.startswith("task=")] for chain in chains for s in chain]
    assert [task for (task,) in tasks] == [f"task={name}" for name in LINKING * 2]
    assert all("task.hard_negatives=3" in s.overrides for chain in chains for s in chain)
