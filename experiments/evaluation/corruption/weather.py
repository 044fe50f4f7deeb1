"""Weather: fog, snow, frost and bright light, all computed. Parameters as in `noise`.

The original's frost lays one of six photographs over the image; ours a texture that is generated.
"""

# All have the same parameters, whether they need them or not.
# ruff: noqa: ARG001

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixbench.experiments.evaluation.corruption import separable
from mixbench.experiments.evaluation.corruption.blur import trail
from mixbench.experiments.evaluation.image_random import ImageRandom

LUMINANCE = (0.299, 0.587, 0.114)
ICE = (0.86, 0.95, 1.0)
"""The colour of frost."""


def brightness(images: Tensor, level: float, scale: float, draws: ImageRandom) -> Tensor:
    """Raise the value (of hue, saturation, value): all channels by the same factor."""
    if images.shape[1] != 3:
        return images + level
    value = images.amax(dim=1, keepdim=True)
    brighter = (value + level).clamp(max=1)
    return torch.where(value > 0, images * (brighter / value.clamp(min=1e-6)), brighter)


def fog(images: Tensor, level: tuple[float, float], scale: float, draws: ImageRandom) -> Tensor:
    """Add a plasma fractal, then scale the brightest value back to what it was."""
    thickness, fading = level
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    height, width = images.shape[-2:]
    cloud = plasma(draws, 1 << (max(height, width) - 1).bit_length(), fading)
    return (images + thickness * cloud[..., :height, :width]) * (
        brightest / (brightest + thickness)
    )


def snow(
    images: Tensor,
    level: tuple[float, float, float, float, float, float, float],
    scale: float,
    draws: ImageRandom,
) -> Tensor:
    """Whiten the image and add flakes: the peaks of noise, drawn out by motion."""
    mean, deviation, zoom, least, radius, sigma, seen = level
    height, width = images.shape[-2:]
    noise = mean + deviation * draws.normal("flakes", 1, height, width)
    rows, columns = (separable.zoom(side, max(1.0, zoom * scale)) for side in (height, width))
    noise = separable.apply(noise, separable.Maps([(rows, columns)]))
    flakes = torch.where(noise < least, 0.0, noise).clamp(0, 1)
    # Downwards, within 45 degrees.
    angle = math.pi / 4 + draws.uniform("angle") * (math.pi / 2)
    flakes = trail(flakes, radius * scale, sigma * scale, angle)
    whiter = torch.maximum(images, 1.5 * grey(images) + 0.5)
    return seen * images + (1 - seen) * whiter + flakes + flakes.flip(-1, -2)


def frost(images: Tensor, level: tuple[float, float], scale: float, draws: ImageRandom) -> Tensor:
    """Darken the image and add ice, from a texture that is generated for each image."""
    seen, thickness = level
    height, width = images.shape[-2:]
    ice = crystals(draws, 1 << (max(height, width) - 1).bit_length())[..., :height, :width]
    return seen * images + thickness * ice * tint(images, ICE)


def crystals(draws: ImageRandom, side: int) -> Tensor:
    """Frost on a window, from 0 to 1: bright ridges of one cloud, over the veil of another.

    Args:
        draws: The images' random numbers.
        side: In pixels, a power of 2.

    Returns:
        (B,1,side,side) float32.
    """
    veil = plasma(draws, side, 1.6, "veil")
    ridges = 1 - (2 * plasma(draws, side, 1.35, "ridges") - 1).abs()
    return 0.55 * veil + 0.45 * ridges**3


def tint(images: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """A colour as (1,C,1,1) that can be added to images: its luminance where these have none."""
    if images.shape[1] != 3:
        return images.new_full((1, 1, 1, 1), sum(map(float.__mul__, LUMINANCE, colour)))
    return images.new_tensor(colour).view(1, 3, 1, 1)


def grey(images: Tensor) -> Tensor:
    """The luminance (ITU-R BT.601) of colour images, the mean of other channels.

    Args:
        images: (B,C,H,W).

    Returns:
        (B,1,H,W).
    """
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.unbind(1)
    parts = LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue
    return parts.unsqueeze(1)


def plasma(draws: ImageRandom, side: int, fading: float, what: str = "plasma") -> Tensor:
    """Clouds from 0 to 1, by the diamond-square algorithm on a torus.

    Each halving of the grid adds noise that is `fading` squared times weaker, as in the original,
    which multiplies by its amplitude twice.

    Args:
        draws: The images' random numbers.
        side: In pixels, a power of 2.
        fading: How fast details fade with their size.
        what: Which of the images' random numbers.

    Returns:
        (B,1,side,side) float32.
    """
    noise = draws.uniform(what, side, side) * 2 - 1
    clouds = torch.zeros_like(noise)
    step, strength = side, 1.0
    while step > 1:
        half = step // 2
        corners = clouds[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        middles = (pairs + pairs.roll(-1, 2)) / 4 + strength * noise[:, half::step, half::step]
        above = middles.roll(1, 1) + middles + corners + corners.roll(-1, 2)
        beside = middles.roll(1, 2) + middles + corners + corners.roll(-1, 1)
        clouds[:, half::step, half::step] = middles
        clouds[:, ::step, half::step] = above / 4 + strength * noise[:, ::step, half::step]
        clouds[:, half::step, ::step] = beside / 4 + strength * noise[:, half::step, ::step]
        step, strength = half, strength / fading**2
    clouds = clouds - clouds.amin(dim=(1, 2), keepdim=True)
    return (clouds / clouds.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).unsqueeze(1)
