"""What the optimizer will do with each parameter, by name; compiled into groups once, at the end.

Techniques edit the plan, never the groups. Edits commute: learning-rate scales multiply,
`trainable` is a logical AND, and weight decay can only be switched off. So the order of
techniques cannot change what is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from bluestab.models.layers import LayerMap


@dataclass(frozen=True)
class Rule:
    """One parameter: learning-rate multiplier (>= 0), weight decay (>= 0), whether it trains."""

    lr_scale: float
    weight_decay: float
    trainable: bool = True


class ParamPlan(Mapping[str, Rule]):
    """Immutable map parameter name -> Rule; every edit returns a new plan."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = dict(rules)

    def __getitem__(self, name: str) -> Rule:
        return self._rules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def _edited(self, names: Iterable[str], edit: Callable[[Rule, str], Rule]) -> ParamPlan:
        chosen = set(names)
        unknown = chosen - self._rules.keys()
        if unknown:
            raise KeyError(f"no such parameter in the plan: {sorted(unknown)[0]}")
        return ParamPlan({n: edit(r, n) if n in chosen else r for n, r in self._rules.items()})

    def scaled(self, factors: Mapping[str, float]) -> ParamPlan:
        """Multiply learning rates: name -> factor. Names left out keep theirs."""
        return self._edited(factors, lambda r, n: replace(r, lr_scale=r.lr_scale * factors[n]))

    def frozen(self, names: Iterable[str]) -> ParamPlan:
        """These parameters never train."""
        return self._edited(names, lambda r, n: replace(r, trainable=False))

    def undecayed(self, names: Iterable[str]) -> ParamPlan:
        """These parameters have no weight decay of the optimizer's: something else replaces it."""
        return self._edited(names, lambda r, n: replace(r, weight_decay=0.0))


def base_plan(parameters: Mapping[str, nn.Parameter], weight_decay: float) -> ParamPlan:
    """Everything trains at the full rate; vectors (biases, LayerNorm) are not decayed.

    The usual no-decay list names `bias` and `LayerNorm.weight`; in these encoders they are exactly
    the parameters with fewer than two dimensions, which needs no list of names.
    """
    return ParamPlan(
        {
            name: Rule(lr_scale=1.0, weight_decay=weight_decay if p.ndim >= 2 else 0.0)
            for name, p in parameters.items()
        }
    )


def param_groups(
    plan: ParamPlan, parameters: Mapping[str, nn.Parameter], layers: LayerMap, lr: float
) -> list[dict[str, Any]]:
    """Optimizer groups of the trainable parameters: one per (depth, rate, decay), not per tensor.

    Each group carries `lr` (scale included, so that any schedule keeps the ratios), `lr_scale`,
    `weight_decay`, `depth` and `names`. Raises ValueError unless the groups hold every trainable
    parameter exactly once.
    """
    groups: dict[tuple[int, float, float], dict[str, Any]] = {}
    for name, parameter in parameters.items():
        rule = plan[name]
        if not rule.trainable:
            continue
        slot = (layers.depth[name], rule.lr_scale, rule.weight_decay)
        group = groups.setdefault(
            slot,
            {
                "params": [],
                "names": [],
                "depth": slot[0],
                "lr": lr * rule.lr_scale,
                "lr_scale": rule.lr_scale,
                "weight_decay": rule.weight_decay,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    built = [name for group in groups.values() for name in group["names"]]
    wanted = [name for name in plan if plan[name].trainable]
    if sorted(built) != sorted(wanted):
        stray = set(built) ^ set(wanted)
        raise ValueError(f"optimizer groups do not partition the parameters: {sorted(stray)[:3]}")
    if not built:
        raise ValueError("nothing is left to train")
    return list(groups.values())
