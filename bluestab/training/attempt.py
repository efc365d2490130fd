"""Attempts at a run, until one fits into memory: assemble -> fit -> score -> both record halves."""

from __future__ import annotations

import copy
import gc
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluestab.core.errors import Diverged
from bluestab.core.seeding import seed_global_streams
from bluestab.core.types import WEIGHTS_TO_KEEP, At, Split
from bluestab.store.artefacts import PATH_INTEGRAL
from bluestab.store.representations import first_pieces, of_items
from bluestab.tasks.base import Scores
from bluestab.training.job import Job
from bluestab.training.loop.batches import row_lengths
from bluestab.training.loop.memory import Sizes, is_out_of_memory, keep_freed
from bluestab.training.loop.phases import Phases, wait_for
from bluestab.training.loop.ranks import together
from bluestab.training.results import Outcome, measured_of, prediction_rows, result_of, write_files
from bluestab.training.stages import earlier_entries, earlier_scores
from bluestab.training.truncation import truncation_note
from bluestab.training.weights import write_weights

if TYPE_CHECKING:
    from bluestab.training.assemble import Assembly
    from bluestab.training.loop.checkpoints import Found

log = logging.getLogger("bluestab")


def train_and_score(job: Job) -> Outcome:
    """Attempts, until one fits into memory; the first goes on from a checkpoint if there is one.

    Returns both halves of the record; files of the run are written into the job's `work`.

    Raises what goes wrong, out of memory included if there are no smaller sizes to try.
    """
    import torch

    from bluestab.training.loop.checkpoints import discard, find, identity, set_aside

    run, device = job.run, torch.device(job.device)
    sizes = Sizes.of(run.cfg)
    found = find(job.resume, identity(run.key, device))
    if found is not None:
        micro, evaluation = found.sizes["micro_batch"], found.sizes["eval_batch_size"]
        sizes = replace(sizes, micro_batch=micro, evaluation=evaluation)
    while True:
        # what an attempt leaves in them must not reach the next, nor stay for the rest of a sweep
        techniques = copy.deepcopy(run.techniques)
        attempt = Attempt(replace(job, run=replace(run, techniques=techniques)), sizes)
        try:
            return attempt.run_it(found)
        except Exception as error:
            if found is not None and attempt.assembly is not None and not attempt.gone_on:
                sizes = Sizes.of(run.cfg)
                set_aside(found.path, f"going on from it failed ({type(error).__name__}: {error})")
            elif (smaller := attempt.smaller(error)) is not None:
                log.warning("out of memory: %s", str(error).splitlines()[0] if str(error) else "")
                sizes = smaller
                log.warning(
                    "the run starts anew with %d items at once, %d in evaluation",
                    sizes.micro_batch or sizes.batch,
                    sizes.evaluation,
                )
                discard(job.resume)
            else:
                raise
        found = None
        del attempt, techniques
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


