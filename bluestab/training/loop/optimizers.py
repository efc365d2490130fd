"""The optimizers a run can be trained with: AdamW, with or without bias correction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


class UncorrectedAdamW(torch.optim.Optimizer):
    """AdamW whose moments are not corrected for starting at zero, as in BERT's own code.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - lr (m / (sqrt(v) + eps) + decay w)

    Devlin et al. 2019 trained with this rule, and `BertAdam` and transformers' `correct_bias=False`
    kept it. Against AdamW, step t is sqrt(1 - b2^t) / (1 - b1^t) as long (Mosbach et al. 2021,
    equation 1; `eps` apart): 0.32 at step 1, 0.15 at step 10, 0.80 at step 1000 for b1 = 0.9,
    b2 = 0.999. `BertAdam` also clipped each tensor by itself; here clipping is the run's.

    groups  as `param_plan.param_groups` gives them, each with its `lr` and `weight_decay`
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(list(groups), {"betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter] = {
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
            gradients = [p.grad for p in parameters]
            means = [self.state[p]["exp_avg"] for p in parameters]
            squares = [self.state[p]["exp_avg_sq"] for p in parameters]
            lr, decay = group["lr"], group["weight_decay"]
            uncorrected_(
                parameters, gradients, means, squares, lr, decay, group["betas"], group["eps"]
            )
        return loss


class MergedAdamW(torch.optim.Optimizer):
    """The updates of `adamw`, bit for bit, for all groups of one rate and decay at once.

    What a GPU waits for, where twenty runs are stepped one after another, is the host: with two
    groups per layer, most of the time of torch's optimizer goes into beginning each of them.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        *,
        betas: tuple[float, float],
        eps: float,
        bias_correction: bool,
    ) -> None:
        super().__init__(list(groups), {"betas": betas, "eps": eps})
        self._corrects = bias_correction

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("no closure: it would be called for each run, not for all")
        alike: dict[tuple[Any, ...], list[torch.Tensor]] = {}
        for group in self.param_groups:
            settings = (group["lr"], group["weight_decay"], group["betas"], group["eps"])
            own = alike.setdefault(settings, [])
            own += [p for p in group["params"] if p.grad is not None]
        for (lr, decay, betas, eps), parameters in alike.items():
            if parameters:
                self._update(parameters, float(lr), float(decay), betas, float(eps))
        return None

    def _update(
        self,
        parameters: list[torch.Tensor],
        lr: float,
        decay: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        gradients: Any = [parameter.grad for parameter in parameters]
        means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        if not self._corrects:
            uncorrected_(parameters, gradients, means, squares, lr, decay, betas, eps)
            return
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            lr=lr,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=decay,
            eps=eps,
            amsgrad=False,
            maximize=False,
        )


def uncorrected_(
    parameters: list[torch.Tensor],
    gradients: list[torch.Tensor],
    means: list[torch.Tensor],
    squares: list[torch.Tensor],
    lr: float,
    decay: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """One update of `UncorrectedAdamW`, in place."""
    beta1, beta2 = betas
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
    scale = torch._foreach_sqrt(squares)
    torch._foreach_add_(scale, eps)
    torch._foreach_mul_(parameters, 1 - lr * decay)
    torch._foreach_addcdiv_(parameters, means, scale, -lr)


def adamw(
    groups: Sequence[dict[str, Any]],
    *,
    betas: tuple[float, float],
    eps: float,
    bias_correction: bool,
) -> torch.optim.Optimizer:
    """AdamW with decoupled weight decay (Loshchilov & Hutter 2019)."""
    if bias_correction:
        # one pass over memory instead of eight: a sixth of a step of a small model on a CPU
        return torch.optim.AdamW(list(groups), betas=betas, eps=eps, fused=True)
    return UncorrectedAdamW(groups, betas=betas, eps=eps)
