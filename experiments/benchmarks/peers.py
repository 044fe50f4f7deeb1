"""Other libraries' implementations behind one call, used as their documentation says.

A library that is not installed is left out and named by `missing`. Where no library has a method,
its authors' published formula is written out in plain torch or numpy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.bank import Bank
from mixbench.experiments.benchmarks import masks

METHODS = (
    "cutmix",
    "mixup",
    "cutout",
    "random_erasing",
    "ricap",
    "fmix",
    "smoothmix",
    "gridmix",
    "cowmask",
)
"""Methods that another library has too, or whose formula is written out here."""
LIBRARIES = ("timm", "torchvision", "kornia")
OURS = "mixbench"

Call = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class Entry:
    """One implementation of one method.

    per_sample: a draw for each image, not one for the batch. in_place: it writes into the images
    that it is given, and so need not make a copy.
    call: images (B, C, H, W) float32 and labels (B,) int64 -> mixed images and mixed labels.
    """

    library: str
    method: str
    per_sample: bool
    call: Call
    in_place: bool = False
    note: str = ""


def missing() -> list[str]:
    """Names of the libraries that are not installed or can't be imported."""
    return [name for name in LIBRARIES if not _importable(name)]


def _importable(name: str) -> bool:
    if find_spec(name) is None:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(name)
    except ImportError:
        return False
    return True


def entries(method: str, shape: tuple[int, ...], classes: int, device: torch.device) -> list[Entry]:
    """Ours and all others' implementations of `method` for batches of `shape`, ours first."""
    candidates = list(_ours(method, shape, classes, device))
    for library, make in (("timm", _timm), ("torchvision", _torchvision), ("kornia", _kornia)):
        if library not in missing():
            candidates += make(method, classes, device)
    return [*candidates, *_written_out(method, classes)]


