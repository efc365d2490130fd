"""Scores beside published numbers."""

from __future__ import annotations

import pandas as pd

from bluestab.report.frames.beside_published import published_frame, published_sentences
from tests.report.test_report import plain, runs_frame


def test_beside_published_numbers() -> None:
    """Gu et al. 2022, table 6, BIOSSES: 0.9230 for PubMedBERT, without a spread."""
    runs = runs_frame(plain({0: 0.90, 1: 0.92, 2: 0.95}))
    runs["model"] = "biomedbert_base"
    (cell,) = set(runs["cell"])
    full = {cell: {"task": {"train_size": None}}}
    (found,) = published_frame(runs, full, "last").to_dict("records")
    assert (found["published_mean"], found["published_n"], found["verdict"]) == (
        0.923,
        10,
        "within",
    )
    assert found["spread_of"] == "ours"
    (said,) = published_sentences(pd.DataFrame([found]))
    assert "0.9233 (n = 3); published 0.9230 (Gu et al. 2022" in said
    assert "they are not shown to differ (difference +0.0003, -0.0" in said
    assert "ours is taken for it" in said

    part = {cell: {"task": {"train_size": 64}}}
    assert published_frame(runs, part, "last").empty, "a part of the data is another task"
    runs["technique"] = "freeze"
    assert published_frame(runs, full, "last").empty, "another technique"


def test_far_from_a_published_number_and_one_seed() -> None:
    runs = runs_frame(plain({0: 0.40, 1: 0.42, 2: 0.41}))
    runs["model"] = "biomedbert_base"
    full = {cell: {"task": {}} for cell in runs["cell"]}
    (said,) = published_sentences(published_frame(runs, full, "last"))
    # 0.01 (1/3 + 1/10)^0.5 standard error, 2 degrees of freedom
    assert "ours is below it (difference -0.5130, -0.5413 to -0.4847; their" in said
    (said,) = published_sentences(published_frame(runs[runs["seed"] == 0], full, "last"))
    assert "two seeds or more would tell" in said
