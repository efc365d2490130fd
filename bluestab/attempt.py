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

from bluestab.artefacts import write_curve, write_predictions, write_weights
from bluestab.audit import lost_note
from bluestab.checks import CheckedRun
from bluestab.circumstances import peak_memory_mb
from bluestab.errors import Diverged
from bluestab.memory import Sizes, is_out_of_memory, keep_freed
from bluestab.phases import Phases
from bluestab.ranks import Ranks, together
from bluestab.representations import FILE, first_pieces, of_items, write_representations
from bluestab.results import prediction_rows, result_of, rounded
from bluestab.seeding import seed_global_streams
from bluestab.types import KEPT, At, Split

if TYPE_CHECKING:
    import torch

    from bluestab.assemble import Assembly
    from bluestab.checkpoints import Found
    from bluestab.types import Progress, Watch

log = logging.getLogger("bluestab")


def train_and_score(
    run: CheckedRun,
    work: Path,
    resume: Path,
    device_name: str,
    seconds: dict[str, float],
    progress: Progress,
    watch: Watch = lambda rows: None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attempts, until one fits into memory; the first goes on from a checkpoint if there is one.

    resume       folder of the run's checkpoint
    device_name  as `devices.resolve` gives it
    watch        shown the rows of the curve after every evaluation
    """
    import torch

    from bluestab.checkpoints import discard, find, identity, set_aside

    if run.cfg["trainer"]["engine"] == "packed":
        return _alone(run, work, resume, device_name, seconds, progress, watch)
    device = torch.device(device_name)
    sizes, techniques = Sizes.of(run.cfg), run.techniques
    found = find(resume, identity(run.key, device))
    if found is not None:
        micro, evaluation = found.sizes["micro_batch"], found.sizes["eval_batch_size"]
        sizes = replace(sizes, micro_batch=micro, evaluation=evaluation)
    while True:
        spare = copy.deepcopy(techniques)  # what an attempt leaves in them must not reach the next
        attempt = Attempt(replace(run, techniques=techniques), sizes, work, resume, device)
        try:
            return attempt.run_it(found, seconds, progress, watch)
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
                discard(resume)
            else:
                raise
        found, techniques = None, spare
        del attempt
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _alone(
    run: CheckedRun,
    work: Path,
    resume: Path,
    device_name: str,
    seconds: dict[str, float],
    progress: Progress,
    watch: Watch,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A group of one."""
    from bluestab.packed.together import Place, train_and_score_together

    place = Place(run, work, progress, watch)
    (outcome,) = train_and_score_together([place], device_name, resume)
    if isinstance(outcome, Exception):
        raise outcome
    seconds.update(outcome[1]["seconds"])
    return outcome


class Attempt:
    """One try at a run, with batches of these sizes."""

    def __init__(
        self, run: CheckedRun, sizes: Sizes, work: Path, resume: Path, device: torch.device
    ) -> None:
        self.run, self.sizes, self.work = run, sizes, work
        self.resume, self.device = resume, device
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
        return self.sizes.halved(evaluating=self.assembly.module.evaluating)

    def run_it(
        self, found: Found | None, seconds: dict[str, float], progress: Progress, watch: Watch
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The two halves of the record; files of the run are written into `work`.

        Raises RankDied if another process of this run did not see it through.
        """
        cfg = self.run.cfg
        order = {
            "cfg": cfg,
            "key": self.run.key,
            "sizes": vars(self.sizes),
            "resume": str(self.resume),
            "found": None if found is None else [str(found.path), found.step],
            # vectors are noted in the order of the items, by the one process that keeps them
            "divides_evaluation": not cfg["keep_representations"],
        }
        with together(order, cfg["trainer"]["devices"], str(self.device)) as ranks:
            return self._go(ranks, found, seconds, progress, watch)

    def take_part(self, ranks: Ranks, found: Found | None) -> None:
        """The same as another rank: what it writes and returns is for nobody."""
        self._go(ranks, found, {}, lambda *_: None, lambda rows: None)

    def _go(
        self,
        ranks: Ranks,
        found: Found | None,
        seconds: dict[str, float],
        progress: Progress,
        watch: Watch,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        import torch

        from bluestab.assemble import assemble

        run, cfg = self.run, self.sizes.applied_to(self.run.cfg)
        torch.set_num_threads(cfg["trainer"]["threads"])
        keep_freed()
        phases = Phases(_wait_for(self.device) if cfg["profile"] else None)
        with _timed(seconds, "prepare"), phases("load"):
            assembly = self.assembly = assemble(
                cfg,
                data=run.data,
                model=run.model,
                techniques=run.techniques,
                seeds=run.seeds,
                device=self.device,
                progress=progress,
                init_from=run.init_from,
                key=run.key,
                resume=self.resume,
                watch=watch,
                phases=phases,
                ranks=ranks,
            )
        for told in run.data.notes:
            log.info("%s", told)
        log.info(
            "%s: %d steps, %d of warm-up", run.key, assembly.total_steps, assembly.warmup_steps
        )
        if (note := lost_note(assembly.lost, run.data.task.unit)) is not None:
            log.warning("%s=%d", note, run.data.task.max_length)
        if found is not None:
            log.info("%s goes on from step %d (%s)", run.key, found.step, found.path)
        error: Diverged | None = None
        with _timed(seconds, "fit"), phases("data"):
            try:
                seed_global_streams(run.seeds.dropout)
                _fit(assembly, None if found is None else found.path)
                ranks.agree(dict(assembly.built.model.named_parameters()))
            except Diverged as diverged:
                error = diverged
                log.warning("%s", error)
        if assembly.history.censored is not None:
            log.warning("stopped early: %s", assembly.history.censored)
        predictions: list[dict[str, Any]] = []
        metrics: dict[At, dict[Split, Any]] | None = None
        effects = None
        if error is None:
            effects = assembly.effects()
            with _timed(seconds, "score"), phases("score"):
                vectors: dict[str, np.ndarray] | None = {} if cfg["keep_representations"] else None
                metrics = _score(assembly, predictions, vectors, self.work, KEPT[cfg["keep"]])
            if vectors is not None:
                write_representations(self.work / FILE, vectors)
        seconds["total"] = sum(seconds.values())
        result = result_of(run, assembly, metrics, effects, error)
        result["micro_batch"] = self.sizes.micro_batch
        with phases("write"):
            write_curve(self.work / "curve.csv", assembly.history.rows)
            write_predictions(self.work / "predictions.parquet", predictions)
        begun = 0 if found is None else found.step
        pieces = sum(len(ids) for ids in assembly.loaders["train"].dataset["input_ids"])
        epochs = (assembly.trainer.global_step - begun) / max(1, len(assembly.loaders["train"]))
        measured = {
            "seconds": rounded(seconds),
            "phases": rounded(phases.seconds),
            "profiled": cfg["profile"],
            "tokens_per_second": round(pieces * epochs / max(seconds["fit"], 1e-9)),
            "attention": cfg["trainer"]["attention"][self.device.type],
            "precision": str(cfg["trainer"]["precision"]),
            "peak_memory_mb": peak_memory_mb(self.device),
            "eval_batch_size": self.sizes.evaluation,
            "frozen_prefix": assembly.prefix,
            "resumed_from": None if found is None else found.step,
        }
        return result, measured


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
) -> dict[At, dict[Split, Any]]:
    """Scores of the last and the best weights.

    Fills `predictions` with one row per test item, and `vectors`, unless None, with what
    `representations.py` says.
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
            write_weights(work, at, assembly.built, assembly.tokenizer, assembly.data.labels)
        if is_last:
            metrics["best"] = metrics["last"]
            predictions += [{**row, "at": "best"} for row in predictions]
            break
        with _heard(assembly, at, vectors):
            assembly.trainer.test(assembly.module, assembly.loaders["test"], verbose=False)
        module = assembly.module
        metrics[at] = {"validation": by_step[step], "test": dict(module.scores)}
        predictions += prediction_rows(
            at, assembly.examples["test"], module.predictions, module.item_logits
        )
    return metrics


@contextmanager
def _heard(assembly: Assembly, at: str, vectors: dict[str, np.ndarray] | None) -> Iterator[None]:
    """Notes the vectors of the test items while they are evaluated, if that is wanted."""
    if vectors is None:
        yield
        return
    with first_pieces(assembly.built.model) as found:
        yield
    test: Any = assembly.loaders["test"]
    rows = list(itertools.chain(*test.batch_sampler))
    vectors[at] = of_items(found, rows, test.dataset["example"])


def _wait_for(device: torch.device) -> Callable[[], object] | None:
    """What makes the device finish what it was asked; None where the host does the work."""
    import torch

    waits = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    return waits.get(device.type)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = time.perf_counter() - start
