"""Operations on whole batches of 8-bit images, each image with one of its own: torchvision's.

    pixels = apply_operation(pixels, operation, strength)

Every operation is one of four kinds: a move (one gather), a table of 256 values per channel
(another gather), a step towards grey, a step from or towards the smoothed image. So a batch takes
four passes, however many different operations and strengths it has. On a CPU each pass is over the
images that it concerns; elsewhere over all, as the host does not wait to know which.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations.checks import readable

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
"""All operations; a batch has their places in this list."""
AT = {name: place for place, name in enumerate(OPERATIONS)}
LUMA = (0.2989, 0.587, 0.114)
LEVELS = 256

Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def is_move(operation: Tensor) -> Tensor:
    """Tell which operations move pixels: of the shape of `operation`, bool."""
    return (operation >= AT["shear_x"]) & (operation <= AT["rotate"])


def changes(operation: Tensor, strength: Tensor) -> Tensor:
    """Tell which operations are more than the identity: of the shape of `operation`, bool."""
    nothing = (operation <= AT["sharpness"]) & (strength == 0)
    nothing = nothing | ((operation == AT["posterize"]) & (strength >= 8))
    return (operation != AT["identity"]) & ~nothing


def apply_operation(
    pixels: Tensor, operation: Tensor, strength: Tensor, *, smooth: bool = False
) -> Tensor:
    """Apply to each image its operation.

    Args:
        pixels: (B, C, H, W) float32 of whole numbers from 0 to 255.
        operation: (B,) int64, places in `OPERATIONS`.
        strength: (B,) float32. Shears: the tangent; translations: pixels; rotations: degrees;
            brightness, colour, contrast and sharpness: the factor less 1; posterize: how many bits
            stay; solarize: the value from which on they are inverted. Others have none.
        smooth: Whether moves interpolate (bilinear) or take the nearest pixel.

    Returns:
        (B, C, H, W) float32 of whole numbers, those of torchvision's operations on uint8
            (colour: within one level, by rounding).
    """
    colour, sharpness = (operation == AT[name] for name in ("colour", "sharpness"))
    moves = is_move(operation)
    table = (operation >= AT["brightness"]) & ~colour & ~sharpness

    def move(images: Tensor, which: Tensor, how_much: Tensor) -> Tensor:
        size = (images.shape[2], images.shape[3])
        return moved(images, which, how_much, size, smooth=smooth).round_()

    steps: list[tuple[Tensor, Step]] = [(moves, move), (table, _look_up), (sharpness, _sharpen)]
    if pixels.shape[1] > 1:
        steps.append((colour, _saturate))
    for applies, step in steps:
        pixels = _where(applies, step, pixels, operation, strength)
    return pixels


def _where(
    applies: Tensor, step: Step, pixels: Tensor, operation: Tensor, strength: Tensor
) -> Tensor:
    """Apply `step` to the images of which `applies` (B,) says so."""
    if not readable(applies):
        changed = step(pixels, operation, strength)
        return torch.where(applies.view(-1, 1, 1, 1), changed, pixels)
    rows = applies.nonzero().squeeze(1)
    if not len(rows):
        return pixels
    if len(rows) == len(pixels):
        return step(pixels, operation, strength)
    changed = step(pixels[rows], operation[rows], strength[rows])
    return pixels.index_copy(0, rows, changed)


def moved(
    images: Tensor,
    operation: Tensor,
    strength: Tensor,
    size: tuple[int, int],
    *,
    smooth: bool = False,
) -> Tensor:
    """Move the pixels of each image by its operation, which must be a move; 0 from outside.

    Args:
        images: (B, C, h, w) float32 or float64, of any resolution.
        operation: (B,) int64.
        strength: (B,) float32, for images of `size`.
        size: The height and width at which strengths are pixels.
        smooth: Whether to interpolate.
    """
    grid = _grid(operation, strength, size, (images.shape[2], images.shape[3])).to(images.dtype)
    mode = "bilinear" if smooth else "nearest"
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)


def sources_of_pixels(
    operation: Tensor, strength: Tensor, size: tuple[int, int], resolution: tuple[int, int]
) -> Tensor:
    """Return where each pixel comes from: (B, h, w) int64 places, row by row; -1 for outside.

    Args:
        operation: (B,) int64; what is no move leaves pixels in their places.
        strength: (B,) float32.
        size: The height and width at which strengths are pixels.
        resolution: h and w.
    """
    height, width = resolution
    places = torch.arange(height * width, device=operation.device).view(height, width)
    # 0 is what comes from outside.
    numbered = (places + 1).double() if operation.device.type != "mps" else (places + 1).float()
    images = numbered.expand(len(operation), 1, height, width)
    sources = moved(images, operation, strength, size).squeeze(1).round().long() - 1
    return torch.where(is_move(operation).view(-1, 1, 1), sources, places)


def inverse_matrices(operation: Tensor, strength: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where pixels come from: (B, 2, 3), x and y about the image's centre, in pixels."""
    exact = torch.float32 if operation.device.type == "mps" else torch.float64
    amount = strength.to(exact)
    nothing = torch.zeros_like(amount)
    across, down, right, below, angle = (
        torch.where(operation == AT[name], amount, nothing)
        for name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
    )
    turn = angle.deg2rad()
    cosine, sine = turn.cos(), turn.sin()
    # Shears leave the first row, or column, where it is.
    rows = (cosine, across - sine, across * (size[0] / 2) - right)
    columns = (down + sine, cosine, down * (size[1] / 2) - below)
    return torch.stack([torch.stack(rows, dim=1), torch.stack(columns, dim=1)], dim=1)


