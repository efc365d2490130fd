"""The verb from a file to a steady model: `bluestab auto`."""

from __future__ import annotations

import re

import typer

HELP = """\
Usage: bluestab auto hours=N|runs=N [KEY=VALUE]...

  From your data and a budget to a model, its report and a methods paragraph

  Looks at the data, plans arms for this model and task, races them over
  shared seeds, measures the winner on fresh seeds beside plain fine-tuning,
  and delivers one folder: report.html (its first sentence is the answer),
  model/ for plain transformers, methods.md, auto.yaml (plan and decisions),
  tables. "No remedy is shown to help" is an answer, too.
  No decision reads a test score. The same command goes on where it stopped.

Budget, one of the two
  hours=2       time of this machine, report and model included
  runs=100      runs; equal ones give equal results (24 are the fewest)
More
  out=FOLDER    where to deliver; default: auto/NAME
  ensemble=5    deliver this many seeds
  technique=llrd,reinit optim.lr=2e-5,5e-5    arms of your own in place of ours
  and what bluestab run takes: task, model, task.train, optim.lr,
  hydra/launcher (local, pool, slurm; check: print the plan, start nothing)

Examples
  bluestab auto task=classification task.train=mine.csv model=minilm hours=2
  bluestab auto task=ncbi_disease task.train_size=64 model=minilm runs=100
"""
OWN = re.compile(r"(hours|runs|out|ensemble)=")


def auto(context: typer.Context) -> None:
    """From your data and a budget to a steady model."""
    if {"--help", "-h"} & set(context.args):
        print(HELP, end="")
        return
    from bluestab.cli.hydra_app import run_app
    from bluestab.core.errors import ConfigError, Interrupted

    if any(argument in ("-m", "--multirun") for argument in context.args):
        raise ConfigError("auto is a sweep by itself; leave -m out")
    if any(argument.startswith("hydra/sweeper=") for argument in context.args):
        raise ConfigError("auto races by itself; leave hydra/sweeper out")
    given = [f"auto.{a}" if OWN.match(a) else a for a in context.args]
    try:
        run_app(lambda _: None, ["-m", *given, "hydra/sweeper=auto"])
    except KeyboardInterrupt as error:
        raise Interrupted(
            "interrupted; what was finished is kept, the same command goes on"
        ) from error
