"""Digital: contrast, bent images, large pixels, JPEG, saturation, spatter.

Parameters as in `noise`.
"""

# All have the same parameters, whether they need them or not.
# ruff: noqa: ARG001

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mixbench.experiments.evaluation.corruption import separable
from mixbench.experiments.evaluation.corruption.blur import gaussian
from mixbench.experiments.evaluation.corruption.weather import tint
from mixbench.experiments.evaluation.image_random import ImageRandom

MOSAIC = 2**25
"""Pixels of the largest picture that is compressed at once; Pillow warns from 89 million on."""
MUD = 0.8
"""Where smoothed mud is thinner, there is none."""
BROWN, TURQUOISE = (63 / 255, 42 / 255, 20 / 255), (175 / 255, 238 / 255, 238 / 255)
EMBOSS = ((-2.0, -1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0))


def contrast(images: Tensor, level: float, scale: float, draws: ImageRandom) -> Tensor:
    """Move values towards each image's and channel's mean."""
    # In double precision: the order of a sum may depend on the batch size.
    means = images.double().mean(dim=(2, 3), keepdim=True).float()
    return (images - means) * level + means


def pixelate(images: Tensor, level: float, scale: float, draws: ImageRandom) -> Tensor:
    """Shrink by averaging areas, and enlarge by repeating."""
    rows, columns = (separable.pixelate(side, level) for side in images.shape[-2:])
    return separable.apply(images, separable.Maps([(rows, columns)]))


def saturate(
    images: Tensor, level: tuple[float, float], scale: float, draws: ImageRandom
) -> Tensor:
    """Change the saturation, at the same hue and value. Pixels without a hue stay unchanged."""
    factor, more = level
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    saturation = chroma / value.clamp(min=1e-6)
    wanted = (saturation * factor + more).clamp(0, 1)
    ratio = torch.where(chroma > 0, wanted / saturation.clamp(min=1e-6), 1.0)
    return value - (value - images) * ratio


def spatter(
    images: Tensor,
    level: tuple[float, float, float, float, float, int],
    scale: float,
    draws: ImageRandom,
) -> Tensor:
    """Splash water or mud on the image, where smooth noise is above a threshold.

    Mud is as in the original. Its water is shaded by the distance to the drops' edges, in steps of
    OpenCV's on 256 shades; here by the slope of the drops, lit from the upper left.
    """
    mean, deviation, sigma, least, strength, is_mud = level
    height, width = images.shape[-2:]
    # Smoothing over fewer pixels leaves more of the noise: as much is liquid in images of any size.
    noise = deviation * scale * draws.normal("liquid", 1, height, width)
    liquid = mean + gaussian(noise, sigma * scale)
    if is_mud:
        mud = gaussian((liquid > least).float(), strength * scale)
        mud = torch.where(mud < MUD, 0.0, mud)
        return images * (1 - mud) + mud * tint(images, BROWN)
    drops = torch.where(liquid < least, 0.0, liquid)
    padded = F.pad(drops, (1, 1, 1, 1), mode="replicate")
    lit = F.conv2d(padded, images.new_tensor(EMBOSS).view(1, 1, 3, 3)).clamp(0, 1)
    shine = drops * (0.5 + 0.5 * lit)
    shine = shine / shine.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    return images + strength * shine * tint(images, TURQUOISE)


def elastic_transform(
    images: Tensor, level: tuple[float, float, float], scale: float, draws: ImageRandom
) -> Tensor:
    """Turn, shear and bend the image, by three moving corners and smooth noise, in one step.

    The original interpolates twice, once for each.
    """
    strength, sigma, corner = (part * scale for part in level)
    height, width = images.shape[-2:]
    shift = _affine(draws, corner, height, width)
    if strength:
        noise = draws.uniform("bend", 2, height, width) * 2 - 1
        rows, columns = (
            separable.gaussian(side, sigma, truncate=3, mirrored=True) for side in (height, width)
        )
        shift = shift + strength * separable.apply(noise, separable.Maps([(rows, columns)]))
    down = torch.arange(height, device=images.device).view(-1, 1) + shift[:, 0]
    across = torch.arange(width, device=images.device) + shift[:, 1]
    # grid_sample counts from -1 to 1, from the first pixel to the last.
    grid = torch.stack(
        (across * (2 / max(width - 1, 1)) - 1, down * (2 / max(height - 1, 1)) - 1), dim=-1
    )
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)


def jpeg_compression(images: Tensor, level: int, scale: float, draws: ImageRandom) -> Tensor:
    """Compress as JPEG and decode, by Pillow on the CPU; chroma at half the resolution.

    A batch is one picture: JPEG works on blocks, and no image shares one with another.
    """
    if images.shape[1] not in (1, 3):
        single = images.flatten(0, 1).unsqueeze(1)
        return jpeg_compression(single, level, scale, draws).view_as(images)
    # Reading smooths chroma across blocks, so colour images have room around them.
    block, room = (16, 16) if images.shape[1] == 3 else (8, 0)
    height, width = images.shape[-2:]
    right, bottom = (room + -side % block for side in (width, height))
    tiles = F.pad(images, (room, right, room, bottom), mode="replicate")
    tiles = (tiles * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
    at_once = max(1, MOSAIC // (tiles.shape[1] * tiles.shape[2]))
    compressed = [_compressed(part.numpy(), level) for part in tiles.split(at_once)]
    decoded = torch.from_numpy(np.concatenate(compressed)).permute(0, 3, 1, 2)
    decoded = decoded[..., room : room + height, room : room + width]
    return decoded.to(images.device).float() / 255


def _compressed(tiles: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Tile images (B,H,W,C) into one picture, compress and decode it."""
    count, height, width, channels = tiles.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    picture = np.zeros((down * across, height, width, channels), np.uint8)
    picture[:count] = tiles
    picture = picture.reshape(down, across, height, width, channels).swapaxes(1, 2)
    picture = picture.reshape(down * height, across * width, channels)
    file = io.BytesIO()
    Image.fromarray(picture.squeeze(2) if channels == 1 else picture).save(
        file, "JPEG", quality=quality
    )
    with Image.open(file) as image:
        read = np.asarray(image)
    read = read.reshape(down, height, across, width, channels).swapaxes(1, 2)
    return read.reshape(down * across, height, width, channels)[:count]


def _affine(draws: ImageRandom, furthest: float, height: int, width: int) -> Tensor:
    """How far each pixel moves (B,2,H,W), down and across, where three corners of a square move.

    By up to `furthest` pixels each way; the square's sides are two thirds of the image's.
    """
    moves = (draws.uniform("corners", 3, 2) * 2 - 1) * furthest
    device = moves.device
    half = max(1, min(height, width) // 3)
    down = ((torch.arange(height, device=device) - height // 2) / half).view(-1, 1)
    across = ((torch.arange(width, device=device) - width // 2) / half).view(1, -1)
    # A pixel moves as much as its barycentric coordinates have of each corner.
    shares = (
        (1 + across).expand(height, width) / 2,
        (down - across) / 2,
        (1 - down).expand(height, width) / 2,
    )
    corners = moves.view(-1, 3, 2, 1, 1).unbind(1)
    return shares[0] * corners[0] + shares[1] * corners[1] + shares[2] * corners[2]
