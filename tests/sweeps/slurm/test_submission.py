"""What is submitted, what SLURM's answers mean, and what a task goes by: without a SLURM.

Sweeps on a real one: tests/slurm.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bluestab.core.config import compose
from bluestab.core.errors import BluestabError, ConfigError, StoreError
from bluestab.store.store import Store
from bluestab.sweeps.attempt import attempt
from bluestab.sweeps.failures import NodeFailed, OutOfMemoryKilled, TimeLimitReached, WorkerDied
from bluestab.sweeps.launchers import slurm
from bluestab.sweeps.launchers.slurm import minutes_of
from bluestab.sweeps.plan import Sweep
from bluestab.sweeps.slurm import failures, scheduler, submission, task
from bluestab.sweeps.slurm.cancelling import cancel
from bluestab.sweeps.slurm.queue import SharedQueue
from bluestab.sweeps.slurm.scheduler import ArrayTask
from bluestab.sweeps.slurm.script import batch_script, known_options, option_problems
from bluestab.sweeps.slurm.status import TaskStatus
from bluestab.sweeps.slurm.submission import Array, Submission, submissions, write_orders
from bluestab.testing import simulated_runs
from bluestab.testing.simulated_runs import acts
from tests.support import simulated_search

KNOBS = {
    "runs_per_task": 2,
    "workers_per_task": 1,
    "per_gpu": 1,
    "gpus": False,
    "signal_delay": 120,
}
MakeSweep = Callable[..., Sweep]


def submitted(sweep: Sweep, tasks: int = 2, **knobs: Any) -> Submission:
    return write_orders(
        *(sweep.store, sweep.name, sweep.runs),
        tasks=tasks,
        launcher={**KNOBS, **knobs},
        command="bluestab run -m",
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Command -> what it answers; an exception is raised. `asked` lists the calls."""
    answers: dict[str, Any] = {"asked": []}

    def ask(*command: str) -> str:
        answers["asked"].append(command)
        answer = answers.get(command[0], "")
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(scheduler, "ask", ask)
    return answers


def squeue(*tasks: ArrayTask) -> str:
    def line(t: ArrayTask) -> str:
        array, _, index = t.job.partition("_")
        code = int(t.exit.split(":")[0]) * 256 + int(t.exit.split(":")[1]) if t.exit else 0
        fields = [array, index, array, t.state, t.reason or "None", t.node, code, t.restarts]
        return "".join(f"{field!s:<12}|" for field in fields)

    return "\n".join(map(line, tasks)) + "\n"


# --- the script ----------------------------------------------------------------------------------

RECORD = Path(__file__).parents[2] / "assets" / "slurm_script.sh"


def test_the_script_is_the_recorded_one() -> None:
    """When submitit writes another text, look at it; then BLUESTAB_RECORD=1 writes it down."""
    text = batch_script(
        Path("/shared/runs/.slurm/s.1"),
        knobs={
            **dict.fromkeys(slurm.OPTIONS),
            **{"partition": "gpu", "time": "2:00:00", "mem": "16G", "gpus_per_node": 1},
            **{"cpus_per_task": 4, "setup": ["module load cuda"], "reservation": "class"},
            **{"additional_parameters": {"licenses": "x"}, "signal_delay_s": 120},
        },
        first=1000,
        tasks=20,
        parallel=8,
        job_name="s",
        python="/opt/bluestab/bin/python",
    )
    if os.environ.get("BLUESTAB_RECORD"):
        RECORD.write_text(text)
    assert text == RECORD.read_text()
    assert known_options(text) >= {"partition", "time", "mem", "requeue", "licenses", "array"}


def test_every_option_of_the_yaml_is_one_of_sbatch() -> None:
    """A knob that reached nothing would be a lie."""
    folder = Path("/runs/.slurm/s.1")
    lists = {"setup": ["true"], "srun_args": ["--x"], "additional_parameters": {"y": 1}}
    knobs = {name: lists.get(name, "7") for name in slurm.OPTIONS}
    text = batch_script(
        folder, knobs=knobs, first=0, tasks=1, parallel=None, job_name="s", python=None
    )
    plain = {name.replace("_", "-") for name in slurm.OPTIONS} - {
        k.replace("_", "-") for k in lists
    }
    assert known_options(text) >= plain
    assert "\ntrue\n" in text
    assert " --x " in text


