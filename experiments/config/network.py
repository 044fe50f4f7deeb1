"""The section `model` of a run, or of its teacher, with what its name decides filled in."""

from __future__ import annotations

from mixbench.experiments.config import models, own_code
from mixbench.experiments.config.schema import ModelConfig


def resolved_model(model: ModelConfig) -> ModelConfig:
    """Return the section with its default width, and the digest of the user's own code.

    Raises ValueError or UserError for code that has changed, or can't be read.
    """
    model = _with_source(model)
    if model.width is None and model.name in models.our_networks():
        return model.model_copy(update={"width": models.our_networks()[model.name].default_width})
    return model


def _with_source(model: ModelConfig) -> ModelConfig:
    """Return the section with the digest of the code, for a network of the user's own."""
    place = models.own_place(model.name)
    if place is None:
        if model.source is not None:
            raise ValueError(f"model.source: is for networks of your own, and not {model.name}")
        return model
    now = own_code.source_digest(place, "model.name")
    if model.source not in (None, now):
        raise ValueError(
            f"model.source: the code of {model.name} has changed: the run is planned for "
            f"{model.source}, and the code is {now} now; plan the sweep again for new runs"
        )
    return model.model_copy(update={"source": now})
