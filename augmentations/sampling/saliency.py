"""Compute the saliency of each pixel, centre against surround, in plain torch."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

# Half the width of the surrounding squares, in pixels.
_REACHES = (12, 24, 28, 48, 56, 112)
_LUMA = (0.299, 0.587, 0.114)


def fine_grained(images: Tensor) -> Tensor:
    """Compute the saliency of each pixel, without gradient.

    Source: Montabone & Soto 2010, Human detection using a mobile platform and novel features
    derived from a visual saliency mechanism, as in OpenCV's `StaticSaliencyFineGrained`: the grey
    image (luma of three channels, else the mean over channels), blurred twice by (1, 2, 1) / 4 in
    both directions, is compared with the mean of the other pixels in six squares around each pixel,
    of 24 to 224 pixels a side, clipped at the border. Brighter and darker differences are summed
    separately, each scaled to at most 1 in the image, and then added.

    Deviations: OpenCV rounds to 8 bits after every step, so that weak differences vanish, and reads
    the bytes of floating-point images as grey values. Here nothing is rounded, the result does not
    depend on offset and scale of an image, and an image of one colour has saliency 0.

    Args:
        images: (B, C, H, W) floating point.

    Returns:
        (B, H, W) float32, from 0 to 2.
    """
    with torch.no_grad():
        grey = _grey(images)
        # Smaller differences are rounding errors of single precision.
        least = 1e-5 * grey.abs().amax(dim=(1, 2), keepdim=True)
        # Sums over many pixels are more precise around zero.
        grey = grey - grey.mean(dim=(1, 2), keepdim=True)
        grey = _blurred(_blurred(grey, 1), 2)
        grey = _blurred(_blurred(grey, 1), 2)
        brighter, darker = torch.zeros_like(grey), torch.zeros_like(grey)
        sums = _summed_area(grey)
        # All squares that contain the whole image are the same.
        reaches = Counter(min(reach, max(grey.shape[1:])) for reach in _REACHES)
        for reach, times in reaches.items():
            difference = _surround(grey, sums, reach).neg_().add_(grey)
            brighter.add_(difference.clamp(min=0), alpha=times)
            darker.sub_(difference.clamp_(max=0), alpha=times)
        return _scaled(brighter, least) + _scaled(darker, least)


def _grey(images: Tensor) -> Tensor:
    images = images.detach().float()
    if images.shape[1] == 1:
        return images[:, 0]
    if images.shape[1] != 3:
        return images.mean(dim=1)
    red, green, blue = images.unbind(1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _blurred(grey: Tensor, axis: int) -> Tensor:
    """Blur by (1, 2, 1) / 4 along `axis`; the image is mirrored at the border (reflect 101)."""
    side = grey.shape[axis]
    mirrored = [grey.narrow(axis, min(1, side - 1), 1), grey]
    mirrored.append(grey.narrow(axis, max(side - 2, 0), 1))
    line = torch.cat(mirrored, dim=axis)
    out = line.narrow(axis, 0, side) + line.narrow(axis, 2, side)
    return out.mul_(0.25).add_(grey, alpha=0.5)


def _summed_area(grey: Tensor) -> Tensor:
    """Return the sums of all pixels above and to the left: (B, H + 1, W + 1)."""
    sums = grey.new_zeros(grey.shape[0], grey.shape[1] + 1, grey.shape[2] + 1)
    sums[:, 1:, 1:] = grey.cumsum(dim=1).cumsum_(dim=2)
    return sums


def _surround(grey: Tensor, sums: Tensor, reach: int) -> Tensor:
    """Return the mean of the other pixels from reach - 1 before to reach after each pixel."""
    total = _between(_between(sums, 1, reach), 2, reach)
    rows, columns = (_lengths(side, reach, grey) for side in grey.shape[1:])
    return total.sub_(grey).div_((rows.unsqueeze(1) * columns - 1).clamp(min=1))


def _between(sums: Tensor, axis: int, reach: int) -> Tensor:
    """Return running sums at the end of each pixel's span along `axis`, less those at its start."""
    side = sums.shape[axis] - 1
    beyond = min(reach, side)
    end = sums.narrow(axis, side, 1).expand(
        [beyond if dim == axis else size for dim, size in enumerate(sums.shape)]
    )
    out = torch.cat([sums.narrow(axis, beyond + 1, side - beyond), end], dim=axis)
    # The spans of the first pixels start at the border, where the running sum is 0.
    late = max(side - reach + 1, 0)
    out.narrow(axis, side - late, late).sub_(sums.narrow(axis, 0, late))
    return out


def _lengths(side: int, reach: int, like: Tensor) -> Tensor:
    """Return how many pixels the span of each pixel has along a side: (side,) float32."""
    at = torch.arange(side, dtype=like.dtype, device=like.device)
    return (at + reach + 1).clamp(max=side) - (at - reach + 1).clamp(min=0)


def _scaled(part: Tensor, least: Tensor) -> Tensor:
    most = part.amax(dim=(1, 2), keepdim=True)
    return torch.where(most > least, part / most, 0.0)