def parameters(method: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a method is measured with: every image is mixed, Cutout blanks a half of each side."""
    half = max(1, min(shape[-2:]) // 2)
    overrides: dict[str, dict[str, Any]] = {
        "cutout": {"size": half},
        "random_erasing": {"fill": 0.0},
    }
    return {"prob": 1.0, **overrides.get(method, {})}


def _ours(
    method: str, shape: tuple[int, ...], classes: int, device: torch.device
) -> Iterator[Entry]:
    for per_sample in (False, True):
        mix = augmentations.create(method, per_sample=per_sample, **parameters(method, shape))
        generator = torch.Generator(device).manual_seed(0)

        def call(
            images: Tensor,
            labels: Tensor,
            mix: augmentations.Method = mix,
            generator: torch.Generator = generator,
        ) -> Any:
            bank = Bank(images, labels)
            return mix(images, labels, classes, generator=generator, bank=bank)

        yield Entry(OURS, method, per_sample, call)


def _timm(method: str, classes: int, device: torch.device) -> Iterator[Entry]:
    if method in ("cutmix", "mixup"):
        from timm.data.mixup import Mixup

        for per_sample, mode in ((False, "batch"), (True, "elem")):
            mixup: Any = Mixup
            mix = mixup(
                mixup_alpha=float(method == "mixup"),
                cutmix_alpha=float(method == "cutmix"),
                mode=mode,
                label_smoothing=0.0,
                num_classes=classes,
            )
            yield Entry("timm", method, per_sample, mix, in_place=True, note=f"mode={mode!r}")
    if method in ("cutout", "random_erasing"):
        from timm.data.random_erasing import RandomErasing

        area = {"min_area": 0.25, "max_area": 0.25, "min_aspect": 1.0}
        erasing: Any = RandomErasing
        erase = erasing(probability=1.0, device=str(device), **(area if method == "cutout" else {}))
        yield Entry("timm", method, True, lambda x, y: (erase(x), y), in_place=True)


def _torchvision(method: str, classes: int, _device: torch.device) -> Iterator[Entry]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision.transforms import v2

    if method in ("cutmix", "mixup"):
        make = v2.CutMix if method == "cutmix" else v2.MixUp
        yield Entry("torchvision", method, False, make(num_classes=classes))
    if method in ("cutout", "random_erasing"):
        area = {"scale": (0.25, 0.25), "ratio": (1.0, 1.0)} if method == "cutout" else {}
        erase = v2.RandomErasing(p=1.0, **area)
        yield Entry("torchvision", method, False, lambda x, y: (erase(x), y))


def _kornia(method: str, _classes: int, _device: torch.device) -> Iterator[Entry]:
    if method not in ("cutmix", "mixup", "cutout", "random_erasing"):
        return
    # An optional package; its own warnings don't matter here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kornia.augmentation as kornia

    keys: Any = ["input", "class"]
    for same in (True, False):
        if method == "cutmix":
            mix: Any = kornia.RandomCutMixV2(
                p=1.0, data_keys=keys, use_correct_lambda=True, same_on_batch=same
            )
            yield Entry("kornia", method, not same, mix)
        elif method == "mixup":
            mix = kornia.RandomMixUpV2(p=1.0, data_keys=keys, same_on_batch=same)
            yield Entry("kornia", method, not same, mix)
        else:
            area: Any = {"scale": (0.25, 0.25), "ratio": (1.0, 1.0)} if method == "cutout" else {}
            erase = kornia.RandomErasing(p=1.0, same_on_batch=same, **area)

            def call(images: Tensor, labels: Tensor, erase: Any = erase) -> Any:
                return erase(images), labels

            yield Entry("kornia", method, not same, call)


def _written_out(method: str, classes: int) -> Iterator[Entry]:
    """Plain implementations of the formula, and the authors' own."""
    functions: dict[str, tuple[tuple[str, bool, Any], ...]] = {
        "cutmix": (
            ("plain torch, where", True, _plain_cutmix),
            ("plain torch, slices", True, _sliced_cutmix),
        ),
        "mixup": (("plain torch, lerp", True, _plain_mixup),),
        "cutout": (("plain torch, where", True, _plain_cutout),),
        "ricap": (("authors' code", False, _authors_ricap), ("authors' code", True, _each_ricap)),
        "fmix": (("authors' code", False, _authors_fmix), ("authors' code", True, _each_fmix)),
        "smoothmix": (("plain torch", False, masks.smoothmix),),
        "gridmix": (("plain torch", False, masks.gridmix),),
        "cowmask": (("authors' formula", True, masks.cowmask),),
    }
    for library, per_sample, function in functions.get(method, ()):

        def call(images: Tensor, labels: Tensor, function: Any = function) -> Any:
            return function(images, labels, classes)

        yield Entry(library, method, per_sample, call)


def _soft(labels: Tensor, other: Tensor, own_weight: Tensor, classes: int) -> Tensor:
    """own * one_hot(labels) + (1 - own) * one_hot(labels[other])."""
    hot = F.one_hot(labels, classes).float()
    return torch.lerp(hot[other], hot, own_weight.float().view(-1, 1))


def _boxes(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """CutMix's boxes, one per image: top, bottom, left, right, each (B,) int64."""
    batch, _, height, width = images.shape
    unit = torch.rand(3, batch, device=images.device)
    cut = unit[0].sqrt()
    down, across = (height * cut).long() // 2, (width * cut).long() // 2
    row, column = (height * unit[1]).long(), (width * unit[2]).long()
    return (
        (row - down).clamp(min=0),
        (row + down).clamp(max=height),
        (column - across).clamp(min=0),
        (column + across).clamp(max=width),
    )


def _inside(images: Tensor, boxes: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    height, width = images.shape[-2:]
    top, bottom, left, right = (edge.view(-1, 1, 1, 1) for edge in boxes)
    row = torch.arange(height, device=images.device).view(1, 1, height, 1)
    column = torch.arange(width, device=images.device).view(1, 1, 1, width)
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)


def _plain_cutmix(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    other = torch.randperm(len(images), device=images.device)
    inside = _inside(images, _boxes(images))
    own_weight = 1 - inside.float().mean(dim=(1, 2, 3))
    return torch.where(inside, images[other], images), _soft(labels, other, own_weight, classes)


def _sliced_cutmix(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    other = torch.randperm(len(images), device=images.device)
    boxes = _boxes(images)
    top, bottom, left, right = boxes
    area = (bottom - top) * (right - left)
    own_weight = 1 - area / (images.shape[-2] * images.shape[-1])
    mixed = images.clone()
    edges = torch.stack([other, *boxes], dim=1).tolist()
    for index, (partner, first, last, start, end) in enumerate(edges):
        mixed[index, :, first:last, start:end] = images[partner, :, first:last, start:end]
    return mixed, _soft(labels, other, own_weight, classes)


def _plain_mixup(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    other = torch.randperm(len(images), device=images.device)
    own_weight = torch.rand(len(images), device=images.device)
    mixed = torch.lerp(images[other], images, own_weight.view(-1, 1, 1, 1))
    return mixed, _soft(labels, other, own_weight, classes)


def _plain_cutout(images: Tensor, labels: Tensor, _classes: int) -> tuple[Tensor, Tensor]:
    batch, _, height, width = images.shape
    half = max(1, min(height, width) // 2) // 2
    row = torch.randint(height, (batch,), device=images.device)
    column = torch.randint(width, (batch,), device=images.device)
    inside = _inside(images, (row - half, row + half, column - half, column + half))
    return torch.where(inside, torch.zeros((), device=images.device), images), labels


def _authors_ricap(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Takahashi et al. 2018, figure 2: the Python code in the paper."""
    batch, _, height, width = images.shape
    cut_width = round(width * float(_beta(0.3)))
    cut_height = round(height * float(_beta(0.3)))
    widths = [cut_width, width - cut_width, cut_width, width - cut_width]
    heights = [cut_height, cut_height, height - cut_height, height - cut_height]
    parts, soft = [], torch.zeros(batch, classes, device=images.device)
    for wide, high in zip(widths, heights, strict=True):
        index = torch.randperm(batch, device=images.device)
        column = int(torch.randint(width - wide + 1, ()))
        row = int(torch.randint(height - high + 1, ()))
        parts.append(images[index][:, :, row : row + high, column : column + wide])
        soft += F.one_hot(labels[index], classes) * (wide * high / (width * height))
    upper, lower = torch.cat(parts[:2], dim=3), torch.cat(parts[2:], dim=3)
    return torch.cat((upper, lower), dim=2), soft


def _each_ricap(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The same formula with a cut and crops for every image."""
    batch, _, height, width = images.shape
    index = torch.rand(4, batch).argsort(dim=1).tolist()
    mixed = torch.empty_like(images)
    soft = torch.zeros(batch, classes)
    classes_of = labels.tolist()
    cuts = _beta(0.3, 2, batch)
    rows, columns = (height * cuts[0]).round().tolist(), (width * cuts[1]).round().tolist()
    for sample in range(batch):
        cut, split = int(rows[sample]), int(columns[sample])
        places = (
            (0, cut, 0, split),
            (0, cut, split, width),
            (cut, height, 0, split),
            (cut, height, split, width),
        )
        for part, (top, bottom, left, right) in enumerate(places):
            high, wide = bottom - top, right - left
            row, column = torch.rand(2).tolist()
            row, column = int(row * (height - high + 1)), int(column * (width - wide + 1))
            source = index[part][sample]
            mixed[sample, :, top:bottom, left:right] = images[
                source, :, row : row + high, column : column + wide
            ]
            soft[sample, classes_of[source]] += high * wide / (height * width)
    return mixed, soft.to(images.device)


def _beta(shape: float, *size: int) -> Tensor:
    gamma = torch._standard_gamma(torch.full((2, *size), shape))
    return gamma[0] / (gamma[0] + gamma[1])


def official_fmix_mask(height: int, width: int, lam: float, decay: float = 3.0) -> Any:
    """A mask (H, W) of Harris et al. 2020 as their sampler makes it: numpy, one at a time.

    Random spectrum over 1/f^decay whose first two rows are taken for real and imaginary part, as
    published; the λN largest pixels are 1, rounded up or down by a fair coin. Makes every pass over
    the mask that theirs makes, needed or not.
    """
    import numpy as np

    columns = width // 2 + (2 if width % 2 else 1)
    horizontal = np.fft.fftfreq(width)[:columns]
    vertical = np.fft.fftfreq(height)[:, None]
    frequency = np.sqrt(horizontal * horizontal + vertical * vertical)
    scale = 1 / np.maximum(frequency, 1 / max(height, width)) ** decay
    noise = scale[..., None] * np.random.randn(height, columns, 2)
    spectrum = noise[0] + 1j * noise[1]
    image = np.real(np.fft.irfftn(spectrum, (height, width), axes=(0, 1)))
    image = image - image.min()
    mask = (image / max(image.max(), 1e-300)).reshape(-1)
    order = mask.argsort()[::-1]
    wanted = lam * mask.size
    count = int(np.ceil(wanted) if np.random.rand() > 0.5 else np.floor(wanted))
    mask[order[:count]] = 1
    mask[order[count:]] = 0
    return mask.reshape(height, width)


def _authors_fmix(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    from scipy.stats import beta

    lam = float(beta.rvs(1.0, 1.0))
    height, width = images.shape[-2:]
    mask = torch.from_numpy(official_fmix_mask(height, width, lam)).float().to(images.device)
    other = torch.randperm(len(images), device=images.device)
    mixed = mask * images + (1 - mask) * images[other]
    own_weight = torch.full((len(images),), lam, device=images.device)
    return mixed, _soft(labels, other, own_weight, classes)


def _each_fmix(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The authors' sampler once for every image."""
    batch, _, height, width = images.shape
    masks, lam = official_fmix_masks(batch, height, width)
    mask = torch.from_numpy(masks).float().unsqueeze(1).to(images.device)
    other = torch.randperm(len(images), device=images.device)
    mixed = mask * images + (1 - mask) * images[other]
    return mixed, _soft(labels, other, torch.from_numpy(lam).to(images.device), classes)


def official_fmix_masks(count: int, height: int, width: int) -> tuple[Any, Any]:
    """The authors' sampler `count` times: masks (count, H, W) and their λ (count,), in numpy."""
    import numpy as np
    from scipy.stats import beta

    lam = [float(beta.rvs(1.0, 1.0)) for _ in range(count)]
    masks = np.stack([official_fmix_mask(height, width, value) for value in lam])
    return masks, np.array(lam, dtype=np.float32)


@cache
def versions() -> dict[str, str]:
    """The installed version of torch and of each library."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", *LIBRARIES) if name not in missing()}
