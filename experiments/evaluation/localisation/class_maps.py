"""Class activation maps: where a network sees a class, by Grad-CAM at its last spatial output.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2): the map of class c is
relu(Σ_k α_k A_k), where A_k is channel k of a module's output and α_k the mean over its positions
of the gradient of c's logit by A_k.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixbench.augmentations.networks import map_layers
from mixbench.augmentations.networks.map_layers import MapLayer, NoMapsError, Predict, cut_at, grid
from mixbench.experiments.errors import Impossible

__all__ = ["MapLayer", "Predict", "find_map_layer", "maps"]


def find_map_layer(network: nn.Module, predict: Predict, images: Tensor) -> MapLayer:
    """`map_layers.find_map_layer`, within `input_gradients`.

    Raises:
        Impossible: No module has a spatial output.
    """
    try:
        return map_layers.find_map_layer(network, predict, images)
    except NoMapsError as error:
        raise Impossible(str(error)) from None


def maps(
    network: nn.Module, predict: Predict, images: Tensor, labels: Tensor, where: MapLayer
) -> Tensor:
    """Grad-CAM of a class for each image. Call it within `input_gradients`.

    The gradient begins behind `where`: what comes before is computed without one.

    Args:
        network: From normalised images to logits.
        predict: From images in [0,1] to logits, by the network.
        images: (B,C,H,W) in [0,1].
        labels: (B,) int64, the classes.
        where: As of `find_map_layer`.

    Returns:
        (B,h,w), at least 0, of the output's size.
    """
    with cut_at(network, where.name) as outputs:
        logits = predict(images)
    output = outputs[-1]
    total = logits.gather(1, labels.unsqueeze(1)).sum()
    slope = None
    if total.requires_grad:
        (slope,) = torch.autograd.grad(total, output, allow_unused=True)
    if slope is None:
        slope = torch.zeros_like(output)
    values, slopes = grid(network, output.detach()), grid(network, slope)
    if values is None or slopes is None:
        raise RuntimeError(f"{where.name}: an output of shape {tuple(output.shape)} is not spatial")
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    return (weights * values).sum(dim=1).relu()