def test_options_that_are_decided_elsewhere() -> None:
    (ours,) = option_problems({"comment": "x"})
    (knob,) = option_problems({"cpus-per-task": 3})
    assert "decides that itself" in ours
    assert "say hydra.launcher.cpus_per_task" in knob
    assert option_problems({"licenses": "x"}) == []


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        *[(None, None), (90, 90), ("90", 90), ("90:30", 90.5), ("2:00:00", 120)],
        *[("1-12", 2160), ("1-12:30", 2190), ("1-12:30:30", 2190.5), ("soon", None)],
    ],
)
def test_time_as_slurm_writes_it(limit: object, minutes: float | None) -> None:
    assert minutes_of(limit) == minutes


def launcher(**knobs: Any) -> slurm.Slurm:
    node = dict(compose(["hydra/launcher=slurm"]).hydra.launcher)
    return slurm.Slurm(**{k: v for k, v in {**node, **knobs}.items() if k not in HYDRAS})


HYDRAS = ("_target_", "backend")


@pytest.mark.parametrize(
    ("knobs", "overrides", "said"),
    [
        ({"runs_per_task": 0}, (), "hydra.launcher.runs_per_task is 0"),
        ({"time": "soon"}, (), "hydra.launcher.time is 'soon': expected minutes"),
        ({"setup": "module load cuda"}, (), "hydra.launcher.setup"),
        ({"wait": 1}, (), "hydra.launcher.wait is 1"),
        ({}, ("device=cuda",), "no GPU is asked for; say hydra.launcher.gpus_per_node=1"),
        ({"gpus_per_node": 1}, (), "but hydra.launcher asks for GPUs"),
        ({"gres": "gpu:1"}, ("device=cuda:1",), "SLURM chooses the GPUs"),
        (
            {"gpus_per_node": "a100:2"},
            ("device=auto", "trainer.devices=4"),
            "trainer.devices is 4, but hydra.launcher.gpus_per_node is a100:2",
        ),
    ],
)
def test_wrong_knobs(make_sweep: MakeSweep, knobs: Any, overrides: Any, said: str) -> None:
    with pytest.raises(BluestabError, match=said):
        launcher(**knobs).launch(make_sweep(*overrides))


def test_a_dry_run_writes_nothing(
    make_sweep: MakeSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str], said: Any
) -> None:
    said["scontrol"] = "MaxArraySize            = 3\n"
    launcher(dry_run=True, runs_per_task=1).launch(make_sweep(seeds=5))
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "--array" in line] == [
        f"#SBATCH --array=0-{n}%{n + 1}" for n in (1, 1, 0)
    ]
    assert [line.split("--first=")[1] for line in out.splitlines() if "--first" in line] == [
        *("0", "2", "4")
    ]
    assert "5 runs in 5 tasks; nothing was submitted" in out
    assert not (tmp_path / "runs").exists()


# --- searches ------------------------------------------------------------------------------------


