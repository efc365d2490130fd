"""Which arms are worth a race on this model and this task, most promising first, and why.

What is known is of a kind of model or of data, not of this one: that is what the race is for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bluestab.training.check import Run
from bluestab.training.loop.schedules import updates

TINN = "Tinn et al. 2023, Patterns 4(4)"
ZHANG = "Zhang et al. 2021, ICLR"
MOSBACH = "Mosbach et al. 2021, ICLR"
GU = "Gu et al. 2022, ACM HEALTH 3(1)"
LARGE = 24
"""Blocks from which on a model is called large (BERT-large)."""
FEW_TRAINING_ITEMS = 1000
"""Training items below which Zhang et al. speak of few samples (theirs: 1,000 of each task)."""
SHORT = 20
"""Epochs below which Mosbach et al. found training too short on small data."""
FEW_STEPS = 200
"""Optimizer steps of the shortest training that Zhang et al. try beside three epochs (96 steps)."""


@dataclass(frozen=True)
class CandidateArm:
    """An arm that may enter the race.

    overrides  of one run, without its seed, beside what the command line fixes
    reason     why it may help here, in a sentence; source: who found that
    """

    name: str
    overrides: tuple[str, ...]
    reason: str
    source: str


BASELINE = CandidateArm(
    "none", ("technique=none",), "plain fine-tuning, what every arm must beat", "the baseline"
)


def candidates(run: Run, longest: float = math.inf) -> list[CandidateArm]:
    """The arms for a plain run of this model on this task, the most promising first.

    run      without techniques, at the learning rate and length that it would have
    longest  how many times as long a run may be
    """
    facts, optim = run.model.facts(), run.cfg["optim"]
    half = max(1, facts.layers // 2)
    freeze = _arm(
        "freeze", f"technique.freeze.depth={half}", source=TINN,
        reason=f"frozen lower layers steady BERT-base models; here {half} of {facts.layers} blocks",
    )  # fmt: skip
    llrd = _arm(
        "llrd", "technique.llrd.decay=0.9", source=TINN,
        reason="layer-wise decay steadies large BERT and ELECTRA models; 0.9 is ELECTRA's for "
        "large ones",
    )  # fmt: skip
    reinit = _arm(
        "reinit", "technique.reinit.depth=1", source=ZHANG,
        reason="the top block is far from any task; anew it is trained faster from few items",
    )  # fmt: skip
    both = CandidateArm(
        "reinit+llrd",
        ("technique=[reinit,llrd]", "technique.reinit.depth=1", "technique.llrd.decay=0.9"),
        "decay protects what re-initialising leaves",
        "ours, of the two",
    )
    large = facts.layers >= LARGE or facts.family == "electra"
    order = [llrd, freeze, reinit] if large else [freeze, llrd, reinit]
    if run.data.task.output.numeric:  # text similarity is the case of the paper
        reinit = _arm(
            "reinit", "technique.reinit.depth=1", source=TINN,
            reason="re-initialising the top was best on sentence similarity from few pairs",
        )  # fmt: skip
        order = [reinit, *order[:2]]
    elif run.data.size("train") < FEW_TRAINING_ITEMS:
        order = [order[0], reinit, order[1]]
    steps = updates(run.data.size("train"), optim["batch_size"], optim["epochs"], optim["steps"])
    if optim["steps"] is None and 0 < steps < FEW_STEPS and longest >= 2:
        room = math.floor(optim["epochs"] * min(longest, FEW_STEPS))
        epochs = min(math.ceil(optim["epochs"] * FEW_STEPS / steps), room)
        n = updates(run.data.size("train"), optim["batch_size"], epochs, None)
        order.insert(0, _longer(epochs, f"{n} steps in place of {steps}", ZHANG))
    return [*order, *_of_optimizer(optim, steps), both]


def _longer(epochs: int, reason: str, source: str) -> CandidateArm:
    return CandidateArm(
        f"none, epochs={epochs}",
        ("technique=none", f"optim.epochs={epochs}"),
        f"{reason}: small data need more steps",
        source,
    )


def _of_optimizer(optim: dict[str, float], steps: int) -> list[CandidateArm]:
    """Arms of plain fine-tuning: other learning rates, Adam's correction, more steps.

    steps  that training takes: of few there is an arm of more steps already
    """
    found = []
    if not optim["bias_correction"]:
        found.append(
            CandidateArm(
                "none, bias_correction=True",
                ("technique=none", "optim.bias_correction=true"),
                "without it Adam's first steps are too large, and runs fail",
                f"{MOSBACH}; {ZHANG}",
            )
        )
    for factor in (0.5, 2.0):
        rate = f"{optim['lr'] * factor:.4g}"
        found.append(
            CandidateArm(
                f"none, lr={rate}",
                ("technique=none", f"optim.lr={rate}"),
                f"a learning rate of {rate} in place of {optim['lr']:g}: no one rate suits all "
                "small data",
                GU,
            )
        )
    epochs = optim["epochs"]
    if optim["steps"] is None and steps >= FEW_STEPS and epochs < SHORT:
        longer = f"{2 * epochs} epochs in place of {epochs}"
        found.append(_longer(2 * epochs, longer, MOSBACH))
    return found


def given_arms(jobs: Sequence[Sequence[str]]) -> list[CandidateArm]:
    """The arms that the command line names, whatever is known of them."""
    found = []
    for job in jobs:
        values = {override.partition("=")[0]: override.partition("=")[2] for override in job}
        technique = values.pop("technique", "none").strip("[]").replace(",", "+")
        said = [f"{key.rpartition('.')[2]}={value}" for key, value in values.items()]
        name = ", ".join([technique, *said])
        found.append(CandidateArm(name, tuple(job), "named on the command line", "yours"))
    return found


def _arm(technique: str, knob: str, *, reason: str, source: str) -> CandidateArm:
    return CandidateArm(technique, (f"technique={technique}", knob), reason, source)
