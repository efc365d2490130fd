"""Faults at random moments of a sweep on SLURM: nothing may be lost, done twice, or come out other.

    python tests/slurm/faults.py [--faults 30] [--runs 60] [--epochs 20] [--pause 5] [--seed 0]
                                 [--local STORE] [--polluted] [--inside] [--two-users]

As root, on Debian with SLURM's packages (`tests/slurm/cluster.sh install`). Starts a cluster of its
own, a sweep of `tiny`, and then, one every few seconds: kills a node (steps and all) or its daemon
alone and brings it back, requeues a task, lets an urgent job preempt, cuts the time limit of a task
short, restarts slurmctld, stops and starts MariaDB, kills the submitting command with SIGKILL and
types it again. At the end the results are compared, bytes but for times, with those of `local`,
which are made before, and kept in STORE for the next time.

With --polluted the environment holds options of SLURM's commands, and a job; with --inside every
command is typed in a job of the cluster; with --two-users by two users in turn, whose group may
write to the store.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from bluestab.store.records import to_json  # noqa: E402
from bluestab.store.store import Store  # noqa: E402
from bluestab.sweeps.slurm import scheduler  # noqa: E402
from bluestab.sweeps.slurm.submission import submissions  # noqa: E402
from bluestab.testing.corpora import TINY_RUN, write_corpora  # noqa: E402
from tests.slurm.conftest import free_ports, one_cluster  # noqa: E402
from tests.support.polluted import POLLUTION  # noqa: E402
from tests.support.two_users import interpreter_for_all, packages, shared_folder  # noqa: E402

USERS, GROUP = (5, 34), 100  # games, backup and users, as Debian has them
INSIDE = "inside"  # name of the job that a command is typed in


class Sweep:
    """The command of a person, its store, and what is done to both."""

    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        self.asked, self.begun = asked, 0
        self.folder, self.cluster = folder, folder / "c"
        self.random = random.Random(asked.seed)
        self.hurried: dict[str, int] = {}
        os.environ["SLURM_TEST_PORT"] = str(free_ports())
        os.environ["SLURM_CONF"] = str(self.cluster / "slurm.conf")
        self.store = Store(folder / "runs")
        self.local = Store((asked.local or folder / "local").absolute())
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "BLUESTAB_DATA": str(write_corpora(folder / "data")),
            "BLUESTAB_CACHE": str(folder / "cache"),
            "PYTHONPATH": ":".join([str(HERE.parents[1]), *packages()]),
        }
        self.overrides = [
            *("run", "-m", *TINY_RUN),
            *(f"optim.epochs={asked.epochs}", "optim.batch_size=4"),
            f"checkpoint_every={max(1, asked.epochs // 2)}",
            f"sweep.seeds={asked.runs}",
        ]
        self.said = (folder / "said.txt").open("w")
        if asked.two_users:
            shared_folder(self.store.root, owner=USERS[0], group=GROUP)
            for path in (folder / "data", *(folder / "data").rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            for user in USERS:
                home = folder / f"home{user}"
                home.mkdir()
                os.chown(home, user, GROUP)

    def run_locally(self) -> None:
        """What every byte is compared with."""
        subprocess.run(
            [sys.executable, "-m", "bluestab", *self.overrides, f"store={self.local.root}"],
            cwd=self.folder,
            env=self.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def control(self, *arguments: str) -> None:
        command, *rest = arguments
        subprocess.run([HERE / "cluster.sh", command, self.cluster, *rest], check=True)

    def begin(self) -> None:
        """Type the command."""
        self.begun += 1
        prefix: list[str] = []
        if self.asked.inside:
            job = ("--partition=main", "--ntasks=1", "--mem=1000", f"--job-name={INSIDE}")
            prefix += ["srun", *job]
        if self.asked.polluted:
            prefix += ["env", *(f"{name}={value}" for name, value in POLLUTION.items())]
        python = interpreter_for_all() if self.asked.two_users else sys.executable
        slurm = ("hydra/launcher=slurm", "hydra.launcher.runs_per_task=10")
        line = ("-m", "bluestab", *self.overrides, *slurm, f"store={self.store.root}")
        self.process = subprocess.Popen(
            [*prefix, python, *line],
            stdout=self.said,
            stderr=subprocess.STDOUT,
            **(self._person() if self.asked.two_users else self._root()),
        )

    def _root(self) -> dict[str, Any]:
        return {"cwd": self.folder, "env": self.environment}

    def _person(self) -> dict[str, Any]:
        user = USERS[self.begun % 2]
        home = self.folder / f"home{user}"
        environment = {
            "HOME": str(home),
            "USER": f"user{user}",
            "LOGNAME": f"user{user}",
            "BLUESTAB_CACHE": str(home / "cache"),
        }
        return {
            "cwd": home,
            "env": {**self.environment, **environment},
            "user": user,
            "group": GROUP,
            "extra_groups": [],
            "umask": 0o022,
        }

    def tasks(self, state: str) -> list[scheduler.ArrayTask]:
        jobs = [job for one in submissions(self.store) for job in one.jobs()]
        return [task for task in scheduler.queued(jobs) or [] if task.state == state]

    # --- faults; each says what it did, or "" if there was nothing to do it to ---

    def kill_node(self) -> str:
        return self._node("kill-node")

    def kill_slurmd(self) -> str:
        return self._node("kill-slurmd")

    def _node(self, how: str) -> str:
        nodes = sorted({task.node for task in self.tasks("RUNNING")})
        if not nodes:
            return ""
        node = self.random.choice(nodes)
        self.control(how, node)
        time.sleep(self.random.choice([1, 15]))  # a short absence, or one that SLURM notices
        self.control("start-node", node)
        return f"{how} {node}"

    def requeue(self) -> str:
        running = self.tasks("RUNNING")
        if not running:
            return ""
        job = self.random.choice(running).job
        scheduler.requeue(job)
        return f"requeue {job}"

    def preempt(self) -> str:
        scheduler.ask(
            *("sbatch", "--partition=urgent", f"--nodes={self.random.choice([1, 2])}"),
            *("--exclusive", "--output=/dev/null", "--wrap", "sleep 3"),
        )
        return "urgent job"

    def time_limit(self) -> str:
        """The task is told within 30 seconds, gives its run back, and requeues itself."""
        running = [t for t in self.tasks("RUNNING") if t.job not in self.hurried]
        if not running:
            return ""
        task = self.random.choice(running)
        said = scheduler.ask("squeue", "-h", "-j", task.job, "-O", "TimeUsed")
        minutes = int(said.strip().partition(":")[0]) + 1
        scheduler.ask("scontrol", "update", f"JobId={task.job}", f"TimeLimit={minutes}")
        self.hurried[task.job] = task.restarts
        return f"time limit of {task.job} cut to {minutes} min"

    def give_time_again(self) -> None:
        """To tasks that have come back: the next time is another fault's."""
        for task in [*self.tasks("PENDING"), *self.tasks("RUNNING")]:
            if task.restarts > self.hurried.get(task.job, task.restarts):
                scheduler.ask("scontrol", "update", f"JobId={task.job}", "TimeLimit=600")
                del self.hurried[task.job]

    def restart_slurmctld(self) -> str:
        self.control("stop-ctld")
        time.sleep(self.random.choice([0, 5]))
        self.control("start-ctld")
        return "slurmctld restarted"

    def stop_database(self) -> str:
        self.control("stop-db")
        time.sleep(3)
        self.control("start-db")
        return "MariaDB stopped and started"

    def kill_submitter(self) -> str:
        if self.asked.inside:  # srun's death would leave it alive
            with suppress(scheduler.SchedulerError):  # its job is pending
                scheduler.ask("scancel", "--signal=KILL", "--full", f"--name={INSIDE}")
            scheduler.ask("scancel", f"--name={INSIDE}")
        else:
            self.kill()
        self.wait()
        self.begin()
        return "submitting command killed, typed again"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def wait(self) -> int:
        """The exit code of the command that was typed last."""
        assert self.process is not None
        return self.process.wait(timeout=1800)

    def ended(self) -> bool:
        manifest = self.store.manifest(None) if self.store.manifests() else None
        return manifest is not None and all(self.store.has(r["key"]) for r in manifest["runs"])