class Attempt:
    """One try at a run, with batches of these sizes."""

    def __init__(self, job: Job, sizes: Sizes) -> None:
        import torch

        self.job, self.run, self.sizes = job, job.run, sizes
        self.device = torch.device(job.device)
        self.assembly: Assembly | None = None

    @property
    def gone_on(self) -> bool:
        """Whether training went on from the checkpoint it was given."""
        checkpoints = None if self.assembly is None else self.assembly.checkpoints
        return checkpoints is not None and checkpoints.gone_on

    def smaller(self, error: Exception) -> Sizes | None:
        """Sizes to try next, if a lack of memory in training or evaluation ended this attempt."""
        if self.assembly is None or self.run.cfg["on_oom"] != "halve":
            return None
        if not is_out_of_memory(error):
            return None
        return self.sizes.halved(
            evaluating=self.assembly.module.evaluating,
            whole=self.run.data.task.output.searches,
        )

    def run_it(self, found: Found | None) -> Outcome:
        """Both halves of the record; files of the run are written into the job's `work`.

        found  checkpoint to go on from

        Raises RankDied if another process of this run did not see it through.
        """
        cfg = self.run.cfg
        order = {
            "cfg": cfg,
            "key": self.run.key,
            "sizes": vars(self.sizes),
            "resume": str(self.job.resume),
            "found": None if found is None else [str(found.path), found.step],
            # vectors are noted in the order of the items, by the one process that keeps them
            "divides_evaluation": not cfg["keep_representations"],
        }
        with together(order, cfg["trainer"]["devices"], self.job.device) as ranks:
            self.job = replace(self.job, ranks=ranks)
            return self.take_part(found)

    def take_part(self, found: Found | None) -> Outcome:
        """The same as one of the job's ranks; what any but rank 0 writes and returns is for nobody.

        found  checkpoint to go on from
        """
        import torch

        cfg, seconds = self.sizes.applied_to(self.run.cfg), self.job.seconds
        torch.set_num_threads(cfg["trainer"]["threads"])
        keep_freed()
        phases = Phases(wait_for(self.device) if cfg["profile"] else None)
        with _timed(seconds, "prepare"), phases("load"):
            assembly = self.assembly = self._assembled(cfg, phases)
        self._log_start(assembly, found)
        with _timed(seconds, "fit"), phases("data"):
            error = self._fitted(assembly, found)
        if assembly.history.censored is not None:
            log.warning("stopped early: %s", assembly.history.censored)
        predictions: list[dict[str, Any]] = []
        vectors: dict[str, np.ndarray] | None = None
        metrics, effects = None, None
        earlier: list[dict[str, Any]] = []
        if error is None:
            effects = assembly.effects()
            vectors = {} if cfg["keep_representations"] else None
            with _timed(seconds, "score"), phases("score"):
                scored = self.run.stages if assembly.earlier else ()
                by_at: dict[At, list[dict[Split, Scores]]] = {}

                def look(at: At) -> None:
                    by_at[at] = earlier_scores(
                        scored,
                        assembly.earlier,
                        assembly.built,
                        assembly.trainer,
                        assembly.module.vectors,
                        cfg["trainer"],
                    )

                metrics = _score(
                    assembly,
                    predictions,
                    vectors,
                    self.job.work,
                    WEIGHTS_TO_KEEP[cfg["keep"]],
                    look,
                )
                earlier = earlier_entries(scored, by_at)
        seconds["total"] = sum(seconds.values())
        result = result_of(
            self.run, assembly, metrics, effects, error, self.sizes.micro_batch, earlier
        )
        with phases("write"):
            write_files(self.job.work, assembly.history.rows, predictions, vectors)
        measured = measured_of(
            self.run,
            self.device,
            seconds=seconds,
            phases=phases.seconds,
            pieces=_pieces(assembly, found),
            eval_batch_size=self.sizes.evaluation,
            frozen_prefix=assembly.prefix,
            resumed_from=None if found is None else found.step,
            memory=assembly.module.ledger.report(),
        )
        return result, measured

    def _assembled(self, cfg: dict[str, Any], phases: Phases) -> Assembly:
        """All that takes part in the training, wired; `cfg` has the sizes of this attempt."""
        from bluestab.training.assemble import assemble

        run, job = self.run, self.job
        return assemble(
            replace(run, cfg=cfg),
            device=self.device,
            progress=job.progress,
            resume=job.resume,
            watch=job.watch,
            phases=phases,
            ranks=job.ranks,
        )

    def _log_start(self, assembly: Assembly, found: Found | None) -> None:
        """Log what the run is about to do, and which share of its texts is truncated."""
        run = self.run
        for note in run.data.notes:
            log.info("%s", note)
        log.info(
            "%s: %d steps, %d of warm-up", run.key, assembly.total_steps, assembly.warmup_steps
        )
        if (cut := truncation_note(assembly.lost, run.data.task.unit)) is not None:
            log.warning("%s=%d", cut, run.data.task.max_length)
        if found is not None:
            log.info("%s goes on from step %d (%s)", run.key, found.step, found.path)

    def _fitted(self, assembly: Assembly, found: Found | None) -> Diverged | None:
        """Train to the end; the error of a run that diverged, which is a result."""
        try:
            seed_global_streams(self.run.seeds.dropout)
            _fit(assembly, None if found is None else found.path)
            self.job.ranks.agree(dict(assembly.built.model.named_parameters()))
        except Diverged as diverged:
            log.warning("%s", diverged)
            return diverged
        return None


