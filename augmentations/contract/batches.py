"""Check the result of a call, and that the images and labels given are not changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mixbench.augmentations.checks import describe
from mixbench.augmentations.contract.case import Case, pixels_of
from mixbench.augmentations.contract.promise import expect, expect_close, expect_equal, promise


def _kind(tensor: Tensor) -> str:
    return f"{describe(tensor)} on {tensor.device}"


@promise("mixed images have the shape, dtype, device and memory format of those given")
def same_kind(case: Case) -> None:
    images = case.images()
    mixed = case.mix(images, case.labels())
    layout = torch.channels_last if case.channels_last else torch.contiguous_format
    results = (mixed.images, pixels_of(mixed.plan, images), mixed.plan.mix_features(images))
    for result in results:
        expect(_kind(result) == _kind(images), f"{_kind(images)} came back as {_kind(result)}")
        expect(
            result.is_contiguous(memory_format=layout),
            f"images in {str(layout).removeprefix('torch.')} came back with strides "
            f"{result.stride()}",
        )


@promise("the images and labels given are left as they are")
def input_untouched(case: Case) -> None:
    for labels in (case.labels(), case.soft_labels()):
        images = case.images()
        before = images.clone(), labels.clone()
        versions = images._version, labels._version
        batch = case.mix(images, labels)
        pixels_of(batch.plan, images)
        for name, given, copy in zip(("images", "labels"), (images, labels), before, strict=True):
            expect_equal(given, copy, f"the {name} given were changed in place")
        # Writing the same values still invalidates a graph of autograd.
        expect(
            (images._version, labels._version) == versions,
            "the batch given was written to, though with the same values",
        )


@promise("a mixed pixel is finite and lies between those it is made of", label_rules=("pixels",))
def between_the_sources(case: Case) -> None:
    images = case.images()
    mixed = pixels_of(case.sample(images), images)
    expect(bool(mixed.isfinite().all()), "a mixed pixel is not finite")
    low, high = float(images.float().min()), float(images.float().max())
    least, most = float(mixed.float().min()), float(mixed.float().max())
    slack = 1e-6 * high
    expect(
        low - slack <= least and most <= high + slack,
        f"images within [{low:.4g}, {high:.4g}] gave pixels from {least:.4g} to {most:.4g}",
    )


@promise(
    "a method that keeps labels blanks pixels, and shows no other sample", label_rules=("kept",)
)
def blanks_only(case: Case) -> None:
    images = case.images()
    plan = case.sample(images)
    mixed = pixels_of(plan, images)
    expect(bool(mixed.isfinite().all()), "a pixel is not finite")
    if not plan.is_linear:
        return  # moments are exchanged: nothing is blanked
    changed = mixed != images
    for channel in range(case.channels):
        values = mixed[:, channel][changed[:, channel]].float()
        if values.numel():
            spread = float(values.max() - values.min())
            expect(
                spread == 0,
                f"changed pixels of one channel hold different values, {spread:.4g} apart: "
                "expected one fill",
            )


@promise("channels_last changes the layout only")
def layout_only(case: Case) -> None:
    images = case.images().contiguous()
    last = images.contiguous(memory_format=torch.channels_last)
    plan = case.sample(images)
    # The batch's mean colour may be summed in another order.
    tolerance = 1e-5 if case.dtype == torch.float32 else 1e-2
    expect_close(
        pixels_of(plan, last),
        pixels_of(plan, images),
        "channels_last images are mixed differently",
        atol=tolerance,
    )


@promise("images that are a view of another tensor mix as their copy does")
def views(case: Case) -> None:
    height, width = case.size
    crop = case.noise(case.batch, case.channels, height + 4, width + 3)[:, :, 2:-2, 1:-2]
    shared = case.noise(1, case.channels, height, width).expand(case.batch, -1, -1, -1)
    plan = case.sample(crop.contiguous())
    tolerance = 1e-5 if case.dtype == torch.float32 else 1e-2
    for what, view in (("a crop", crop), ("an expanded image", shared)):
        expect_close(
            pixels_of(plan, view),
            pixels_of(plan, view.contiguous()),
            f"{what} is mixed differently from its copy",
            atol=tolerance,
        )


@promise("a wrong batch is refused with a ValueError of one line that names the field", once=True)
def refusals(case: Case) -> None:
    mix, labels = case.method(), case.labels()
    device, batch = case.device, case.batch
    height, width = case.size
    right = torch.zeros(batch, 3, height, width, device=device)
    needed = case.given(mix, right)
    tries = [
        ("images", torch.zeros(batch, 3, width, device=device), labels),
        ("images", right.to(torch.uint8), labels),
        ("images", right[:0], labels[:0]),
        ("images", right[:, :, :0], labels),
        ("labels", right, labels[1:]),
        ("labels", right, labels.to(torch.int32)),
        ("labels", right, torch.zeros(batch, 9, device=device)),
    ]
    for field, images, given in tries:
        what = f"{_kind(images)} with labels {_kind(given)}"
        _refused(field, what, partial(mix, images, given, 10, **needed))
    plan = case.sample(right)
    if plan.depth == 0:
        _refused(
            "images",
            "a plan of another batch size",
            lambda: plan.mix_images(right.new_zeros(batch + 1, 3, height, width)),
        )
    _refused("labels", "a plan of another batch size", lambda: plan.mix_labels(labels[1:]))
    _refused(
        "features",
        "a plan of another batch size",
        lambda: plan.mix_features(torch.zeros(batch + 1, 5, device=device)),
    )


def _refused(field: str, what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except ValueError as error:
        message = str(error)
        expect("\n" not in message, f"{what}: the message is longer than one line")
        expect(
            field in message or "shape" in message,
            f"{what}: the message does not name {field}: {message}",
        )
        return
    expect(False, f"{what} was taken without a ValueError")
