"""A network that can't take the images is found before any run, as a real forward would find it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mixbench.experiments import cli
from mixbench.experiments.config.models import our_networks
from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.models.dry_forward import SMALL, check_size

NETWORKS = (
    *our_networks(),
    "timm/resnet18",
    "timm/mobilenetv3_small_050",
    "timm/vit_tiny_patch16_224",
)
SIZES: tuple[int | tuple[int, int], ...] = (1, 2, 4, 8, 15, 16, (16, 32))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_real_forward_takes_is_accepted_and_nothing_else(name: str) -> None:
    config = ModelConfig(name=name)
    checked = [config]
    if name in our_networks() and name != "ssdlite":
        # Too wide to be computed, and as deep.
        checked.append(ModelConfig(name=name, width=SMALL + 1))
    for size in SIZES:
        height, width = (size, size) if isinstance(size, int) else size
        try:
            network = build(config, channels=3, classes=4, size=size, seed=0)
            with torch.no_grad():
                network(torch.zeros(2, 3, height, width))
            works = True
        except (RuntimeError, ValueError, AssertionError, UserError):
            works = False
        for one in checked:
            if works:
                check_size(one, channels=3, classes=4, size=size)
            else:
                with pytest.raises(UserError, match=f"{name} can't take"):
                    check_size(one, channels=3, classes=4, size=size)


def test_a_small_network_of_ours_is_checked_without_the_compiler() -> None:
    """Its import takes as long as all the rest of `mixbench sweep` before the first worker."""
    code = (
        "import sys\n"
        "from mixbench.experiments.config.models import our_networks\n"
        "from mixbench.experiments.config.schema import ModelConfig\n"
        "from mixbench.experiments.models.dry_forward import check_size\n"
        # torchvision's detection imports it itself.
        "for name in sorted(set(our_networks()) - {'ssdlite'}):\n"
        "    check_size(ModelConfig(name=name), channels=3, classes=10, size=32)\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_options_of_the_network_count() -> None:
    vit = {"channels": 1, "classes": 4, "size": 8}
    # The one does not know the rate, the other has no block with a path around it.
    for name in ("timm/vgg11", "timm/mobilenetv1_100"):
        with pytest.raises(UserError, match=rf"{name} drops no paths; residual networks of timm, "):
            check_size(ModelConfig(name=name, drop_path=0.1, input_size=32), **vit)
    check_size(ModelConfig(name="timm/resnet18", drop_path=0.1, input_size=32), **vit)
    check_size(ModelConfig(name="timm/vit_tiny_patch16_224", input_size=32), **vit)
    with pytest.raises(UserError, match=r"give another model.input_size"):
        check_size(ModelConfig(name="timm/vit_tiny_patch16_224", input_size=8), **vit)


@pytest.mark.parametrize("verb", ["plan", "sweep"])
def test_plan_and_sweep_refuse_it_in_one_line(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(
        "name: deep\nfixed: {dataset: {name: digits}}\n"
        "grid: {model.name: [small_cnn, timm/vgg11], augmentation: [none]}\n"
    )
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    assert cli.main([verb, str(tmp_path / "a.yaml")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("mixbench: model.name: timm/vgg11 can't take images of 8 x 8 pixels (")
    assert line.endswith("; give another dataset.image_size, or another network")
    assert not (tmp_path / "runs").exists()
