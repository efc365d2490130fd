"""How long a run trains and how its learning rate moves, as functions of the step count alone.

Pure functions, because a schedule that keeps no state needs nothing saved for a resume. Rules and
roundings are those of the transformers Trainer, which published settings were found with.
"""

from __future__ import annotations

import math


def updates(n_items: int, batch_size: int, epochs: float | None, steps: int | None) -> int:
    """Total number of optimizer steps of a run.

    `steps`, if not None, is the answer. Otherwise `epochs` (>= 0, may be a fraction, rounded up to
    a whole step) times the steps of one epoch; an incomplete last batch counts as a step.
    `batch_size` is items per optimizer step: micro-batch times accumulated micro-batches.
    Raises ValueError on a value out of range or if both `epochs` and `steps` are None.
    """
    if n_items < 1 or batch_size < 1:
        raise ValueError(f"{n_items} items in batches of {batch_size}: both must be >= 1")
    if steps is not None:
        if steps < 0:
            raise ValueError(f"steps={steps}: must be >= 0")
        return steps
    if epochs is None:
        raise ValueError("epochs and steps are both None: set one")
    if not 0 <= epochs < math.inf:
        raise ValueError(f"epochs={epochs}: must be a finite number >= 0")
    return _ceil(epochs * math.ceil(n_items / batch_size))


def warmup_steps(total_steps: int, warmup: float) -> int:
    """Optimizer steps of warm-up: `ceil(total_steps * warmup)` if `warmup` is a fraction in [0, 1);
    a whole number >= 1 is the answer itself, also beyond `total_steps`: the peak is not reached.

    The rule of transformers' `TrainingArguments.get_warmup_steps`, with one difference: the product
    is first rounded to 9 decimals, so 7 % of 100 steps is 7, where transformers says 8 because
    `100 * 0.07` is 7.000000000000001 in floating point. Raises ValueError on a value out of range.
    """
    if total_steps < 0:
        raise ValueError(f"total_steps={total_steps}: must be >= 0")
    if isinstance(warmup, int) and warmup >= 1:
        return warmup
    if not 0 <= warmup < 1:
        raise ValueError(
            f"warmup={warmup}: must be a fraction in [0, 1) or a whole number of steps >= 1"
        )
    return _ceil(total_steps * warmup)


def linear_warmup_decay(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Learning-rate multiplier in [0, 1] for the `step`-th optimizer step (0-based).

    Rises linearly from 0 at step 0 to 1 at step `warmup_steps`, falls linearly to 0 at
    `total_steps` and stays there: `transformers.get_linear_schedule_with_warmup`. With any warm-up
    the first step therefore moves nothing; the last, `total_steps - 1`, still does.
    Raises ValueError on a negative value.
    """
    if min(step, warmup_steps, total_steps) < 0:
        raise ValueError(
            f"step={step}, warmup_steps={warmup_steps}, total_steps={total_steps}: must be >= 0"
        )
    if step < warmup_steps:
        return step / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


def _ceil(steps: float) -> int:
    """Round up, unless the excess is floating-point noise (below half a billionth of a step)."""
    return math.ceil(round(steps, 9))