def _pieces(assembly: Assembly, found: Found | None) -> float:
    """How many word pieces this attempt passed in training."""
    batches = assembly.loaders["train"]
    per_epoch = sum(row_lengths(batches.dataset))
    steps = assembly.trainer.global_step - (0 if found is None else found.step)
    return per_epoch * steps / max(1, len(batches))


def _fit(assembly: Assembly, checkpoint: Path | None = None) -> None:
    try:
        assembly.trainer.fit(
            assembly.module,
            assembly.loaders["train"],
            assembly.loaders["validation"],
            ckpt_path=checkpoint,
            weights_only=True,
        )
    except SystemExit as error:  # how Lightning leaves `fit` after Ctrl-C
        raise KeyboardInterrupt from error
    rows = assembly.history.rows
    if not rows or rows[-1]["step"] != assembly.trainer.global_step:
        # the last evaluation inside `fit` was earlier than the last step
        assembly.trainer.validate(assembly.module, assembly.loaders["validation"], verbose=False)
    if not all(np.isfinite(logits).all() for logits in assembly.module.item_logits):
        raise Diverged(assembly.trainer.global_step)  # no loss saw what the last update broke


def _score(
    assembly: Assembly,
    predictions: list[dict[str, Any]],
    vectors: dict[str, np.ndarray] | None,
    work: Path,
    keep: tuple[At, ...],
    look: Callable[[At], None],
) -> dict[At, dict[Split, Any]]:
    """Scores of the last and the best weights, at each of which `look` is called.

    Fills `predictions` with one row per test item, and `vectors`, unless None, with what
    `store/representations.py` says.
    """
    history = assembly.history
    task = assembly.data.task
    names = (*task.metrics, *task.extras)
    by_step = {row["step"]: {name: row[name] for name in names} for row in history.rows}
    metrics: dict[At, dict[Split, Any]] = {}
    last = assembly.trainer.global_step
    places: tuple[tuple[At, int | None], ...] = (("last", last), ("best", history.best_step))
    for at, step in places:
        is_last = at == "best" and step == last
        if at == "best" and not is_last:
            history.restore_best()
        if at in keep:
            write_weights(
                work, at, assembly.built, assembly.tokenizer, assembly.data.labels, assembly.base
            )
            if at == "last" and assembly.path_integral is not None:
                assembly.path_integral.write(work / "checkpoint" / at / PATH_INTEGRAL)
        if is_last:
            metrics["best"] = metrics["last"]
            predictions += [{**row, "at": "best"} for row in predictions]
            break
        with _vectors(assembly, at, vectors):
            assembly.trainer.test(assembly.module, assembly.loaders["test"], verbose=False)
        look(at)
        module = assembly.module
        metrics[at] = {"validation": by_step[step], "test": dict(module.scores)}
        predictions += prediction_rows(
            at, assembly.examples["test"], module.predictions, module.item_logits
        )
    return metrics


@contextmanager
def _vectors(assembly: Assembly, at: str, vectors: dict[str, np.ndarray] | None) -> Iterator[None]:
    """Collects the vectors of the test items inside, by a forward hook; None: does nothing."""
    if vectors is None:
        yield
        return
    with first_pieces(assembly.built.model) as found:
        yield
    test: Any = assembly.loaders["test"]
    rows = list(itertools.chain(*test.batch_sampler))
    vectors[at] = of_items(found, rows, test.dataset["example"])


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = time.perf_counter() - start