def main() -> None:
    with one_cluster():
        see_through()


def see_through() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=20, help="of a run, 6 steps each")
    parser.add_argument("--pause", type=float, default=5, help="seconds between two, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--local", type=Path, help="a store of `local`, to which is added")
    for name in ("--polluted", "--inside", "--two-users"):
        parser.add_argument(name, action="store_true", help="see above")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bsf-", dir="/tmp"))
    folder.chmod(0o755)  # the daemons run as users of their own
    sweep = Sweep(folder, asked)
    sweep.run_locally()
    kinds: list[Callable[[], str]] = [
        *(sweep.kill_node, sweep.kill_slurmd, sweep.requeue, sweep.preempt),
        *(sweep.time_limit, sweep.restart_slurmctld, sweep.stop_database, sweep.kill_submitter),
    ]
    done: Counter[str] = Counter()
    started = time.monotonic()
    try:
        sweep.control("start")
        sweep.begin()
        while sum(done.values()) < asked.faults and not sweep.ended():
            time.sleep(sweep.random.uniform(1, 2 * asked.pause))
            fewest = min(done[kind.__name__] for kind in kinds)  # each as often as the others
            fault = sweep.random.choice([k for k in kinds if done[k.__name__] == fewest])
            try:
                sweep.give_time_again()
                said = fault()
            except (scheduler.SchedulerError, subprocess.CalledProcessError) as error:
                said = f"{fault.__name__}: {error}"
                print(f"  {time.monotonic() - started:4.0f} s  could not: {said}", flush=True)
                continue
            if said:
                done[fault.__name__] += 1
                print(f"  {time.monotonic() - started:4.0f} s  {said}", flush=True)
        code = sweep.wait()
        if not sweep.ended():  # the tasks that were left were cut off for good: the command goes on
            sweep.begin()
            code = sweep.wait()
        print(f"  {time.monotonic() - started:4.0f} s  the command has ended", flush=True)
        report(sweep, done, code)
    finally:
        sweep.kill()
        sweep.control("stop")
    print(f"everything is in {folder}")


