"""The section `staging`: one way of being written, what is refused, and what identifies a run."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.named import NAMED
from mixbench.experiments.sweep.cell_parser import CellParser
from tests.experiments.config.test_config import complaint

METHODS = ("mixup", "cutmix", "saliencymix", "random_erasing", "ricap", "choice", "manifold_mixup")


def raw(
    staging: Any, augmentation: Any = "cutmix", epochs: int = 20, **parts: Any
) -> dict[str, Any]:
    return {
        "dataset": {"name": "digits"},
        "augmentation": augmentation,
        "staging": staging,
        "training": {"epochs": epochs},
        **parts,
    }


def parsed(*arguments: Any, **more: Any) -> RunConfig:
    return resolve.parse(raw(*arguments, **more))


def phases(*written: Any, **more: Any) -> tuple[dict[str, Any], ...]:
    staging = parsed({"phases": list(written)}, **more).staging
    assert staging is not None
    return staging.phases


def test_the_ends_of_phases_are_where_their_neighbours_are() -> None:
    assert phases({"to": 0.3}, {"to": "epoch 10"}, {"from": 0.75, "prob": 0.5}) == (
        {"from": 0.0, "to": 0.3},
        {"from": 0.3, "to": "epoch 10"},
        {"from": 0.75, "to": 1.0, "prob": 0.5},
    )
    assert phases({"prob": 0.5}, {"from": "plateau"}) == (
        {"from": 0.0, "to": "plateau 3", "prob": 0.5},
        {"from": "plateau 3", "to": 1.0},
    )


def test_values_are_numbers_or_changes_and_what_the_method_has_anyway_is_left_out() -> None:
    (phase,) = phases(
        {
            "prob": {"to": 0, "shape": "cosine"},
            "alpha": {"from": "0.2", "to": 0.2},
            "min_area": 0,
            "max_area": {"from": 0.5},
        },
    )
    assert phase == {
        "from": 0.0,
        "to": 1.0,
        "alpha": 0.2,
        "prob": {"from": 1.0, "to": 0.0, "shape": "cosine"},
        "max_area": {"from": 0.5, "to": 1.0, "shape": "linear"},
    }
    (first, second) = phases(
        {"to": 0.5, "method": {"name": "mixup", "alpha": 2}},
        {"method": "cutmix", "prob": {"from": 0}},
    )
    assert first["method"] == {
        "name": "mixup",
        "prob": 1.0,
        "per_sample": False,
        "pairing": "permute",
        "alpha": 2.0,
    }
    assert second == {
        "from": 0.5,
        "to": 1.0,
        "prob": {"from": 0.0, "to": 1.0, "shape": "linear"},
    }
    # A value missing in a change is that of the phase's own method.
    (phase,) = phases({"method": {"name": "mixup", "alpha": 3.0}, "alpha": {"to": 1}})
    assert phase["alpha"]["from"] == 3.0


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_stored_is_read_back_as_the_same_run(name: str, method: str) -> None:
    made = parsed(name, method)
    again = resolve.parse(json.loads(json.dumps(made.model_dump(mode="json"))))
    assert again == made and again.run_key == made.run_key


@pytest.mark.parametrize("name", NAMED)
def test_the_phases_identify_a_run_not_their_name(name: str) -> None:
    by_name, in_section = parsed(name), parsed({"name": name})
    written = parsed({"phases": [dict(phase) for phase in NAMED[name]]})
    assert by_name == in_section == written
    assert by_name.run_key == written.run_key and by_name.cell_key == written.cell_key
    if by_name.staging is not None:
        unnamed = by_name.staging.model_copy(update={"name": None})
        assert by_name.model_copy(update={"staging": unnamed}).run_key == by_name.run_key


def test_every_named_schedule_is_a_run_of_its_own() -> None:
    assert len({parsed(name).cell_key for name in NAMED}) == len(NAMED)
    first = parsed({"phases": [{"to": 0.5}]})
    assert first.staging is not None and first.staging.name == "first_50"
    assert first.run_key != parsed({"phases": [{"to": 0.51}]}).run_key


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_always_is_no_staging(method: str) -> None:
    plain = resolve.parse(
        {key: value for key, value in raw(None, method).items() if key != "staging"}
    )
    whole = {"phases": [{"from": 0, "to": 1}]}
    ways: tuple[Any, ...] = (None, "always", {"name": "always"}, {"phases": [{}]}, whole)
    for staging in ways:
        made = parsed(staging, method)
        assert made.staging is None
        assert (made.run_key, made.cell_key) == (plain.run_key, plain.cell_key)
    if method != "none":
        own = plain.augmentation["prob"]
        assert parsed({"phases": [{"prob": own}]}, method).staging is None


@pytest.mark.parametrize("staging", [*NAMED, {"phases": [{"max_area": 0.5, "alpha": {"to": 2}}]}])
def test_without_mixing_there_is_nothing_to_stage(staging: Any) -> None:
    assert parsed(staging, "none").run_key == parsed(None, "none").run_key


def test_a_phase_may_bring_a_method_to_a_run_without_one() -> None:
    made = parsed({"phases": [{"from": 0.5, "method": "mixup"}]}, "none")
    assert made.staging is not None and made.staging.phases[0]["method"]["name"] == "mixup"
    assert made.run_key != parsed(None, "none").run_key


def test_a_parameter_that_a_method_got_later_does_not_change_the_key_of_its_phase() -> None:
    made = parsed({"phases": [{"from": 0.5, "method": "cutmix"}]}, "mixup")
    text = made.section_texts()["staging"]
    assert '"cutmix"' in text and '"placement"' in text and '"max_area"' not in text


def test_cautious_has_what_the_method_has() -> None:
    with_boxes, without = parsed("cautious", "cutmix"), parsed("cautious", "mixup")
    assert with_boxes.staging is not None and without.staging is not None
    assert [phase.get("max_area") for phase in with_boxes.staging.phases] == [0.2, 0.2]
    assert [phase.get("max_area") for phase in without.staging.phases] == [None, None]
    small = parsed("cautious", {"name": "random_erasing", "max_area": 0.1})
    assert small.staging is not None
    assert not any("max_area" in phase for phase in small.staging.phases)


def test_a_grid_resolves_phases_as_parse_does() -> None:
    parser = CellParser()
    for method in ("none", "mixup", "cutmix", {"name": "cutmix", "prob": 0.5}, "mixup"):
        for staging in ("cautious", None, "linear_up", "always", {"phases": [{"to": 0.5}]}):
            for epochs in (10, 20):
                spec = raw(staging, method, epochs)
                cell = parser.parse(spec, [(None, 0), (None, 3)])
                expected = [resolve.parse({**spec, "seed": seed}) for seed in (0, 3)]
                assert cell.runs == expected
                assert cell.key == expected[0].cell_key
                assert cell.run_keys == [one.run_key for one in expected]
    with pytest.raises(UserError, match="mixup has no max_area"):
        parser.parse(raw({"phases": [{"max_area": 0.5}]}, "mixup"), [(None, 0)])


UNFROZEN = {"freeze": "all", "unfreeze": [{"at": 0.5, "down_to": "all"}]}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("frist_75", "staging: unknown schedule 'frist_75'; did you mean 'first_75'? valid: "),
        ({}, "expected the name of a schedule (always, "),
        ({"nme": "first_75"}, "unknown key of staging 'nme'; did you mean 'name'?"),
        ({"name": "first_75", "phases": [{"to": 0.5}]}, "either a name or phases"),
        (3, "staging: got 3, expected a mapping"),
        ({"phases": 3}, "staging.phases: got 3, expected a list"),
        ({"phases": [3]}, "staging.phases.0: got 3, expected a mapping"),
        ([{"frm": 0.5}], "unknown key of staging.phases[0] 'frm'; did you mean 'from'?"),
        (
            [{"to": 0.5}, {"probe": 0.5}],
            "unknown key of staging.phases[1] 'probe'; did you mean 'prob'?",
        ),
        ([{"to": 1.5}], "staging.phases[0].to: got 1.5, expected a fraction from 0 to 1"),
        ([{"from": "plato"}], "staging.phases[0].from: got 'plato', expected a fraction"),
        ([{"to": "epoch 30"}], "staging.phases[0].to: got 'epoch 30', expected at most 'epoch 20'"),
        ([{"to": "plateau by epoch 21"}], "expected at most 'epoch 20', the end of the training"),
        (
            [{"from": 0.5, "to": 0.4}],
            "staging.phases[0].to: got 0.4, expected nothing before 0.5, "
            "staging.phases[0].from: phases come in order and don't overlap",
        ),
        ([{"from": "epoch 11", "to": 0.5}], "staging.phases[0].to: got 0.5, expected nothing"),
        (
            [{"to": 0.6}, {"from": 0.5}],
            "staging.phases[1].from: got 0.5, expected nothing before 0.6, staging.phases[0].to",
        ),
        ([{"from": 0.6}, {"from": 0.2}], "staging.phases[0].to: got 0.2"),
        ([{"from": 0.6, "to": "plateau"}, {"from": 0.2}], "staging.phases[1].from: got 0.2"),
        (
            [{"to": "plateau by 0.5"}, {"from": 0.4}],
            "staging.phases[1].from: got 0.4, expected "
            "nothing before 'plateau 3 by 0.5', staging.phases[0].to",
        ),
        ([{"from": 0.5, "to": 0.5}], "staging.phases[0].to: got 0.5, expected something later"),
        ([{"from": 1}], "staging.phases[0].to: got 1.0, expected something later"),
        ([{"to": 0.5}, {"to": 0.5}], "staging.phases[1].to: got 0.5, expected something later"),
        ([{"from": 0.5, "to": "plateau by 0.5"}], "staging.phases[0].to"),
        ([{"from": 0.5, "to": "plateau"}, {"from": 0.5}], "staging.phases[0].to: got 'plateau 3'"),
        ([{"to": 0.5}, {"from": "plateau", "to": 0.5}], "staging.phases[1].to: got 0.5"),
        # 20 epochs of 11 batches.
        ([{"from": 0.5, "to": 0.501}], "the phase has none of the training's 220 steps"),
        ([{"from": 0.5, "to": "epoch 10"}], "staging.phases[0].to: got 'epoch 10'"),
        ([{}, {"prob": 0.5}], "staging.phases[0].to: missing, expected `to`, or `from` in the"),
        ([{"every": 1}], "staging.phases[0].every: got 1, expected a whole number of at least 2"),
        ([{"every": 2.5}], "staging.phases[0].every: got 2.5"),
        ([{"every": True}], "staging.phases[0].every: got True"),
        ([{"every": "two"}], "staging.phases[0].every: got 'two'"),
        ([{"prob": 1.5}], "staging.phases[0].prob: got 1.5, expected a number at least 0 and at"),
        ([{"prob": {"to": -1}}], "staging.phases[0].prob.to: got -1, expected a number at least"),
        ([{"alpha": {"from": 0}}], "staging.phases[0].alpha.from: got 0, expected a number above"),
        ([{"alpha": "much"}], "staging.phases[0].alpha: got 'much', expected a number above 0"),
        ([{"alpha": None}], "staging.phases[0].alpha: got None"),
        ([{"alpha": True}], "staging.phases[0].alpha: got True"),
        ([{"alpha": float("nan")}], "staging.phases[0].alpha: got nan"),
        ([{"prob": {}}], "staging.phases[0].prob: got {}, expected a number, or `from` or `to`"),
        ([{"prob": {"shape": "cosine"}}], "expected a number, or `from` or `to`"),
        ([{"prob": {"too": 1}}], "unknown key of staging.phases[0].prob 'too'; did you mean 'to'?"),
        (
            [{"prob": {"to": 0, "shape": "cosin"}}],
            "staging.phases[0].prob.shape 'cosin'; did you mean 'cosine'?",
        ),
        (
            [{"min_area": 0.6, "max_area": 0.5}],
            "staging.phases[0]: cutmix.min_area: got 0.6, expected at most max_area (0.5)",
        ),
        ([{"min_area": 0.3, "max_area": {"to": 0.2}}], "staging.phases[0]: cutmix.min_area: got"),
        # In order at both ends, but not on the way.
        (
            [{"min_area": {"to": 0.9}, "max_area": {"from": 0.05, "to": 0.95, "shape": "cosine"}}],
            "staging.phases[0]: cutmix.min_area: got",
        ),
        (
            [{"method": "mixpu"}],
            "staging.phases[0].method: unknown augmentation 'mixpu'; did you mean 'mixup'?",
        ),
        ([{"method": {"alpha": 1}}], "staging.phases[0].method: a name with parameters"),
        ([{"method": {"name": "mixup", "alhpa": 1}}], "mixup has no parameter 'alhpa'; did you"),
        (
            [{"method": "mixup", "max_area": 0.5}],
            "staging.phases[0].max_area: mixup has no max_area, only prob, alpha can be staged",
        ),
        ([{"method": "choice", "alpha": 0.5}], "choice has no alpha, only prob can be staged"),
        ([{"method": {"name": "cutout", "size": 9}}], "phases[0].method: cutout.size: got 9"),
        (
            [{"method": {"name": "manifold_mixup", "depths": [7]}}],
            "staging.phases[0].method: manifold_mixup mixes down to layer 7, expected at most 3",
        ),
        (
            [{"from": "unfreeze 1"}],
            "staging.phases[0].from: got 'unfreeze 1', expected none of "
            "these, for transfer.unfreeze has none",
        ),
    ],
)
def test_a_wrong_staging_is_named_with_what_is_right(written: Any, expected: str) -> None:
    staging = {"phases": written} if isinstance(written, list) else written
    text = complaint(raw(staging))
    assert expected in text, text


def test_phases_and_unfreezings() -> None:
    assert parsed({"phases": [{"from": "unfreeze 1"}]}, transfer=UNFROZEN).staging is not None
    for written, expected in (
        (
            [{"from": "unfreeze 2"}],
            "staging.phases[0].from: got 'unfreeze 2', expected at most "
            "'unfreeze 1', for transfer.unfreeze has 1",
        ),
        (
            [{"from": "unfreeze 1", "to": 0.4}],
            "staging.phases[0].to: got 0.4, expected nothing before 'unfreeze 1'",
        ),
        ([{"to": 0.6}, {"from": "unfreeze 1"}], "staging.phases[1].from: got 'unfreeze 1'"),
    ):
        text = complaint(raw({"phases": written}, transfer=UNFROZEN))
        assert expected in text, text


MOMENTS = st.one_of(
    st.floats(0, 1).map(lambda share: round(share, 2)),
    st.integers(1, 24).map(lambda epoch: f"epoch {epoch}"),
)


def share(moment: Any) -> float:
    return moment if isinstance(moment, float) else int(moment.split()[1]) / 20


@given(edges=st.lists(MOMENTS, min_size=2, max_size=8).filter(lambda found: len(found) % 2 == 0))
def test_fixed_phases_are_accepted_just_where_they_are_in_order_and_not_empty(
    edges: list[Any],
) -> None:
    written = [
        {"from": a, "to": b, "prob": 0.5} for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    places = [share(edge) for edge in edges]
    right = (
        all(a <= b for a, b in itertools.pairwise(places))
        and places[-1] <= 1
        and all(
            round(220 * a) < round(220 * b) for a, b in zip(places[::2], places[1::2], strict=True)
        )
    )
    if right:
        found = phases(*written)
        assert [phase[key] for phase in found for key in ("from", "to")] == edges
    else:
        assert "staging.phases[" in complaint(raw({"phases": written}))


def test_a_wrong_staging_ends_a_command_with_one_line() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mixbench.experiments.cli",
            "plan",
            "demo",
            "--set",
            "staging.phases=[{from: 0.5, to: 0.2}]",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "staging.phases[0].to: got 0.2, expected nothing before 0.5" in line