@pytest.fixture
def make_search(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    for module in ("search.worker", "search.plan", "search.confirm"):
        monkeypatch.setattr(f"bluestab.sweeps.{module}.compose", simulated_search.compose_once)
    return partial(simulated_search.plan, tmp_path / "runs", n_trials=3, seeds=1)


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("sqlite:///s.db", "SQLite on a disk that machines share loses data"),
        ("postgresql://me:s3cret@h/db", r"me:\*\*\*@h/db.*put it into ~/.pgpass"),
    ],
)
def test_a_storage_that_tasks_cannot_share(make_search: Any, storage: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        launcher().search(make_search(storage=storage))
    assert "s3cret" not in str(error.value)


def test_a_search_is_submitted_once(
    make_search: Any,
    site: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As many tasks as workers; the journal is named from the root of the disk."""
    search = make_search(workers=3, storage="my.journal")
    launcher(wait=False).search(search)
    assert "submitted as job 12 (3 tasks)" in capsys.readouterr().out
    (one,) = submissions(Store(search.root), "s")
    assert one.is_search
    assert (one.tasks, one.keys, one.content["launcher"]["workers_per_task"]) == (3, set(), 1)
    assert "--array=0-2" in (one.folder / "script-0.sh").read_text()
    assert (tmp_path / "my.journal").is_file()
    kept = json.loads((Path(search.root) / "searches" / "s" / "search.json").read_text())
    assert kept["storage"] == str(tmp_path / "my.journal")

    launcher(wait=False).search(search)
    assert "job 12 (3 tasks) works on it already; attached" in capsys.readouterr().out
    assert calls(site, "sbatch") == 1

    site["squeue"] = scheduler.SchedulerError("away")
    with pytest.raises(BluestabError, match="SLURM does not answer"):
        launcher(wait=False).search(search)


def test_tasks_share_a_search_and_crashes_are_theirs(
    make_search: Any,
    site: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    search = make_search(workers=1)
    launcher(wait=False).search(search)
    (one,) = submissions(Store(search.root), "s")
    monkeypatch.setenv("BLUESTAB_JOB", "12_0.0")
    simulated_search.acts(Path(search.root), s0="crash")
    assert task.work(one, 0, "12_0.0", simulated_search.execute) == 1
    assert "3 points crashed here" in capsys.readouterr().out
    assert task.work(one, 1, "12_1.0", simulated_search.execute) == 0, "what crashed is the other's"
    site["squeue"] = squeue(ArrayTask("12_0", "FAILED"))
    simulated_search.acts(Path(search.root))
    launcher(wait=False).search(search)  # a new command tries them again
    assert "3 points that crashed are tried again" in capsys.readouterr().out
    assert (
        task.work(submissions(Store(search.root), "s")[-1], 0, "13_0.0", simulated_search.execute)
        == 0
    )
    assert "[3/3]" not in capsys.readouterr().out, "they were told as those of job 12_0"


def test_a_dry_search_writes_nothing(
    make_search: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher(dry_run=True, workers_per_task=2).search(make_search(workers=5))
    out = capsys.readouterr().out
    assert "--array=0-2%3" in out
    assert "# a search in 3 tasks; nothing was submitted" in out
    assert not (tmp_path / "runs").exists()


# --- submitting once -----------------------------------------------------------------------------


@pytest.fixture
def site(said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A SLURM that takes everything, and on which nothing moves."""
    monkeypatch.setattr(scheduler, "installed", lambda: True)
    said.update(sbatch="12;cluster\n", squeue=squeue(ArrayTask("12_0", "PENDING", "Priority")))
    return said


def calls(said: dict[str, Any], name: str) -> int:
    return sum(command[0] == name for command in said["asked"])


def test_the_same_command_attaches(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = {"wait": False, "runs_per_task": 2}
    launcher(**knobs).launch(make_sweep())
    assert "submitted 4 runs, 2 per task, as job 12 (2 tasks)" in capsys.readouterr().out
    launcher(**knobs).launch(make_sweep())
    assert "4 runs are with job 12 (2 tasks) already; attached" in capsys.readouterr().out
    assert calls(site, "sbatch") == 1
    launcher(**knobs).launch(make_sweep(seeds=6))  # of the larger sweep, only what is new
    assert "submitted 2 runs, 2 per task" in capsys.readouterr().out
    site["squeue"] = squeue(ArrayTask("12_0", "COMPLETED"))
    launcher(**knobs).launch(make_sweep())
    assert "submitted 4 runs" in capsys.readouterr().out


def test_a_job_whose_id_was_never_written_down(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep()
    launcher(wait=False, runs_per_task=4).launch(sweep)
    (one,) = submissions(sweep.store)
    (one.folder / "array-0.json").unlink()
    site["squeue"] = f"99|another\n12|{one.folder}\n"
    assert one.jobs() == ["12"]


def test_a_scheduler_that_does_not_answer(make_sweep: MakeSweep, site: dict[str, Any]) -> None:
    """Whether somebody works on the runs is not known, so nothing is submitted."""
    sweep = make_sweep()
    launcher(wait=False, runs_per_task=4).launch(sweep)
    site["squeue"] = scheduler.SchedulerError("squeue says: Unable to contact slurm controller")
    with pytest.raises(BluestabError, match="SLURM does not answer"):
        launcher(wait=False, runs_per_task=4).launch(sweep)
    assert calls(site, "sbatch") == 1


def test_what_is_refused_leaves_nothing(make_sweep: MakeSweep, site: dict[str, Any]) -> None:
    sweep = make_sweep()
    site["sbatch"] = scheduler.SchedulerError("sbatch says: invalid partition specified: x")
    with pytest.raises(BluestabError, match="invalid partition specified") as caught:
        launcher(wait=False, runs_per_task=4, partition="x").launch(sweep)
    assert caught.value.exit_code == 2
    assert submissions(sweep.store) == []


def test_tasks_that_are_refused_are_not_waited_for(
    make_sweep: MakeSweep,
    site: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A limit on jobs per user: those that were taken do all the work."""
    site["scontrol"] = "MaxArraySize = 3\n"
    answers = iter(["12", scheduler.SchedulerError("sbatch says: QOSMaxSubmitJobPerUserLimit")])

    def submit(script: str) -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(scheduler, "submit", submit)
    sweep = make_sweep()
    launcher(wait=False, runs_per_task=1).launch(sweep)
    assert "only 2 of 4 tasks were taken" in capsys.readouterr().out
    (one,) = submissions(sweep.store)
    one.begin(0)
    assert not one.all_have_begun()
    one.begin(1)
    assert one.all_have_begun()


def test_no_slurm_here(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BluestabError, match="needs sbatch and squeue"):
        launcher(runs_per_task=1).launch(make_sweep())


# --- what SLURM says -----------------------------------------------------------------------------


def test_standing(make_sweep: MakeSweep, site: dict[str, Any]) -> None:
    """squeue first; what it has forgotten is asked of accounting, once."""
    one = submitted(make_sweep())
    one.write_array(0, Array("12", 0, 4))
    standing = TaskStatus([one])
    site["squeue"] = squeue(
        ArrayTask("12_0", "RUNNING", node="n1"),
        ArrayTask("12_1", "PENDING", "BeginTime", restarts=1),
        ArrayTask("12_2", "FAILED", "NonZeroExitCode", "n2", "1:0"),
    )
    site["sacct"] = "12_3|NODE_FAIL|0:0|n3\n"
    standing.refresh()
    assert standing.line == (
        "SLURM: 1 running (n1), 1 pending (BeginTime, 1 of them requeued), 1 FAILED, 1 NODE_FAIL"
    )
    assert (standing.running, len(standing.live), standing.idle) == (1, 2, False)
    assert standing.ends() == ["  task 12_2: FAILED 1:0 on n2", "  task 12_3: NODE_FAIL 0:0 on n3"]
    for _ in range(3):
        standing.refresh()
    assert calls(site, "sacct") == 1
    site["squeue"] = scheduler.SchedulerError("squeue says: Unable to contact")
    standing.refresh()
    assert standing.line == "SLURM does not answer"
    assert standing.live  # as last heard: a restart of the controller ends no job


def test_without_accounting_what_squeue_forgot_has_ended(
    make_sweep: MakeSweep, site: dict[str, Any]
) -> None:
    one = submitted(make_sweep())
    one.write_array(0, Array("12", 0, 2))
    site["squeue"] = scheduler.SchedulerError("squeue says: Invalid job id specified")
    site["sacct"] = scheduler.SchedulerError("sacct says: accounting storage is disabled")
    standing = TaskStatus([one])
    for _ in range(3):
        standing.refresh()
    assert (standing.known, standing.live, standing.idle) == (True, [], True)
    assert standing.line == "SLURM: 2 ENDED"
    assert calls(site, "sacct") == 1


def test_cancel_takes_the_claims_of_its_tasks(
    make_sweep: MakeSweep, site: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep()
    one = submitted(sweep)
    one.write_array(0, Array("12", 0, 2))
    ours, other = (p.run.key for p in sweep.runs[:2])
    for key, job in ((ours, "12_1.0"), (other, "120_1.0")):
        monkeypatch.setenv("BLUESTAB_JOB", job)
        assert sweep.store.claims.take(key) is not None
    answers = iter([squeue(ArrayTask("12_1", "RUNNING")), squeue(ArrayTask("12_1", "CANCELLED"))])

    def ask(*command: str) -> str:
        return next(answers) if command[0] == "squeue" else ""

    monkeypatch.setattr(scheduler, "ask", ask)
    assert cancel([one]) == ["12"]
    assert set(sweep.store.running()) == {other}


# --- what a task goes by -------------------------------------------------------------------------


def queue_of(one: Submission, quota: int = 2, say: Callable[[str], None] = print) -> SharedQueue:
    from bluestab.store.store import Store

    return SharedQueue(one, Store(one.content["store"]), quota, say)


def seeds(queue: SharedQueue, n: int) -> list[int]:
    taken = [queue.next() for _ in range(n)]
    return [planned.run.cfg["seed"] for planned in taken if planned is not None]


def test_a_task_makes_room_while_others_have_not_begun(make_sweep: MakeSweep) -> None:
    one = submitted(make_sweep(seeds=5), tasks=3)
    one.begin(0)
    first = queue_of(one)
    assert seeds(first, 5) == [0, 1]
    assert len(first) == 0
    one.begin(1)
    one.begin(2)
    assert seeds(first, 5) == [2, 3, 4]  # nobody else is to come


def test_one_idle_task_stays_to_take_over(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(seeds=1)
    one = submitted(sweep, tasks=1)
    one.begin(0)
    key = sweep.runs[0].run.key
    claim = sweep.store.claims.take(key)
    assert claim is not None
    queues = [queue_of(one) for _ in range(3)]
    assert [queue.next() for queue in queues] == [None] * 3
    assert [len(queue) for queue in queues] == [1, 0, 0]
    with monkeypatch.context() as patch:
        patch.setattr("bluestab.sweeps.slurm.queue.STANDBY_SECONDS", 0.0)
        time.sleep(0.01)
        assert len(queues[0]) == 0  # not for ever
    claim.release()
    monkeypatch.setattr(queues[0], "_look_again", 0.0)
    assert seeds(queues[0], 1) == [0]
    queues[0].close()
    assert len(queues[1]) == 1  # the place is free again
    queues[1].close()


def test_what_has_crashed_is_for_the_next_submission(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(seeds=2)
    acts(sweep.store, s0=["crash"])
    one = submitted(sweep, tasks=1)
    assert task.work(one, 0, "1_0.0", simulated_runs.execute) == 1
    assert seeds(queue_of(one), 2) == []
    assert seeds(queue_of(submitted(sweep, tasks=1)), 2) == [0]


def dead_claim(sweep: Sweep, number: int, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process leaves that died at a run."""
    monkeypatch.setenv("BLUESTAB_JOB", job)
    key = sweep.runs[number].run.key
    claim = sweep.store.claims.take(key)
    assert claim is not None
    claim.content["process_start"] = "another"
    claim.beat()


def test_three_deaths_are_a_crash(
    make_sweep: MakeSweep,
    monkeypatch: pytest.MonkeyPatch,
    site: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = make_sweep(seeds=2)
    one = submitted(sweep, tasks=1)
    one.begin(0)
    site["sacct"] = "12_0|NODE_FAIL|0:0|n1\n12_0|RUNNING|0:0|n2\n12_1|OUT_OF_MEMORY|0:125|n1\n"
    for job in ("12_0.0", "12_1.0"):
        dead_claim(sweep, 0, job, monkeypatch)
        assert seeds(queue_of(one), 2) == [1, 0], "it may kill this task too: the others first"
    one.excuse("12_2.0")
    dead_claim(sweep, 0, "12_2.0", monkeypatch)  # told to stop: no doing of the run
    queue = queue_of(one)
    assert seeds(queue, 2) == [1, 0]
    dead_claim(sweep, 0, "12_0.1", monkeypatch)  # between the order and its beginning
    key, store = sweep.runs[0].run.key, sweep.store
    assert (
        attempt(sweep.runs[0].run, store, None, simulated_runs.execute, queue.deaths[key]) is None
    )
    assert store.running() == {}
    lines: list[str] = []
    assert seeds(queue_of(one, say=lines.append), 2) == [1]
    (line,) = lines
    assert line.endswith("died 3 times, recorded as crashed")
    assert capsys.readouterr().out == "", "a queue prints nothing by itself"
    record = sweep.store.crash(sweep.runs[0].run.key)
    assert record is not None
    assert record.result["error"]["type"] == "OutOfMemoryKilled"
    said = record.result["error"]["message"]
    assert "died 3 times: in task 12_0" in said
    assert "(NODE_FAIL 0:0)" in said
    assert "(OUT_OF_MEMORY 0:125)" in said
    assert sweep.store.claims.deaths(record.key) == []  # the next submission starts from nought


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "slurmstepd: error: StepId=6.0 exceeded memory limit (2 > 1), being",
            OutOfMemoryKilled,
        ),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=6.0", OutOfMemoryKilled),
        (
            "slurmstepd: error: *** STEP 6.0 ON n1 CANCELLED DUE TO TIME LIMIT ***",
            TimeLimitReached,
        ),
        ("slurmstepd: error: *** JOB 6 ON n1 CANCELLED AT x DUE TO NODE FAILURE ***", NodeFailed),
        ("nothing of note", WorkerDied),
    ],
)
def test_causes_are_told_apart_by_the_log(
    make_sweep: MakeSweep, site: dict[str, Any], line: str, kind: type[WorkerDied]
) -> None:
    """Only by the part of the start that died; no accounting is needed."""
    one = submitted(make_sweep(seeds=1), tasks=1)
    starts = [
        f"bluestab task 12_0.{n} on n1, now\n{said}\n"
        for n, said in enumerate(("DUE TO TIME LIMIT", line, "exceeded memory limit"))
    ]
    one.log_of("12_0").write_text("".join(starts))
    site["squeue"] = site["sacct"] = ""
    found = failures.cause(one, [{"job": "12_0.1", "host": "h"}])
    assert type(found) is kind


def test_a_task_that_gets_nowhere_does_not_requeue_itself_for_ever(
    make_sweep: MakeSweep, site: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(seeds=2)
    one = submitted(sweep, tasks=1)
    queue = queue_of(one)
    planned = queue.next()
    assert planned is not None
    queue.put_back(planned)

    def end() -> int:
        notice = task.PreemptionNotice(print, one, "12_0.7")
        notice.asked = notice.time_is_up = True
        return task._end(notice, crashed=False, is_left=True, got_on=queue.got_on)

    assert [end(), end()] == [0, 0]
    assert calls(site, "scontrol") == 2
    assert end() == 1
    assert "hydra.launcher.time must be longer" in capsys.readouterr().out
    (sweep.store.root / ".resume" / planned.run.key).mkdir(parents=True)  # it has saved
    assert [end(), end(), end()] == [0, 0, 0]
    assert calls(site, "scontrol") == 5


def test_near_the_limit_runs_are_awaited_first(make_sweep: MakeSweep) -> None:
    one = submitted(make_sweep(seeds=1), tasks=1)
    said: list[str] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        with task.PreemptionNotice(said.append, one, "12_0.0") as notice:
            now = time.monotonic()
            os.kill(os.getpid(), signal.SIGUSR2)
            assert notice.asked
            assert notice.until is not None
            assert now + 40 < notice.order_at < notice.until < now + 110
            assert not one.is_excused("12_0.0")
            os.kill(os.getpid(), signal.SIGTERM)  # all the same, SLURM ends it now
            assert notice.order_at <= time.monotonic()
            assert notice.until <= time.monotonic() + task.KILL_WAIT
            assert one.is_excused("12_0.0")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(said) == 1
    assert said[0].startswith("the time limit is near")


def test_orders_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert task.main([str(tmp_path / "nowhere")]) == 2
    assert "must be on a disk that the nodes share" in capsys.readouterr().out
    (tmp_path / "orders.json").write_text('{"sweep": "s"')
    with pytest.raises(StoreError, match=r"orders\.json cannot be read"):
        Submission(tmp_path)


def test_data_that_differ_on_the_node(make_sweep: MakeSweep) -> None:
    one = submitted(make_sweep(seeds=1), tasks=1)
    content = json.loads((one.folder / "orders.json").read_text())
    content["runs"][0]["key"] = "0" * 16
    (one.folder / "orders.json").write_text(json.dumps(content))
    with pytest.raises(BluestabError, match="differ from those on the machine that submitted"):
        task.work(Submission(one.folder), 0, "1_0.0", simulated_runs.execute)


def test_tasks_stay_offline_and_find_what_the_command_found(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("BLUESTAB_ALLOW", "mylab")
    one = submitted(make_sweep(seeds=1), tasks=1)
    kept = one.content["environment"]
    assert kept["HF_HUB_OFFLINE"] == "1"
    assert kept["BLUESTAB_ALLOW"] == "mylab"
    assert "BLUESTAB_DATA" in kept
    assert "HF_TOKEN" not in kept
    assert Path(one.content["store"]).is_absolute()


def test_gpus_that_torch_cannot_use(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bluestab.core.devices.cuda_devices", lambda: 0)
    one = submitted(make_sweep("device=auto", seeds=1), tasks=1, gpus=True)
    with pytest.raises(BluestabError, match="torch can use none of them"):
        task.work(one, 0, "1_0.0", simulated_runs.execute)


def test_submissions_are_numbered_and_told_apart(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    first, second = submitted(sweep), submitted(sweep)
    assert (first.folder.name, second.folder.name) == ("s.1", "s.2")
    assert [one.folder for one in submissions(sweep.store, "s")] == [first.folder, second.folder]
    assert submissions(sweep.store, "other") == []
    assert first.keys == {p.run.key for p in sweep.runs}
    assert submission.next_folder(sweep.store, "s").name == "s.3"
