"""Pictures of mixed batches: the strip of every run, and what other pictures are made of."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations.bank import Bank
from mixbench.augmentations.networks.views import NetworkView
from mixbench.experiments.data.box_pictures import outlined
from mixbench.experiments.data.crops import Scale, denormalise, normalise
from mixbench.experiments.data.dataset import Dataset, value_range
from mixbench.experiments.data.mask_pictures import masks_for, tinted
from mixbench.experiments.data.mixed_objects import mixed_boxes
from mixbench.experiments.data.object_masks import object_masks
from mixbench.experiments.data.object_rows import Objects
from mixbench.experiments.data.split import crop_draws
from mixbench.experiments.design.tasks import BOXES, DOMAINS, LABELS, MASKS, PAIRS

STRIP = 8
SEED = 4
SIDE = 112
GAP = 8
LINE = 16
_LETTERS = 13
_MOST_LABELS = 4
"""So many labels of a mixed image are told, those with the most weight."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def mixed_strip(
    dataset: Dataset, augmentation: dict[str, Any], crops: Scale | None = None
) -> bytes:
    """A PNG of eight mixed training images, the same eight and the same seed for every method.

    crops: the shares of the area that their random crops have, the same for every method too.
    """
    raw, labels = one_per_class(dataset, STRIP, crops, SEED)
    mixed, targets, depth = mix_batch(dataset, augmentation, raw, labels, SEED)
    font = font_of(_LETTERS)
    tiles = [tile_of(image, SIDE) for image in mixed]
    captions = [caption(dataset, targets, number, SIDE, font) for number in range(len(tiles))]
    width = len(tiles) * (SIDE + GAP) - GAP
    note = wrapped(inside(depth), width, font) if depth else []
    tall = max(map(len, captions))
    strip = Image.new("RGB", (width, SIDE + LINE * (tall + len(note)) + 2), "white")
    draw = ImageDraw.Draw(strip)
    for number, (tile, lines) in enumerate(zip(tiles, captions, strict=True)):
        left = number * (SIDE + GAP)
        strip.paste(tile, (left, 0))
        write_lines(draw, (left, SIDE + 1), lines, font, LINE)
    write_lines(draw, (0, SIDE + 1 + LINE * tall), note, font, LINE)
    return png_of(strip)


def mix_batch(
    dataset: Dataset, augmentation: dict[str, Any], raw: Tensor, labels: Tensor, seed: int
) -> tuple[Tensor, Tensor, int]:
    """Mixed images (uint8), their dense soft labels, on the CPU, and the plan's depth."""
    images, given = normalise(raw, dataset.mean, dataset.std), labels
    labels = labels_for_methods(dataset, labels)
    generator = torch.Generator().manual_seed(seed)
    # One batch shows one draw, unless the draws are per sample: a picture is to show the variety.
    mix = augmentations.create(**augmentation)
    mix = mix if mix.name == "none" else mix.varied()
    # As if another batch had come before.
    bank = Bank(images.roll(1, dims=0), labels.roll(1, dims=0))
    masks = None
    if "masks" in mix.needs:
        masks = _masks(dataset, mix, raw, given)
    classes = _classes(dataset)
    model = _stand_in(images, classes) if "model" in mix.needs else None
    batch = mix(
        images,
        labels,
        classes,
        generator,
        bank=bank,
        masks=masks,
        model=model,
        normalisation=(dataset.mean, dataset.std),
    )
    pixels = denormalise(batch.images, dataset.mean, dataset.std)
    if dataset.targets == MASKS:
        pixels = tinted(pixels, batch.plan.mix_dense(given[:, 0]).dense(classes))
    if dataset.targets == BOXES:
        objects = Objects.of(given, dataset.shape[1:])
        pixels = outlined(pixels, mixed_boxes(batch.plan, objects))
    if dataset.targets == PAIRS and given.dim() == 4:
        pixels = beside(pixels, batch.plan.mix_images(given.float()).round_().byte())
    return pixels, batch.targets.dense(classes), batch.plan.depth


def _classes(dataset: Dataset) -> int:
    """How many classes labels have, as methods take them."""
    return max(1, len(dataset.classes))


def beside(images: Tensor, others: Tensor) -> Tensor:
    """Images (N,C,H,W) with the other images of their pairs on their right; texts are not shown."""
    return torch.cat([images, others], dim=3) if others.dim() == 4 else images


def _masks(
    dataset: Dataset, method: augmentations.Method, raw: Tensor, targets: Tensor
) -> Tensor | None:
    """The masks for a method that asks for them."""
    if dataset.targets == MASKS:
        return masks_for(method, targets)
    if dataset.targets == BOXES:
        return Objects.of(targets, dataset.shape[1:]).maps
    return object_masks(raw)


