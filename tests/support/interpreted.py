"""The kernels run by Triton's interpreter on the CPU, beside the eager code.

`test_kernels.py` runs these tests in a process of their own with TRITON_INTERPRET=1, which Triton
reads when it is imported. The interpreter cuts float32 to bfloat16 where a GPU rounds, so half
precision is held to one unit in the last place.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import pixels
from mixbench.augmentations.pixels import eager, launches, operators, resize
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.paste import Paste
from tests.support.oracles import seeded

FORMATS = [torch.contiguous_format, torch.channels_last]
FLOATS = [torch.float32, torch.bfloat16, torch.float16]
# One pixel; odd sides; rows of no whole granule; channels beyond a program's; several programs.
SHAPES = [(1, 1, 1, 1), (3, 3, 8, 8), (2, 1, 7, 5), (2, 3, 12, 28), (2, 6, 6, 40), (2, 3, 24, 72)]
# Of one float32 operation, and of the last place of the half types.
CLOSE = {torch.float32: 3e-7, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


@pytest.fixture(autouse=True)
def _unwritten_is_nan() -> Iterator[None]:
    """What a kernel leaves unwritten must not look right by chance."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def images_of(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    """Normal images of a fixed seed."""
    made = torch.randn(shape, generator=seeded(sum(shape))).to(dtype)
    return made.contiguous(memory_format=layout)


def plans(shape: tuple[int, ...]) -> Iterator[tuple[str, Plan]]:
    """Every kind of plan that the kernels take."""
    batch, _, height, width = shape
    random = seeded(batch * height + width)
    partner = torch.randint(batch, (batch,), generator=random)
    scalar = torch.rand((batch, 1, 1, 1), generator=random)
    scalar[0] = 1.0
    spatial = torch.rand((batch, 1, height, width), generator=random)
    yield "mixup", Blend(scalar, partner)
    yield "mixup of the batch", Blend(scalar[-1:].expand(batch, -1, -1, -1), partner)
    yield "soft masks", Blend(spatial, partner)
    yield "one hard mask", Blend((spatial[:1] > 0.5).float().expand(batch, -1, -1, -1), partner)
    yield "blend with a number", Blend(spatial, fill=0.5)
    yield "blend with the mean", Blend(spatial, fill="mean")
    yield "one weight, the mean", Blend(scalar, fill="mean")
    boxes = rectangles(batch, height, width, 1, random)
    yield "cutmix", Paste((height, width), boxes, partner[:, None])
    shared = boxes[-1:].expand(batch, -1, -1)
    yield "cutmix of the batch", Paste((height, width), shared, partner[:, None])
    yield "cutout", Paste((height, width), boxes, fill=-0.7)
    yield "erasing", Paste((height, width), boxes, fill="mean")
    whole = torch.tensor([[[0, 0, height, width]]]).expand(batch, -1, -1)
    yield "all of it", Paste((height, width), whole, partner[:, None])
    three = rectangles(batch, height, width, 3, random)
    partners = torch.randint(batch, (batch, 3), generator=random)
    yield "three boxes", Paste((height, width), three, partners)
    yield "three holes", Paste((height, width), three, fill=2.0)
    yield "three mean holes", Paste((height, width), three, fill="mean")
    yield "moved", Paste((height, width), three, partners, moved(three, height, width, random))
    tiles = augmentations.create("ricap", beta=1.0, per_sample=True)
    yield "ricap", tiles.sample(shape, generator=random)
    tiles = augmentations.create("ricap", beta=1.0, prob=0.5)
    yield "ricap of the batch", tiles.sample(shape, generator=random)


def rectangles(batch: int, height: int, width: int, count: int, random: torch.Generator) -> Tensor:
    """Boxes that don't overlap, one in each of `count` bands of rows: (B, count, 4)."""
    made = torch.zeros(batch, count, 4, dtype=torch.int64)
    for sample in range(batch):
        for number in range(count):
            start, end = number * height // count, (number + 1) * height // count
            rows = torch.randint(start, end + 1, (2,), generator=random).sort().values
            columns = torch.randint(width + 1, (2,), generator=random).sort().values
            made[sample, number] = torch.stack((rows, columns), dim=1).flatten()
    return made


def moved(target: Tensor, height: int, width: int, random: torch.Generator) -> Tensor:
    """Boxes as large, anywhere."""
    sides = target[..., 2:] - target[..., :2]
    room = torch.tensor([height, width]) - sides
    corner = (torch.rand(sides.shape, generator=random) * (room + 1)).long()
    return torch.cat([corner, corner + sides], dim=-1)


def by_kernel(plan: Plan, images: Tensor) -> Tensor:
    """The images mixed by the kernels."""
    if isinstance(plan, Blend):
        return launches.blend(images, plan.keep, plan.partner, plan.fill)
    assert isinstance(plan, Paste)
    return launches.paste(images, plan.target, plan.partner, plan.source, plan.fill)


