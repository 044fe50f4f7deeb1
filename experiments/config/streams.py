"""The section `streams:` of a run's configuration: images beside the labelled ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from mixbench.experiments.config import datasets
from mixbench.experiments.section import Number, Section
from mixbench.experiments.staging.methods import resolve_method

REST = "rest"
"""The training images of the run's own data set that neither train nor validate."""

Algorithm = Literal["fixmatch", "mixmatch", "ict", "mean_teacher", "pseudo_labels"]


class StreamConfig(Section):
    """A second stream of images: which, how many come with each labelled one, and their mixing.

    `dataset` is `rest`, or the name of another data set, whose training images are taken. `size` is
    how many of them, drawn by `dataset.split_seed` without a look at labels; None: all. A step has
    `ratio` times `training.batch_size` of them. `augmentation` mixes them with each other.
    """

    dataset: str = REST
    size: int | None = Field(None, ge=2)
    ratio: Number = Field(4.0, gt=0, le=64)
    augmentation: dict[str, Any] | None = None

    @field_validator("dataset")
    @classmethod
    def _canonical_name(cls, name: str) -> str:
        return name if name == REST else datasets.info(name).name

    @field_validator("augmentation", mode="before")
    @classmethod
    def _resolve_augmentation(cls, section: Any) -> dict[str, Any] | None:
        return None if section is None else resolve_method(section)


class UnlabelledConfig(StreamConfig):
    """Images without labels, and what is learned from them.

    `algorithm` null, as in a grid, is a run without them. What is None is filled in by the
    algorithm: who is the `teacher` that labels them, the network itself or its average
    (`training.ema`); `weight` is how much their loss counts, after the share `ramp_up` of the
    training, in which it rises; `threshold` is the probability from which an answer of the teacher
    counts; `temperature` sharpens the answers.
    """

    algorithm: Algorithm | None
    teacher: Literal["network", "ema"] | None = None
    weight: Number | None = Field(None, gt=0, le=1000)
    ramp_up: Number | None = Field(None, ge=0, le=1)
    threshold: Number | None = Field(None, ge=0, lt=1)
    temperature: Number | None = Field(None, gt=0, le=10)


class StreamsConfig(Section):
    """The streams of a run beside its labelled images, by their purpose."""

    unlabelled: UnlabelledConfig | None = None

    @field_validator("unlabelled")
    @classmethod
    def _no_algorithm_is_unset(cls, given: UnlabelledConfig | None) -> UnlabelledConfig | None:
        return None if given is None or given.algorithm is None else given

    def named(self) -> dict[str, StreamConfig]:
        """Return the streams that there are, by name."""
        every = {"unlabelled": self.unlabelled}
        return {name: stream for name, stream in every.items() if stream is not None}


def images_beside(streams: Mapping[str, Any] | None) -> float:
    """Return how many other images a step has for each labelled one.

    streams: the section as JSON has it. MixMatch shows each image twice.
    """
    some = [stream for stream in (streams or {}).values() if stream]
    twice = [one["ratio"] for one in some if one.get("algorithm") == "mixmatch"]
    return float(sum(one["ratio"] for one in some) + sum(twice))
