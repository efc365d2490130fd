"""`make gpu` where there is no GPU: every part, in small."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bluestab.core.paths import conf_dir


@pytest.mark.slow
def test_what_a_gpu_is_asked_is_asked_of_a_cpu() -> None:
    script = conf_dir().parent / "benchmarks" / "gpu.py"
    line = [sys.executable, script, "--device", "cpu", "--shapes", "tiny"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(said) for said in done.stdout.splitlines() if said.startswith('{"')]
    found = {line.get("part"): line for line in lines}
    assert not [line for line in lines if "failed" in line]
    assert lines[-1] == {"left_out_for_time": []}
    assert found["peak"]["flops"] > 1e8
    assert found["repeat"]["same_bytes"] is True
    assert found["resume"]["same_bytes"] is True
    assert found["resume"]["from"][0].startswith("step-00000002")
    assert found["losses"]["compared"] == 15
    assert found["losses"]["largest_relative_difference"] < 1e-2, "bfloat16 has three digits"
    assert "limited" in found["halving"]["left_out"]
    assert found["memory"]["optimizer"] == pytest.approx(2 * found["memory"]["weights"], rel=0.01)
    assert 0 < found["single"]["share_of_peak"] < 1
    assert [line["runs"] for line in lines if line.get("part") == "group"] == [2, 4]
    assert found["trainer"]["seconds_per_step"] > 0


@pytest.mark.slow
def test_memory_is_counted_and_timed_in_small() -> None:
    script = conf_dir().parent / "benchmarks" / "memory.py"
    asked = ["--shapes", "tiny", "--batches", "8x32", "--steps", "8", "--seconds", "1"]
    line = [sys.executable, script, *asked, "none", "slimfit 0.8 compressed"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [said for said in done.stdout.splitlines() if said.startswith(("none", "slimfit"))]
    assert len(rows) == 2
    ratio = float(rows[1].partition("|")[0].split()[-2])
    assert ratio > 1.2, "all bytes, in times of the arm's"


@pytest.mark.slow
def test_auto_beside_other_ways_to_spend_runs() -> None:
    """Shares and scores are those of what was drawn: nothing is delivered but plain runs by
    `seeds`, and on NCBI-disease every other way finds what the stored sweep shows."""
    script = conf_dir().parent / "benchmarks" / "auto_efficiency.py"
    line = [sys.executable, script, "--repetitions", "40", "--runs", "60"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ncbi = done.stdout.partition("ncbi64_remedies")[2].splitlines()
    rows = {row.split()[0]: row.replace("%", "").split()[1:] for row in ncbi[2:]}
    assert rows["seeds"][:2] == ["0", "100"]
    assert all(int(rows[way][0]) > 80 for way in ("auto", "grid", "racing"))
    assert float(rows["auto"][-1]) <= 60
