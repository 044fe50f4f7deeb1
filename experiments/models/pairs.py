"""Two encoders for pairs: the network of the run for images, another one for texts."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 128
_SCALE = 1 / 0.07
_MOST = 100.0


class TwoEncoders(nn.Module):
    """Embeddings of both sides of pairs, whose products are similarities.

    Embeddings have length 1 before they are scaled by a learned number, as in CLIP (Radford et al.
    2021, arXiv:2103.00020), at most 100.

    Args:
        images: Images (B,C,H,W) to embeddings (B,E).
        texts: Features (B,D) to embeddings; None where both sides are images, which have one
            encoder.
    """

    def __init__(self, images: nn.Module, texts: nn.Module | None) -> None:
        super().__init__()
        self.images = images
        self.texts = texts
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))

    def forward(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        """Return (B,2,E), or without another side the embeddings of the images (B,E)."""
        if others is None:
            return cast(Tensor, self.images(images))
        if self.texts is None:
            # In one batch, so that batch normalisation sees both as it will when it is measured.
            both = self.images(torch.cat([images, others])).view(2, len(images), -1)
        else:
            both = torch.stack([self.images(images), self.texts(others)])
        # Half of the scale for each side.
        scale = (self.log_scale.clamp(max=math.log(_MOST)) / 2).exp()
        return F.normalize(both.float(), dim=2).transpose(0, 1) * scale


def with_second_side(network: nn.Module, example: Tensor, outputs: int, seed: int) -> nn.Module:
    """Return both encoders of pairs.

    Args:
        network: Of the images, with `outputs` outputs.
        example: The other side of some pairs: (N,C,H,W) images, or (N,D) features of texts.
        outputs: The dimensions of an embedding.
        seed: Of the weights of the encoder of texts; the global random state is restored.
    """
    if example.dim() != 2:
        return TwoEncoders(network, None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        texts = nn.Sequential(
            nn.Linear(example.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
        )
    return TwoEncoders(network, texts)
