"""`dataset.folds`: which images test, what is refused, keys, and what `plan` says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mixbench.experiments.config.data_text import folds_text
from mixbench.experiments.config.datasets import folder_path
from mixbench.experiments.data.folder_listing import check, scan, used_files
from mixbench.experiments.errors import UserError
from mixbench.experiments.sweep.expand import Sweep, expand
from tests.support.folders import fill


def _sweep(folder: Any, **changes: Any) -> Sweep:
    dataset = {"name": f"imagefolder:{folder}", "folds": 3, **changes.pop("dataset", {})}
    spec = {"name": "f", "fixed": {"dataset": dataset}, "replicates": 6, **changes}
    return expand(spec)


def test_each_image_tests_once_in_a_repetition_and_never_trains_then(tmp_path: Any) -> None:
    sweep = _sweep(fill(tmp_path / "few", images=7))
    assert len({cell for _, cell in sweep.keys}) == 1 and len(dict(sweep.keys)) == 6
    listing = scan(folder_path(sweep.runs[0].dataset.name) or "")
    everything = sorted(listing.files)
    tested = []
    for run in sweep.runs:
        used = used_files(run.dataset, listing)
        paths = [path for files, _ in used.values() for path in files]
        assert sorted(paths) == everything
        assert set(used["test"][1]) == {0, 1}
        assert all(
            np.array_equal(labels, [p.parent.name == "dog" for p in of])
            for of, labels in used.values()
        )
        tested.append(tuple(used["test"][0]))
    for repetition in (tested[:3], tested[3:]):
        assert sorted(path for fold in repetition for path in fold) == everything
    assert set(tested[:3]) != set(tested[3:])
    text = folds_text(sweep.runs[0].dataset.name, 3, 4, is_tuned=False)
    assert text.startswith("3 folds of 14 images: a replicate trains on about 9 and tests on 5; ")
    assert text.endswith("those of 1 fold once more (2 more replicates would make it even)")


def test_what_can_have_no_folds_is_refused(tmp_path: Any) -> None:
    folder = fill(tmp_path / "few", images=4)
    (folder / "dog" / "00.png").unlink()
    (folder / "dog" / "01.png").unlink()
    with pytest.raises(UserError, match="got 3, but class 'dog' has 2 images; expected at most 2"):
        check(_sweep(folder).runs[0].dataset)
    with pytest.raises(UserError, match="give `replicates: 3`"):
        _sweep(folder, replicates=None, seeds=[0, 1])
    with pytest.raises(UserError, match="split_seed: got 4, expected a multiple of "):
        _sweep(folder, dataset={"split_seed": 4})
    with pytest.raises(UserError, match="got 3, but fashion_mnist has test images"):
        _sweep(folder, dataset={"name": "fashion_mnist"})
    parts = tmp_path / "parts"
    for part in ("train", "test"):
        fill(parts / part)
    with pytest.raises(UserError, match="has test images of its own; folds are for image folders"):
        _sweep(parts)
