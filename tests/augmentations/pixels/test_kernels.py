"""The Triton kernels: run by the interpreter, compiled for a GPU that is not there, and on one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import pixels
from mixbench.augmentations.pixels import eager, launches
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.paste import Paste
from tests.support.compiled_ahead_of_time import ahead
from tests.support.oracles import seeded

FOLDER = Path(__file__).parents[3]
FORMATS = [torch.contiguous_format, torch.channels_last]
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_the_interpreter_finds_the_kernels_equal_to_the_eager_code() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "tests/support/interpreted.py",
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "TRITON_INTERPRET": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"^\d+ passed in ", done.stdout, re.MULTILINE), done.stdout[-600:]


# Compiled ahead of time. Meta tensors have shapes and strides and no pixels.


@pytest.fixture
def ptx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The PTX of what is launched in the test, by kernel; nothing of it comes from a cache."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return ahead(monkeypatch)


def plan_of(name: str, shape: tuple[int, ...]) -> Plan:
    """A per-sample plan for `shape`; its values don't matter."""
    if name == "fmix":
        keep = torch.empty((shape[0], 1, *shape[2:]), device="meta")
        return Blend(keep, torch.empty(shape[0], dtype=torch.int64, device="meta"))
    mix = augmentations.create(name, per_sample=True)
    return mix.sample(shape, generator=seeded(0))


def launch(plan: Plan, images: Tensor) -> None:
    """Mix without `mix_images`, which would look at the device first."""
    if isinstance(plan, Blend):
        launches.blend(images, plan.keep, plan.partner, plan.fill)
    elif isinstance(plan, Paste) and plan.resize:
        assert plan.partner is not None and plan.source is not None
        launches.paste_scaled(images, plan.target, plan.partner, plan.source)
    elif isinstance(plan, Paste):
        launches.paste(images, plan.target, plan.partner, plan.source, plan.fill)


def accesses(ptx: str, kind: str) -> list[str]:
    """The widths of the accesses to the images or masks: "v4.b32" is 16 bytes."""
    found = re.findall(rf"\b{kind}\.global\.(\S+)", ptx)
    # What is loaded once for a program: the plan's numbers.
    return [width for width in found if not (kind == "ld" and width == "b64")]


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(
    ("name", "kernel"), [("mixup", "blend"), ("cutmix", "paste_one"), ("cutout", "paste_one")]
)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((256, 3, 224, 224), torch.bfloat16), ((512, 3, 32, 32), torch.float32)],
)
def test_accesses_are_16_bytes_wide(
    shape: tuple[int, ...],
    name: str,
    kernel: str,
    dtype: torch.dtype,
    layout: torch.memory_format,
    ptx: dict[str, str],
) -> None:
    images = torch.empty(shape, dtype=dtype, device="meta").contiguous(memory_format=layout)
    launch(plan_of(name, shape), images)
    assert set(ptx) == {kernel}
    assert set(accesses(ptx[kernel], "st")) == {"v4.b32"}
    loads = accesses(ptx[kernel], "ld")
    # Beside the images: the weight of the sample.
    assert loads.count("b32") == (name == "mixup")
    assert set(loads) - {"b32"} == {"v4.b32"}
    assert ".local" not in ptx[kernel]


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", ["ricap", "random_erasing", "fmix", "resizemix"])
def test_stores_are_16_bytes_wide_where_loads_can_not_be(
    name: str, layout: torch.memory_format, ptx: dict[str, str]
) -> None:
    shape = (256, 3, 224, 224)
    images = torch.empty(shape, dtype=torch.bfloat16, device="meta")
    launch(plan_of(name, shape), images.contiguous(memory_format=layout))
    kernels = {
        "ricap": ["paste_many"],
        "random_erasing": ["copy_and_sum", "paste_one"],
        "fmix": ["blend"],
        "resizemix": ["paste_scaled"],
    }
    assert list(ptx) == kernels[name]
    for kernel, code in ptx.items():
        stores = accesses(code, "st")
        # The sum of a program is one number for each channel.
        assert stores.count("b32") == (3 if kernel == "copy_and_sum" else 0)
        assert set(stores) - {"b32"} == {"v4.b32"}
        assert ".local" not in code


def test_multiply_and_add_are_fused_where_it_is_written(ptx: dict[str, str]) -> None:
    shape = (8, 3, 32, 32)
    launch(plan_of("mixup", shape), torch.empty(shape, device="meta"))
    assert "fma.rn.f32" in ptx["blend"]


