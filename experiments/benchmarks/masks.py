"""Formulas of methods with a mask of the image, written out in plain torch as contestants."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def smoothmix(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Lee et al. 2020, the circle, with openmixup's σ: one mask for the batch."""
    height, width = images.shape[-2:]
    row, column = torch.randint(height, ()), torch.randint(width, ())
    sigma = (0.25 + 0.25 * torch.rand(())) * height
    down = torch.arange(height).view(-1, 1) - row
    across = torch.arange(width) - column
    mask = torch.exp((down.square() + across.square()) / (-2 * sigma.square()))
    return _mixed(images, labels, classes, mask.to(images.device).view(1, 1, height, width))


def gridmix(images: Tensor, labels: Tensor, classes: int, grid: int = 4) -> tuple[Tensor, Tensor]:
    """Baek et al. 2021: a share λ of the grid's cells, one mask for the batch."""
    count = round(float(torch.rand(())) * grid**2)
    cells = torch.zeros(grid**2, device=images.device)
    cells[torch.randperm(grid**2, device=images.device)[:count]] = 1
    mask = F.interpolate(cells.view(1, 1, grid, grid), size=images.shape[-2:])
    return _mixed(images, labels, classes, mask)


def cowmask(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """French et al. 2020 by two grouped convolutions, as in their code: a mask for every image."""
    batch, _, height, width = images.shape
    side = min(height, width)
    share = torch.rand(batch, device=images.device) * 0.6 + 0.2
    sigma = side * torch.exp(torch.empty_like(share).uniform_(math.log(1 / 8), math.log(1 / 2)))
    reach = max(height, width) - 1
    pixel = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (pixel / sigma.view(-1, 1)).square())
    noise = torch.randn(1, batch, height, width, device=images.device)
    noise = F.conv2d(noise, kernel.view(batch, 1, -1, 1), padding=(reach, 0), groups=batch)
    noise = F.conv2d(noise, kernel.view(batch, 1, 1, -1), padding=(0, reach), groups=batch)[0]
    spread, mean = torch.std_mean(noise, dim=(1, 2), correction=0, keepdim=True)
    threshold = torch.special.ndtri(share).view(-1, 1, 1) * spread + mean
    return _mixed(images, labels, classes, (noise <= threshold).float().unsqueeze(1))


def _mixed(images: Tensor, labels: Tensor, classes: int, mask: Tensor) -> tuple[Tensor, Tensor]:
    """mask * images + (1 - mask) * images of a random permutation, and their labels."""
    other = torch.randperm(len(images), device=images.device)
    own = mask.mean(dim=(1, 2, 3)).view(-1, 1)
    hot = F.one_hot(labels, classes).float()
    return torch.lerp(images[other], images, mask), torch.lerp(hot[other], hot, own)