def report(sweep: Sweep, done: Counter[str], code: int) -> None:
    """What was lost, done twice, or came out other than on `local`."""
    other = sweep.local
    manifest = other.manifest(None) or {"runs": []}
    keys = {run["key"] for run in manifest["runs"]}
    lost = keys - set(sweep.store.keys())
    differ = [
        key
        for key in keys - lost
        if to_json(other.read(key).result) != to_json(sweep.store.read(key).result)
        or any(
            (sweep.store.folder(key) / name).read_bytes() != (other.folder(key) / name).read_bytes()
            for name in ("curve.csv", "predictions.parquet")
        )
    ]
    finished: Counter[str] = Counter()  # a line for each finished run, in the logs of the tasks
    for log in (sweep.store.root / ".slurm").rglob("*log.out"):
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("[") and " seed " in line:
                finished[line.split(" seed ")[1].split(":")[0]] += 1
    twice = [seed for seed, n in finished.items() if n > 1]
    on = sum(sweep.store.read(key).measured["resumed_from"] is not None for key in keys - lost)
    told = [name for name in ("polluted", "inside", "two_users") if getattr(sweep.asked, name)]
    print(f"the command was typed {sweep.begun} times ({', '.join(told) or 'plain'})")
    print(f"faults: {sum(done.values())} ({dict(done)}), exit code of the command {code}")
    print(
        f"runs: {len(keys)}, lost {len(lost)}, done twice {len(twice)}, different {len(differ)}, "
        f"gone on from a checkpoint {on}, left in the queue {len(sweep.tasks('RUNNING'))}"
    )


if __name__ == "__main__":
    main()
