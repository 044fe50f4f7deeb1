"""What happens to stored uint8 images before they are mixed: crop, flip and normalise a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations import pixels


@dataclass(frozen=True)
class Preparation:
    """Crop of the padded image, horizontal flip, (x / 255 - mean) / std: drawn once, no randomness.

    mean, std: (C,) float32, of the images in [0, 1]. padding: pixels of black (0) around each
    image, of which `offsets` (2, B) int64 from 0 to 2 * padding, rows then columns, cuts the image
    out again (None: no crop). mirrored: (B,) int64 of 0 and 1 (None: no flip). channels_last: the
    memory format of what comes out, which is `dtype`: float32, bfloat16 or float16.
    """

    mean: Tensor
    std: Tensor
    padding: int = 0
    offsets: Tensor | None = None
    mirrored: Tensor | None = None
    channels_last: bool = False
    dtype: torch.dtype = torch.float32

    @classmethod
    def draw(
        cls,
        batch: int,
        mean: Tensor,
        std: Tensor,
        *,
        crop_padding: int = 0,
        flip: bool = False,
        generator: torch.Generator | None = None,
        channels_last: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Preparation:
        """Draw for `batch` images on the device of `mean`.

        Each image moves by up to `crop_padding` pixels either way and is mirrored with probability
        1/2. `generator` is of that device (None: its default). The draws depend on `batch`,
        `crop_padding` and `flip` alone. Never waits for the device.
        """
        offsets = mirrored = None
        if crop_padding:
            size, high = (2, batch), 2 * crop_padding + 1
            offsets = torch.randint(high, size, generator=generator, device=mean.device)
        if flip:
            mirrored = torch.randint(2, (batch,), generator=generator, device=mean.device)
        return cls(mean, std, crop_padding, offsets, mirrored, channels_last, dtype)

    def check(self, raw: Tensor) -> None:
        """Raise ValueError unless `raw` is a batch that this was drawn for, on the same device."""
        check_raw(raw, None if self.mirrored is None else len(self.mirrored))
        batch, channels = raw.shape[:2]
        wanted = {
            "mean": (channels,),
            "std": (channels,),
            "offsets": (2, batch),
            "mirrored": (batch,),
        }
        for name, shape in wanted.items():
            tensor = getattr(self, name)
            if tensor is not None and (tuple(tensor.shape), tensor.device) != (shape, raw.device):
                raise ValueError(
                    f"{name}: expected {shape} on {raw.device} for images {tuple(raw.shape)}, "
                    f"got {tuple(tensor.shape)} on {tensor.device}"
                )

    @property
    def scale(self) -> Tensor:
        """What a uint8 value is multiplied with: (C,)."""
        return 1 / (255 * self.std)

    @property
    def shift(self) -> Tensor:
        """What is subtracted from that: (C,)."""
        return self.mean / self.std

    def __call__(self, raw: Tensor) -> Tensor:
        """The prepared images: (B, C, H, W) of `dtype`; raw is uint8 of that shape, untouched.

        Raises ValueError for other images, or draws for another batch.
        """
        self.check(raw)
        if pixels.by_kernel(raw):
            from mixbench.augmentations.pixels import operators

            return operators.prepare(
                raw,
                self.scale,
                self.shift,
                self.offsets,
                self.mirrored,
                self.padding,
                None,
                None,
                None,
                None,
                0.0,
                self.dtype,
                self.channels_last,
            )
        if self.offsets is not None or self.mirrored is not None:
            raw = crop_and_flip(raw, self.padding, self.offsets, self.mirrored)
        made = normalise(raw, self.mean, self.std, channels_last=self.channels_last)
        return made.to(self.dtype)


def check_raw(raw: Tensor, batch: int | None = None, size: tuple[int, ...] | None = None) -> None:
    """Raise ValueError unless `raw` is a uint8 tensor (B, C, H, W); B and H, W may be given."""
    if (
        raw.dtype != torch.uint8
        or raw.dim() != 4
        or (batch is not None and raw.shape[0] != batch)
        or (size is not None and tuple(raw.shape[2:]) != size)
    ):
        expected = ", ".join(map(str, (batch or "B", "C", *(size or ("H", "W")))))
        raise ValueError(
            f"images: expected ({expected}) uint8, got {tuple(raw.shape)} {raw.dtype}".replace(
                "torch.", ""
            )
        )


def crop_and_flip(
    images: Tensor, padding: int, offsets: Tensor | None, mirrored: Tensor | None
) -> Tensor:
    """The crop at `offsets` of each image padded with zeros, mirrored where `mirrored` is 1.

    images (B,C,H,W) uint8; offsets (2,B) int64 in 0..2*padding, rows then columns (None: no
    crop); mirrored (B,) int64 of 0 and 1 (None: no mirror). Returns (B,C,H,W) uint8.
    """
    batch, channels, height, width = images.shape
    device = images.device
    variants = F.pad(images, (padding,) * 4) if offsets is not None else images
    rows, columns = variants.shape[2:]
    top, left = (0, 0) if offsets is None else offsets.view(2, batch, 1, 1).unbind()
    first: Tensor | int = 0
    if mirrored is not None:
        mirrored = mirrored.view(batch, 1, 1)
        first = mirrored * batch
        # Column 0 of the mirrored crop is the last column of the crop.
        left = torch.where(mirrored.bool(), columns - width - left, left)
        variants = torch.stack((variants, variants.flip(3)))
    plane = torch.arange(batch * channels, device=device).view(batch, channels, 1)
    row = torch.arange(height, device=device) + top
    starts = ((plane + first * channels) * rows + row) * columns + left
    # Every stretch of `width` pixels as a row of a view, so that one gather copies whole rows:
    # several times faster than gathering pixels.
    flat = variants.contiguous().view(-1)
    stretches = flat.as_strided((flat.numel() - width + 1, width), (1, 1))
    return stretches.index_select(0, starts.view(-1)).view(images.shape)


def normalise(images: Tensor, mean: Tensor, std: Tensor, *, channels_last: bool = False) -> Tensor:
    """(images / 255 - mean) / std: uint8 (B,C,H,W) to float32 of the same shape."""
    scale = (1 / (255 * std)).view(-1, 1, 1)
    shift = (mean / std).view(-1, 1, 1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    floats = images.to(torch.float32, copy=True).mul_(scale).sub_(shift)
    return floats.contiguous(memory_format=layout)
