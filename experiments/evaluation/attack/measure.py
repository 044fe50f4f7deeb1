"""Attack: accuracy where each pixel may be changed by up to ε to mislead the network.

FGSM (Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples", section 4) takes one
step of ε along the sign of the loss's gradient: x + ε sign(∇ loss(x)). PGD (Madry et al. 2018,
"Towards Deep Learning Models Resistant to Adversarial Attacks", section 2.1) takes many small
steps, each projected back into the ball of ε, and is the stronger attack. Both use the network's
gradients in evaluation mode. ε is in pixels from 0 to 1, before normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.experiments.evaluation.attack import AttackSettings
from mixbench.experiments.evaluation.base import Measured, Subject
from mixbench.experiments.evaluation.gradients import input_gradients, slope
from mixbench.experiments.evaluation.image_random import ImageRandom

Predict = Callable[[Tensor], Tensor]
Ascent = tuple[Tensor, Tensor, Tensor]


def measure(subject: Subject, settings: AttackSettings) -> Measured:
    """Accuracy on `settings.images` test images under FGSM and PGD, by ε.

    Metrics: `attack/clean`, `attack/fgsm/8-255` and `attack/pgd/8-255` for ε = 8/255 (`0.07` for an
    ε that is no whole number of 255ths). Curves: `epsilon` and `accuracy` by attack from ε = 0,
    `step` (the step size of PGD by ε), and `flat`, the share of images whose gradient is 0: FGSM
    cannot change them.

    Args:
        subject: The network and its data.
        settings: ε, steps and images.

    Returns:
        Accuracies from 0 to 1.
    """
    epsilons = settings.epsilons
    right = {(name, epsilon): 0 for name in ("fgsm", "pgd") for epsilon in epsilons}
    clean = flat = done = 0

    def predict(pixels: Tensor) -> Tensor:
        subject.beat()
        logits: Tensor = subject.network(subject.normalised(pixels))
        return logits

    with input_gradients(subject.network):
        for pixels, labels, where in subject.indexed(settings.images, settings.seed):
            first = ascent(predict, pixels, labels)
            rising, _, hit = first
            clean += int(hit.sum())
            flat += int((rising == 0).flatten(1).all(dim=1).sum())
            done += len(labels)
            for epsilon in epsilons:
                once = Ball(pixels, epsilon).step(pixels, rising, epsilon)
                right["fgsm", epsilon] += _hits(predict, once, labels)
                draws = ImageRandom(where, settings.seed, f"attack {epsilon:.6g}")
                _, left = pgd(
                    predict,
                    pixels,
                    labels,
                    epsilon,
                    steps=settings.steps,
                    step=settings.step_size(epsilon),
                    draws=draws,
                    first=first,
                )
                right["pgd", epsilon] += int(left.sum())
    metrics: dict[str, float | None] = {"attack/clean": clean / done}
    metrics |= {
        f"attack/{name}/{metric_name(epsilon)}": count / done
        for (name, epsilon), count in right.items()
    }
    accuracy = {
        name: [clean / done, *(right[name, epsilon] / done for epsilon in epsilons)]
        for name in ("fgsm", "pgd")
    }
    curves: dict[str, Any] = {
        "images": done,
        "epsilon": [0.0, *epsilons],
        "accuracy": accuracy,
        "steps": settings.steps,
        "step": [settings.step_size(epsilon) for epsilon in epsilons],
        "flat": flat / done,
    }
    return Measured(metrics, curves)


class Ball:
    """The images in [0,1] of which no value is further than ε from that of `pixels`.

    The bound holds exactly, not only up to rounding: where rounding put a bound outside, it is
    moved to the next representable number.

    Args:
        pixels: (B,C,H,W) float32 in [0,1], the centre of the ball.
        epsilon: Its radius in the maximum norm, in pixels from 0 to 1.
    """

    def __init__(self, pixels: Tensor, epsilon: float) -> None:
        exact = pixels.double()
        low, high = (exact - epsilon).float(), (exact + epsilon).float()
        low = torch.where(exact - low.double() > epsilon, _next(low, 2.0), low)
        high = torch.where(high.double() - exact > epsilon, _next(high, -2.0), high)
        self.low, self.high = low.clamp(min=0), high.clamp(max=1)

    def step(self, images: Tensor, slope: Tensor, size: float) -> Tensor:
        """Step along the sign of a gradient and project back into the ball.

        Args:
            images: (B,C,H,W) float32, where to start.
            slope: (B,C,H,W), of which only the sign is used.
            size: Of the step, in pixels from 0 to 1.

        Returns:
            clip(images + size · sign(slope), low, high), (B,C,H,W) float32.
        """
        return torch.clamp(images + size * slope.sign(), self.low, self.high)

    def random(self, draws: ImageRandom) -> Tensor:
        """Draw uniformly from the ball.

        Args:
            draws: The images' random numbers.

        Returns:
            (B,C,H,W) float32.
        """
        share = draws.uniform("start", *self.low.shape[1:])
        return torch.clamp(self.low + (self.high - self.low) * share, self.low, self.high)

    def take(self, index: Tensor) -> Ball:
        """The ball around some of the images.

        Args:
            index: (n,) int64 or (B,) bool, which of them.
        """
        part = object.__new__(Ball)
        part.low, part.high = self.low[index], self.high[index]
        return part


def fgsm(predict: Predict, pixels: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Attack with one step of ε up the loss (Goodfellow et al. 2015).

    Args:
        predict: From images (B,C,H,W) in [0,1] to logits (B,K).
        pixels: (B,C,H,W) float32 in [0,1].
        labels: (B,) int64.
        epsilon: Largest change of a value, in pixels from 0 to 1.

    Returns:
        (B,C,H,W) float32, within ε of `pixels` and in [0,1].
    """
    rising, _, _ = ascent(predict, pixels, labels)
    return Ball(pixels, epsilon).step(pixels, rising, epsilon)