def _stand_in(images: Tensor, classes: int) -> NetworkView:
    """A small untrained network, always the same, for methods that ask the one that is trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = nn.Sequential(
            nn.Conv2d(images.shape[1], 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, classes),
        )
    return NetworkView(network.to(images.device), map_layer="1")


def inside(depth: int) -> str:
    """The caption of a batch that is mixed at a layer of the network."""
    return f"mixed at layer {depth} of the network; these are the images that enter it"


def font_of(size: int) -> Font:
    """The font of captions, so many pixels high."""
    return ImageFont.load_default(size=size)


def write_lines(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    lines: Sequence[str],
    font: Font,
    line: int,
    colour: str = "black",
) -> None:
    """Write lines below each other, `line` pixels apart."""
    left, top = corner
    for number, text in enumerate(lines):
        draw.text((left, top + line * number), text, fill=colour, font=font)


def wrapped(text: str, width: int, font: Font) -> list[str]:
    """The words of `text` on lines of at most `width` pixels."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def one_per_class(
    dataset: Dataset, count: int, crops: Scale | None, seed: int
) -> tuple[Tensor, Tensor]:
    """The first `count` training images, or crops of them, taking classes in turn, on the CPU."""
    of_classes = dataset.train.labels
    if dataset.targets == DOMAINS:
        # The domains take turns too.
        domains = int(of_classes[:, 1].max()) + 1
        of_classes = of_classes[:, 0].masked_fill(
            of_classes[:, 0] % domains != of_classes[:, 1], _classes(dataset)
        )
    elif dataset.targets != LABELS:
        of_classes = torch.zeros(len(dataset.train), dtype=torch.int64)
    by_class = [(of_classes == label).nonzero()[:, 0] for label in range(_classes(dataset))]
    rounds = -(-count // _classes(dataset)) if dataset.targets in (LABELS, DOMAINS) else count
    turns = [
        int(images[turn]) for turn in range(rounds) for images in by_class if len(images) > turn
    ]
    chosen = torch.tensor(turns[:count])
    if crops is not None:
        draws = crop_draws(len(chosen), torch.Generator().manual_seed(seed))
        cut, labels = dataset.train.cropped(chosen, draws, crops)
        return cut.cpu(), labels.cpu()
    subset = dataset.train.subset(chosen)
    images, own_labels = zip(*subset.batches(count), strict=True)
    return torch.cat(images).cpu(), torch.cat(own_labels).cpu()


def caption(dataset: Dataset, targets: Tensor, number: int, width: int, font: Font) -> list[str]:
    """The labels of a mixed image with their weights, on lines of at most `width` pixels.

    "0.63 bag · 0.37 coat"; the numbers to predict in a regression; nothing for masks.
    """
    lines: list[str] = []
    for part in _weights(dataset, targets, number):
        longer = f"{lines[-1]} · {part}" if lines else part
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_cut(part, width, font))
    return lines


def _weights(dataset: Dataset, targets: Tensor, number: int) -> list[str]:
    if dataset.targets in (BOXES, MASKS, PAIRS):
        return []
    if dataset.targets == "regression":
        low, high = value_range(dataset.train.labels)
        return target_text(dataset, low + targets[number] * (high - low)).split(", ")[:_MOST_LABELS]
    shares = sorted(enumerate(targets[number].tolist()), key=lambda item: -item[1])
    told = [f"{weight:.2f} {short(dataset.classes[c])}" for c, weight in shares if weight > 0.005]
    return told[:_MOST_LABELS]


def _cut(text: str, width: int, font: Font) -> str:
    """The text, with dots in place of its end where it is too wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def target_text(dataset: Dataset, target: Tensor) -> str:
    """Return what is to be told of an image in words; empty for masks and boxes."""
    if dataset.targets in (LABELS, DOMAINS):
        return dataset.classes[int(target.flatten()[0])]
    if dataset.targets == "multi_label":
        there = zip(dataset.classes, target.tolist(), strict=True)
        return ", ".join(name for name, value in there if value > 0) or "none"
    if dataset.targets == "regression":
        values = zip(dataset.classes, target.tolist(), strict=True)
        return ", ".join(f"{name} {value:.3g}" for name, value in values)
    return ""


def labels_for_methods(dataset: Dataset, targets: Tensor) -> Tensor:
    """Return labels that a method takes: numbers scaled to [0, 1], of masks and such none."""
    if dataset.targets in (BOXES, MASKS, PAIRS):
        return torch.zeros(len(targets), dtype=torch.int64, device=targets.device)
    if dataset.targets == "regression":
        low, high = value_range(dataset.train.labels)
        return (targets - low) / (high - low)
    return targets[:, 0] if dataset.targets == DOMAINS else targets


def short(text: str) -> str:
    """The name of a class, shortened where it is long."""
    return text if len(text) <= 14 else f"{text[:13]}…"


def tile_of(image: Tensor, side: int) -> Image.Image:
    """An image (C,H,W) of 0 to 255, scaled to fit a white square."""
    if image.is_floating_point():  # of more than 8 bits
        image = image.round().clamp(0, 255).to(torch.uint8)
    pixels = image.permute(1, 2, 0)
    pixels = pixels.expand(-1, -1, 3) if pixels.shape[2] == 1 else pixels
    tile = Image.fromarray(pixels.contiguous().numpy(), "RGB")
    longer = max(tile.size)
    way = Image.Resampling.NEAREST if side >= longer else Image.Resampling.BOX
    size = [max(1, round(length * side / longer)) for length in tile.size]
    tile = tile.resize((size[0], size[1]), way)
    if tile.size == (side, side):
        return tile
    square = Image.new("RGB", (side, side), "white")
    square.paste(tile, ((side - tile.width) // 2, (side - tile.height) // 2))
    return square


def png_of(image: Image.Image) -> bytes:
    """The bytes of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
