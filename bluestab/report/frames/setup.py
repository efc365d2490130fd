"""What sets the arms apart: their techniques and knobs, and all else in their configs."""

from __future__ import annotations

from bluestab.report.frames.arms import difference
from bluestab.report.section import Json, Results, Section


def what_differs(results: Results) -> Json:
    """cell -> what sets it apart: its techniques with all their knobs, its config against the
    baseline's, and the config that all cells of its task and model share."""
    cells = {
        row["cell"]: row
        for row in results.summary.to_dict("records")
        if row["cell"] in results.configs
    }
    baselines = {(row["task"], row["model"], row["arm"]): cell for cell, row in cells.items()}
    found = {}
    for cell, row in cells.items():
        config = results.configs[cell]
        said = [
            f"{name}({', '.join(f'{k}={v}' for k, v in knobs.items() if k != 'kind')})"
            for name, knobs in config["technique"]
        ]
        rival = baselines.get((row["task"], row["model"], row["baseline"]))
        other = {**config, "technique": []}
        against = difference({**results.configs[rival], "technique": []}, other) if rival else ""
        found[cell] = {"technique": " + ".join(said) or "none", "differs": against}
    return found


SETUP = Section(
    "setup",
    "What was run",
    "What sets the arms apart, and where the numbers were made.",
    data=lambda results: {"arms": what_differs(results)},
)