def by_reference(plan: Plan, images: Tensor) -> Tensor:
    """The images mixed by the eager code."""
    if isinstance(plan, Blend):
        return eager.blend(images, plan.keep, plan.partner, plan.fill)
    assert isinstance(plan, Paste)
    return eager.paste(images, plan.target, plan.partner, plan.source, plan.fill)


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        *((shape, torch.float32, layout) for shape in SHAPES for layout in FORMATS),
        ((3, 3, 8, 8), torch.bfloat16, torch.contiguous_format),
        ((2, 3, 12, 28), torch.bfloat16, torch.channels_last),
        ((3, 3, 8, 8), torch.float16, torch.channels_last),
        ((2, 3, 12, 28), torch.float16, torch.contiguous_format),
    ],
)
def test_every_plan_equals_the_eager_code(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    images = images_of(shape, dtype, layout)
    kept = images.clone()
    for name, plan in plans(shape):
        found = by_kernel(plan, images)
        assert found.dtype == dtype and found.is_contiguous(memory_format=layout), name
        if isinstance(plan, Paste) and (plan.partner is not None or plan.fill != "mean"):
            assert torch.equal(found, by_reference(plan, images)), name
            continue
        # In float32, for the reference must not round before the interpreter cuts.
        expected = by_reference(plan, images.float())
        loose = dtype == torch.float32 or plan.fill == "mean"
        bound = CLOSE[dtype] * (expected.abs() + (1.0 if loose else 1e-3))
        assert ((found.float() - expected).abs() <= bound).all(), name
    assert torch.equal(images, kept)


@pytest.mark.parametrize("layout", FORMATS)
def test_a_kept_sample_comes_back_bit_for_bit(layout: torch.memory_format) -> None:
    images = images_of((2, 3, 8, 8), torch.float32, layout) * 1e6
    keep = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    partner = torch.tensor([1, 0])
    for weights in (keep, keep.expand(2, 1, 8, 8)):
        found = launches.blend(images, weights, partner, 0.0)
        assert torch.equal(found, images[[0, 0]])


def test_bits_move_whatever_they_stand_for() -> None:
    plan = dict(plans((3, 3, 8, 8)))["moved"]
    random = torch.randint(-100, 100, (3, 2, 8, 8), generator=seeded(0))
    nan = torch.full((3, 1, 8, 8), float("nan")).view(torch.int32) + random[:, :1].int().abs()
    for images in (random, random.to(torch.uint8), random > 0, random.double(), random.short()):
        assert torch.equal(by_kernel(plan, images), by_reference(plan, images))
    found = by_kernel(plan, nan.view(torch.float32))
    assert torch.equal(found.view(torch.int32), by_reference(plan, nan))


def test_offsets_that_take_64_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of((3, 2, 8, 8), torch.float32, torch.contiguous_format)
    monkeypatch.setattr(launches, "_INT32", 0)
    for name in ("moved", "three boxes", "ricap"):
        plan = dict(plans((3, 2, 8, 8)))[name]
        assert torch.equal(by_kernel(plan, images), by_reference(plan, images)), name


@pytest.mark.parametrize("name", ["mixup", "soft masks", "cutmix", "erasing", "moved"])
def test_images_may_be_views(name: str) -> None:
    stored = torch.randn((6, 3, 9, 8), generator=seeded(1))
    views = (
        stored[::2, :, :8],  # rows left out, samples left out
        stored[:3, :, :8].transpose(2, 3),
        stored.flatten()[3 : 3 + 3 * 3 * 64].view(3, 3, 8, 8),  # not on a 16-byte boundary
        stored[:3, :, :8].contiguous(memory_format=torch.channels_last)[:, :2],
    )
    for images in views:
        plan = dict(plans(tuple(images.shape)))[name]
        torch.testing.assert_close(by_kernel(plan, images), by_reference(plan, images))


@pytest.mark.parametrize("layout", FORMATS)
def test_a_plan_that_points_outside_reads_nothing(layout: torch.memory_format) -> None:
    images = images_of((2, 3, 8, 8), torch.float32, layout)
    target = torch.tensor([[[1, 1, 5, 7]]]).expand(2, 1, 4)
    outside = torch.tensor([[1 << 40], [-1]])
    for source in (None, target):
        assert torch.equal(launches.paste(images, target, outside, source, 0.0), images)
    far = target + torch.tensor([4, 0, 4, 0])
    assert torch.equal(launches.paste(images, target, torch.tensor([[1], [0]]), far, 0.0), images)
    keep = torch.full((2, 1, 1, 1), 0.25)
    torch.testing.assert_close(launches.blend(images, keep, outside[:, 0], 0.0), images)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["resizemix", "by hand", "two"])
