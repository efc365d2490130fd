"""The BLURB score against every published column, and in a report of handmade records."""

from __future__ import annotations

import math

import pytest

from bluestab import blurb

TASKS = (
    *("bc5cdr_chem", "bc5cdr_disease", "ncbi_disease", "bc2gm", "jnlpba", "ebm_pico"),
    *("chemprot", "ddi", "gad", "biosses", "hoc", "pubmedqa", "bioasq"),
)

# One column per line in the order of TASKS, and the printed BLURB score: mean test scores in
# percent. Columns are one of Gu et al. 2022 (ACM HEALTH 3(1), arXiv 2007.15779), Table 6, ...
PUBLISHED = {
    "BERT uncased": (
        *(89.25, 81.44, 85.67, 80.90, 77.69, 72.34),
        *(71.86, 80.04, 80.41, 82.68, 80.20, 51.62, 70.36),
        76.11,
    ),
    "BERT cased": (
        *(89.99, 79.92, 85.87, 81.23, 77.51, 71.70),
        *(71.54, 79.34, 79.61, 81.40, 80.12, 49.96, 74.44),
        75.86,
    ),
    "RoBERTa": (
        *(89.43, 80.65, 86.62, 80.90, 77.86, 73.02),
        *(72.98, 79.52, 80.63, 81.25, 79.66, 52.84, 75.20),
        76.46,
    ),
    "BioBERT": (
        *(92.85, 84.70, 89.13, 83.82, 78.55, 73.18),
        *(76.14, 80.88, 82.36, 89.52, 81.54, 60.24, 84.14),
        80.34,
    ),
    "SciBERT uncased": (
        *(92.49, 84.54, 88.10, 83.36, 78.68, 73.12),
        *(75.24, 81.06, 82.38, 86.25, 80.66, 57.38, 78.86),
        78.86,
    ),
    "SciBERT cased": (
        *(92.51, 84.70, 88.25, 83.36, 78.51, 73.06),
        *(75.00, 81.22, 81.34, 87.15, 81.16, 51.40, 74.22),
        78.14,
    ),
    "ClinicalBERT": (
        *(90.80, 83.04, 86.32, 81.71, 78.07, 72.06),
        *(72.04, 78.20, 80.48, 91.23, 80.74, 49.08, 68.50),
        77.29,
    ),
    "BlueBERT": (
        *(91.19, 83.69, 88.04, 81.87, 77.71, 72.54),
        *(71.46, 77.78, 79.15, 85.38, 80.48, 48.44, 68.71),
        76.27,
    ),
    "PubMedBERT": (
        *(93.33, 85.62, 87.82, 84.52, 79.10, 73.38),
        *(77.24, 82.36, 83.96, 92.30, 82.32, 55.84, 87.56),
        81.16,
    ),
    # ... of Tables 7, 9, 10 and 11 (settings of pretraining), ...
    "general vocabulary, word pieces": (
        *(93.20, 85.00, 88.39, 83.65, 78.83, 73.30),
        *(75.04, 81.30, 83.02, 91.36, 81.76, 52.20, 73.69),
        79.16,
    ),
    "general vocabulary, whole words": (
        *(93.31, 85.28, 88.53, 83.93, 78.77, 73.52),
        *(76.70, 82.60, 82.42, 91.79, 81.74, 55.92, 76.41),
        79.96,
    ),
    "PubMed vocabulary, word pieces": (
        *(92.96, 84.72, 87.26, 83.19, 78.63, 73.44),
        *(75.72, 80.84, 81.74, 92.45, 80.38, 54.76, 78.51),
        79.62,
    ),
    "PubMed vocabulary, whole words": (
        *(93.33, 85.62, 87.82, 84.52, 79.10, 73.38),
        *(77.24, 82.36, 83.96, 92.30, 82.32, 55.84, 87.56),
        81.16,
    ),
    "general text then PubMed": (
        *(93.41, 85.43, 87.60, 84.03, 79.01, 73.80),
        *(77.05, 81.96, 82.47, 89.93, 83.14, 54.84, 79.00),
        80.03,
    ),
    "PubMed, half the compute": (
        *(93.05, 85.02, 87.77, 84.11, 78.98, 73.74),
        *(76.69, 81.21, 82.80, 92.12, 82.13, 55.28, 79.43),
        80.23,
    ),
    "PubMed and PMC": (
        *(93.36, 85.62, 88.34, 84.39, 78.90, 73.64),
        *(76.96, 83.56, 84.08, 90.39, 82.16, 61.02, 83.43),
        81.01,
    ),
    "PubMed and PMC, 60 % longer": (
        *(93.34, 85.76, 88.04, 84.37, 79.16, 73.72),
        *(76.80, 82.06, 82.90, 92.31, 82.62, 60.02, 87.20),
        81.50,
    ),
    "adversarial pretraining": (
        *(93.17, 85.48, 87.99, 84.07, 79.18, 72.92),
        *(77.04, 83.62, 83.54, 94.11, 82.20, 53.30, 82.71),
        80.77,
    ),
    # ... or of Yasunaga et al. 2022 (LinkBERT, ACL 2022, arXiv 2203.15827), Table 7; its column of
    # PubMedBERT has two scores that differ from Gu et al.'s (JNLPBA, GAD).
    "PubMedBERT (LinkBERT)": (
        *(93.33, 85.62, 87.82, 84.52, 80.06, 73.38),
        *(77.24, 82.36, 82.34, 92.30, 82.32, 55.84, 87.56),
        81.10,
    ),
    "BioLinkBERT-base": (
        *(93.75, 86.10, 88.18, 84.90, 79.03, 73.97),
        *(77.57, 82.72, 84.39, 93.25, 84.35, 70.20, 91.43),
        83.39,
    ),
    "BioLinkBERT-large": (
        *(94.04, 86.39, 88.76, 85.18, 80.06, 74.19),
        *(79.98, 83.35, 84.90, 93.63, 84.87, 72.18, 94.82),
        84.30,
    ),
}


