"""AugMix: means of an image and of chains of operations on it, and a loss that they look alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Home, Method, Paper, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.forward import Forward
    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.sampling.draws import Draws

LONGEST = 3


@dataclass(frozen=True, kw_only=True)
class AugMix(Method):
    """Blend an image with chains of operations on it, and ask for the same answer to all views.

    view = (1 - m) x + m Σ w_i chain_i(x), m ~ Beta(α, α), w ~ Dirichlet(α); each of `width` chains
    has 1 to 3 operations of nine: autocontrast, equalize, posterize, rotate, solarize, both shears,
    both translations. loss = CE(f(x), y) + `consistency` JS(f(x); f(view 1); f(view 2)), the
    Jensen-Shannon divergence of three answers in one forward pass. Labels are kept.

    Source: Hendrycks et al. 2020, algorithm 1 and section 3, and the authors' code
    (google-research/augmix, `cifar.py`, `augmentations.py`): severity 3, width 3, depth 1 to 3,
    α = 1, 12 times the divergence; levels U(0.1, severity) tenths of 0.3, a third of the side, 30
    degrees, 4 of at most 4 bits, 256 values. `consistency: 0` is their `--no-jsd`: the loss of one
    view with its label, and a method that drop-ins take.

    Deviations: operations are torchvision's on uint8; theirs are Pillow's, which differ by an edge
    pixel where a move interpolates. The four operations that overlap with ImageNet-C (`--all-ops`)
    are left out, as by default there. Masks, boxes and features stay as they are. What is drawn,
    and for which images, is as in `trivial_augment`. `pairing` has no meaning.

    Cost: a training step of `small_cnn` on a CPU takes 3.5 to 5.2 times as long; with
    `consistency: 0` 1.5 to 2.2 times.

    Args:
        severity: How strong operations are, tenths of the largest, from 1 to 10.
        width: How many chains, at least 1.
        depth: How many operations a chain has, at most 3; 0 draws 1 to 3.
        alpha: α of both distributions, above 0.
        consistency: The weight of the divergence, at least 0.
        per_sample: Whether each image has views of its own.
    """

    name: ClassVar[str] = "augmix"
    summary: ClassVar[str] = "chains of operations on an image blended with it; views must agree"
    label_rule: ClassVar[str] = "kept"
    needs: ClassVar[frozenset[str]] = frozenset({"normalisation"})
    passes: ClassVar[float] = 6.0
    paper: ClassVar[Paper] = Paper(
        "Hendrycks et al.",
        2020,
        "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty",
        "1912.02781",
    )
    card: ClassVar[Card] = Card(
        "Corrupted test images: several chains of operations are averaged, and predictions "
        "kept alike.",
        {"Hendrycks et al. 2020": {}},
    )

    severity: float = parameter(3.0, "how strong operations are", at_least=1, at_most=10)
    width: int = parameter(3, "how many chains are blended", at_least=1)
    depth: int = parameter(
        0, "how many operations a chain has; 0: 1 to 3", at_least=0, at_most=LONGEST
    )
    alpha: float = parameter(1.0, "m ~ Beta(α, α), w ~ Dirichlet(α)", above=0)
    consistency: float = parameter(
        12.0, "the weight of the divergence of the views in the loss; 0: no second view", at_least=0
    )
    per_sample: bool = parameter(True, "draw the views per sample, as the authors do")

    @property
    def home(self) -> Home:
        return Home(frozenset({"boundary"}), frozenset({"black"}))

    @property
    def has_loss(self) -> bool:
        return self.consistency > 0

    def check_combination(self) -> None:
        # It is two more images a sample that make the cost.
        object.__setattr__(self, "passes", type(self).passes if self.consistency else 0.0)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.views import Views
        from mixbench.augmentations.sampling.chains import draw_chains, draw_shares
        from mixbench.augmentations.sampling.operations import normalisation_of

        views = 2 if self.has_loss else 1
        chains = draw_chains(draws, views, self.width, self.depth, self.severity)
        shares = draw_shares(draws, views, self.width, self.alpha)
        size = (draws.height, draws.width)
        return Views(size, *chains, *shares, *normalisation_of(draws))

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:
        import torch

        from mixbench.augmentations.plans.base import Batch
        from mixbench.augmentations.plans.views import another_view

        if not self.has_loss:
            return super().loss(forward, clean, mixed)
        plan = another_view(mixed.plan)
        second = plan.mix_images(clean.images)
        if mixed.plan.depth:
            # Something is mixed inside the network, in each view.
            batches = (clean, mixed, Batch(second, mixed.targets, plan))
            logits = [forward(batch) for batch in batches]
        else:
            images = torch.cat([clean.images, mixed.images, second])
            all_logits = forward(Batch(images, clean.targets, clean.plan))
            logits = list(all_logits.split(len(clean.images)))
        loss = forward.loss(clean.targets, logits[0])
        return loss + self.consistency * divergence(logits)


def divergence(logits: list[Tensor]) -> Tensor:
    """Return the Jensen-Shannon divergence of answers to views, the mean over images.

    Args:
        logits: Of each view, (B, C).
    """
    import torch

    answers = torch.stack([one.float().softmax(dim=1) for one in logits])
    # As the authors bound it, so that no logarithm is infinite.
    mean = answers.mean(dim=0).clamp(1e-7, 1).log()
    apart = torch.xlogy(answers, answers) - answers * mean
    return apart.sum(dim=2).mean()
