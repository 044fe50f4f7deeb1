"""A clip of sound as a picture: its log-mel spectrogram, without the colour of the recording.

Rows are mel bands, high ones on top; columns are moments, 64 a second. The clip is trimmed, cut or
padded to the picture's width, and has the same loudness as all others. Of each band its mean over
the clip is subtracted, in decibels ("cepstral mean normalisation"): what a microphone, a room and a
voice do to a band all the time is gone. Grey 128 is a band's mean, and what was padded.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]

REVISION = 1
"""Raised when the same clip gives another picture."""
RATE = 16_000
HOP = 250
FRAMES_PER_SECOND = RATE // HOP
WINDOW = 512
SPECTRUM = 1024
_LOWEST_HZ = 50.0
_SILENCE = 0.01  # of the loudest moment: 40 dB less
FLOOR = 1e-6  # of the mean power: 60 dB less
_MIDDLE = 128
_GREY_PER_DECIBEL = 255 / 120


def picture(signal: Signal, rate: int, bands: int, frames: int) -> NDArray[np.uint8]:
    """Return the log-mel spectrogram (bands, frames) of a signal of one channel.

    Raises ValueError for a clip without sound, or with numbers that are not finite.
    """
    power = mel_filters(bands) @ _power(usual(signal, rate, frames))
    decibels = 10 * np.log10(power / power.mean() + FLOOR)
    decibels -= decibels.mean(axis=1, keepdims=True)
    grey = np.full((bands, frames), float(_MIDDLE))
    grey[:, : decibels.shape[1]] += decibels[::-1] * _GREY_PER_DECIBEL
    return grey.round().clip(0, 255).astype(np.uint8)


def usual(signal: Signal, rate: int, frames: int) -> Signal:
    """Return a signal at `RATE`, trimmed, cut to so many frames, with a mean square of 1.

    Raises ValueError as `picture`.
    """
    if not np.isfinite(signal).all():
        raise ValueError("has samples that are not finite")
    if rate != RATE:
        from scipy.signal import resample_poly

        common = gcd(rate, RATE)
        signal = resample_poly(signal, RATE // common, rate // common)
    clip = trimmed(signal)[: frames * HOP]
    return np.asarray(clip / np.sqrt(np.mean(clip**2)))


def trimmed(signal: Signal) -> Signal:
    """Return a signal without the silence before and after it; ValueError if all of it is silent.

    Examples:
        >>> trimmed(np.repeat([0.0, 0.5, 0.001, 0.5, 0.0], HOP)).tolist().count(0.5) == 2 * HOP
        True
    """
    pieces = -(-len(signal) // HOP)
    padded = np.zeros(pieces * HOP)
    padded[: len(signal)] = signal
    loudness = np.sqrt(np.mean(padded.reshape(pieces, HOP) ** 2, axis=1))
    if not pieces or loudness.max() < 1e-6:
        raise ValueError("is silent")
    (heard,) = np.nonzero(loudness >= _SILENCE * loudness.max())
    return signal[heard[0] * HOP : (heard[-1] + 1) * HOP]


def _power(clip: Signal) -> Signal:
    """Return the power spectra (frequencies, frames), a frame each `HOP` samples."""
    from scipy.signal import get_window  # slow to import

    frames = -(-len(clip) // HOP)
    before = (WINDOW - HOP) // 2
    padded = np.zeros(before + (frames - 1) * HOP + WINDOW)
    # Longer than the clip where its last frame reaches over the end.
    padded[before : before + len(clip)] = clip[: len(padded) - before]
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    spectra = np.fft.rfft(windows * get_window("hann", WINDOW), SPECTRUM, axis=1)
    return np.asarray(np.abs(spectra).T ** 2)


@lru_cache(maxsize=4)
def mel_filters(bands: int) -> Signal:
    """Return triangles (bands, frequencies), evenly spaced on the mel scale (O'Shaughnessy)."""
    frequencies = np.linspace(0, RATE / 2, SPECTRUM // 2 + 1)
    lowest, highest = 2595 * np.log10(1 + np.array([_LOWEST_HZ, RATE / 2]) / 700)
    edges = 700 * (10 ** (np.linspace(lowest, highest, bands + 2) / 2595) - 1)
    low, centre, high = (edges[start : start + bands, None] for start in range(3))
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    return np.asarray(np.minimum(rising, falling).clip(min=0))
