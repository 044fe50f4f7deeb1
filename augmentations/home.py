"""What the images of a method show in place of parts of an image."""

from __future__ import annotations

from dataclasses import dataclass

RECTANGLES = frozenset({"centre", "boundary", "square"})
"""Hidden parts that are rectangles, or all but one."""
SHAPES = RECTANGLES | {"patches", "blobs"}
FILLS = frozenset({"black", "mean", "noise", "image"})


@dataclass(frozen=True)
class Home:
    """What the training images of a method show in place of parts of an image.

    A network is at home where the same is hidden in a test, which is no robustness: measurements of
    occlusion leave these shapes and fills out of their headline.

    Attributes:
        shapes: Of hidden parts, among "centre", "boundary" (all but a centred rectangle), "square"
            (a rectangle anywhere), "patches" (of a grid) and "blobs".
        fills: Of hidden parts, among "black", "mean" (the data set's colour), "noise" and "image"
            (another image, also where it shines through).

    Examples:
        >>> both = Home(frozenset({"blobs"})) | Home(fills=frozenset({"image"}))
        >>> both.shapes, both.fills
        (frozenset({'blobs'}), frozenset({'image'}))
    """

    shapes: frozenset[str] = frozenset()
    fills: frozenset[str] = frozenset()

    def __or__(self, other: Home) -> Home:
        return Home(self.shapes | other.shapes, self.fills | other.fills)


IMAGE = frozenset({"image"})


def flat(fill: float | str) -> frozenset[str]:
    """Return the home fills of a flat colour, a value of normalised images or "mean".

    Zero is the data set's mean colour. Any other colour is near both of the flat fills there are.
    """
    return frozenset({"mean"}) if fill in ("mean", 0.0) else frozenset({"black", "mean"})
