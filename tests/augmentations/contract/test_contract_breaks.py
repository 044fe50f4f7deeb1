"""The contract catches what it promises to: methods with one mistake each, answered in words.

Each is a right method (a box of the partner, or a mean) with the mistake that its docstring names.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench.augmentations import Bank, Batch, Blend, Draws, Forward, Method, Paste, Plan, contract
from mixbench.augmentations.sampling.boxes import inside_box
from mixbench.augmentations.targets import Targets


@dataclass(frozen=True, kw_only=True)
class Right(Method):
    """A box of half the sides; no mistake."""

    name: ClassVar[str] = "right"
    summary: ClassVar[str] = "a box of the partner"
    plan: ClassVar[type[Paste]] = Paste

    def draw(self, draws: Draws) -> Plan:
        target = self.box(draws).unsqueeze(1)
        partner = draws.partners(self.pairing).unsqueeze(1)
        return self.plan((draws.height, draws.width), target, partner)

    def box(self, draws: Draws) -> Tensor:
        height = (draws.height * draws.uniform(0.3, 0.9)).ceil().long()
        width = (draws.width * draws.uniform(0.3, 0.9)).ceil().long()
        return inside_box(draws, height, width)


@dataclass(frozen=True, kw_only=True)
class RightMean(Right):
    """A mean of two; no mistake."""

    def draw(self, draws: Draws) -> Plan:
        return Blend(self.keep(draws).view(-1, 1, 1, 1), draws.partners(self.pairing))

    def keep(self, draws: Draws) -> Tensor:
        return draws.uniform().float()


# --- labels -------------------------------------------------------------------------------------


class LabelsAsDrawn(Right):
    """The weight is the λ that was drawn, though the box was rounded."""

    def draw(self, draws: Draws) -> Plan:
        plan = super().draw(draws)
        lam = (self.plan_share(plan) + 0.05).clamp(max=1)
        return replace(plan, weights=torch.stack([lam, 1 - lam], dim=1))  # type: ignore[type-var]

    @staticmethod
    def plan_share(plan: Any) -> Tensor:
        return 1 - plan.area()[:, 0].float() / (plan.size[0] * plan.size[1])


class LabelsOfThePartner(LabelsAsDrawn):
    """λ weights the partner."""

    def draw(self, draws: Draws) -> Plan:
        plan = Right.draw(self, draws)
        lam = self.plan_share(plan)
        return replace(plan, weights=torch.stack([1 - lam, lam], dim=1))  # type: ignore[type-var]


class LabelsTooHeavy(LabelsAsDrawn):
    """Both labels weigh 1."""

    def draw(self, draws: Draws) -> Plan:
        plan = Right.draw(self, draws)
        return replace(plan, weights=torch.ones(draws.rows, 2, device=draws.device))  # type: ignore[type-var]


class KeepsTheLabelOfAPastedImage(Right):
    """Says that labels are kept, and pastes other samples."""

    label_rule: ClassVar[str] = "kept"


class HalfLabels(Paste):
    def mix_labels(self, labels: Tensor, num_classes: int | None = None) -> Targets:
        found = super().mix_labels(labels, num_classes)
        return Targets(found.labels, found.weights.half())


class WeightsInHalfPrecision(Right):
    """Label weights are float16."""

    plan: ClassVar[type[Paste]] = HalfLabels


class ChannelsApart(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        mixed = super().mix_images(images)
        return torch.cat([images[:, :1], mixed[:, 1:]], dim=1)


class OneChannelStays(Right):
    """The first channel is not mixed."""

    plan: ClassVar[type[Paste]] = ChannelsApart


class SoftAsTheyAre(Paste):
    def mix_labels(self, labels: Tensor, num_classes: int | None = None) -> Targets:
        if labels.dim() == 1:
            return super().mix_labels(labels, num_classes)
        classes = torch.arange(labels.shape[1], device=labels.device)
        return Targets(classes.expand(labels.shape[0], -1), labels.float())


class SoftLabelsUnmixed(Right):
    """Soft labels are given back as they are."""

    plan: ClassVar[type[Paste]] = SoftAsTheyAre


class LargestOnly(Targets):
    def cross_entropy(self, logits: Tensor, *arguments: Any, **options: Any) -> Tensor:
        first = self.labels.gather(1, self.weights.argmax(dim=1, keepdim=True))
        return Targets(first, torch.ones_like(first).float()).cross_entropy(
            logits, *arguments, **options
        )


class LossOfTheLargest(Paste):
    def mix_labels(self, labels: Tensor, num_classes: int | None = None) -> Targets:
        found = super().mix_labels(labels, num_classes)
        return LargestOnly(found.labels, found.weights)


class AnotherLoss(Right):
    """The loss is that of the heavier label alone."""

    plan: ClassVar[type[Paste]] = LossOfTheLargest


# --- randomness and the device ------------------------------------------------------------------


class DrawsFromNumpy(RightMean):
    """λ comes from numpy's global state."""

    def keep(self, draws: Draws) -> Tensor:
        return torch.full((draws.rows,), np.random.beta(1, 1), dtype=torch.float32).to(draws.device)


