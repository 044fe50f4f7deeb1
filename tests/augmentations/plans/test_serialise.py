"""A recorded plan does again what it did; a damaged or foreign file is refused in one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Blend, Paste, load_plan, save_plan
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.composite import Chain, Select
from mixbench.augmentations.plans.serialise import STRUCTURE, _digest, from_tensors, to_tensors
from tests.support.given import all_needed
from tests.support.oracles import DEVICES, seeded

BATCH, SIZE = 5, (8, 12)


def results(plan: Plan, device: str = "cpu") -> list[Tensor]:
    """Everything that a plan can be applied to, and what came out."""
    generator = seeded(1)
    images = torch.rand(BATCH, 3, *SIZE, generator=generator)
    masks = torch.randint(0, 9, (BATCH, *SIZE), generator=generator)
    maps = torch.rand(BATCH, 2, 5, 3, generator=generator)
    vectors = torch.rand(BATCH, 7, generator=generator)
    corners = torch.rand(BATCH, 4, 2, generator=generator) * 4
    sides = torch.rand(BATCH, 4, 2, generator=generator) * 4
    boxes = [
        {
            "boxes": torch.cat([start, start + side], dim=1).to(device),
            "labels": torch.arange(4, device=device),
        }
        for start, side in zip(corners, sides, strict=True)
    ]
    targets = plan.mix_labels(torch.arange(BATCH, device=device))
    mixed = [value for target in plan.mix_boxes(boxes) for _, value in sorted(target.items())]
    return [
        plan.mix_images(images.to(device)),
        plan.mix_masks(masks.to(device)),
        plan.mix_features(maps.to(device)),
        plan.mix_features(vectors.to(device)),
        targets.labels,
        targets.weights,
        *mixed,
    ]


def assert_same_plan(one: Plan, other: Plan, device: str = "cpu") -> None:
    assert type(one) is type(other)
    assert one.depth == other.depth
    for found, expected in zip(results(one, device), results(other, device), strict=True):
        assert torch.equal(found, expected)


def method_plan(name: str, per_sample: bool, device: str = "cpu") -> Plan:
    mix = augmentations.create(name, per_sample=per_sample, prob=0.8)
    images = torch.rand(BATCH, 3, *SIZE, generator=seeded(2)).to(device)
    given = all_needed(mix, images)
    return mix.sample(images.shape, device=device, generator=seeded(3, device), **given)


def by_hand() -> dict[str, Plan]:
    boxes = torch.tensor([[[0, 0, 4, 5], [5, 5, 8, 12]]]).expand(BATCH, -1, -1)
    partner = torch.tensor([[1, 2], [0, 0], [2, 2], [4, 3], [3, 1]])
    blend = Blend(torch.rand(BATCH, 1, *SIZE, generator=seeded(4)), torch.tensor([1, 0, 2, 4, 3]))
    declared = torch.tensor([[0.25, 0.75]]).expand(BATCH, -1)
    paste = Paste(
        SIZE,
        boxes,
        partner,
        source=torch.tensor([[[4, 7, 8, 12], [0, 0, 3, 7]]]).expand(BATCH, -1, -1),
    )
    return {
        "blend": blend,
        "declared": replace(blend, weights=declared),
        "filled": Blend(torch.full((BATCH, 1, 1, 1), 0.5), fill="mean"),
        "paste": paste,
        "blank": Paste(SIZE, boxes, fill=0.5),
        "resized": Paste(
            SIZE,
            boxes[:, :1],
            partner[:, :1],
            torch.tensor([0, 0, *SIZE]).expand(BATCH, 1, 4),
            resize=True,
        ),
        "chain": Chain((paste, blend)),
        "select": Select(torch.tensor([0, 1, 0, 1, 1]), (paste, blend)),
        "inside": AtDepth(blend, 2),
    }


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per_sample"])
@pytest.mark.parametrize("name", augmentations.available())
def test_a_methods_plan_is_the_same_after_a_file(
    name: str, per_sample: bool, device: str, tmp_path: Path
) -> None:
    plan = method_plan(name, per_sample, device)
    save_plan(plan, tmp_path / "plan.safetensors")
    again = load_plan(tmp_path / "plan.safetensors", device)
    assert again.device == plan.device
    assert_same_plan(again, plan, device)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.safetensors"]


@pytest.mark.parametrize("kind", by_hand())
def test_every_kind_of_plan_is_the_same_after_plain_tensors(kind: str) -> None:
    plan = by_hand()[kind]
    tensors = to_tensors(plan)
    assert all(type(value) is Tensor and value.is_contiguous() for value in tensors.values())
    assert_same_plan(from_tensors(tensors), plan)
    through_numpy = {name: torch.from_numpy(value.numpy()) for name, value in tensors.items()}
    assert_same_plan(from_tensors(through_numpy), plan)


def test_tensors_can_travel_in_any_format(tmp_path: Path) -> None:
    plan = by_hand()["chain"]
    torch.save(to_tensors(plan), tmp_path / "plan.pt")
    assert_same_plan(from_tensors(torch.load(tmp_path / "plan.pt", weights_only=True)), plan)
    np.savez(tmp_path / "plan.npz", **{k: v.numpy() for k, v in to_tensors(plan).items()})
    with np.load(tmp_path / "plan.npz") as arrays:
        assert_same_plan(from_tensors({k: torch.from_numpy(arrays[k]) for k in arrays}), plan)


def test_a_recorded_plan_shares_no_memory_with_its_own() -> None:
    plan = by_hand()["blend"]
    before = results(plan)
    for tensor in to_tensors(plan).values():
        tensor.zero_()
    for found, expected in zip(results(plan), before, strict=True):
        assert torch.equal(found, expected)


def test_a_row_that_all_samples_share_is_written_once() -> None:
    mask = torch.rand(1, 1, 64, 64, generator=seeded(0))
    plan = Blend(mask, torch.arange(200).flip(0)).expand(200)
    tensors = to_tensors(plan)
    assert tensors["keep"].shape == (1, 1, 64, 64)
    again = from_tensors(tensors)
    assert isinstance(again, Blend)
    assert again.keep.shape == (200, 1, 64, 64)
    assert again.keep.stride(0) == 0


def test_a_plan_names_its_tensors_in_the_file(tmp_path: Path) -> None:
    from safetensors import safe_open

    save_plan(by_hand()["chain"], tmp_path / "plan.safetensors")
    with safe_open(tmp_path / "plan.safetensors", "pt") as file:
        names = set(file.keys())
        structure = json.loads(bytes(file.get_tensor(STRUCTURE).tolist()))
    assert {"stages.0.target", "stages.0.source", "stages.1.keep", STRUCTURE} <= names
    assert structure["plan"]["kind"] == "Chain"


# --- damage -------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match="expected a recorded plan, got") as caught:
        load_plan(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_files_that_hold_no_plan_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.safetensors"
    for content in (b"", b"{}", b"\x00" * 100, b"PK\x03\x04 a zip file", bytes(range(256)) * 8):
        path.write_bytes(content)
        refused(path)
    save_file({"weight": torch.zeros(3), "bias": torch.zeros(3)}, path)
    assert "tensors without 'plan', which says what they are: bias, weight" in refused(path)
    save_file({}, path)
    assert "nothing" in refused(path)
    with pytest.raises(FileNotFoundError):
        load_plan(tmp_path / "missing.safetensors")


def test_no_damage_goes_unnoticed(tmp_path: Path) -> None:
    """Cut off anywhere, or bytes changed: a ValueError, or (in the padding) no change at all."""
    path, chance = tmp_path / "plan.safetensors", random.Random(0)

    def message() -> str:
        try:
            plan = load_plan(path)
        except ValueError as error:
            return str(error)
        assert_same_plan(plan, original)
        return "no change"

    for kind in ("chain", "resized", "select"):
        original = by_hand()[kind]
        save_plan(original, path)
        whole = path.read_bytes()
        for _ in range(25):
            path.write_bytes(whole[: chance.randrange(len(whole))])
            refused(path)
        messages = []
        for _ in range(250):
            damaged = bytearray(whole)
            for _ in range(chance.choice([1, 1, 4])):
                damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
            messages.append(message())
        assert messages.count("no change") < 5
        assert not any("\n" in message for message in messages)


def test_tensors_of_another_plan_are_noticed() -> None:
    tensors = to_tensors(by_hand()["blend"])
    tensors["keep"] = 1 - tensors["keep"]
    with pytest.raises(ValueError, match="a damaged plan: it is not what was recorded"):
        from_tensors(tensors)
    tensors = to_tensors(by_hand()["blank"])
    text = bytes(tensors[STRUCTURE].tolist()).replace(b'"fill": 0.5', b'"fill": 0.4')
    assert text != bytes(tensors[STRUCTURE].tolist())
    tensors[STRUCTURE] = torch.tensor(list(text), dtype=torch.uint8)
    with pytest.raises(ValueError, match="a damaged plan: it is not what was recorded"):
        from_tensors(tensors)


def changed(kind: str, field: str, change: Callable[[Tensor], Tensor]) -> Plan:
    """A plan that was made wrong, and recorded as it is."""
    plan: Any = by_hand()[kind]
    return replace(plan, **{field: change(getattr(plan, field).clone())})


def at(*place: int, value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor[place] = value
        return tensor

    return change


def wrong_blend() -> Plan:
    return changed("blend", "partner", at(0, value=99))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (changed("blend", "keep", at(0, 0, 0, 0, value=torch.nan)), "keep: .* 0 to 1, got NaN"),
        (changed("blend", "keep", at(1, 0, 2, 3, value=1.5)), "keep: .* from 0 to 1, got"),
        (changed("blend", "keep", lambda keep: keep[0]), r"keep: expected \(B, 1, 1, 1\) or"),
        (changed("blend", "keep", lambda keep: keep.double()), "keep: .* float32, got .* float64"),
        (changed("blend", "partner", at(2, value=BATCH)), "partner: .* from 0 to 4, got .* to 5"),
        (changed("blend", "partner", at(2, value=-1)), "partner: .* from 0 to 4, got .* -1"),
        (changed("blend", "partner", lambda who: who[:4]), r"partner: expected \(5,\) int64"),
        (changed("declared", "weights", at(0, 0, value=0.9)), "weights: expected rows that sum"),
        (changed("paste", "target", at(0, 1, 3, value=13)), r"target: .* within 8 x 12, got \["),
        (changed("paste", "target", at(0, 1, 0, value=9)), r"target: .* within 8 x 12, got \["),
        (changed("paste", "target", at(0, 1, 2, value=9)), r"target: .* within 8 x 12, got \["),
        (changed("paste", "target", at(0, 0, 0, value=-1)), r"target: .* within 8 x 12, got \["),
        (changed("paste", "source", at(0, 0, 0, value=3)), "source: expected the size of its"),
        (changed("paste", "source", at(0, 0, 1, value=-1)), r"source: .* within 8 x 12"),
        (changed("paste", "partner", at(3, 1, value=99)), "partner: .* from 0 to 4"),
        (Chain((by_hand()["paste"], wrong_blend())), "partner: .* from 0 to 4"),
        (Select(torch.tensor([0, 1, 0, 1, 1]), (wrong_blend(), by_hand()["paste"])), "partner:"),
        (replace(by_hand()["filled"], fill="median"), "fill: expected a number or 'mean', got 'm"),
        (replace(by_hand()["blank"], size=(8, 0)), r"size: expected .* at least 1, got \(8, 0\)"),
        (replace(by_hand()["blank"], tiles=True), "partner, source: expected both with resize"),
        (replace(by_hand()["resized"], source=None), "partner, source: expected both with resize"),
    ],
)
def test_a_plan_that_could_not_be_applied_is_refused(plan: Plan, message: str) -> None:
    with pytest.raises(ValueError, match=f"a damaged plan: {message}"):
        from_tensors(to_tensors(plan))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "a plan of version 2, where 1 is known"),
        ({"plan": 3}, "a structure that is no plan: int"),
        ({"plan": {"kind": "Path", "fields": {}}}, "kind 'Path', expected one of .*Blend.*Paste"),
        ({"plan": {"kind": "Blend", "fields": {"keeps": 1}}}, "keeps"),
        ({"plan": {"kind": "Blend", "fields": {"keep": 0.5}}}, "keep: expected .* got float"),
        ({"plan": {"kind": "Blend", "fields": {"keep": {"tensor": "no", "rows": None}}}}, "'no'"),
        ({"plan": {"kind": "Blend", "fields": {"keep": {"tensor": "keep", "rows": 3}}}}, "Runtime"),
        ({"plan": {"items": [[[[]]]]}}, "a structure that is no plan: tuple"),
    ],
)
def test_a_structure_that_is_no_plan_is_refused(change: dict[str, Any], message: str) -> None:
    tensors = to_tensors(by_hand()["blend"])
    structure = {**json.loads(bytes(tensors.pop(STRUCTURE).tolist())), **change}
    structure["digest"] = _digest(structure["plan"], tensors)
    text = torch.tensor(list(json.dumps(structure).encode()), dtype=torch.uint8)
    with pytest.raises(ValueError, match=f"a damaged plan: .*{message}"):
        from_tensors({**tensors, STRUCTURE: text})


def test_what_cannot_be_recorded_is_named(tmp_path: Path) -> None:
    plan = replace(by_hand()["filled"], fill=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fill: expected tensors, numbers, words or plans, got"):
        save_plan(plan, tmp_path / "plan.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        save_plan(by_hand()["blend"], tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("shared", [False, True])
def test_moved_rectangles_that_apply_to_some_samples_are_a_plan_still(shared: bool) -> None:
    """A rectangle that does not apply is empty in its source as in its target."""
    rows = 1 if shared else 4
    target = torch.tensor([[[0, 0, 3, 4]]]).repeat(rows, 1, 1)
    source = torch.tensor([[[2, 1, 5, 5]]]).repeat(rows, 1, 1)
    partner = torch.tensor([[1], [2], [3], [0]])
    apply = torch.tensor([True, False, True, False])
    plan = Paste((6, 7), target, partner, source).only_where(apply).expand(4)
    plan.check_fields()
    images = torch.rand(4, 2, 6, 7, generator=seeded(0))
    expected = images.clone()
    expected[0, :, :3, :4] = images[1, :, 2:5, 1:5]
    expected[2, :, :3, :4] = images[3, :, 2:5, 1:5]
    assert torch.equal(plan.mix_images(images), expected)


def test_the_number_of_rows_of_a_file_costs_nothing() -> None:
    """A billion rows that share their memory are read as one."""
    target = torch.tensor([[[0, 0, 3, 9]]]).expand(10**12, -1, -1)
    with pytest.raises(ValueError, match=r"target: expected rectangles"):
        Paste((6, 7), target).check_fields()
    keep = torch.tensor(2.0).expand(10**12, 1, 1, 1)
    with pytest.raises(ValueError, match=r"keep: expected values from 0 to 1"):
        Blend(keep).check_fields()
