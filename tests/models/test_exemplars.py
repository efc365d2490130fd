"""Which items a replay buffer keeps, against choices made by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bluestab.core.keys import hashed_config  # noqa: E402
from bluestab.core.seeding import generator  # noqa: E402
from bluestab.models.exemplars import (  # noqa: E402
    class_balanced,
    classes,
    every,
    most_informative,
    trace,
)
from bluestab.techniques.er import Er  # noqa: E402
from tests.support.earlier_toy import answers, apart, earlier, loss, trained  # noqa: E402

BLOCK = ("bert.encoder.layer.0.dense.weight", "bert.encoder.layer.0.dense.bias")


def labelled(labels: Any) -> Any:
    """A task whose items have these labels."""
    rows = torch.as_tensor(labels)
    return replace(
        earlier()[0], rows=lambda: len(rows), batch=lambda at: {"labels": rows[list(at)]}
    )


def test_the_class_of_an_item() -> None:
    assert classes(labelled([0, 2, 2, 1])) == [0, 2, 2, 1]
    words = [[0, 0, -100], [0, 1, -100], [0, 2, 1], [0, 1, 1]]
    assert classes(labelled(words)) == [0, 1, 2, 1], "the rarest tag of the item"
    flags = [[1.0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert classes(labelled(flags)) == [2, 0, -1]
    assert classes(labelled([[0.5], [3.0]])) == [-1, -1], "numbers have none"


def test_as_many_of_each_class_as_there_is_room_for() -> None:
    """Ten, four and one of three classes, and a task of one class."""
    tasks = [labelled([0] * 10 + [1] * 4 + [2]), labelled([5] * 20)]

    def chosen(size: int, seed: int = 0) -> list[tuple[int, int]]:
        return class_balanced(tasks, size, generator(seed, "buffer"))

    def counts(size: int) -> dict[tuple[int, int], int]:
        own = [classes(task) for task in tasks]
        return dict(Counter((task, own[task][row]) for task, row in chosen(size)))

    assert counts(4) == {(0, 0): 1, (0, 1): 1, (0, 2): 1, (1, 5): 1}
    assert counts(13) == {(0, 0): 4, (0, 1): 4, (0, 2): 1, (1, 5): 4}
    assert counts(18) == {(0, 0): 7, (0, 1): 4, (0, 2): 1, (1, 5): 6}
    assert chosen(35) == every(tasks) == chosen(99)
    assert chosen(9) == chosen(9) != chosen(9, seed=1)
    assert {*chosen(4)} < {*chosen(9)}, "a larger buffer holds the smaller one"


def test_those_of_most_fisher_information() -> None:
    """The squared gradient of the log-likelihood of all labels of an item, by hand."""
    tasks = earlier()
    traces: dict[tuple[int, int], float] = {}
    for number, task in enumerate(tasks):
        for row in range(task.size):
            item = task.batch([row])
            task.network.zero_grad()
            n = int((item["labels"] != -100).sum())
            (n * loss(answers(task.network, item), item)).backward()
            own = (task.network.get_parameter(name).grad for name in BLOCK)
            traces[number, row] = sum(float((g**2).sum()) for g in own)
    ours = [[trace(task, row, BLOCK) for row in range(task.size)] for task in tasks]
    assert ours == [[pytest.approx(traces[n, row]) for row in range(7)] for n in (0, 1)]
    found = most_informative(ours, 5)
    best = [sorted(((t, r) for t, r in traces if t == n), key=lambda i: -traces[i]) for n in (0, 1)]
    assert found == sorted([*best[0][:3], *best[1][:2]])
    assert most_informative(ours, 99) == every(tasks)
    assert most_informative([[1.0, 2.0, 2.0]], 2) == [(0, 1), (0, 2)]
    assert most_informative([[2.0, 2.0, 1.0]], 1) == [(0, 0)]


def test_a_buffer_of_its_kind_is_replayed() -> None:
    def er(**knobs: Any) -> Er:
        return Er(**{"beta": 0.5, "buffer_size": 4, "buffer": "reservoir", "draws": 1, **knobs})

    found = {}
    for buffer in ("reservoir", "class_balanced", "fisher"):
        technique = er(buffer=buffer)
        found[buffer], _ = trained(technique, 2)
        assert len(technique._buffer) == 4
    assert apart(found["reservoir"], found["class_balanced"])
    assert apart(found["reservoir"], found["fisher"])
    assert apart(found["reservoir"], trained(er(draws=2), 2)[0])
    technique = er(buffer_size="all")
    trained(technique, 1)
    assert technique._buffer == every(earlier())


def test_the_usual_buffer_keeps_the_key_of_before(cfg_of_er: Any) -> None:
    then = hashed_config(cfg_of_er(), model_id="m", fingerprint={})
    assert dict(then["technique"])["er"].keys() == {"kind", "beta", "buffer_size"}
    now = hashed_config(cfg_of_er(buffer="fisher", draws=2), model_id="m", fingerprint={})
    assert dict(now["technique"])["er"].keys() > {"buffer", "draws"}


@pytest.fixture
def cfg_of_er() -> Any:
    from bluestab.core.config import compose, resolved

    def cfg(**knobs: Any) -> Any:
        found = resolved(compose(["task=gad", "model=tiny", "technique=er"]))
        found["technique"]["er"] |= knobs
        return found

    return cfg
