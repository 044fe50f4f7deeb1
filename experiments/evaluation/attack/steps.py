"""FGSM and PGD: attacks with steps of a fixed size along the sign of a gradient.

FGSM (Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples", section 4) takes one
step of ε along the sign of the loss's gradient: x + ε sign(∇ loss(x)). PGD (Madry et al. 2018,
"Towards Deep Learning Models Resistant to Adversarial Attacks", section 2.1) takes many small
steps, each projected back into the ball of ε, and is the stronger attack.
"""

from __future__ import annotations

from torch import Tensor

from mixbench.experiments.evaluation.attack.ball import Ball
from mixbench.experiments.evaluation.attack.losses import Ascent, Predict, ascent, height
from mixbench.experiments.evaluation.image_random import ImageRandom


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
        for number in range(steps + 1):
            if not len(index):
                break
            if number < steps:
                rising, loss, hit = ascent(predict, points, labels[index])
            else:
                loss, hit = height(predict, points, labels[index])
            better = ~hit | (loss > highest[index])
            worst[index[better]], highest[index[better]] = points[better], loss[better]
            right[index] = hit
            if number == steps:
                break
            index, balls = index[hit], balls.take(hit)
            points = balls.step(points[hit], rising[hit], step)
    return worst, right
