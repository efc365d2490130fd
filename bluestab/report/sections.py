"""All sections of a report, in order: a new one is a line here, its own file, and its script."""

from __future__ import annotations

from bluestab.report.frames.beside_published import PUBLISHED
from bluestab.report.frames.blurb_scores import BLURB
from bluestab.report.frames.budget import BUDGET
from bluestab.report.frames.confirmed import CONFIRMED
from bluestab.report.frames.forgetting import FORGETTING, STAGES
from bluestab.report.frames.instability import INSTABILITY
from bluestab.report.frames.looks import looking_of
from bluestab.report.frames.merges import MERGES
from bluestab.report.frames.over_tasks import OVER_TASKS
from bluestab.report.frames.pretraining import PRETRAINING
from bluestab.report.frames.references import REFERENCES
from bluestab.report.frames.setup import SETUP
from bluestab.report.frames.variance import VARIANCE
from bluestab.report.section import Section
from bluestab.report.words.caveats import mind

SECTIONS = (
    Section(
        "seeds",
        "Every seed",
        "One point per seed over the box of its arm (quartiles, median, range); a cross is a "
        "failed run. The dashed line is the baseline's mean.",
    ),
    Section(
        "failed",
        "Runs that failed",
        "A run has failed when its loss was not finite or its test score is no better than that of "
        "a model that ignores its input. Wilson's interval: few seeds say little about a share. "
        "Against the baseline on shared seeds: McNemar's exact test, corrected for the arms, and "
        "Newcombe's interval.",
    ),
    Section(
        "change",
        "What each technique changed",
        "Difference of the means on shared seeds, with its 95 % interval. Bold: shown to differ at "
        "5 % after correction for all arms of its column. The deeper the tone, the larger the "
        "change.",
    ),
    Section(
        "curves",
        "On the way",
        "Every run of every arm. In vermillion, with a cross: runs that failed.",
    ),
    Section(
        "gradients",
        "Gradients of runs that failed",
        "Mean gradient norm per layer group, from the embeddings (light) to the top (deep), median "
        "over runs. Where fine-tuning fails, gradients vanish below the top early on (Mosbach et "
        "al. 2021).",
    ),
    Section(
        "cost",
        "What it costs",
        "Change of the mean against time per run. To the left is cheaper; up is better, and down "
        "where lower scores are.",
    ),
    Section(
        "memory",
        "What memory it takes",
        "Change of the mean against bytes of weights, gradients, moments and saved activations "
        "where a step of training needs most, counted alike on every device.",
    ),
    FORGETTING,
    STAGES,
    REFERENCES,
    MERGES,
    CONFIRMED,
    BUDGET,
    VARIANCE,
    PRETRAINING,
    INSTABILITY,
    Section(
        "search",
        "The search",
        "Validation scores of the points it tried, a point being a configuration measured over "
        "seeds. Hollow: stopped before it had all of them, and drawn at the mean of those it had. "
        "Cross: too many of its runs failed.",
        data=lambda results: {"searches": list(results.searches)},
    ),
    PUBLISHED,
    OVER_TASKS,
    BLURB,
    SETUP,
    Section(
        "crashes",
        "What crashed, and what to mind",
        data=lambda results: {
            "mind": [*looking_of(results), *mind(results)],
            "damaged": list(results.damaged.values()),
            "left_out": list(results.left_out),
        },
    ),
    Section("runs", "Every run, and the command that repeats it"),
)
"""From the top of the page to its end."""

UPWARDS = SECTIONS[::-1]
"""The order in a terminal and of the files: what stands highest on the page is nearest to the
prompt."""