def pgd(
    predict: Predict,
    pixels: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    steps: int,
    step: float,
    draws: ImageRandom,
    first: Ascent | None = None,
) -> tuple[Tensor, Tensor]:
    """Attack with many small steps (Madry et al. 2018), from a random start and from FGSM's images.

    Of each image the result is the first point that is misclassified, else the one with the highest
    loss, among all points visited, `pixels` and FGSM's included: so PGD is never weaker than FGSM.

    Args:
        predict: From images (B,C,H,W) in [0,1] to logits (B,K).
        pixels: (B,C,H,W) float32 in [0,1].
        labels: (B,) int64.
        epsilon: Largest change of a value, in pixels from 0 to 1.
        steps: How many steps from each start.
        step: Size of a step, in pixels from 0 to 1.
        draws: Random numbers for the random start.
        first: `ascent` at `pixels`, where it is known already.

    Returns:
        The worst images, (B,C,H,W) float32, and which are still classified right, (B,) bool.
    """
    ball = Ball(pixels, epsilon)
    rising, loss, hit = first or ascent(predict, pixels, labels)
    worst, highest, right = pixels.clone(), loss.clone(), hit.clone()
    for start in (ball.step(pixels, rising, epsilon), ball.random(draws)):
        # Those that are misled already are left as they are, which saves most of the work.
        index = right.nonzero().flatten()
        points, balls = start[index], ball.take(index)
        for _ in range(steps + 1):
            if not len(index):
                break
            rising, loss, hit = ascent(predict, points, labels[index])
            better = ~hit | (loss > highest[index])
            worst[index[better]], highest[index[better]] = points[better], loss[better]
            right[index] = hit
            index, balls = index[hit], balls.take(hit)
            points = balls.step(points[hit], rising[hit], step)
    return worst, right


def ascent(predict: Predict, images: Tensor, labels: Tensor) -> Ascent:
    """The gradient to follow, the loss, and which images are classified right.

    The loss is the cross-entropy, softplus(a) of the log odds a against the label. The gradient is
    that of a: it has the same signs, which are all that is used, and does not vanish where a
    network is so confident that the gradient of the loss rounds to 0. With that one FGSM would not
    move, and the network would seem robust.

    Args:
        predict: From images (B,C,H,W) in [0,1] to logits (B,K).
        images: (B,C,H,W) float32 in [0,1].
        labels: (B,) int64.

    Returns:
        The gradient by the images (B,C,H,W), the loss in nats (B,) float64, and (B,) bool.
    """
    variable = images.detach().clone().requires_grad_(True)
    logits = predict(variable).double()
    label = labels.unsqueeze(1)
    others = logits.scatter(1, label, -torch.inf).logsumexp(dim=1)
    against = others - logits.gather(1, label).squeeze(1)
    loss = F.softplus(against.detach())
    return slope(against.sum(), variable), loss, logits.argmax(dim=1) == labels


def metric_name(epsilon: float) -> str:
    """Write ε as in the names of metrics.

    Args:
        epsilon: In pixels from 0 to 1.

    Returns:
        "8-255", or "0.07" where it is no whole number of 255ths.

    Examples:
        >>> metric_name(8 / 255), metric_name(0.07)
        ('8-255', '0.07')
    """
    shades = epsilon * 255
    return f"{round(shades)}-255" if abs(shades - round(shades)) < 1e-6 else f"{epsilon:.6g}"


def _hits(predict: Predict, images: Tensor, labels: Tensor) -> int:
    with torch.no_grad():
        return int((predict(images).argmax(dim=1) == labels).sum())


def _next(values: Tensor, towards: float) -> Tensor:
    return torch.nextafter(values, torch.full_like(values, towards))
