"""The values of `transfer.weights`: as written, as resolved, and what of them identifies a run.

    as written                           as resolved                        identifies the run
    hub                                  hub:resnet18.a1_in1k               the same
    file:weights.pt, or weights.pt       file:/where/weights.pt#DIGEST      file:DIGEST
    efficientnet_lite0                   efficientnet_lite0                 the same
    run:SWEEP/KEY, or its beginning      run:SWEEP/KEY                      run:KEY
    cell:KEY                             cell:KEY                           the same

Resolved weights are not read again: a worker, a report or another machine parses a plan without
the file, and gets the key that was planned. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mixbench.experiments.config import models
from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.store.sweep_folder import SweepFolder

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
LITE0 = "efficientnet_lite0"
LITE0_MODEL = "timm/tf_efficientnet_lite0"
FORMS = ("hub", LITE0, "file:PATH", "run:SWEEP/KEY", "pretrain:NAME")
OTHERS = "give file:PATH or run:SWEEP/KEY"
_DIGITS = "[0-9a-f]{16}"


@dataclass(frozen=True)
class Source:
    """The parts of resolved weights."""

    kind: str
    location: str = ""
    """A file's path, or a sweep's name."""
    key: str = ""
    """What identifies the weights."""


def resolve_weights(weights: str) -> str:
    """Return `weights` as resolved; ValueError or UserError where they can't be.

    A file is read whole, for its digest. Which weights `hub` stands for depends on the model too:
    see `for_model`.
    """
    kind, colon, rest = weights.partition(":")
    if kind == "hub" or weights == LITE0:
        return weights
    if kind == "file" and colon:
        return _resolved_file(rest)
    if kind == "run" and colon:
        return _resolved_run(rest)
    if kind == "cell" and re.fullmatch(_DIGITS, rest):
        return weights
    if kind == "pretrain" and colon:
        raise ValueError(f"got {weights!r}, which is for a sweep with that name under `pretrain`")
    if weights.endswith(SUFFIXES):
        return _resolved_file(weights)
    raise ValueError(
        f"got {weights!r}, expected {', '.join(FORMS[:-1])} or {FORMS[-1]}, or a path that ends "
        f"in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        f"{did_you_mean(weights, (LITE0, 'hub'))}"
    )


def for_model(weights: str | None, model: str) -> tuple[str | None, str]:
    """Return the weights for a model, and the model's name without the tag of timm's weights.

    The tag names the weights and does not change the network. Raises UserError for weights of
    another model.
    """
    bare = models.without_tag(model)
    if weights == LITE0 and bare != LITE0_MODEL:
        raise UserError(f"transfer.weights: {LITE0} is for model {LITE0_MODEL}, got model {model}")
    kind, _, tagged_name = (weights or "").partition(":")
    if kind != "hub":
        return weights, bare
    if not model.startswith("timm/"):
        raise UserError(
            f"transfer.weights: hub is for a model of timm, got model {model}; {OTHERS}"
        )
    if tagged_name and model not in (bare, f"timm/{tagged_name}"):
        raise UserError(f"transfer.weights: got {weights}, and model {model} names other weights")
    # Resolved weights hold the tag that the model's name had before.
    tagged = f"timm/{tagged_name}" if tagged_name else model
    models.check_name(tagged)
    known = models.pretrained_name(tagged)
    if models.without_tag(tagged) != bare:
        raise UserError(f"transfer.weights: got {weights}, which are not for model {model}")
    if known is None:
        raise UserError(f"transfer.weights: hub has no weights for model {model}; {OTHERS}")
    return f"hub:{known}", bare


def parts(weights: str) -> Source:
    """Return the parts of resolved weights."""
    kind, _, rest = weights.partition(":")
    if kind == "file":
        path, _, digest = rest.rpartition("#")
        return Source(kind, path, digest)
    if kind == "run":
        sweep, _, key = rest.partition("/")
        return Source(kind, sweep, key)
    return Source(kind, key=rest)


def identity(weights: str) -> str:
    """Return what of resolved weights is part of a run's key: what they are, not where."""
    source = parts(weights)
    return f"{source.kind}:{source.key}" if source.location else weights


def digest_of(path: Path) -> str:
    """Return 16 hexadecimal digits of the sha256 of a file's content."""
    stat = path.stat()
    return _digest(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: str, size: int, mtime: int) -> str:  # noqa: ARG001, part of the cache's key
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _resolved_file(text: str) -> str:
    if re.fullmatch(rf"/.+#{_DIGITS}", text):
        return f"file:{text}"
    path = Path(text).expanduser().absolute()
    if not text or not path.is_file():
        guess = did_you_mean(path.name, _weights_files(path.parent))
        what = "a folder" if text and path.is_dir() else "not a file"
        raise ValueError(f"{str(path)!r} is {what}{guess}")
    try:
        return f"file:{path}#{digest_of(path)}"
    except OSError as error:
        raise ValueError(f"{str(path)!r} can't be read: {error.strerror}") from None


def _weights_files(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIXES)]
    except OSError:
        return []


def _resolved_run(text: str) -> str:
    sweep, slash, key = text.partition("/")
    if not sweep or not slash or not key:
        raise ValueError(f"got {'run:' + text!r}, expected run:SWEEP/KEY")
    if re.fullmatch(_DIGITS, key):
        return f"run:{sweep}/{key}"
    try:
        return f"run:{sweep}/{SweepFolder.open(sweep).find(key, dropped=True).run_key}"
    except UserError as error:
        raise ValueError(str(error)) from None
