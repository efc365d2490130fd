"""A sweep on a cluster, seen by the command: what lives, what has ended, what to do at Ctrl-C."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence

from bluestab.core.errors import Interrupted
from bluestab.core.printable import counted
from bluestab.report.terminal.progress import SweepDisplay
from bluestab.report.words.phrases import describe
from bluestab.sweeps.plan import PlannedRun, Sweep
from bluestab.sweeps.slurm import own_tasks
from bluestab.sweeps.slurm.status import LAG, LOOK, POLL, TasksEnded, TaskStatus, status_line
from bluestab.sweeps.slurm.submission import Submission, crashes, submissions
from bluestab.sweeps.stages import stages_behind, still_to_do
from bluestab.training.execute import is_done


def named(submission: Submission) -> str:
    """`job 12 (20 tasks)`, for people."""
    jobs = submission.jobs()
    word = "jobs" if len(jobs) > 1 else "job"
    return f"{word} {', '.join(jobs) or 'unknown'} ({counted(submission.tasks_taken, 'task')})"


def live_submissions(sweep: Sweep) -> tuple[list[Submission], set[str]]:
    """Submissions with tasks that live, or may, and the missing runs that these will do.

    Raises ConfigError where SLURM cannot be asked.
    """
    wanted = {p.run.key for p in still_to_do(sweep.runs, sweep.store)}
    found, covered = [], set()
    for one in submissions(sweep.store):
        mine = one.keys & wanted
        if not mine:
            continue
        if own_tasks.live(one, f"{named(one)} still works on {len(mine)} of these runs"):
            ended = _crashed_since(one, sweep, mine)
            found.append(one)
            covered |= mine - ended
    return found, covered


def _crashed_since(submission: Submission, sweep: Sweep, keys: set[str]) -> set[str]:
    """Runs that this submission has given up: they are for the next one."""
    before = submission.content["crashes"]
    now = crashes(sweep.store, keys)
    return {key for key, stamp in now.items() if before.get(key) != stamp}


# --- waiting ---------------------------------------------------------------------------------


def see_through(sweep: Sweep, attached: Sequence[Submission], before: Mapping[str, int]) -> None:
    """Show how it goes on, until every run has ended. Raises TasksEnded if the tasks end before.

    before  crashes that are older than the submissions

    Ctrl-C asks whether to leave the jobs alone or to cancel them.
    """
    status = TaskStatus(attached)
    try:
        n_missing = _follow(sweep, status, before)
    except KeyboardInterrupt:
        if cancel_if_asked(attached):
            raise Interrupted("cancelled; the same command goes on") from None
        raise Interrupted(
            "left; the jobs go on, and the same command attaches to them; "
            f"{status_line(sweep.store, sweep.name)}"
        ) from None
    status.cancel_pending()
    if n_missing:
        ends = "\n".join(status.ends())
        raise TasksEnded(
            f"all tasks have ended, and {n_missing} of {len(sweep.runs)} runs are missing; the "
            f"same command goes on\n{ends}".rstrip()
        )


def _follow(sweep: Sweep, status: TaskStatus, before: Mapping[str, int]) -> int:
    """Say what ends, until all has, or no task lives; the number of runs that are missing then."""
    left = {p.run.key: p for p in still_to_do(sweep.runs, sweep.store)}
    everything = [p.run.key for p in sweep.runs]
    asked_at = gone_at = -math.inf
    with SweepDisplay(sweep.name, everything, sweep.store, workers=1, blind=sweep.blind) as display:
        while True:
            for key in _ended(sweep, left, before):
                planned = left.pop(key)
                record = sweep.store.crash(key) or sweep.store.read(key)
                display.end(record, describe(planned.run))
                if record.status != "done":
                    for stage in stages_behind(key, left.values()):
                        del left[stage]
            now = time.monotonic()
            if now - asked_at >= (POLL if left else 2 * LOOK):
                asked_at = now
                status.refresh()
                display.workers = max(1, status.running)
                _note(display, status.line)
            if status.known and not status.live:
                gone_at = now if gone_at < 0 else gone_at
                if not left or now - gone_at > LAG:
                    return len(left)
            else:
                gone_at = -math.inf
            if not left and status.idle:  # tasks that have not begun would find nothing to do
                return 0
            time.sleep(LOOK)


def _note(display: SweepDisplay, line: str) -> None:
    if display.note != line:
        display.note = line
        if not display.console.is_interactive:
            display.say(f"  {line}")


def _ended(sweep: Sweep, left: Mapping[str, PlannedRun], before: Mapping[str, int]) -> list[str]:
    """Of these runs, the keys of those that are done, or have crashed since they were submitted."""
    now = crashes(sweep.store, left)
    return [
        key
        for key, planned in left.items()
        if is_done(planned.run, sweep.store)
        or (key in now and now[key] != before.get(key) and sweep.store.crash(key) is not None)
    ]


def cancel_if_asked(attached: Sequence[Submission]) -> bool:
    """Does the person want the jobs to end with this process? They are cancelled then."""
    from bluestab.sweeps.slurm.cancelling import cancel

    if not sys.stdin.isatty():
        return False
    try:
        said = input("\nleave the jobs to themselves, or cancel them? [leave/cancel] ")
    except (EOFError, KeyboardInterrupt):
        return False
    if not said.strip().lower().startswith("c"):
        return False
    cancel(attached)
    return True
