"""Eleven bugs, each planted in a copy of the checkout: do the quick tests find them?

    python tests/planted_bugs.py [WORD ...]    all, or those whose name has one of the words

Each is one edit of one file, found by a text that stands once in the package, so that files may
move. First the tests that are meant to find them run as things are, and must pass.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUICK = "not slow and not more and not slurm and not browser"


@dataclass(frozen=True)
class Plant:
    """before, after: the edit; tests: names of tests, or parts of them, between them `or`."""

    name: str
    before: str
    after: str
    tests: str


PLANTS = (
    Plant(
        "an off-by-one level in llrd",
        "    distance = n_layers + 1 - depth\n",
        "    distance = n_layers - depth\n",
        "test_layer_wise_decay_by_hand",
    ),
    Plant(
        "mixout without rescaling",
        "    return anchor + (weight - anchor) * (keep / (1.0 - p))\n",
        "    return anchor + (weight - anchor) * keep\n",
        "test_mixout_is_the_published_formula",
    ),
    Plant(
        "SAM without restoring the weights",
        "        torch._foreach_copy_(moving, before)\n    return loss\n",
        "        pass\n    return loss\n",
        "sam_on_a_quadratic",
    ),
    Plant(
        "moments that move what is frozen",
        "        self._optimizer.zero_grad()\n",
        "        self._optimizer.zero_grad(set_to_none=False)\n",
        "test_a_frozen_unit_stands_still",
    ),
    Plant(
        "the best step inverted",
        "self.metric.better(score, self.best_score)",
        "self.metric.better(self.best_score, score)",
        "test_best_step",
    ),
    Plant(
        "a claim that two can take",
        "                os.link(aside, path)",
        "                os.replace(aside, path)",
        "test_each_race_has_one_winner",
    ),
    Plant(
        "a rename without fsync",
        "    share(aside)\n    flush(aside)\n    put_in_place(aside, path)\n",
        "    share(aside)\n    put_in_place(aside, path)\n",
        "test_nothing_is_renamed_before",
    ),
    Plant(
        "a p without the family's correction",
        "others = np.delete(largest, i, axis=0).max(axis=0) if len(arms) > 1 else None",
        "others = None",
        "test_p_over_the_arms_of_one_task",
    ),
    Plant(
        "an offset off by one in BRAT output",
        "            found.append((at + lead, at + len(bare)))\n",
        "            found.append((at + lead, at + len(bare) + 1))\n",
        "test_offsets_in_brat",
    ),
    Plant(
        "a key that forgets a knob",
        '"micro_batch", "prefix_cache", "devices"',
        '"prefix_cache", "devices"',
        "test_changing_any_hashed_value or test_every_key_of_the_config",
    ),
    Plant(
        "a resume that forgets a random stream",
        "    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))\n",
        "",
        "test_random_streams_go_on",
    ),
)


def copy_to(folder: Path) -> None:
    """What a checkout holds, without what was installed or made in it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def file_with(folder: Path, text: str) -> Path:
    """The one file of the package that has it. Raises SystemExit where there is not just one."""
    files = sorted((folder / "bluestab").rglob("*.py"))
    found = [file for file in files for _ in range(file.read_text().count(text))]
    if len(found) != 1:
        raise SystemExit(f"found {len(found)} times, and should be once: {text!r}")
    return found[0]


def tests(folder: Path, plants: Sequence[Plant]) -> subprocess.CompletedProcess[str]:
    """Run what is meant to find these bugs."""
    wanted = " or ".join(plant.tests for plant in plants)
    heads = re.compile("|".join(rf"def \w*{name}" for name in wanted.split(" or ")))
    files = [
        f for f in sorted((folder / "tests").rglob("test_*.py")) if heads.search(f.read_text())
    ]
    some = ["-k", wanted, "-m", QUICK]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *some, *files],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


def found(folder: Path, plant: Plant) -> bool:
    """Plant one bug, test, and take it out again."""
    file = file_with(folder, plant.before)
    text = file.read_text()
    file.write_text(text.replace(plant.before, plant.after))
    try:
        done = tests(folder, [plant])
    finally:
        file.write_text(text)
    if done.returncode not in (0, 1):  # nothing was collected, or pytest itself failed
        raise SystemExit(done.stdout + done.stderr)
    return done.returncode == 1


def main(*words: str) -> None:
    plants = [p for p in PLANTS if not words or any(word in p.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        folder = Path(name)
        copy_to(folder)
        for plant in plants:
            file_with(folder, plant.before)
        clean = tests(folder, plants)
        if clean.returncode != 0:
            raise SystemExit(f"the tests fail without any bug:\n{clean.stdout}{clean.stderr}")
        missed = []
        for plant in plants:
            caught = found(folder, plant)
            print(f"{'caught' if caught else 'NOT caught':10} {plant.name}", flush=True)
            missed += [] if caught else [plant.name]
    if missed:
        sys.exit(f"{len(missed)} of {len(plants)} were not caught")


if __name__ == "__main__":
    main(*sys.argv[1:])