def test_scaled_rectangles_equal_the_eager_code(
    name: str, dtype: torch.dtype, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (3, 3, 12, 20)
    images = images_of(shape, dtype, layout)
    if name == "by hand":
        # Larger, smaller, a single pixel, and a source without pixels.
        target = torch.tensor([[0, 0, 12, 20], [3, 4, 5, 20], [1, 1, 9, 2]])[:, None]
        source = torch.tensor([[2, 3, 5, 9], [0, 0, 12, 20], [11, 19, 11, 19]])[:, None]
        plan: Plan = Paste((12, 20), target, torch.tensor([[1], [0], [0]]), source, resize=True)
    elif name == "two":
        target = torch.tensor([[0, 0, 5, 20], [6, 1, 12, 7]]).expand(3, -1, -1)
        source = torch.tensor([[0, 5, 9, 9], [1, 2, 4, 18]]).expand(3, -1, -1)
        partner = torch.tensor([[1, 2], [0, 0], [2, 1]])
        plan = Paste((12, 20), target, partner, source, resize=True)
    else:
        plan = augmentations.create(name, per_sample=True).sample(shape, generator=seeded(8))
    assert isinstance(plan, Paste) and plan.resize
    assert plan.partner is not None and plan.source is not None
    scaled = plan.target, plan.partner, plan.source
    found = launches.paste_scaled(images, *scaled)
    assert found.is_contiguous(memory_format=layout)
    expected = resize.paste(images, *scaled, nearest=False)
    assert not torch.equal(expected, images)
    torch.testing.assert_close(found, expected, rtol=CLOSE[dtype], atol=CLOSE[dtype])
    monkeypatch.setattr(pixels, "by_kernel", lambda *_: True)
    assert torch.equal(plan.mix_images(images), found)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the CPU for a GPU with kernels."""

    def has_kernels(images: Tensor, *others: Tensor) -> bool:
        return not (torch.is_grad_enabled() and images.requires_grad)

    monkeypatch.setattr(pixels, "by_kernel", has_kernels)


@pytest.mark.parametrize("name", ["none", "mixup", "cutmix", "ricap", "random_erasing", "fmix"])
def test_a_whole_batch_is_the_same_on_both_paths(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = images_of((4, 3, 8, 12), torch.float32, torch.contiguous_format)
    labels = torch.arange(4)
    mix = augmentations.create(name, per_sample=True)
    expected = mix(images, labels, 4, seeded(7))
    monkeypatch.setattr(pixels, "by_kernel", lambda *_: True)
    found = mix(images, labels, 4, seeded(7))
    torch.testing.assert_close(found.images, expected.images, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.targets.labels, expected.targets.labels)
    assert torch.equal(found.targets.weights, expected.targets.weights)


# As operators of torch.


@pytest.mark.usefixtures("gpu")
def test_operators_keep_what_they_declare() -> None:
    torch.use_deterministic_algorithms(False)
    images = images_of((2, 3, 4, 8), torch.float32, torch.channels_last)
    some = dict(plans((2, 3, 4, 8)))
    blend, paste, fill = some["soft masks"], some["moved"], some["erasing"]
    assert isinstance(blend, Blend) and isinstance(paste, Paste) and isinstance(fill, Paste)
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    for operator, arguments in (
        (operators.blend, (images, blend.keep, blend.partner, 0.0, False)),
        (operators.paste, (images, paste.target, paste.partner, paste.source, 0.0, False)),
        (operators.paste, (images, fill.target, None, None, 0.0, True)),
        (operators.paste_scaled, (images, paste.target, paste.partner, paste.source)),
    ):
        torch.library.opcheck(operator, copy.copy(arguments), test_utils=tests)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["mixup", "ricap", "random_erasing"])
def test_a_graph_without_breaks_holds_the_kernel(name: str) -> None:
    torch.use_deterministic_algorithms(False)
    images = images_of((4, 3, 8, 8), torch.float32, torch.channels_last)
    plan = augmentations.create(name, per_sample=True, prob=1).sample(
        images.shape, generator=seeded(1)
    )
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(plan.mix_images, fullgraph=True, backend=backend)
    assert torch.equal(compiled(images), plan.mix_images(images))
    assert any("augmentations" in str(node.target) for node in graphs[0].graph.nodes)


@pytest.mark.usefixtures("gpu")
def test_where_a_gradient_is_wanted_the_eager_code_works() -> None:
    images = images_of((3, 3, 8, 8), torch.float32, torch.contiguous_format).requires_grad_()
    for name, plan in plans((3, 3, 8, 8)):
        mixed = plan.mix_images(images)
        assert mixed.requires_grad, name
        torch.testing.assert_close(mixed, by_kernel(plan, images.detach()), rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        assert not plan.mix_images(images).requires_grad


def test_a_learned_weight_gets_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "by_kernel", lambda *given: not any(t.requires_grad for t in given))
    keep = torch.full((2, 1, 1, 1), 0.25, requires_grad=True)
    plan = Blend(keep, torch.tensor([1, 0]))
    images = images_of((2, 3, 4, 4), torch.float32, torch.contiguous_format)
    assert plan.mix_images(images).requires_grad
