"""The command line as a whole: its screen of help, and answers to verbs that do not exist."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from bluestab.core.errors import ConfigError, nearest

GROUPS = {
    "Runs and sweeps": (
        "run",
        "auto",
        "check",
        "fetch",
        "inspect",
        "vocabulary",
        "status",
        "cancel",
        "search",
    ),
    "What comes of them": ("report", "compare", "export", "predict", "soup", "grow", "reproduce"),
    "What there is": ("list", "explain", "notebooks", "completion"),
    "Files": ("store", "cache"),
}
FLAGS = """\
Flags
  --version  --debug (tracebacks); every verb has --help
"""
INSTEAD = {
    "run": "train fit finetune fine-tune start launch execute go",
    "run -m": "sweep multirun grid experiment experiments benchmark",
    "run -m hydra/sweeper=optuna": "tune optimize optimise hpo hyperopt",
    "report": "test eval evaluate validate show results result summary summarize plot figures "
    "analyse analyze stats table tables page",
    "list": "ls tasks models techniques sweeps datasets",
    "fetch": "download get pull prepare setup",
    "check": "dry-run dryrun plan estimate forecast doctor",
    "inspect": "data describe-data look preview",
    "vocabulary": "vocab tokenizer tokeniser tokenize wordpiece words",
    "predict": "infer inference annotate tag label apply serve",
    "export": "save convert push publish",
    "cancel": "kill stop scancel abort",
    "status --watch": "watch monitor progress dashboard ui top",
    "status": "info state jobs squeue",
    "soup": "average ensemble merge-weights merge-models fuse task-arithmetic",
    "grow": "widen deepen enlarge expand net2net growth",
    "reproduce": "replicate rerun repeat",
    "explain": "docs doc man describe card define what knobs options params glossary help-knob",
    "run --cfg job": "config conf cfg show-config",
    "store gc": "clean cleanup gc prune rm remove delete",
    "store verify": "verify validate-store fsck",
    "store merge": "merge import sync",
    "cache clear": "clear",
    "--help": "help usage",
    "--version": "version",
}
"""What is typed here -> verbs by which people look for it."""
VERBS = {word: here for here, words in INSTEAD.items() for word in words.split()}
AGAIN = {"resume", "continue", "restart"}


class Verbs(TyperGroup):
    """The verbs in groups, with a line each."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)
        formatter.write_paragraph()
        formatter.write(FLAGS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rest = [name for name in self.commands if name not in sum(GROUPS.values(), ())]
        width = max(map(len, self.commands))
        for heading, names in {**GROUPS, "Others": tuple(rest)}.items():
            there = [name for name in names if name in self.commands]
            if there:
                formatter.write_paragraph()
                formatter.write(f"{heading}\n")
            for name in there:
                line = str(self.commands[name].help or "").partition("\n")[0].rstrip(".")
                formatter.write(f"  {name:{width}}  {line}\n")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Raises ConfigError, with the line that was meant, for what is no verb."""
        word, rest = args[0], args[1:]
        if self.get_command(ctx, word) is None and not ctx.resilient_parsing:
            raise ConfigError(self._meant(word, rest))
        return super().resolve_command(ctx, args)

    def _meant(self, word: str, rest: list[str]) -> str:
        if "=" in word:
            many = " -m" if word.startswith("+sweeps=") or "-m" in rest else ""
            return f"{word}: the verb is missing: bluestab run{many} {word}"
        head = f"there is no verb '{word}'"
        if word.lower() in AGAIN:
            return f"{head}; the same command again goes on where it stopped"
        if word.lower() in self.commands:
            return f"{head}; say bluestab {word.lower()}"
        if here := VERBS.get(word.lower().replace("_", "-")):
            return f"{head}; say bluestab {here}"
        if close := nearest(word, self.commands, 0.65):
            return f"{head}; did you mean '{close[0]}'?"
        if close := nearest(word, VERBS, 0.8):
            return f"{head}; say bluestab {VERBS[close[0]]}"
        return f"{head}; there are {', '.join(self.commands)}"


def usage_problem(error: Any) -> str:
    """One sentence of what typer says of flags and arguments that do not fit a verb."""
    context = getattr(error, "ctx", None)
    said = " ".join(str(error.format_message()).split()).rstrip(".")
    said = said[:1].lower() + said[1:]
    if context is None or context.parent is None:
        if said.startswith("no such option: -m"):
            return "-m belongs to a verb: bluestab run -m ..."
        return f"{said}; bluestab --help shows verbs and flags"
    return f"{said}; {context.command_path} --help shows what it takes"


RUN_HELP = """\
{usage}

Choices, GROUP=NAME; bluestab list shows them, bluestab explain NAME one of them
  task  model  technique  logger  hydra/launcher (local, pool, packed, slurm)
  +sweeps=NAME, a declared sweep, with -m

Knobs, KEY=VALUE; bluestab explain KEY says what one is, --cfg job prints all
  optim.lr  optim.batch_size  optim.epochs  optim.steps  optim.warmup
  task.train  task.validation  task.test  task.text  task.label  task.train_size
  technique.NAME.KNOB  seed  store  device  keep  trainer.precision
  sweep.seeds, with -m

Examples
{examples}
Flags
  -m, --multirun   a sweep: commas divide alternatives, each over several seeds
  --dry-run        {dry_run}
  --cfg job        print the config and leave; --info plugins: what Hydra found
  --debug          show tracebacks
Lists and parentheses need quotes in the shell: 'technique=[freeze,llrd]'
"""
EXAMPLES = {
    "run": """\
  bluestab run task=biosses model=minilm technique=reinit seed=3
  bluestab run 'technique=[freeze,llrd]' technique.freeze.depth=3
  bluestab run task=classification task.train=mine.csv
  bluestab run -m 'technique=none,llrd,[freeze,llrd]' sweep.seeds=5
  bluestab run -m +sweeps=quickstart
  bluestab run -m hydra/sweeper=optuna 'search.space=[llrd]'
""",
    "check": """\
  bluestab check task=biosses technique=reinit
  bluestab check -m +sweeps=quickstart
""",
}
DRY_RUN = {
    "run": "with hydra/launcher=slurm: print the script, submit nothing",
    "check": "as without it: check starts nothing",
}


def hydra_help(verb: str, summary: str) -> str:
    """One screen for the verbs that take what Hydra takes."""
    usage = f"Usage: bluestab {verb} [-m] [KEY=VALUE]...\n\n  {summary}"
    return RUN_HELP.format(usage=usage, examples=EXAMPLES[verb], dry_run=DRY_RUN[verb])