@pytest.mark.parametrize("column", PUBLISHED)
def test_published_scores_come_out_to_two_decimals(column: str) -> None:
    *scores, printed = PUBLISHED[column]
    percent = dict(zip(TASKS, scores, strict=True))
    assert f"{blurb.blurb_score(percent):.2f}" == f"{printed:.2f}"
    shares = {task: score / 100 for task, score in percent.items()}
    assert blurb.blurb_score(shares) == pytest.approx(printed / 100, abs=5e-5)


def test_the_columns_tell_other_means_apart() -> None:
    """The plain mean over 13 tasks, or one group left out, would not do."""
    for *scores, printed in PUBLISHED.values():
        assert abs(sum(scores) / 13 - printed) > 0.1
    means = blurb.group_means(dict(zip(TASKS, PUBLISHED["PubMedBERT"], strict=False)))
    assert {group: round(mean or 0, 2) for group, mean in means.items()} == {
        **{"ner": 86.08, "pico": 73.38, "relation": 81.19},
        **{"similarity": 92.30, "document": 82.32, "qa": 71.70},
    }


def test_the_benchmark() -> None:
    assert blurb.TASKS == TASKS
    assert len({*blurb.TASKS}) == 13
    assert len(blurb.GROUPS) == 6
    assert tuple(blurb.COUNTS) == TASKS
    assert all(train > dev > 0 < test for train, dev, test in blurb.COUNTS.values())


def test_nothing_is_made_up_for_a_missing_task() -> None:
    scores = dict.fromkeys(TASKS, 0.5)
    assert blurb.missing(scores) == ()
    assert blurb.blurb_score({**scores, "other": 0.0}) == 0.5
    for task in TASKS:
        rest = {t: s for t, s in scores.items() if t != task}
        assert blurb.missing(rest) == (task,)
        assert blurb.blurb_score(rest) is None
        (gap,) = (g for g, mean in blurb.group_means(rest).items() if mean is None)
        assert task in blurb.GROUPS[gap]
    assert blurb.missing({}) == TASKS
    assert blurb.blurb_score({}) is None
    with pytest.raises(ValueError, match="nan"):
        blurb.blurb_score({**scores, "gad": math.nan})
