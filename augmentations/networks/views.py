"""What a method may ask of the network that is trained: its features, maps, gradients, attention.

    view = NetworkView(network)
    plan = mix.sample(images.shape, images=images, labels=labels, model=view)

Each answer is a forward pass of its own (and a backward pass, for gradients by the images) in
evaluation mode: the statistics of batch normalisation, random numbers, parameters and their
gradients stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixbench.augmentations.checks import IGNORED, check_labels
from mixbench.augmentations.networks.asks import ASKS
from mixbench.augmentations.networks.attention import seen_attention, unwrapped, why_no_attention
from mixbench.augmentations.networks.map_layers import cut_at, find_map_layer, grid


class NetworkView:
    """Answers what a method asks of a network (`draws.model`).

    Args:
        network: The network, also one that is compiled or wrapped in DistributedDataParallel.
        map_layer: The module whose output are the last maps, as in `network.named_modules()`; None
            to find it at the first question, from the images asked about.

    Examples:
        >>> import mixbench, torch
        >>> network = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        ...     torch.nn.Linear(8, 5),
        ... )
        >>> view = mixbench.NetworkView(network)
        >>> view.features(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 6, 6])
        >>> view.can("attention")
        'Sequential has no attention blocks as those of a ViT of timm'
    """

    def __init__(self, network: nn.Module, map_layer: str | None = None) -> None:
        self._network = unwrapped(network)
        self._map_layer = map_layer

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits (B, num_classes) float32."""
        with self._asked(), torch.no_grad():
            logits: Tensor = self._network(self._as_parameters(images))
        return logits.float()

    def features(self, images: Tensor) -> Tensor:
        """Return the last maps (B, C, h, w) float32, before they are pooled."""
        with self._asked():
            name = self._find_map_layer(images)
            with torch.no_grad(), _output_of(self._network, name) as outputs:
                self._network(self._as_parameters(images))
        return self._as_grid(outputs[-1], name).float()

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return what each position of the last maps adds to a class's logit: (B, h, w) float32.

        It is the sum over channels of the map times the gradient of the logit by it, which for
        averaged maps and one linear layer is the class activation map of Zhou et al. 2016, without
        its bias and divided by the number of positions.

        Args:
            images: (B, C, H, W).
            labels: (B,) int64, an ignored one is taken for class 0; or (B, num_classes), weights.
        """
        with self._asked():
            name = self._find_map_layer(images)
            with cut_at(self._network, name) as outputs:
                logits = self._network(self._as_parameters(images))
            check_labels(labels, len(images), logits.shape[1], images.device)
            total = (logits.float() * _weights(labels, logits)).sum()
            (slope,) = torch.autograd.grad(total, outputs[-1])
        values = self._as_grid(outputs[-1].detach(), name).float()
        return (values * self._as_grid(slope, name).float()).sum(dim=1)

    def input_gradients(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the gradients of each image's cross-entropy by its pixels: (B, C, H, W) float32.

        Args:
            images: (B, C, H, W).
            labels: (B,) int64, an ignored one has no gradient; or (B, num_classes), soft.
        """
        with self._asked():
            given = self._as_parameters(images).detach().requires_grad_(True)
            logits = self._network(given).float()
            check_labels(labels, len(images), logits.shape[1], images.device)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            (gradients,) = torch.autograd.grad(loss, given)
        return gradients.float()

    def attention(self, images: Tensor) -> Tensor:
        """Return the class token's attention to each patch in the last block: (B, h, w) float32.

        Of timm's ViTs; the mean over heads.
        """
        reason = why_no_attention(self._network)
        if reason is not None:
            raise ValueError(f"attention: {reason}")
        with self._asked(), torch.no_grad(), seen_attention(self._network) as seen:
            self._network(self._as_parameters(images))
        return seen[-1]

    def can(self, what: str, shape: Sequence[int] = (3, 32, 32)) -> str | None:
        """Return the reason why the network can't answer; None if it can.

        Args:
            what: One of `ASKS`, the names of the functions of this class.
            shape: (C, H, W) of the images that it would be asked about.
        """
        if what not in ASKS:
            raise ValueError(f"what: got {what!r}, expected one of {', '.join(ASKS)}")
        if what == "attention":
            return why_no_attention(self._network)
        device = next((p.device for p in self._network.parameters()), torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(2, *shape, generator=generator).to(device)
        labels = torch.zeros(2, dtype=torch.int64, device=device)
        with_labels = what in ("class_maps", "input_gradients")
        try:
            answer = getattr(self, what)(images, *([labels] if with_labels else []))
        except (ValueError, RuntimeError) as error:
            return str(error).strip().split("\n")[0]
        if what == "input_gradients" and not bool(answer.any()):
            return "its loss does not depend on the pixels"
        return None

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Run in evaluation mode, with gradients for inputs alone; then restore everything."""
        modes = [(module, module.training) for module in self._network.modules()]
        trained = [one for one in self._network.parameters() if one.requires_grad]
        with torch.inference_mode(False), torch.enable_grad():
            try:
                for module, _ in modes:
                    module.training = False
                for one in trained:
                    one.requires_grad_(False)
                yield
            finally:
                for one in trained:
                    one.requires_grad_(True)
                for module, training in modes:
                    module.training = training

    def _find_map_layer(self, images: Tensor) -> str:
        if self._map_layer is None:
            few = self._as_parameters(images[:2].detach())
            self._map_layer = find_map_layer(self._network, self._network, few).name
        return self._map_layer

    def _as_parameters(self, images: Tensor) -> Tensor:
        """Return images in the dtype of the network's parameters."""
        dtypes = (one.dtype for one in self._network.parameters() if one.is_floating_point())
        return images.to(next(dtypes, images.dtype))

    def _as_grid(self, output: Tensor, name: str) -> Tensor:
        positions = grid(self._network, output)
        if positions is None and output.dim() == 4:
            return output  # a single row or column
        if positions is None:
            raise ValueError(f"{name}: an output of shape {tuple(output.shape)} is not spatial")
        return positions


def _weights(labels: Tensor, logits: Tensor) -> Tensor:
    if labels.dim() == 2:
        return labels.float()
    one_hot = torch.zeros(logits.shape, dtype=torch.float32, device=logits.device)
    return one_hot.scatter_(1, labels.masked_fill(labels == IGNORED, 0).unsqueeze(1), 1.0)


@contextmanager
def _output_of(network: nn.Module, name: str) -> Iterator[list[Tensor]]:
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _arguments: object, output: Tensor) -> None:
        # A copy: what follows may change it in place.
        outputs.append(output.clone())

    hook = network.get_submodule(name).register_forward_hook(keep)
    try:
        yield outputs
    finally:
        hook.remove()
