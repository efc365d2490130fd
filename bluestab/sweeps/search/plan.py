"""From a command line to a search: its space, checked before the first run starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bluestab.core import spaces
from bluestab.core.catalogue import entries, outer_level_problems
from bluestab.core.config import compose, resolved
from bluestab.core.errors import ConfigError, did_you_mean
from bluestab.core.spaces import SEARCH_SPACE, Choice
from bluestab.models.dropout import KNOBS
from bluestab.sweeps.plan import check_each
from bluestab.sweeps.search import spec
from bluestab.sweeps.search.points import MOST_LISTED, Knob, Point, SearchSpace, owner
from bluestab.sweeps.search.race import Race
from bluestab.sweeps.search.spec import Search
from bluestab.sweeps.search.storage import USUAL
from bluestab.sweeps.search.worker import jobs
from bluestab.training.check import Run, RunComponents, check, check_parts

NO_KNOB = ("task", "model", "seed", "sweep", "sweeps", "search", "store", "device")
OF_ONE_MODEL = ("model.head", *(f"model.{knob}" for knob in KNOBS))
"""What a search holds still: scores of two tasks, or of two seeds, are not compared."""


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
        if not _may_differ(key):
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
        sign=parts.task.headline.sign,
        range=(parts.task.headline.least, parts.task.headline.most),
    )
    if not search.storage:
        search = replace(search, storage=str(search.folder / USUAL))
    if node["sampler"]["name"] == "grid" and space.every() is None:
        raise ConfigError(
            "search.sampler is grid, but the space is not finite, or holds more than "
            f"{MOST_LISTED} points; it takes choice(), range() and int(interval()) alone"
        )
    _check_start(search)
    _check_space(search)
    return search


def _may_differ(key: str) -> bool:
    """Whether points may differ in it; of a model, in how the same weights are trained."""
    return key.split(".")[0] not in NO_KNOB or key in OF_ONE_MODEL


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
        composed = resolved(compose([*free, f"technique={technique}"]))["technique"] or {}
        own = composed.get(technique)
        if not isinstance(own, dict):
            raise ConfigError(*outer_level_problems("technique", composed))
        if not own.get(SEARCH_SPACE):
            raise ConfigError(
                f"search.space: technique {technique} declares no {SEARCH_SPACE}; name its knobs: "
                f"'technique.{technique}.KNOB=interval(LOW,HIGH)'"
            )
        for knob, text in own[SEARCH_SPACE].items():
            texts[f"technique.{technique}.{knob}"] = str(text)
    texts |= {str(key): str(text) for key, text in node["params"].items()}
    for key in texts:
        if not _may_differ(key):
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
            check_parts(
                resolved(compose([*baseline_overrides(search), f"seed={search.confirm[0]}"]))
            )
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


def possible_runs(search: Search) -> list[Run]:
    """The runs of a search that stops no point, at points drawn at random. Raises ConfigError."""
    runs: list[Run] = []
    for point in _possible(search, search.n_trials):
        runs += [run for _, run in check_each(compose, jobs(search, point, search.seeds), check)]
    return runs


def possible_parts(search: Search) -> list[RunComponents]:
    """What one point names. Raises ConfigError."""
    return [
        check_parts(resolved(compose(search.job(point, search.seeds[0]))))
        for point in _possible(search, 1)
    ]


def first_run(search: Search) -> Run:
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


def baseline_overrides(search: Search) -> list[str]:
    """Overrides of the baseline: what is fixed but for techniques, and its own."""
    keys = {o: o.partition("=")[0] for o in search.fixed}
    plain = [o for o in search.fixed if keys[o] != "technique" and owner(keys[o]) is None]
    return [*plain, *search.baseline]
