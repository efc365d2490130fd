"""The search, `hydra/sweeper=optuna`: from a command line to a plan, from a study to a winner."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluestab import spaces
from bluestab.catalogue import entries
from bluestab.checks import CheckedRun, Parts, check, check_parts
from bluestab.circumstances import NO_PASSWORD, command_line, redacted
from bluestab.config import compose, quoted, resolved
from bluestab.errors import ConfigError, Interrupted, StoreError, did_you_mean
from bluestab.files import write_text
from bluestab.packing import GROUP
from bluestab.planning import Job, Sweep, check_each, plan_sweep
from bluestab.report.search_entry import confirmation_of, write_entry
from bluestab.report.search_frame import (
    Arm,
    Found,
    arm_of,
    best_first,
    importance,
    points_frame,
    verdict_sentences,
)
from bluestab.report.search_page import write_search
from bluestab.search import spec
from bluestab.search.crew import see_through
from bluestab.search.points import MOST_LISTED, Knob, Point, SearchSpace, overrides, owner, shown
from bluestab.search.race import Race
from bluestab.search.spec import Search
from bluestab.search.trials import Trials, points
from bluestab.search.worker import jobs, with_its_engine
from bluestab.spaces import SEARCH_SPACE, Choice
from bluestab.store import Store, to_json
from bluestab.workers import Execute, RunsCrashed, make_ready

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FILE = "search.json"
NO_KNOB = ("task", "model", "seed", "sweep", "sweeps", "search", "store", "device")
"""What a search holds still: scores of two tasks, or of two seeds, are not compared."""


# --- planning ------------------------------------------------------------------------------------


def plan_search(
    node: Mapping[str, Any],
    *,
    name: str | None,
    fixed: Mapping[str, str],
    choices: Mapping[str, str | Sequence[str]],
) -> Search:
    """A search, checked: its space holds no value that a knob does not take.

    node     `search` of the config
    name     of the study; None: from task and model
    fixed    key -> value as text, of what the command line sets once and for all
    choices  key -> its space as text; alternatives of `technique` as a list

    Raises ConfigError with everything that is wrong.
    """
    spec.check_node(node)
    for key in choices:
        if key.split(".")[0] in NO_KNOB:
            raise ConfigError(f"{key} is no knob of a search{_instead(key)}")
    for technique in node["space"]:
        if technique not in entries("technique"):
            raise ConfigError(
                f"search.space: there is no technique {technique!r}"
                + did_you_mean(technique, entries("technique"))
            )
    fixed, asked = dict(fixed), dict(fixed)
    if node["space"] and "technique" not in {*fixed, *choices}:
        base = resolved(compose(_lines(fixed)))
        if not base["technique"]:
            fixed["technique"] = f"[{','.join(node['space'])}]"
    free = _lines({k: v for k, v in fixed.items() if owner(k) is None})
    base = resolved(compose([*free, *_first_technique(choices)]))
    # techniques left out: the defaults of searched knobs need not fit this model
    parts = check_parts(resolved(compose([*free, "technique=none"])))
    space = _space(node, fixed, choices, base, parts.model.layers, free)
    objective = node["objective"]
    seeds = spec.seeds_of(node["seeds"])
    name = name or f"search-{parts.task.name}-{parts.model.name}"
    search = Search(
        name=name,
        space=space,
        fixed=tuple(_lines(fixed)),
        seeds=seeds,
        n_trials=node["n_trials"],
        objective=tuple(objective) if isinstance(objective, list) else (objective,),
        at=node["at"],
        failed_share=node["failed_share"],
        race=Race(**node["race"]),
        prune=node["prune"],
        sampler=node["sampler"],
        sampler_seed=node["sampler_seed"],
        start=tuple(node["start"]),
        baseline=tuple(node["baseline"]),
        confirm=spec.fresh_seeds(node["confirm"], seeds),
        workers=node["workers"],
        storage=node["storage"] or "",
        root=base["store"],
        asked={"node": dict(node), "fixed": asked, "choices": dict(choices)},
    )
    if not search.storage:
        search = replace(search, storage=str(search.folder / "study.journal"))
    if node["sampler"]["name"] == "grid" and space.every() is None:
        raise ConfigError(
            "search.sampler is grid, but the space is not finite, or holds more than "
            f"{MOST_LISTED} points; it takes choice(), range() and int(interval()) alone"
        )
    _check_start(search)
    _check_space(search)
    return search


def _lines(values: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _instead(key: str) -> str:
    if key == "seed":
        return ": a point is measured over search.seeds"
    if key in ("task", "model"):
        return f": points of two {key}s cannot be compared; run one search for each"
    return ": it cannot differ between points"


def _first_technique(choices: Mapping[str, str | Sequence[str]]) -> list[str]:
    chosen = choices.get("technique")
    return [f"technique={chosen[0]}"] if chosen else []


def _space(
    node: Mapping[str, Any],
    fixed: Mapping[str, str],
    choices: Mapping[str, str | Sequence[str]],
    base: Mapping[str, Any],
    layers: int,
    free: Sequence[str],
) -> SearchSpace:
    texts: dict[str, str] = {}
    for technique in node["space"]:
        own = resolved(compose([*free, f"technique={technique}"]))["technique"][technique]
        if not own.get(SEARCH_SPACE):
            raise ConfigError(
                f"search.space: technique {technique} declares no {SEARCH_SPACE}; name its knobs: "
                f"'technique.{technique}.KNOB=interval(LOW,HIGH)'"
            )
        for knob, text in own[SEARCH_SPACE].items():
            texts[f"technique.{technique}.{knob}"] = str(text)
    texts |= {str(key): str(text) for key, text in node["params"].items()}
    for key in texts:
        if key.split(".")[0] in NO_KNOB:
            raise ConfigError(f"search.params: {key} is no knob of a search{_instead(key)}")
    texts = {key: text for key, text in texts.items() if key not in fixed}
    texts |= {key: text for key, text in choices.items() if isinstance(text, str)}
    knobs, problems = [], []
    techniques = choices.get("technique")
    if techniques:
        text = f"choice({','.join(techniques)})"
        knobs.append(Knob("technique", Choice(tuple(techniques)), text))
    for key, text in sorted(texts.items()):  # however it was typed, it is the same search
        if key == "technique":
            problems.append("search.params: technique belongs on the command line: technique=a,b")
            continue
        try:
            knobs.append(Knob(key, spaces.parse(text, layers), text))
        except ValueError as error:
            problems.append(f"the space of {key} is {text!r}: {error}")
    space = SearchSpace(tuple(knobs), tuple(base["technique"] or {}))
    for knob in space.unowned():
        problems.append(
            f"{knob.name} has a space, but no point contains technique {knob.owner}; "
            "add it to technique="
        )
    if not knobs and not problems:
        problems.append(
            "there is nothing to search; name a space, such as search.space=[llrd] or "
            "'optim.lr=tag(log,interval(1e-5,1e-4))'"
        )
    if problems:
        raise ConfigError(*problems)
    return space


def _check_start(search: Search) -> None:
    """Points to begin with name knobs of the space, all that apply, and values of them."""
    problems = []
    for i, point in enumerate(search.start):
        applying = {k.name: k for k in search.space.knobs if search.space.applies(k, point)}
        for name in sorted({*applying} ^ {*point}):
            what = "is missing" if name in applying else "is no knob of this point"
            problems.append(f"search.start[{i}]: {name} {what}")
        for name, knob in applying.items():
            if name in point and not knob.holds(point[name]):
                problems.append(f"search.start[{i}]: {name}={point[name]} is not in {knob.text}")
    if problems:
        raise ConfigError(*problems)


def _check_space(search: Search) -> None:
    """Every knob takes its extreme values, and some point can be run.

    Pairs of values that exclude each other are no fault of the space: such points are refused when
    they are drawn.
    """
    if search.confirm and not search.several:  # not after hours
        try:
            check_parts(resolved(compose([*_baseline(search), f"seed={search.confirm[0]}"])))
        except ConfigError as error:
            raise ConfigError(*(f"search.baseline: {p}" for p in error.problems)) from error
    problems: dict[str, None] = {}
    others: dict[str, None] = {}
    fine = False
    for knob, point in search.space.corners():
        try:
            check_parts(resolved(compose(search.job(point, search.seeds[0]))))
            fine = True
        except ConfigError as error:
            for problem in error.problems:
                own = problem.startswith((f"{knob.name} is ", f"there is no key '{knob.name}'"))
                (problems if own else others)[problem] = None
    if problems or not fine:
        raise ConfigError(*(problems or others))


# --- what a launcher is given --------------------------------------------------------------------


SAMPLE = 200
"""Points that are tried before none is thought to be possible."""


def possible_runs(search: Search) -> list[CheckedRun]:
    """The runs of a search that stops no point, at points drawn at random. Raises ConfigError."""
    runs: list[CheckedRun] = []
    for point in _possible(search, search.n_trials):
        runs += [run for _, run in check_each(compose, jobs(search, point, search.seeds), check)]
    return runs


def possible_parts(search: Search) -> list[Parts]:
    """What one point names. Raises ConfigError."""
    return [
        check_parts(resolved(compose(search.job(point, search.seeds[0]))))
        for point in _possible(search, 1)
    ]


def first_run(search: Search) -> CheckedRun:
    """A run of the search, whose data and weights must be here. Raises ConfigError."""
    (point,) = _possible(search, 1)
    (job,) = jobs(search, point, search.seeds[:1])
    return check(resolved(compose(job)))


def _possible(search: Search, n: int) -> list[Point]:
    """Up to n random points whose runs can be made of what they name. Raises ConfigError."""
    found: list[Point] = []
    refused: ConfigError | None = None
    for point in search.space.sample(max(n, SAMPLE), search.sampler_seed):
        try:
            check_parts(resolved(compose(search.job(point, search.seeds[0]))))
        except ConfigError as error:
            refused = error
            continue
        found.append(point)
        if len(found) == n:
            break
    if refused is not None and not found:
        raise refused
    return found


Launch = Callable[[Sweep], None]


def run_search(
    search: Search,
    places: Sequence[str | None],
    launch: Launch,
    execute: Execute | None = None,
) -> None:
    """All of it: points, winner, confirmation on fresh seeds, report.

    places   the device of each worker; launch: sees a sweep through, for the confirmation

    Raises Interrupted if a person stopped it, RunsCrashed at the end if points crashed.
    """
    trials = begin_search(search)
    stopped = see_through(search, places, execute)
    if stopped:
        n = len([t for t in points(trials.all()) if t.state.is_finished()])
        raise Interrupted(
            f"stopped: {n} of {search.n_trials} points are told; the same command goes on"
        )
    conclude(search, trials, launch)


def begin_search(search: Search, *, here: bool = True) -> Trials:
    """Open its study, or begin it, and write down what is asked for.

    here  its runs will be done on this machine; False: on others

    Raises ConfigError if the study was begun with something else, or runs cannot start.
    """
    run = first_run(search)
    make_ready([run], Store(search.root), here=here)
    trials = Trials.open(search, spec.identity(search, run.hashed))
    _write_down(search)
    return trials


def conclude(search: Search, trials: Trials, launch: Launch) -> None:
    """Confirm the winner, and report. Raises RunsCrashed if points crashed."""
    arms = confirm(search, trials, launch)
    report(search, trials, arms)
    if crashed := trials.crashed():
        notes = [f"  {t.user_attrs.get('note', 'its process died')}" for t in crashed]
        raise RunsCrashed(
            f"{len(crashed)} of {search.n_trials} points crashed; the same command tries them "
            "again:\n" + "\n".join(dict.fromkeys(notes))
        )


def help_out(search: Search, device: str | None = None) -> None:
    """Be one worker of a search that was begun elsewhere, until all its points are told.

    This is what a task of a cluster does: it opens the study, asks when it is free, and needs
    nothing but the store and the storage. Winner and confirmation are left to the command.

    device  in place of the config's auto; None: as the config has it

    Raises ConfigError if the study was begun with something else.
    """
    run = first_run(search)
    make_ready([run], Store(search.root))
    Trials.open(search, spec.identity(search, run.hashed))
    if see_through(search, [device]):
        raise Interrupted("stopped; the same command goes on")


def _write_down(search: Search) -> None:
    """For people and `bluestab search`: what was asked, without passwords."""
    content = {
        "name": search.name,
        "command": command_line(),
        "storage": redacted(search.storage),
        "asked": {**search.asked, "node": {**search.asked["node"], "storage": None}},
        "group": search.group,
    }
    write_text(search.folder / FILE, to_json(content))


def read_search(root: Path, name: str | None, storage: str | None = None) -> Search:
    """A search of a store, as its last command asked for it: for workers elsewhere, and reports.

    name     None: the one that was started last
    storage  in place of the one it was begun with, which is kept without its password

    Raises StoreError if there is none, ConfigError if it cannot be planned any more.
    """
    files = sorted(root.glob(f"searches/*/{FILE}"), key=lambda file: file.stat().st_mtime_ns)
    known = {file.parent.name: file for file in files}
    if not known or (name is not None and name not in known):
        raise StoreError(
            f"the store '{root}' has no search{'' if name is None else f' {name!r}'}"
            + (f"; it has: {', '.join(known)}" if known else "")
        )
    file = known[name or list(known)[-1]]
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        asked, kept = content["asked"], content["storage"]
        asked = {key: asked[key] for key in ("node", "fixed", "choices")}
        kept, group = str(kept), content.get("group", 1)
        if not GROUP[0](group):
            raise ValueError(f"group is {group!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{file} is damaged ({error}); the command of the search writes it again"
        ) from error
    if storage is None and NO_PASSWORD not in kept:
        storage = kept
    if storage is None:
        raise ConfigError(
            f"the storage of search {file.parent.name} needs its password: {kept}; "
            "give it with --storage URL"
        )
    asked["fixed"]["store"] = quoted(str(root))
    node = {**asked["node"], "storage": storage}
    try:
        found = plan_search(
            node, name=file.parent.name, fixed=asked["fixed"], choices=asked["choices"]
        )
        return replace(found, group=group)
    except (KeyError, TypeError, AttributeError) as error:  # not what `_write_down` wrote
        raise StoreError(
            f"{file} is damaged ({error!r}); the command of the search writes it again"
        ) from error


# --- the winner -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """An arm of the confirmation.

    name      baseline, matched, winner, second; line: its overrides, but for the seed
    said      what it is, for people; searched: its objective in the search, None for a baseline
    """

    name: str
    line: Sequence[str]
    said: str
    searched: float | None = None

    def jobs(self, search: Search) -> list[Job]:
        """Its runs on fresh seeds."""
        return with_its_engine(search, [[*self.line, f"seed={seed}"] for seed in search.confirm])


def contenders(search: Search, ranked: Sequence[FrozenTrial]) -> list[Contender]:
    """Who is measured on fresh seeds: the baseline, the winner, the second best.

    And `matched`, the baseline with the winner's knobs that belong to no technique (a learning
    rate): what the techniques add is not what a better rate adds.
    """
    line = _baseline(search)
    found = [Contender("baseline", line, " ".join(search.baseline))]
    of_none = {k: v for k, v in ranked[0].params.items() if owner(k) is None and k != "technique"}
    for name, trial in zip(("winner", "second"), ranked, strict=False):
        own = search.job(trial.params, 0)[:-1]
        found.append(Contender(name, own, shown(trial.params), trial.value))
    if not of_none:
        return found
    shared = overrides(of_none)
    matched = Contender("matched", [*line, *shared], " ".join([*search.baseline, *shared]))
    cells = [check(resolved(compose(c.jobs(search)[0]))).cell for c in (matched, *found[:2])]
    if cells[0] not in cells[1:]:
        found.insert(1, matched)
    return found


def _baseline(search: Search) -> list[str]:
    """Overrides of the baseline: what is fixed but for techniques, and its own."""
    keys = {o: o.partition("=")[0] for o in search.fixed}
    plain = [o for o in search.fixed if keys[o] != "technique" and owner(keys[o]) is None]
    return [*plain, *search.baseline]


def confirm(search: Search, trials: Trials, launch: Launch) -> list[Arm]:
    """Run the confirmation, if there is one: one objective, fresh seeds, and a point that won."""
    ranked = best_first(trials.all(), search)
    if search.several or not search.confirm or not ranked:
        return []
    print(f"\nconfirming the winner on {len(search.confirm)} fresh seeds")
    every = [job for one in contenders(search, ranked) for job in one.jobs(search)]
    launch(plan_sweep(compose, every, confirmation_of(search.name)))
    return confirmed(search, trials)


def confirmed(search: Search, trials: Trials) -> list[Arm]:
    """The arms of the confirmation, as far as their runs on fresh seeds are in the store."""
    ranked = best_first(trials.all(), search)
    if search.several or not search.confirm or not ranked:
        return []
    store, arms = Store(search.root), []
    for one in contenders(search, ranked):
        keys = [run.key for _, run in check_each(compose, one.jobs(search), check)]
        records = [store.read(key) for key in keys if store.has(key)]
        arm = arm_of(one.name, one.said, one.searched, records, search.objective[0], search.at)
        if arm is not None:
            arms.append(arm)
    return arms


def report(search: Search, trials: Trials, arms: Sequence[Arm], out: Path | None = None) -> None:
    """Say what was found, and write the files of it."""
    every = trials.all()
    found = Found(
        search=search,
        frame=points_frame(every, search),
        ranked=best_first(every, search),
        importance=importance(every, search),
        arms=arms,
    )
    print(f"\nsearch {search.name}")
    for sentence in verdict_sentences(found):
        print(f"  {sentence}")
    with suppress(OSError):  # a store that is somebody else's
        write_entry(found)
    folder = out or Path("report") / search.name
    written = write_search(found, folder)
    print("wrote " + ", ".join(map(str, written)))
    if (folder / "best.yaml") in written:
        print(
            f"to use the winner: mkdir -p sweeps && cp {folder}/best.yaml sweeps/best.yaml && "
            "bluestab run +sweeps=best"
        )