@pytest.mark.parametrize("name", ["mixup", "cutmix", "ricap"])
@pytest.mark.parametrize("shape", [(40000, 3, 224, 224), (2, 60000, 7, 7), (1, 1, 8191, 8191)])
def test_large_batches_have_a_legal_grid(
    name: str, shape: tuple[int, ...], ptx: dict[str, str]
) -> None:
    assert pixels.fits(shape)
    # The stand-in for a kernel looks at the grid.
    launch(plan_of(name, (shape[0], 1, 4, 4)), torch.empty(shape, device="meta"))
    assert len(ptx) == 1


@pytest.mark.parametrize("shape", [(3, 3, 30000, 30000), (2, 70000, 7, 7), (0, 3, 8, 8)])
def test_extreme_shapes_are_left_to_the_eager_code(shape: tuple[int, ...]) -> None:
    assert not pixels.fits(shape)


class Driver:
    """Triton's, or one that can't be built."""

    def __init__(self, error: str) -> None:
        self.error = error

    @property
    def active(self) -> object:
        if self.error:
            raise RuntimeError(self.error)
        return object()


@pytest.mark.parametrize("capable", [True, False])
def test_where_triton_can_build_nothing_plain_torch_mixes(
    capable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(pixels, "_CAPABLE", {})
    error = "" if capable else "Failed to find C compiler.\nSet CC"
    monkeypatch.setattr("triton.runtime.driver", Driver(error))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert [pixels._capable(0), pixels._capable(0)] == [capable, capable]
    said = (
        "Triton can't be used, so images on a GPU are mixed by plain torch: "
        "Failed to find C compiler. Set CC"
    )
    assert [str(one.message) for one in told] == ([] if capable else [said])


# On a GPU.


@on_gpu
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (7, 3, 32, 32), (4, 3, 224, 224), (2, 5, 7, 9)])
@pytest.mark.parametrize("per_sample", [False, True])
def test_a_gpu_finds_the_kernels_equal_to_the_eager_code(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    layout: torch.memory_format,
    per_sample: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.randn(shape, generator=seeded(1)).to("cuda", dtype)
    images = images.contiguous(memory_format=layout)
    for name in augmentations.available():
        mix = augmentations.create(name)
        if mix.needs:
            continue
        mix = augmentations.create(name, per_sample=per_sample)
        plan = mix.sample(shape, device="cuda", generator=seeded(2, "cuda"))
        found = plan.mix_images(images)
        monkeypatch.setattr(pixels, "EAGER", True)
        expected = plan.mix_images(images)
        monkeypatch.setattr(pixels, "EAGER", False)
        unit = {torch.float32: 1e-6, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}[dtype]
        torch.testing.assert_close(found, expected, rtol=unit, atol=unit, msg=name)


@on_gpu
def test_mixing_never_waits_for_the_gpu_and_goes_into_a_graph() -> None:
    images = torch.randn((8, 3, 32, 32), device="cuda")
    for name in ("mixup", "cutmix", "cutout", "random_erasing", "ricap", "fmix"):
        plan = augmentations.create(name, per_sample=True).sample(images.shape, device="cuda")
        expected = plan.mix_images(images)  # compiled before the capture
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            plan.mix_images(images)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            mixed = plan.mix_images(images)
        mixed.zero_()
        graph.replay()
        assert torch.equal(mixed, expected), name


@on_gpu
def test_a_whole_call_goes_into_a_graph_and_draws_anew_at_every_replay() -> None:
    images = torch.randn((64, 3, 32, 32), device="cuda")
    labels = torch.arange(64, device="cuda") % 10
    for name in ("mixup", "cutmix", "cutout", "random_erasing", "ricap", "fmix"):
        mix = augmentations.create(name, per_sample=True, prob=1)
        for _ in range(3):
            mix(images, labels)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            batch = mix(images, labels)
        graph.replay()
        first = batch.images.clone()
        graph.replay()
        assert not torch.equal(first, batch.images), name
        torch.testing.assert_close(batch.images, batch.plan.mix_images(images))


@on_gpu
def test_the_eager_reference_is_on_the_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn((4, 3, 8, 8), device="cuda")
    monkeypatch.setattr(pixels, "EAGER", True)
    plan = augmentations.create("cutmix").sample(images.shape, device="cuda")
    assert isinstance(plan, Paste)
    expected = eager.paste(images, plan.target, plan.partner, plan.source, plan.fill)
    assert torch.equal(plan.mix_images(images), expected)
