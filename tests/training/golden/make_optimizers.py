"""Makes the golden files of optimizers, schedules and losses with torch and timm.

    python tests/training/golden/make_optimizers.py

Needs torch and timm (the extra `parity`); the tests that read the files do not. Made with torch 2.13.0 (CPU),
timm 1.0.31 and NumPy 2.4.6.
"""

import json
from pathlib import Path

import numpy as np
import torch
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from timm.optim import Lamb, Lars, RMSpropTF
from torch.nn.functional import cross_entropy

FOLDER = Path(__file__).parent
SHAPES = ((5,), (4, 3), (3, 2, 2, 4))
STEPS = 12
# The third step and the last: enough to tell that all between are right.
KEPT = (3, STEPS)
# A name, torch's class, its arguments, and the weight decay of tensors with more than one dimension.
OPTIMIZERS = (
    ("sgd", torch.optim.SGD, {"momentum": 0.9}, 0.1),
    ("sgd_plain", torch.optim.SGD, {}, 0.1),
    ("sgd_nesterov", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, 0.1),
    ("adamw", torch.optim.AdamW, {"eps": 1e-3}, 0.5),
    ("adam", torch.optim.Adam, {"eps": 1e-3}, 0.5),
    ("lamb", Lamb, {"max_grad_norm": None}, 0.1),
    ("lamb_clipped", Lamb, {"max_grad_norm": 3.0}, 0.1),
    ("lamb_always", Lamb, {"max_grad_norm": None, "always_adapt": True}, 0.1),
    ("lars", Lars, {"momentum": 0.9, "trust_coeff": 0.5}, 0.1),
    ("lars_nesterov", Lars, {"momentum": 0.9, "nesterov": True, "trust_coeff": 0.5}, 0.1),
    ("rmsprop", RMSpropTF, {"alpha": 0.9, "momentum": 0.9, "eps": 0.1}, 0.1),
    ("rmsprop_plain", RMSpropTF, {"alpha": 0.9, "eps": 0.1}, 0.1),
    ("lars_always", Lars, {"momentum": 0.9, "always_adapt": True, "trust_coeff": 0.5}, 0.1),
)


def optimizers() -> dict[str, np.ndarray]:
    """Three variables after some steps with given gradients and a changing rate."""
    random = np.random.default_rng(0)
    start = [random.normal(size=shape).astype("float32") for shape in SHAPES]
    start[0][:] = 0  # as biases start; trust ratios meet a norm of zero
    # From small to large, so that a norm of 3 clips some steps and leaves others alone.
    sizes = np.geomspace(0.1, 3, STEPS).astype("float32")
    grads = [[size * random.normal(size=shape).astype("float32") for shape in SHAPES] for size in sizes]
    rates = 0.1 * (1 + np.cos(np.arange(STEPS) / 4)).astype("float32")
    found = {f"start{i}": value for i, value in enumerate(start)}
    found |= {f"grads{i}": np.stack([step[i] for step in grads]) for i in range(len(SHAPES))}
    found["rates"] = rates
    for name, make, arguments, decay in OPTIMIZERS:
        values = [torch.nn.Parameter(torch.tensor(value)) for value in start]
        groups = [{"params": values[:1], "weight_decay": 0.0}, {"params": values[1:], "weight_decay": decay}]
        optimizer = make(groups, lr=1.0, **arguments)
        for step, rate in enumerate(rates):
            for value, gradient in zip(values, grads[step], strict=True):
                value.grad = torch.tensor(gradient)
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
            optimizer.step()
            if step + 1 in KEPT:
                found |= {f"{name}_{step + 1}_{i}": v.detach().numpy().copy() for i, v in enumerate(values)}
    return found


def schedules() -> dict[str, list[float]]:
    """Rates at steps 0 to 19 of torch's schedulers, from 0.5."""
    kinds = torch.optim.lr_scheduler

    def rates(make: type, *arguments: object, **named: object) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
        return follow(optimizer, make(optimizer, *arguments, **named))

    def follow(optimizer: torch.optim.Optimizer, scheduler: object) -> list[float]:
        found = []
        for _ in range(20):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    parts = [
        kinds.LinearLR(optimizer, start_factor=0.02, total_iters=4),
        kinds.CosineAnnealingLR(optimizer, T_max=15, eta_min=0.01),
    ]
    return {
        "warmup_cosine": follow(optimizer, kinds.SequentialLR(optimizer, parts, milestones=[4])),
        "cosine": rates(kinds.CosineAnnealingLR, T_max=19, eta_min=0.01),
        "step": rates(kinds.MultiStepLR, [6, 11], gamma=0.1),
        "polynomial": rates(kinds.PolynomialLR, total_iters=16, power=2.0),
        "staircase": rates(kinds.StepLR, 3, gamma=0.94),
        "exponential": rates(kinds.ExponentialLR, gamma=0.94),
    }


def losses() -> dict[str, np.ndarray]:
    """The loss of each of six images of five classes, and its gradient, summed over them."""
    random = np.random.default_rng(1)
    logits = torch.tensor(3 * random.normal(size=(6, 5)).astype("float32"), requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    shares = torch.tensor(random.dirichlet([0.3] * 5, size=6).astype("float32"))
    weights = torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0])
    smoothed = 0.9 * shares + 0.1 / 5
    soft, bce = SoftTargetCrossEntropy(), BinaryCrossEntropy

    def each(loss: torch.nn.Module, target: torch.Tensor) -> torch.Tensor:
        return torch.stack([loss(x[None], t[None]) for x, t in zip(logits, target, strict=True)])

    cases = {
        "ce": cross_entropy(logits, labels, reduction="none"),
        "ce_smooth": cross_entropy(logits, labels, reduction="none", label_smoothing=0.1),
        "ce_weighted": cross_entropy(logits, labels, weights, reduction="none", label_smoothing=0.1),
        "ce_shares": each(soft, shares),
        "ce_shares_weighted": cross_entropy(logits, shares, weights, reduction="none", label_smoothing=0.1),
        "bce": each(bce(smoothing=0.0), labels),
        "bce_smooth": each(bce(smoothing=0.1), labels),
        "bce_shares": each(bce(), smoothed),
        "bce_threshold": each(bce(target_threshold=0.2), smoothed),
        "bce_weighted": each(bce(smoothing=0.1, weight=weights), labels),
    }
    found = {"logits": logits.detach(), "labels": labels, "shares": shares, "weights": weights}
    for name, values in cases.items():
        found[name] = values.detach()
        (found[f"{name}_gradient"],) = torch.autograd.grad(values.sum(), logits, retain_graph=True)
    return {name: value.numpy() for name, value in found.items()}


if __name__ == "__main__":
    np.savez(FOLDER / "optimizers.npz", **optimizers())
    np.savez(FOLDER / "losses.npz", **losses())
    (FOLDER / "schedules.json").write_text(json.dumps(schedules(), indent=1) + "\n")
