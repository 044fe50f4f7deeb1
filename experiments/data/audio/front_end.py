"""Make spectrograms of waveforms as they enter a network: what is mixed are the waveforms."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.audio import log_mel

SILENCE = 1e-6
"""Samples that are no larger are where a clip has ended; those of a clip are 16 bits or 0."""
LOUDEST = 60.0
"""How far from a band's mean a picture reaches, in decibels."""
DECIBELS = 12.0
"""What the network gets is in units of these."""


def with_spectrograms(network: nn.Module, config: DatasetConfig) -> nn.Module:
    """Return a network that takes what the data set has: waveforms, if it has them."""
    if config.sound is not None:
        network.register_forward_pre_hook(LogMel(config.sides[0]), prepend=True)
    return network


class LogMel:
    """A forward pre-hook: waveforms (B,1,HOP,T) become log-mel spectrograms (B,1,bands,T).

    As of `log_mel.picture`, in units of `DECIBELS`, 0 where a clip has ended; moments that are
    silent in all of a mix have ended. A hook, so that names of layers and weights stay as they are.

    Examples:
        >>> LogMel(8)(nn.Identity(), (torch.zeros(2, 1, log_mel.HOP, 5),))[0].abs().sum().item()
        0.0
    """

    def __init__(self, bands: int) -> None:
        from scipy.signal import get_window

        self.filters = torch.from_numpy(log_mel.mel_filters(bands)).float()
        self.window = torch.from_numpy(get_window("hann", log_mel.WINDOW)).float()

    def __call__(self, _network: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        waveforms, *rest = arguments
        return (self.spectrograms(waveforms), *rest)

    def spectrograms(self, waveforms: Tensor) -> Tensor:
        """Return the spectrograms (B,1,bands,T) of waveforms (B,1,HOP,T), silent at 0."""
        self.filters = self.filters.to(waveforms.device)
        self.window = self.window.to(waveforms.device)
        with torch.autocast(waveforms.device.type, enabled=False):
            samples = waveforms.float()[:, 0].transpose(1, 2)
            heard = (samples.abs() > SILENCE).any(dim=2).unsqueeze(1).float()
            # A frame reaches as far before its moment as behind it.
            before = (log_mel.WINDOW - log_mel.HOP) // 2
            behind = log_mel.WINDOW - log_mel.HOP - before
            padded = F.pad(samples.flatten(1), (before, behind))
            frames = padded.unfold(1, log_mel.WINDOW, log_mel.HOP) * self.window
            power = torch.fft.rfft(frames, log_mel.SPECTRUM).abs().square()
            bands = self.filters @ power.transpose(1, 2)
            count = heard.sum(dim=2, keepdim=True).clamp(min=1)
            mean = (bands * heard).sum(dim=(1, 2), keepdim=True) / (count * bands.shape[1])
            decibels = 10 * torch.log10(bands / mean.clamp(min=1e-20) + log_mel.FLOOR)
            own = (decibels * heard).sum(dim=2, keepdim=True) / count
            shown = (decibels - own).clamp(-LOUDEST, LOUDEST) * heard
            # High bands on top.
            return (shown.flip(1) / DECIBELS).unsqueeze(1)
