"""Which detector a network's outputs are of."""

from __future__ import annotations

from mixbench.experiments.models.detectors.base import Detector
from mixbench.experiments.models.detectors.fcos import FCOS
from mixbench.experiments.models.detectors.ssd import SSD

_KINDS: dict[str, type[Detector]] = {"small_fcos": FCOS, "ssdlite": SSD}


def detector(network: str, size: tuple[int, int], classes: int) -> Detector:
    """Return what reads the outputs of a network.

    Args:
        network: `model.name`, of one that answers with boxes.
        size: Height and width of the images.
        classes: How many there are.
    """
    return _KINDS[network](size, classes)
