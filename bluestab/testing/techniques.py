"""What every technique promises, tried on any of them.

Its declarations: knobs in the yaml alone, a rule for each, nonsense refused with a sentence. Its
trainings: the optimizer holds exactly what trains, with the baseline's weight decay; what is frozen
keeps its bits; evaluation is that of a bare transformers network; head start and batches are the
baseline's; the same seed gives the same bits, and so does a run that was interrupted; neutral
values do nothing; and what `effects` reports is what an independent witness saw.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from bluestab.core.errors import ConfigError
from bluestab.core.spaces import SEARCH_SPACE
from bluestab.core.types import ModelFacts
from bluestab.testing.claimed_effects import agree, effects_problems, usual_decay
from bluestab.testing.inserted import put_in
from bluestab.testing.laboratory import Lab, laboratory
from bluestab.testing.observed_training import (
    LAYERS,
    ObservedTraining,
    Spy,
    equal_weights,
    is_head,
    weights,
)
from bluestab.testing.plugins import Suite
from bluestab.testing.spaces import space_problems
from bluestab.testing.technique_arms import chosen, knobs_of, node_of, refusal, technique_class
from bluestab.training.assemble import Assembly
from bluestab.training.check import check

Place = tuple[str, str]
"""A task and a model."""


class OneTechnique(Suite):
    """technique  its name, which is that of its yaml and the key inside it
    knobs      overrides that make it fit a network of two blocks: knob -> value
    """

    technique: ClassVar[str]
    knobs: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, small_corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
        """Where tiny models train on small corpora, each combination once."""
        with laboratory(small_corpora, tmp_path_factory.mktemp("checkpoints")) as found:
            yield found

    @pytest.fixture(scope="class")
    @classmethod
    def name(cls) -> str:
        """The technique that is tried."""
        return cls.technique

    @classmethod
    def asked(cls, name: str, **knobs: Any) -> tuple[str, ...]:
        """Overrides that choose it, with other knobs if given."""
        own = {f"{name}__{knob}": value for knob, value in {**cls.knobs, **knobs}.items()}
        return chosen(name, **own)


class TechniqueDeclarations(OneTechnique):
    """What a technique says before anything is loaded.

    neutral_places  tasks and models on which its neutral values must do nothing
    """

    neutral_places: ClassVar[tuple[Place, ...]] = (("gad", "tiny"),)

    def test_knobs_live_in_the_yaml_alone(self, name: str) -> None:
        cls = technique_class(name)
        parameters = inspect.signature(cls).parameters
        assert set(parameters) == set(knobs_of(name))
        assert all(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters.values())
        assert set(cls.neutral) <= set(parameters)
        knobs = {knob: object() for knob in parameters}
        technique = cls(**knobs)
        assert {knob: getattr(technique, knob) for knob in knobs} == knobs
        assert technique.rules(facts_of(LAYERS)).keys() == knobs.keys(), "every knob has a rule"

    def test_the_search_space_holds_allowed_values_alone(self, name: str) -> None:
        spaces = node_of(name).get(SEARCH_SPACE)
        if spaces is None:
            pytest.skip(f"{name} declares no {SEARCH_SPACE}")
        for layers in (2, 6, 12, 24):
            rules = technique_class(name)(**knobs_of(name)).rules(facts_of(layers))
            assert space_problems(f"technique.{name}", spaces, rules, layers) == []

    def test_nonsense_is_refused_with_a_sentence(self, lab: Lab, name: str) -> None:
        cfg = lab.config(*self.neutral_places[0], *self.asked(name))
        for knob in knobs_of(name):
            node = {**cfg["technique"][name], knob: "nonsense"}
            with pytest.raises(ConfigError) as caught:
                check({**cfg, "technique": {name: node}})
            problems = caught.value.problems
            assert len(problems) == 1, problems
            assert f"technique.{name}.{knob} is 'nonsense'" in problems[0]

    def test_neutral_values_train_like_none(self, lab: Lab, name: str) -> None:
        for knob, value in technique_class(name).neutral.items():
            for place in self.neutral_places:
                plain = lab.trained(*place, "technique=none")[1]
                assembly, seen = lab.train_again(*place, *self.asked(name, **{knob: value}))
                assert assembly.techniques[name].is_neutral()
                effects = assembly.effects()
                assert effects_problems(assembly.techniques, effects, seen, plain) == []
                assert seen.losses == plain.losses
                for parameter, weight in plain.end.items():
                    assert torch.equal(seen.end[parameter], weight), parameter


class TechniqueTraining(OneTechnique):
    """What a technique does, on one task with one model.

    at      task and model, of `conf/task` and the tiny ones of `conf/model`
    claims  words of its own in `effects` -> how to find their values out of what was seen with the
            technique and without
    """

    at: ClassVar[Place] = ("gad", "tiny")
    claims: ClassVar[Mapping[str, Callable[[ObservedTraining, ObservedTraining], Any]]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls) -> Place:
        """Task and model on which it is tried."""
        return cls.at

    @pytest.fixture(scope="class")
    @classmethod
    def plain(cls, lab: Lab, place: Place) -> ObservedTraining:
        """The training without any technique."""
        return lab.trained(*place, "technique=none")[1]

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, lab: Lab, place: Place, name: str) -> tuple[Assembly, ObservedTraining]:
        """The training with it; skips where it is refused."""
        if said := refusal(lab, *place, *cls.asked(name)):
            pytest.skip(said)
        return lab.trained(*place, *cls.asked(name))

    @pytest.fixture(scope="class")
    @classmethod
    def seen(cls, trained: tuple[Assembly, ObservedTraining]) -> ObservedTraining:
        """What was seen of it."""
        return trained[1]

    @pytest.fixture(scope="class")
    @classmethod
    def resumed(
        cls, lab: Lab, place: Place, name: str, trained: tuple[Assembly, ObservedTraining]
    ) -> tuple[Spy, Spy, Assembly]:
        """The same training, interrupted, and gone on with."""
        return lab.resumed(*place, *cls.asked(name))

    def test_three_steps_have_finite_losses(
        self, seen: ObservedTraining, plain: ObservedTraining
    ) -> None:
        for witness in (seen, plain):
            assert len(witness.losses) == 3
            assert all(map(math.isfinite, witness.losses))
            assert witness.forwards >= 3, "training goes on in training mode"
        assert not plain.silent, "plain training has dropout everywhere"

    def test_groups_partition_what_trains(self, seen: ObservedTraining) -> None:
        held = [name for group in seen.groups for name in group]
        assert len(held) == len(set(held))
        assert set(held) == seen.gradient
        assert set(held) | set(seen.frozen) == set(seen.start)
        assert any(map(is_head, held)), "the head always trains"

    def test_weight_decay_is_the_baseline_s(
        self, trained: tuple[Assembly, ObservedTraining], name: str, plain: ObservedTraining
    ) -> None:
        """Unless a technique replaces it and says so."""
        assembly, seen = trained
        usual = usual_decay(seen, plain)
        other = {n: decay for n, decay in seen.decay.items() if decay != usual[n]}
        assert set(other.values()) <= {0.0}
        assert len(other) == assembly.effects()[name].get("undecayed_tensors", 0)
        for parameter, value in plain.decay.items():
            assert value == (0.01 if plain.start[parameter].ndim > 1 else 0.0)

    def test_frozen_weights_keep_their_bits_and_the_others_move(
        self, seen: ObservedTraining, plain: ObservedTraining
    ) -> None:
        assert not set(seen.frozen) & set(seen.moved)
        # a key bias shifts all scores of a query alike, so softmax cancels it: its gradient is
        # noise
        sure = {name for name in plain.moved if not name.endswith("key.bias")}
        assert sure - set(seen.frozen) <= set(seen.moved)
        assert len(plain.moved) > 0.9 * len(plain.start), "three steps move nearly every tensor"

    def test_without_a_gradient_nothing_moves(self, seen: ObservedTraining) -> None:
        """In no step: neither moments of earlier gradients nor weight decay reach it."""
        for step, (before, after) in enumerate(itertools.pairwise(seen.trail), start=1):
            for name, zeros in seen.gradients.items():
                if zeros[step] is None:
                    assert torch.equal(before[name], after[name]), f"{name} in step {step}"

    def test_the_reference_is_still_the_checkpoint(
        self, trained: tuple[Assembly, ObservedTraining]
    ) -> None:
        assembly, seen = trained
        reference = assembly.built.plain(assembly.built.reference)
        for name, weight in seen.checkpoint.items():
            assert torch.equal(reference[name], weight), name

    def test_evaluation_is_that_of_the_bare_network(
        self, lab: Lab, place: tuple[str, str], trained: tuple[Assembly, ObservedTraining]
    ) -> None:
        assembly, seen = trained
        assembly.trainer.validate(assembly.module, assembly.loaders["validation"], verbose=False)
        expected, logits = bare_scores(lab.checkpoint(place[1]), assembly, seen)
        for found, bare in zip(assembly.module.item_logits, logits, strict=True):
            # what was put around a layer is added to its output, not to its weight
            assert np.allclose(found, bare, rtol=0, atol=1e-5 if seen.added else 0)
        if seen.added:  # correlations may differ more than the nearly constant values they are of
            known = {n: v for n, v in expected.items() if v is not None}
            near: dict[str, Any] = {n: pytest.approx(v, abs=1e-3) for n, v in known.items()}
            expected = {**expected, **near}
        assert dict(assembly.module.scores) == expected
        last = assembly.history.rows[-1]
        assert {metric: last[metric] for metric in expected} == expected

    def test_head_start_and_batches_are_the_baseline_s(
        self, seen: ObservedTraining, plain: ObservedTraining
    ) -> None:
        heads = [name for name in plain.start if is_head(name)]
        assert heads
        for name in heads:
            assert torch.equal(seen.start[name], plain.start[name]), name
        assert seen.batches == plain.batches
        assert len({item for batch in plain.batches[:2] for item in batch}) == 24

    def test_effects_are_true(
        self, trained: tuple[Assembly, ObservedTraining], plain: ObservedTraining
    ) -> None:
        assembly, seen = trained
        assert (
            effects_problems(assembly.techniques, assembly.effects(), seen, plain, self.claims)
            == []
        )

    def test_same_seed_same_bits(
        self, resumed: tuple[Spy, Spy, Assembly], seen: ObservedTraining
    ) -> None:
        """A second start, which is ended after its last step."""
        again, _, _ = resumed
        assert again.losses == seen.losses
        assert again.batches == seen.batches
        assert all(map(equal_weights, again.trail, seen.trail))

    def test_resumed_equals_uninterrupted(
        self,
        trained: tuple[Assembly, ObservedTraining],
        resumed: tuple[Spy, Spy, Assembly],
        name: str,
    ) -> None:
        """A third start, from the checkpoint after the second of three steps."""
        assembly, seen = trained
        _, spy, goes_on = resumed
        assert spy.losses == seen.losses[2:]
        assert spy.batches == seen.batches[2:]
        assert spy.rates == {n: list(rates[2:]) for n, rates in seen.rates.items()}
        assert equal_weights(weights(goes_on.built.model), seen.end)
        assert goes_on.history.rows == seen.rows
        assert agree(goes_on.effects(), assembly.effects())


class TechniqueSuite(TechniqueDeclarations, TechniqueTraining):
    """Both; a child names `technique` and, where its effects have words of their own, `claims`."""

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, lab: Lab, place: Place, name: str) -> tuple[Assembly, ObservedTraining]:
        """The training with it; fails where it is refused, for then nothing would be tried."""
        if said := refusal(lab, *place, *cls.asked(name)):
            pytest.fail(
                f"{said}; {name} is refused on {' with '.join(place)}: name `knobs` that fit, or "
                "another task and model, `at`",
                pytrace=False,
            )
        return lab.trained(*place, *cls.asked(name))


def facts_of(layers: int) -> ModelFacts:
    """Of a model with that many blocks."""
    return ModelFacts("any", "bert", layers, hidden_size=64, max_length=8, pooler=True)


def bare_scores(
    folder: Path, assembly: Assembly, seen: ObservedTraining
) -> tuple[dict[str, float | None], list[np.ndarray]]:
    """Scores and logits of a network that plain transformers built, given the trained weights."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )

    task, labels = assembly.data.task, assembly.data.labels
    words = task.output.per_word
    auto: Any = AutoModelForTokenClassification if words else AutoModelForSequenceClassification
    network = auto.from_pretrained(folder, num_labels=len(labels), attn_implementation="eager")
    parameters = dict(network.named_parameters())
    assert parameters.keys() == seen.bare.keys(), "what was trained loads into plain transformers"
    predictions, found = {}, {}
    network.eval()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(seen.bare[name])
        if "inner_adaptors" in assembly.techniques:
            scale: float = assembly.techniques["inner_adaptors"].gate_scale  # type: ignore[attr-defined]
            put_in(network, seen.end, scale)
        for batch in assembly.loaders["validation"]:
            inputs = {k: v for k, v in batch.items() if k not in ("labels", "items")}
            answers = network(**inputs).logits
            for row, item in enumerate(batch["items"].tolist()):
                logits = answers[row]
                counted = batch["labels"][row] != -100 if logits.ndim == 2 else None
                logits = logits[None] if counted is None else logits[counted]
                example = assembly.examples["validation"][item]
                words = assembly.loaders["validation"].dataset["rows"][item]
                predictions[item] = task.decode(logits.numpy(), words, example, labels)
                found[item] = logits.numpy()
    targets = [example.target for example in assembly.examples["validation"]]
    order = range(len(targets))
    scores = task.score([predictions[i] for i in order], targets)
    logits = [found[i] for i in order]
    return scores | task.calibration(logits, targets, labels), logits
