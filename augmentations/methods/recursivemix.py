"""RecursiveMix: the batch before, as it was mixed, scaled down and pasted in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter
from mixbench.augmentations.parameters import CLASS_PAIRINGS
from mixbench.augmentations.sampling.boxes import centred_box, cut_sides

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.bank import Bank
    from mixbench.augmentations.forward import Forward
    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class RecursiveMix(Method):
    """Paste the mixed images of the step before into a box, and ask for what was said of them.

    out = x, with a box of the area u ~ U(0, α) in which the mixed image of the step before is shown
    whole; labels by area, those of the step before being its mixed ones. A network so sees images
    in images, ever smaller. To the loss of the mixed images is added ω (1 - λ) CE(what the network
    says of the box, what it said of the whole image the step before), 1 - λ being the box's area.

    Source: Yang et al. 2022, section 3, and the authors' code (implus/RecursiveMix-pytorch,
    `recursive_mix`): α = 0.5; the box around a uniform centre, with sides of int(side · √u),
    clipped at the border; sample i shows sample i of the batch before. Their code's ω is 0.5.

    Deviations: what the network says of the box is a second forward pass, of the box scaled to the
    whole image; theirs pools the last feature maps there (RoIAlign) into a classifier of its own.
    Images are interpolated about pixel centres (theirs: nearest pixel). The first batch, and one
    after a batch of another method, has nothing to show and stays as it is. Of a batch larger than
    the one before, the rest shows its first samples again. With `pairing: same_class` each sample
    shows one, drawn uniformly, whose largest label is its own class, with `other_class` one of
    another; where there is none, it stays as it is. Other pairings change nothing.

    Args:
        alpha: The largest area of the box before clipping, a fraction of the image.
        omega: The weight of the second term, at least 0; at 0 there is no second pass.
        per_sample: Whether box size and place are per sample, not per batch.
    """

    name: ClassVar[str] = "recursivemix"
    summary: ClassVar[str] = "the mixed images of the step before, scaled down and pasted in"
    paper: ClassVar[Paper] = Paper(
        "Yang et al.", 2022, "RecursiveMix: Mixed Learning with History", "2203.06844"
    )
    card: ClassVar[Card] = Card(
        "Objects of many sizes: images are seen in images, ever smaller. A second pass for a "
        "step; `omega: 0` leaves it out.",
        {"Yang et al. 2022": {}},
    )
    needs: ClassVar[frozenset[str]] = frozenset({"bank"})
    label_rule: ClassVar[str] = "declared"
    passes: ClassVar[float] = 3.0

    alpha: float = parameter(
        0.5, "the largest area of the box, a fraction of the image", above=0, at_most=1
    )
    omega: float = parameter(
        0.5, "the weight of what was said of the box the step before", at_least=0
    )

    @property
    def home(self) -> Home:
        return Home(frozenset({"centre", "square"}), IMAGE)

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.paste import Paste
        from mixbench.augmentations.plans.recalled import Recalled

        area = draws.uniform(0, self.alpha)
        height, width = cut_sides(draws, area)
        box = centred_box(draws, height, width)
        size, bank = (draws.height, draws.width), draws.bank
        if bank is None or bank.images is None or bank.labels is None:
            return Paste(size, box.new_zeros(1, 0, 4))
        rows = torch.arange(draws.batch, device=box.device) % len(bank.images)
        if self.pairing in CLASS_PAIRINGS:
            rows, has_one = self._of_class(draws, bank.labels)
            box = torch.where(has_one.unsqueeze(1), box, 0)
        logits = None if bank.logits is None else bank.logits.index_select(0, rows)
        images, labels = (one.index_select(0, rows) for one in (bank.images, bank.labels))
        return Recalled(size, box, images, labels, logits)

    def _of_class(self, draws: Draws, earlier: Tensor) -> tuple[Tensor, Tensor]:
        """Draw which earlier sample each one shows, (B,), and say whether there is one, (B,)."""
        import torch

        classes = earlier.argmax(dim=1) if earlier.is_floating_point() else earlier
        alike = draws.classes(self.pairing).unsqueeze(1) == classes
        fits = alike if self.pairing == "same_class" else ~alike
        rows = draws.columns(torch.where(fits, 0.0, -1e4))
        return rows, fits.any(dim=1)

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:
        from mixbench.augmentations.plans.base import Batch
        from mixbench.augmentations.plans.recalled import Recalled

        loss = forward.loss(mixed.targets, forward(mixed))
        plan = mixed.plan
        if not self.omega or not isinstance(plan, Recalled) or plan.logits is None:
            return loss
        said = forward(Batch(plan.view(mixed.images), mixed.targets, clean.plan))
        before = plan.logits.float().softmax(dim=1)
        of_each = -(before * said.float().log_softmax(dim=1)).sum(dim=1)
        return loss + self.omega * ((1 - plan.own_share()) * of_each).mean()

    def remember(self, bank: Bank, clean: Batch, mixed: Batch, logits: Tensor | None) -> None:
        bank.images = mixed.images.detach()
        bank.logits = logits
        bank.labels = clean.targets.labels[:, 0]
        if logits is not None:
            bank.labels = mixed.targets.dense(logits.shape[1])
