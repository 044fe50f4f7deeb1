"""What `transfer.weights` may say, and what of it identifies a run.

    as given                             as resolved                        identifies the run
    hub                                  hub:resnet18.a1_in1k               the same
    file:weights.pt, or weights.pt       file:/where/weights.pt#DIGEST      file:DIGEST
    efficientnet_lite0                   efficientnet_lite0                 the same
    run:SWEEP/KEY, or its beginning      run:SWEEP/KEY                      run:KEY
    cell:KEY                             cell:KEY                           the same

What is resolved already is taken as it is: a worker, a report or another machine reads a plan
without the file, and finds the key that was planned. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mixbench.experiments.config import models
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
LITE0 = "efficientnet_lite0"
LITE0_MODEL = "timm/tf_efficientnet_lite0"
FORMS = ("hub", LITE0, "file:PATH", "run:SWEEP/KEY", "pretrain:NAME")
OTHERS = "give file:PATH or run:SWEEP/KEY"
_DIGITS = "[0-9a-f]{16}"


@dataclass(frozen=True)
class Source:
    """Resolved weights in their parts; `place` is a path or a sweep, `key` what identifies them."""

    kind: str
    place: str = ""
    key: str = ""


def resolve(weights: str) -> str:
    """`weights` in the one way of writing them; ValueError or UserError for what can't be meant.

    A file is read whole, for its digest; which weights `hub` means depends on the model too, and
    is for `for_model`.
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
    close = difflib.get_close_matches(weights, (LITE0, "hub"), n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"got {weights!r}, expected {', '.join(FORMS[:-1])} or {FORMS[-1]}, or a path that ends "
        f"in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}{guess}"
    )


def for_model(weights: str | None, model: str) -> tuple[str | None, str]:
    """Resolved weights for a model, and the model's name without a tag of timm's weights.

    The tag says which weights and nothing of the network. UserError where they are not for it.
    """
    bare = models.without_tag(model)
    if weights == LITE0 and bare != LITE0_MODEL:
        raise UserError(f"transfer.weights: {LITE0} is for model {LITE0_MODEL}, got model {model}")
    kind, _, named = (weights or "").partition(":")
    if kind != "hub":
        return weights, bare
    if not model.startswith("timm/"):
        raise UserError(
            f"transfer.weights: hub is for a model of timm, got model {model}; {OTHERS}"
        )
    if named and model not in (bare, f"timm/{named}"):
        raise UserError(f"transfer.weights: got {weights}, and model {model} names other weights")
    # The tag of weights that were resolved before has been taken from the model's name.
    tagged = f"timm/{named}" if named else model
    models.check(tagged)
    known = models.pretrained_name(tagged)
    if models.without_tag(tagged) != bare:
        raise UserError(f"transfer.weights: got {weights}, which are not for model {model}")
    if known is None:
        raise UserError(f"transfer.weights: hub has no weights for model {model}; {OTHERS}")
    return f"hub:{known}", bare


def parts(weights: str) -> Source:
    """Resolved weights, taken apart."""
    kind, _, rest = weights.partition(":")
    if kind == "file":
        path, _, digest = rest.rpartition("#")
        return Source(kind, path, digest)
    if kind == "run":
        sweep, _, key = rest.partition("/")
        return Source(kind, sweep, key)
    return Source(kind, key=rest)


def identity(weights: str) -> str:
    """What of resolved weights is part of a run's key: what they are, not where."""
    source = parts(weights)
    return f"{source.kind}:{source.key}" if source.place else weights


def digest_of(path: Path) -> str:
    """16 hexadecimal digits of the sha256 of a file's content."""
    found = path.stat()
    return _digest(str(path), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(path: str, size: int, mtime: int) -> str:  # noqa: ARG001, they say when it is stale
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _resolved_file(text: str) -> str:
    if re.fullmatch(rf"/.+#{_DIGITS}", text):
        return f"file:{text}"
    path = Path(text).expanduser().absolute()
    if not text or not path.is_file():
        near = difflib.get_close_matches(path.name, _names(path.parent), n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        what = "a folder" if text and path.is_dir() else "not a file"
        raise ValueError(f"{str(path)!r} is {what}{guess}")
    try:
        return f"file:{path}#{digest_of(path)}"
    except OSError as error:
        raise ValueError(f"{str(path)!r} can't be read: {error.strerror}") from None


def _names(folder: Path) -> list[str]:
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
        return f"run:{sweep}/{SweepFolder.open(sweep).find(key).run_key}"
    except UserError as error:
        raise ValueError(str(error)) from None