def _grid(
    operation: Tensor, strength: Tensor, size: tuple[int, int], resolution: tuple[int, int]
) -> Tensor:
    """Return the grid of `grid_sample`: (B, h, w, 2). Not a matrix product, for autocast's sake."""
    matrix = inverse_matrices(operation, strength, size).float()
    x, y = (
        _centred(count, length, matrix.device)
        for count, length in zip(reversed(resolution), reversed(size), strict=True)
    )
    y = y.view(-1, 1)
    sides = []
    for row, length in ((0, size[1]), (1, size[0])):
        along, across, shift = matrix[:, row].view(-1, 3, 1, 1).unbind(dim=1)
        sides.append((x * along + y * across + shift) / (length / 2))
    return torch.stack(sides, dim=-1)


def _centred(count: int, length: int, device: torch.device) -> Tensor:
    """Return the centres of `count` pixels along a side of `length`: 0 is its middle."""
    places = torch.arange(count, device=device, dtype=torch.float32) - (count - 1) / 2
    return places * (length / count)


def _look_up(pixels: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Replace each value by that of its image's table."""
    batch, channels, height, width = pixels.shape
    tables = _tables(pixels, operation, strength).reshape(-1)
    first = torch.arange(batch * channels, device=pixels.device).view(batch, channels, 1, 1)
    at = pixels.long() + first * LEVELS
    return tables.index_select(0, at.reshape(-1)).view(batch, channels, height, width)


def _tables(pixels: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Return what becomes of each value: (B, C, 256) float32."""
    batch, channels = pixels.shape[:2]
    value = torch.arange(LEVELS, device=pixels.device, dtype=torch.float32)
    factor, other = (one.view(-1, 1, 1) for one in _factors(strength))
    amount = strength.view(-1, 1, 1)
    which = operation.view(-1, 1, 1)
    grey = _grey(pixels).mean(dim=(1, 2, 3)).view(-1, 1, 1)
    step = torch.exp2((8 - amount).clamp(0, 8))
    low, high = (one.unsqueeze(2) for one in (pixels.amin((2, 3)), pixels.amax((2, 3))))
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    tables = value.expand(batch, channels, LEVELS)
    for name, made in (
        ("brightness", value * factor),
        ("contrast", value * factor + grey * other),
        ("posterize", (value / step).floor() * step),
        ("solarize", torch.where(value >= amount, 255 - value, value)),
        ("autocontrast", (value - torch.where(flat, 0.0, low)) / scale),
        ("equalize", _equalised(pixels, high)),
    ):
        tables = torch.where(which == AT[name], made, tables)
    return tables.clamp(0, 255).floor()


def _equalised(pixels: Tensor, high: Tensor) -> Tensor:
    """Return the tables that spread values evenly, by Pillow's rule: (B, C, 256) float32."""
    batch, channels = pixels.shape[:2]
    first = torch.arange(batch * channels, device=pixels.device).view(batch, channels, 1, 1)
    at = (pixels.long() + first * LEVELS).reshape(-1)
    counts = torch.zeros(batch * channels * LEVELS, dtype=torch.int64, device=pixels.device)
    counts.scatter_add_(0, at, torch.ones_like(at))
    counts = counts.view(batch, channels, LEVELS)
    total = pixels.shape[2] * pixels.shape[3]
    step = (total - counts.gather(2, high.long())) // 255
    below = counts.cumsum(dim=2) - counts
    spread = (below + step // 2) // step.clamp(min=1)
    value = torch.arange(LEVELS, device=pixels.device)
    return torch.where(step > 0, spread, value).float()


def _saturate(pixels: Tensor, operation: Tensor, strength: Tensor) -> Tensor:  # noqa: ARG001
    factor, other = (one.view(-1, 1, 1, 1) for one in _factors(strength))
    return (pixels * factor + _grey(pixels) * other).clamp_(0, 255).floor_()


def _sharpen(pixels: Tensor, operation: Tensor, strength: Tensor) -> Tensor:  # noqa: ARG001
    """Go from the smoothed image through the image and beyond; the border has no smoothed one."""
    if min(pixels.shape[2:]) < 3:
        return pixels
    inner = pixels[:, :, 1:-1, 1:-1]
    columns = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    around = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]
    smoothed = ((around + 4 * inner) / 13).round_()
    _, other = _factors(strength)
    sharpened = inner + (smoothed - inner) * other.view(-1, 1, 1, 1)
    result = pixels.clone()
    result[:, :, 1:-1, 1:-1] = sharpened.clamp_(0, 255).floor_()
    return result


def _factors(strength: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of an image and of what it is blended with, beyond 1 and below 0 too."""
    return 1 + strength, -strength


def _grey(pixels: Tensor) -> Tensor:
    """Return the luma of colour images, or the mean of the channels: (B, 1, H, W)."""
    channels = pixels.shape[1]
    if channels == 1:
        return pixels
    if channels != len(LUMA):
        return pixels.mean(dim=1, keepdim=True).floor_()
    red, green, blue = (pixels[:, at : at + 1] for at in range(3))
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]).floor()
