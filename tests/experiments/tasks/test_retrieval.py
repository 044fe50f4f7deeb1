"""Retrieval: mixed pairs and their loss by brute force, recall as torchmetrics has it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchmetrics.retrieval import RetrievalHitRate

from mixbench.augmentations import create
from mixbench.augmentations.plans.base import Plan
from mixbench.experiments.config import resolve
from mixbench.experiments.config.pair_file import digest, open_pair_file
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.by_name import named_dataset
from mixbench.experiments.data.dataset import Dataset, statistics
from mixbench.experiments.data.download import Unavailable
from mixbench.experiments.data.load import load
from mixbench.experiments.data.pairs import emoji
from mixbench.experiments.data.pairs.texts import counts_of
from mixbench.experiments.data.pictures import mixed_strip
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.models.pairs import with_second_side
from mixbench.experiments.signals import Stopped
from mixbench.experiments.tasks.base import Task, task_of
from mixbench.experiments.tasks.retrieval.scores import recalls
from mixbench.experiments.training import loop

CPU = torch.device("cpu")
TEXTS = ["red apple", "green pear", "a dog", "big red dog", "apple tree", "cat"]


def configured(name: str = "emoji_names", mixing: str | None = None, **more: Any) -> RunConfig:
    return resolve.parse(
        {
            "dataset": {"name": name, "image_size": 8},
            "task": {"name": "retrieval", "mixing": mixing},
            "model": {"name": "small_cnn", "width": 2},
            "augmentation": more.pop("augmentation", "cutmix"),
            "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.02, **more},
        }
    )


def made(second: Tensor) -> Dataset:
    draws = torch.Generator().manual_seed(0)
    shape = (len(second), 3, 8, 8)
    pixels = torch.randint(256, shape, generator=draws, dtype=torch.uint8)
    split = ArraySplit(pixels, second)
    return Dataset("made", (), split, split, split, *statistics(pixels), "", "", targets="pairs")


def of_texts(mixing: str | None, texts: list[str] = TEXTS) -> tuple[Task, Tensor]:
    counts = torch.from_numpy(counts_of(texts, 64))
    return task_of(configured(mixing=mixing), made(counts), CPU), counts


def drawn(batch: int) -> Plan:
    mix = create("cutmix", per_sample=True)
    return mix.sample((batch, 3, 8, 8), generator=torch.Generator().manual_seed(1))


def test_one_plan_mixes_both_sides() -> None:
    task, counts = of_texts("both")
    plan = drawn(len(counts))
    index, shares = plan.sources()
    pairs = task.mix(plan, counts)
    unit = F.normalize(counts, dim=1)
    for b in range(len(counts)):
        expected = sum(shares[b, k] * unit[index[b, k]] for k in range(index.shape[1]))
        torch.testing.assert_close(pairs.second[b], expected)
    assert pairs.targets.labels.flatten().tolist() == list(range(len(counts)))
    draws = torch.Generator().manual_seed(2)
    images = torch.randint(256, (6, 3, 8, 8), generator=draws, dtype=torch.uint8)
    task = task_of(configured("emoji_hands"), made(images), CPU)
    mean, std = statistics(images)
    plain = (images / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    torch.testing.assert_close(task.mix(plan, images).second, plan.mix_images(plain))


def test_of_images_alone_the_loss_is_the_weighted_sum_of_those_of_their_pairs() -> None:
    task, counts = of_texts("images")
    plan = drawn(len(counts))
    index, shares = plan.sources()
    outputs = torch.randn(6, 2, 5, generator=torch.Generator().manual_seed(3))
    similar = outputs[:, 0] @ outputs[:, 1].T
    expected = 0.0
    for b in range(6):
        for k in range(index.shape[1]):
            j = int(index[b, k])
            to_second = F.cross_entropy(similar[b : b + 1], torch.tensor([j]))
            to_first = F.cross_entropy(similar[:, j][None], torch.tensor([b]))
            expected += float(shares[b, k]) * float(to_second + to_first) / 2 / 6
    pairs = task.mix(plan, counts)
    assert float(task.loss(pairs, outputs)) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(pairs.second, F.normalize(counts, dim=1))


def test_mixgen_puts_the_texts_of_an_image_one_after_the_other() -> None:
    task, counts = of_texts("mixgen")
    mix = create("mixup", alpha=1.0, per_sample=True, prob=0.6)
    plan = mix.sample((6, 3, 8, 8), generator=torch.Generator().manual_seed(5))
    index, shares = plan.sources()
    texts = []
    for b in range(6):
        seen = dict.fromkeys(int(i) for i, s in zip(index[b], shares[b], strict=True) if s > 0)
        texts.append(" ".join(TEXTS[i] for i in {b: None, **seen}))
    assert "red apple" in texts and "cat a dog" in texts
    expected = F.normalize(torch.from_numpy(counts_of(texts, 64)), dim=1)
    torch.testing.assert_close(task.mix(plan, counts).second, expected)


def test_recall_is_that_of_torchmetrics() -> None:
    draws = torch.Generator().manual_seed(4)
    outputs = torch.randn(30, 2, 6, generator=draws)
    outputs[:, 1] += outputs[:, 0]
    # Two pairs of the same object: either is right.
    same = torch.arange(30)
    same[7] = 3
    found = recalls(outputs, same)
    similar = outputs[:, 0] @ outputs[:, 1].T
    belongs = same[:, None] == same[None]
    rows = torch.arange(30)[:, None].expand(30, 30)
    for k in (1, 5):
        for way, values in (("second", similar), ("first", similar.T)):
            metric = RetrievalHitRate(top_k=k)
            other = metric(values.flatten(), belongs.flatten(), indexes=rows.flatten())
            assert found[f"recall_at_{k}_to_{way}"] == pytest.approx(float(other))
    perfect = F.normalize(torch.randn(40, 8, generator=draws), dim=1)[:, None].expand(40, 2, 8)
    assert recalls(perfect, torch.arange(40))["recall_at_1"] == 1
    random = recalls(torch.randn(600, 2, 8, generator=draws), torch.arange(600))
    # Five of 600, in 1,200 queries: within 4.5 standard deviations.
    assert abs(float(random["recall_at_5"] or 0) - 5 / 600) < 0.012
    assert recalls(torch.ones(9, 2, 4), torch.arange(9))["recall_at_5"] == 0


@pytest.mark.parametrize("name", ["emoji_names", "emoji_hands"])
def test_training_goes_on_exactly(tmp_path: Path, name: str) -> None:
    draws = torch.Generator().manual_seed(3)
    second = torch.from_numpy(counts_of([f"{one} {n}" for n in range(4) for one in TEXTS], 64))
    if name == "emoji_hands":
        second = torch.randint(256, (24, 3, 8, 8), generator=draws, dtype=torch.uint8)
    dataset, config = made(second), configured(name)

    def network() -> torch.nn.Module:
        images = build(config.model, channels=3, classes=64, size=8, seed=0)
        return with_second_side(images, dataset.train.labels[:1], 64, 0)

    def trained(folder: Path, stopping: Callable[[], bool]) -> tuple[dict[str, Tensor], list[Any]]:
        folder.mkdir(exist_ok=True)
        encoders = network()
        loop.train(encoders, dataset, config, CPU, folder, lambda *_, **__: None, stopping)
        rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        return encoders.state_dict(), [(row["train/loss"], row["validation/nll"]) for row in rows]

    whole, rows = trained(tmp_path / "whole", lambda: False)
    asked = iter([False] * 4 + [True] * 99)
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", lambda: next(asked))
    parts, rows_of_parts = trained(tmp_path / "parts", lambda: False)
    assert rows == rows_of_parts and len(rows) == 2
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())
    encoders = network()
    encoders.load_state_dict(whole)
    measured = task_of(config, dataset, CPU).measure(encoders, dataset, lambda: None)
    assert measured.metrics["validation/nll"] == pytest.approx(rows[-1][1], rel=1e-5)
    assert measured.metrics["test/recall_at_1"] is not None
    assert measured.predictions["embeddings"].shape == (24, 2, 64)
    assert mixed_strip(dataset, config.augmentation)[:4] == b"\x89PNG"


def refused(**raw: Any) -> str:
    with pytest.raises(UserError) as caught:
        resolve.parse({"dataset": {"name": "emoji_hands"}, **raw})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_pairs_can_not_have_is_refused() -> None:
    mixed = {"augmentation": "mixup"}
    texts = refused(task={"name": "retrieval", "mixing": "mixgen"}, **mixed)
    assert "task.mixing: mixgen puts texts one after the other, but emoji_hands" in texts
    unknown = refused(task={"name": "retrieval", "mixing": "bth"}, **mixed)
    assert "unknown task.mixing 'bth'; did you mean 'both'?" in unknown
    assert "manifold_mixup can't carry retrieval: it mixes inside a network" in refused(
        augmentation="manifold_mixup"
    )
    assert "transfer: is for one network" in refused(transfer={"freeze": 1})
    assert "training.batch_size: got 1" in refused(training={"batch_size": 1})
    no_pairs = refused(
        dataset={"name": "digits"}, task={"name": "classification", "mixing": "both"}
    )
    assert "task.mixing: got both, but classification has no such choice" in no_pairs
    # Unset, the default, and where nothing is mixed: the same run.
    keys = {configured(mixing=mixing).run_key for mixing in (None, "both")}
    still = {
        configured(mixing=mixing, augmentation="none").run_key for mixing in ("images", "mixgen")
    }
    assert len(keys) == len(still) == 1 and keys != {configured(mixing="images").run_key}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for number in range(12):
        Image.new("RGB", (8, 6), (20 * number, 0, 0)).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,text number {number}" for number in range(12)]
    # The same text as that of another image.
    rows[9] = "9.png,Text  number 2"
    (tmp_path / "pairs.csv").write_text("image,text\n" + "\n".join(rows) + "\n")
    return tmp_path / "pairs.csv"


def test_pairs_of_a_file_are_split_by_object(pairs: Path) -> None:
    file = open_pair_file(str(pairs))
    names = [row.image.stem for row in file.test]
    assert names == ["1", "6"] and len(file.train) == 10 and file.validation is None
    things = [{row.thing for row in part} for part in (file.train, file.test)]
    assert not things[0] & things[1]
    config = resolve.parse({"dataset": {"name": f"pairs:{pairs}", "validation_fraction": 0.3}})
    assert config.task_info.name == "retrieval" and config.dataset.fit == "crop"
    validated = set()
    for seed in range(6):
        dataset = config.dataset.model_copy(update={"split_seed": seed, "image_size": 8})
        loaded = load(dataset)
        parts = [
            {tuple(row) for row in split.labels.tolist()}
            for split in (loaded.train, loaded.validation)
        ]
        assert not parts[0] & parts[1] and loaded.test.shape == (3, 8, 8)
        validated.add(len(loaded.train))
    # The pair that shares its text with one that validates is left out.
    assert validated == {7, 6}
    assert digest(str(pairs)) != ""


def test_what_is_wrong_with_a_file_is_said_with_its_line(pairs: Path) -> None:
    def problem(text: str) -> str:
        path = pairs.with_name("other.csv")
        path.write_text(text)
        open_pair_file.cache_clear()
        with pytest.raises(UserError) as caught:
            open_pair_file(str(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "has no column 'text'; did you mean 'txt'?" in problem("image,txt\n1.png,one\n")
    assert "line 2: there is no image" in problem("image,text\nx.png,one\n")
    assert "line 3: got the text '?!'" in problem("image,text\n1.png,one\n2.png,?!\n")
    both = "image,text,split\n1.png,one,train\n2.png,ONE,test\n"
    assert "line 3 (test) shows the same as line 2 (train)" in problem(both)
    assert "got the split 'tst'" in problem("image,text,split\n1.png,one,tst\n")
    assert "has 1 pairs to train, expected at least 4" in problem("image,text\n1.png,one\n")


def test_emoji_are_packed_from_both_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [
        {
            "name": f"EMOJI {number}",
            "unified": str(9 - number),
            "image": f"{number}.png",
            "category": "Component" if number == 2 else "Objects",
            "has_img_twitter": True,
            "has_img_google": number != 3,
        }
        for number in range(5)
    ]
    packages = []
    for hand in emoji.HANDS:
        path = tmp_path / f"{hand}.tgz"
        with tarfile.open(path, "w:gz") as package:
            files = {"emoji.json": json.dumps(listed).encode()}
            for number in range(5):
                buffer = io.BytesIO()
                colour = (10 * number, 0, 255, 128 if hand == "google" else 255)
                Image.new("RGBA", (64, 64), colour).save(buffer, "PNG")
                files[f"img/{hand}/64/{number}.png"] = buffer.getvalue()
            for name, content in files.items():
                entry = tarfile.TarInfo(f"package/{name}")
                entry.size = len(content)
                package.addfile(entry, io.BytesIO(content))
        packages.append(path)
    with pytest.raises(Unavailable, match="lists 3 emoji, expected 1906"):
        emoji._packed(*packages)
    monkeypatch.setattr(emoji, "_COUNT", 3)
    packed = emoji._packed(*packages)
    with pytest.raises(Unavailable, match="holds other emoji than those published, sha256"):
        emoji._verified(packed, "x")
    with np.load(io.BytesIO(packed)) as file:
        found = emoji.Emoji({hand: file[hand] for hand in emoji.HANDS}, (), ())
        assert file["names"].tolist() == ["EMOJI 4", "EMOJI 1", "EMOJI 0"]
    assert found.on_white("twitter")[0, :, 0, 0].tolist() == [40, 0, 255]
    # Half of 10 and half of white, rounded.
    assert found.on_white("google")[1, :, 5, 5].tolist() == [132, 127, 255]


def test_no_emoji_is_in_two_parts() -> None:
    dataset = named_dataset("emoji_names")
    source = dataset.find()
    if source is None:
        pytest.skip("the emoji are not on this machine")
    config = resolve.parse({"dataset": {"name": "emoji_names", "split_seed": 1}}).dataset
    arrays = dataset.read_configured(source, config)
    names = [{row.tobytes() for row in part} for part in (arrays.train_labels, arrays.test_labels)]
    assert [len(part) for part in names] == [1308, 327] and not names[0] & names[1]
    assert arrays.train_images.shape == (1308, 3, 64, 64)