class DrawsFromPython(RightMean):
    """λ comes from Python's global state."""

    def keep(self, draws: Draws) -> Tensor:
        return torch.full((draws.rows,), random.random(), dtype=torch.float32).to(draws.device)


class DrawsFromTorch(RightMean):
    """λ comes from torch's global state, though a generator is given."""

    def keep(self, draws: Draws) -> Tensor:
        return torch.rand(draws.rows, device=draws.device)


class DrawsFromTheSystem(RightMean):
    """λ comes from nowhere that can be seeded."""

    def keep(self, draws: Draws) -> Tensor:
        return torch.full((draws.rows,), os.urandom(1)[0] / 255).to(draws.device)


class AlwaysTheSameBox(Right):
    """The generator is not asked."""

    def box(self, draws: Draws) -> Tensor:
        half = (draws.whole(draws.height) // 2, draws.whole(draws.width) // 2)
        return torch.stack([*(torch.zeros_like(side) for side in half), *half], dim=-1)

    def draw(self, draws: Draws) -> Plan:
        return replace(super().draw(draws), partner=draws.partners("roll").unsqueeze(1))  # type: ignore[type-var]


class ItsOwnGenerator(Right):
    """Draws with a generator of its own where none is given."""

    def draw(self, draws: Draws) -> Plan:
        generator = draws.generator or torch.Generator(draws.device).manual_seed(0)
        return super().draw(replace(draws, generator=generator))


class ReadsAValue(RightMean):
    """`.item()` in draw."""

    def keep(self, draws: Draws) -> Tensor:
        lam = draws.uniform()[0].item()
        return torch.full((draws.rows,), lam, dtype=torch.float32, device=draws.device)


class AsksATensor(RightMean):
    """`if tensor` in draw."""

    def keep(self, draws: Draws) -> Tensor:
        lam = draws.uniform().float()
        return lam if (lam > 0.5).any() else 1 - lam


class MasksWithBooleans(RightMean):
    """Boolean indexing in draw: how many there are must be known to the host."""

    def keep(self, draws: Draws) -> Tensor:
        lam = draws.uniform().float()
        chosen = lam > 0.5
        return lam.index_put((chosen.nonzero()[:, 0],), lam[chosen] / 2)


class ReadsInMix(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        if int(self.target.sum()) < 0:
            return images
        return super().mix_images(images)


class WaitsInMix(Right):
    """The host waits in mix_images."""

    plan: ClassVar[type[Paste]] = ReadsInMix


# --- images -------------------------------------------------------------------------------------


class WritesIntoInput(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        return images.copy_(super().mix_images(images))


class InPlace(Right):
    """Writes into the batch given."""

    plan: ClassVar[type[Paste]] = WritesIntoInput


class TouchesInput(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        return super().mix_images(images.add_(0))


class InPlaceTheSame(Right):
    """Writes the same values into the batch given."""

    plan: ClassVar[type[Paste]] = TouchesInput


class WritesLabels(Paste):
    def mix_labels(self, labels: Tensor, num_classes: int | None = None) -> Targets:
        found = super().mix_labels(labels, num_classes)
        labels.copy_(labels.flip(0))
        return found


class LabelsInPlace(Right):
    """Reorders the labels given."""

    plan: ClassVar[type[Paste]] = WritesLabels


class ReturnsFloat(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        return super().mix_images(images).float()


class AnotherDtype(Right):
    """Half-precision images come back in float32."""

    plan: ClassVar[type[Paste]] = ReturnsFloat


class Contiguous(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        return super().mix_images(images).contiguous()


class AnotherLayout(Right):
    """channels_last images come back contiguous."""

    plan: ClassVar[type[Paste]] = Contiguous


class LayoutBlind(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        memory = images.as_strided(images.shape, torch.empty(images.shape).stride())
        mixed = super().mix_images(memory.contiguous())
        layout = torch.channels_last if not images.is_contiguous() else torch.contiguous_format
        return mixed.contiguous(memory_format=layout)


class ReadsMemoryInOrder(Right):
    """Takes the memory of channels_last images for contiguous ones."""

    plan: ClassVar[type[Paste]] = LayoutBlind


class Storage(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        mixed = super().mix_images(images)
        first = images.as_strided(images.shape, torch.empty(images.shape).stride(), 0)
        return mixed if first.equal(images) else super().mix_images(first.contiguous())


class ReadsMemoryFromItsStart(Right):
    """Takes a view for the start of its storage."""

    plan: ClassVar[type[Paste]] = Storage


class Deep(Paste):
    @property
    def depth(self) -> int:
        return 2


class DeepAndAtOnce(Right):
    """A plan for a deeper layer that mixes the images as well."""

    plan: ClassVar[type[Paste]] = Deep


class Extrapolates(RightMean):
    """λ goes beyond 1."""

    def keep(self, draws: Draws) -> Tensor:
        return (draws.uniform() * 2).float()


class RoundedTwice(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        if images.dtype == torch.float32:
            return super().mix_images(images * 1.01) / 1.01
        return super().mix_images(images * 1.01) / 1.01


class LosesPrecision(Right):
    """Computes in half precision, and rounds at every step."""

    plan: ClassVar[type[Paste]] = RoundedTwice


class Detached(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        return super().mix_images(images.detach())


class NoGradient(Right):
    """Cuts the images off the graph."""

    plan: ClassVar[type[Paste]] = Detached


class WrongGradient(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        mixed = super().mix_images(images)
        return (images - images.detach()) + mixed.detach()


class StraightThrough(Right):
    """The gradient is that of the identity."""

    plan: ClassVar[type[Paste]] = WrongGradient


class TakesAnything(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        return self._paste(images)

    def mix_labels(self, labels: Tensor, _classes: int | None = None) -> Targets:
        index, share = self.sources()
        soft = torch.nn.functional.one_hot(labels.long()) if labels.dim() == 1 else labels
        weights = (share.unsqueeze(-1) * soft.float()[index]).sum(dim=1)
        return Targets(torch.arange(soft.shape[1]).expand(len(soft), -1), weights)


class Unchecked(Right):
    """Refuses nothing."""

    plan: ClassVar[type[Paste]] = TakesAnything


# --- plans --------------------------------------------------------------------------------------


class HeightForWidth(Right):
    """Height and width change places in the box."""

    def box(self, draws: Draws) -> Tensor:
        top, left, bottom, right = super().box(draws).unbind(-1)
        return torch.stack([left, top, right, bottom], dim=-1)


class SizeSwapped(Right):
    """Height and width change places in the plan's size."""

    def draw(self, draws: Draws) -> Plan:
        turned = replace(draws, height=draws.width, width=draws.height)
        return super().draw(turned)


class Overlaps(Right):
    """The same rectangle twice, from two partners."""

    def draw(self, draws: Draws) -> Plan:
        box = self.box(draws)
        partner = torch.stack([draws.partners(self.pairing) for _ in range(2)], dim=1)
        return Paste((draws.height, draws.width), torch.stack([box, box], dim=1), partner)


class Holes(Right):
    """Says that its rectangles tile the image, and they do not."""

    def draw(self, draws: Draws) -> Plan:
        return replace(super().draw(draws), tiles=True)  # type: ignore[type-var]


class NoSuchPartner(Right):
    """The partner of the last sample is the one after it."""

    def draw(self, draws: Draws) -> Plan:
        partner = torch.arange(1, draws.batch + 1, device=draws.device).unsqueeze(1)
        return replace(super().draw(draws), partner=partner)  # type: ignore[type-var]


class DrawsAgain(Paste):
    def mix_images(self, images: Tensor) -> Tensor:
        shift = torch.randint(0, 4, (1,), generator=GENERATOR)
        return super().mix_images(images).roll(int(shift), dims=-1)


GENERATOR = torch.Generator().manual_seed(0)


class Undecided(Right):
    """The plan draws when it mixes."""

    plan: ClassVar[type[Paste]] = DrawsAgain


class OtherMasks(Paste):
    def mix_masks(self, masks: Tensor) -> Tensor:
        return super().mix_masks(masks.flip(-1)).flip(-1)


class MasksElsewhere(Right):
    """Masks are cut at the mirrored place."""

    plan: ClassVar[type[Paste]] = OtherMasks


class OtherFeatures(Paste):
    def mix_features(self, features: Tensor) -> Tensor:
        return super().mix_features(features.flip(0)).flip(0) if features.dim() > 2 else features


class FeaturesOfOthers(Right):
    """Features meet other partners than images, and vectors are not mixed."""

    plan: ClassVar[type[Paste]] = OtherFeatures


class ImageSizedFeatures(Paste):
    def mix_features(self, features: Tensor) -> Tensor:
        if features.dim() == 2 or features.shape[-2:] == self.size:
            return super().mix_features(features)
        small = replace(self, target=self.target.clamp(max=min(features.shape[-2:])))
        return replace(small, size=tuple(features.shape[-2:]))._paste(features)


class BoxesNotScaled(Right):
    """A feature map is cut at the image's pixels."""

    plan: ClassVar[type[Paste]] = ImageSizedFeatures


class MatrixProduct(Paste):
    def mix_features(self, features: Tensor) -> Tensor:
        if features.dim() != 2:
            return super().mix_features(features)
        index, share = self.sources()
        mixing = torch.zeros(self.batch, self.batch, device=share.device)
        mixing.scatter_add_(1, index, share)
        return (mixing @ features.float()).to(features.dtype)


class Autocast(Right):
    """Vectors go through a matrix product, which autocast takes to half precision."""

    plan: ClassVar[type[Paste]] = MatrixProduct


class DefaultDtype(RightMean):
    """λ is drawn in the default dtype, which is the user's to change."""

    def keep(self, draws: Draws) -> Tensor:
        return torch.rand(draws.rows, generator=draws.generator, device=draws.device).float()


# --- chances ------------------------------------------------------------------------------------


class ProbTwice(Right):
    """prob is applied by draw, and again by sample."""

    def draw(self, draws: Draws) -> Plan:
        return super().draw(draws).only_where(draws.coin(self.prob))


class ProbForAll(Right):
    """One coin for the batch, also with per_sample."""

    def draw(self, draws: Draws) -> Plan:
        return super().draw(draws)

    def sample(self, shape: Any, **options: Any) -> Plan:
        plan = replace(self, prob=1.0)._sample(shape, **options)
        coin = torch.rand(1, generator=options.get("generator"), device=options.get("device"))
        return plan.only_where(coin < self.prob)

    def _sample(self, shape: Any, **options: Any) -> Plan:
        return Method.sample(self, shape, **options)


class ProbPerSample(ProbForAll):
    """A coin for each sample, also without per_sample."""

    def sample(self, shape: Any, **options: Any) -> Plan:
        plan = replace(self, prob=1.0)._sample(shape, **options)
        device = options.get("device")
        coin = torch.rand(shape[0], generator=options.get("generator"), device=device)
        return plan.only_where(coin < self.prob)


class ProbIgnored(ProbForAll):
    """prob is not looked at."""

    def sample(self, shape: Any, **options: Any) -> Plan:
        return replace(self, prob=1.0)._sample(shape, **options)


class OneBoxForAll(Right):
    """per_sample draws one box for all."""

    def box(self, draws: Draws) -> Tensor:
        return super().box(replace(draws, rows=1)).expand(draws.rows, -1)


class AlwaysPerSample(Right):
    """A box for each sample, also without per_sample."""

    def box(self, draws: Draws) -> Tensor:
        return super().box(replace(draws, rows=draws.batch))


# --- declaration --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LooseParameter(Right):
    """A field without `parameter(...)`."""

    strength: float = 1.0

    def __post_init__(self) -> None:
        self.check_combination()


class NoSummary(Right):
    """No summary."""

    summary: ClassVar[str] = ""


class StrangeRevision(Right):
    revision: ClassVar[int] = "2"  # type: ignore[assignment]


class StrangeRule(Right):
    """A label rule that there is not."""

    label_rule: ClassVar[str] = "guessed"


@dataclass(frozen=True, kw_only=True)
class CannotTravel(Right):
    """Keeps something that can't be pickled."""

    def check_combination(self) -> None:
        object.__setattr__(self, "open", lambda: None)


# --- losses, earlier batches, classes -----------------------------------------------------------


class LossPerSample(Right):
    """A loss of each sample, not of the batch."""

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:  # noqa: ARG002
        return mixed.targets.cross_entropy(forward(mixed), reduction="none")


class DrawsInItsLoss(Right):
    """Noise in the loss: its second pass would have another."""

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:  # noqa: ARG002
        return forward.loss(mixed.targets, forward(mixed)) * torch.rand(())


class RemembersTheGraph(Right):
    """Remembers logits with the graph of their batch."""

    needs: ClassVar[frozenset[str]] = frozenset({"bank"})

    def remember(self, bank: Bank, clean: Batch, mixed: Batch, logits: Tensor | None) -> None:  # noqa: ARG002
        bank.images, bank.labels = clean.images, clean.targets.labels[:, 0]
        bank.logits = None if logits is None else logits.requires_grad_()


class AnyPartner(Right):
    """Pairs as with permute whatever is asked for."""

    def draw(self, draws: Draws) -> Plan:
        partner = draws.partners("permute").unsqueeze(1)
        return Paste((draws.height, draws.width), self.box(draws).unsqueeze(1), partner)


MISTAKES: list[tuple[type[Method], str, str]] = [
    (LabelsAsDrawn, "shares_are_pixels", "weight that is not its share of the pixels: 0"),
    (LabelsOfThePartner, "shares_are_pixels", "weight that is not its share of the pixels: 0"),
    (LabelsTooHeavy, "weights_sum_to_one", "add up wrongly: 2 instead of 1"),
    (KeepsTheLabelOfAPastedImage, "blanks_only", "expected one fill"),
    (KeepsTheLabelOfAPastedImage, "labels_kept", r"labels were changed: \(7, 2\) int64 instead of"),
    (OneChannelStays, "colours_follow_weights", "mean colour is not that of the label weights"),
    (SoftLabelsUnmixed, "hard_and_soft_agree", "one-hot labels mix differently"),
    (AnotherLoss, "loss_is_weighted_sum", "the loss differs: "),
    (ReadsMemoryFromItsStart, "views", "a crop is mixed differently from its copy"),
    (DeepAndAtOnce, "deep_plans_leave_images", "a plan of depth 2: images: .* values differ"),
    (WeightsInHalfPrecision, "weights_sum_to_one", "label weights are torch.float16"),
    (DrawsFromNumpy, "generator_only", "global random state of numpy was used"),
    (DrawsFromPython, "generator_only", "global random state of random was used"),
    (DrawsFromTorch, "generator_only", "global random state of torch was used"),
    (DrawsFromTheSystem, "generator_only", "the same seed gave other images"),
    (AlwaysTheSameBox, "seeds_differ", "12 seeds gave only 1 different"),
    (ItsOwnGenerator, "default_generator", "a generator seeded with 11 differ"),
    (ReadsAValue, "no_waiting", "`sample` reads a value back from the device"),
    (AsksATensor, "no_waiting", "`sample` reads a value back from the device"),
    (MasksWithBooleans, "no_waiting", "`sample` reads a value back from the device"),
    (WaitsInMix, "no_waiting", "`mix_images` reads a value back from the device"),
    (InPlace, "input_untouched", "the images given were changed in place"),
    (InPlaceTheSame, "input_untouched", "written to, though with the same values"),
    (LabelsInPlace, "input_untouched", "the labels given were changed in place"),
    (AnotherDtype, "same_kind", "bfloat16 on cpu came back as .* float32"),
    (AnotherLayout, "same_kind", "channels_last came back with strides"),
    (ReadsMemoryInOrder, "layout_only", "channels_last images are mixed differently"),
    (Extrapolates, "legal", "`keep` goes from .* to 1|values from .* to 1"),
    (Extrapolates, "between_the_sources", "gave pixels from|values from .* to 1"),
    (LosesPrecision, "rounded_once", "more is lost than by rounding the result"),
    (NoGradient, "gradients_flow", "no gradient reaches the images"),
    (StraightThrough, "gradients_flow", "the gradient of the images is wrong"),
    (Unchecked, "refusals", "was taken without a ValueError|raises|does not name"),
    (HeightForWidth, "legal", "on images of 16 rows and 24 columns: are height and width swapped"),
    (SizeSwapped, "legal", r"the plan is for images of \(24, 16\)|images: expected"),
    (Overlaps, "legal", "rectangles 0 and 1 of a sample overlap"),
    (Holes, "legal", "the tiles cover [0-9]+ of 384 pixels"),
    (NoSuchPartner, "legal", "a source is sample 7 of a batch of 7"),
    (Undecided, "replays", "a second mix gave other images|draws when it mixes"),
    (MasksElsewhere, "masks_follow_pixels", "not that of the image with the largest share"),
    (FeaturesOfOthers, "maps_mix_as_images", "features: [0-9]+ of"),
    (FeaturesOfOthers, "vectors_follow_weights", "not mixed with the label weights"),
    (BoxesNotScaled, "features_keep_shares", "a share differs by"),
    (Autocast, "autocast", "values differ under autocast"),
    (DefaultDtype, "default_dtype", "where torch.float64 is the default"),
    (ProbTwice, "prob_once", "with prob=0.3 a share of 0.1.. is changed, expected 0.3"),
    (ProbForAll, "prob_once", "is changed, expected 0.3"),
    (ProbPerSample, "prob_once", "a part of the batch was mixed and a part was not"),
    (ProbIgnored, "prob_once", "with prob=0.3 a share of 1.000 is changed"),
    (ProbIgnored, "prob_zero", "with prob=0 images are changed"),
    (OneBoxForAll, "one_draw_or_many", "8 samples show only 1 different pictures"),
    (AlwaysPerSample, "one_draw_or_many", "samples of a batch are cut differently"),
    (LooseParameter, "declared", "strength: declared without"),
    (NoSummary, "declared", "`summary` is ''"),
    (StrangeRevision, "declared", "`revision` is '2', expected a whole number at least 1"),
    (StrangeRule, "declared", "`label_rule` is 'guessed', expected one of pixels, kept, declared"),
    (CannotTravel, "travels", "it can't be pickled"),
    (LossPerSample, "loss_is_a_loss", r"the loss has the shape \(7,\), expected a number"),
    (DrawsInItsLoss, "loss_is_a_loss", "called again with the same batches, it differs"),
    (RemembersTheGraph, "bank_is_detached", "bank.logits keeps the graph of its batch"),
    (AnyPartner, "pairs_by_class", "with pairing=same_class a sample has a partner of another"),
    (Right, "light_module", "importing its module imports torch"),
]


@pytest.mark.parametrize("right", [Right, RightMean])
def test_without_a_mistake_nothing_is_broken(right: type[Method]) -> None:
    findings = contract.check_method(right)
    assert [
        finding
        for finding in findings
        if finding.verdict == "broken" and finding.name != "light_module"
    ] == []
    # This module imports torch, as a test may.
    assert {finding.name for finding in findings} == set(contract.PROPERTIES)


@pytest.mark.parametrize(
    ("method", "name", "sentence"), MISTAKES, ids=[f"{m.__name__}-{n}" for m, n, _ in MISTAKES]
)
def test_a_mistake_is_answered_in_words(method: type[Method], name: str, sentence: str) -> None:
    (finding,) = contract.check_method(method, [contract.PROPERTIES[name]])
    assert finding.verdict == "broken"
    assert re.search(sentence, finding.reason), finding.reason
    assert "\n" not in finding.reason
    assert finding.case


def test_every_property_has_a_mistake_that_it_answers() -> None:
    answered = {name for _, name, _ in MISTAKES}
    missing = set(contract.PROPERTIES) - answered
    assert missing == WITHOUT_A_MISTAKE


WITHOUT_A_MISTAKE = {
    "no_synchronisation",  # needs a GPU
}
