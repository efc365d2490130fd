"""Scores so far as lines of text: a strip per arm, a mark per finished run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rich.text import Text

Scores = Mapping[str, Sequence[tuple[float, bool]]]
"""Arm -> its finished runs: test score, and whether the run failed."""

GOOD, SEVERAL, FAILED = "•", "●", "×"
NAME, NUMBERS, LEAST = 28, 18, 12  # columns: a name at most, mean and n, a strip at least


def strips(
    scores: Scores, width: int, most: int, lower_is_better: Collection[str] = ()
) -> list[Text]:
    """At most `most` lines, the arm with the best mean first; none if there is no room.

    lower_is_better  arms whose lower scores are better

    A line is the arm, its runs between the lowest and the highest score of all, mean and number.
    Where several runs fall on one place the mark is larger; failed ones are crosses, and on top.
    """
    signs = {arm: -1 if arm in lower_is_better else 1 for arm in scores}
    ranked = sorted(scores, key=lambda arm: -signs[arm] * _mean(scores[arm]))
    values = [score for runs in scores.values() for score, _ in runs]
    if not values or most < 2:
        return []
    name = min(NAME, max(map(len, ranked)), max(8, width // 3))
    room = min(60, width - name - NUMBERS - 2)
    if room < LEAST:
        return []
    low, high = min(values), max(values)
    head = f"{low:.3f}".ljust(room - 5) + f"{high:.3f}"
    lines = [Text(f"{'':{name}} {head[-room:] if room < 12 else head}  mean   runs", style="dim")]
    shown = ranked[: most - 1] if len(ranked) <= most - 1 else ranked[: most - 2]
    for arm in shown:
        line = Text(f"{_cut(arm, name):>{name}} ", no_wrap=True)
        line.append_text(_strip(scores[arm], low, high, room))
        line.append(f"  {_mean(scores[arm]):.3f} {len(scores[arm]):>5}")
        lines.append(line)
    if len(shown) < len(ranked):
        lines.append(Text(f"and {len(ranked) - len(shown)} more arms", style="dim"))
    return lines


def _strip(runs: Sequence[tuple[float, bool]], low: float, high: float, room: int) -> Text:
    places = [0] * room
    crosses = [False] * room
    for score, failed in runs:
        place = round((score - low) / (high - low) * (room - 1)) if high > low else room // 2
        places[place] += 1
        crosses[place] |= failed
    text = Text()
    for n, cross in zip(places, crosses, strict=True):
        if cross:
            text.append(FAILED, style="red")
        elif n:
            text.append(GOOD if n == 1 else SEVERAL, style="blue")
        else:
            text.append(" ")
    return text


def _mean(runs: Sequence[tuple[float, bool]]) -> float:
    return sum(score for score, _ in runs) / len(runs)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
