"""`parquet:FOLDER`: parquet files as Hugging Face's `datasets` write and publish them.

A picture is in the column `image`, {bytes, path} or bytes alone, what is in it in `label`: a whole
number, with names where the file's head has them, or a name. Names of files say what is to train
and to test on, as in train-00000-of-00002.parquet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from mixbench.experiments.config.image_folder.files import shown
from mixbench.experiments.config.picture_list.base import Found, PictureList, class_name
from mixbench.experiments.config.picture_list.base import picture_list as made_list
from mixbench.experiments.config.picture_list.packed import Reader, Row, read
from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.text import first_line

KIND = "parquet"
COLUMNS = ("image", "label")
_AT_ONCE = 64


def read_parquet(path: str) -> PictureList:
    """Read parquet files; UserError for what can't be read."""
    source, root, found = read(ParquetFiles(), path)
    return made_list(KIND, source, root, found)


class ParquetFiles(Reader):
    """Copies the pictures out of their columns, which can only be read in order."""

    kind = KIND
    suffixes = (".parquet",)

    def copies(self, files: Sequence[Path]) -> bool:  # noqa: ARG002
        return True

    def look(
        self, files: Sequence[tuple[str, Path]], root: Path, bytes_file: IO[bytes] | None
    ) -> tuple[list[Row], Found]:
        if bytes_file is None:
            raise ValueError("pictures in parquet files are copied")
        rows: list[Row] = []
        found, numbers = Found(), dict.fromkeys((split for split, _ in files), 0)
        for index, (split, file) in enumerate(files):
            for image, label in _columns(file, found, is_first=not index):
                name = _name(image, numbers[split])
                where = f"{shown(file, root)}: {name}"
                numbers[split] += 1
                content = image.get("bytes") if isinstance(image, dict) else image
                problem = _problem(content, label, found)
                if problem or content is None:
                    found.left_out.append((where, problem))
                    continue
                known = class_name(label) if isinstance(label, str) else label
                rows.append((split, known, name, -1, bytes_file.tell(), len(content)))
                bytes_file.write(content)
        return rows, found


def _name(image: Any, number: int) -> str:
    """Return a picture's name: that of its file, else its number in the split."""
    path = image.get("path") if isinstance(image, dict) else None
    name = str(path).replace("\\", "/").rpartition("/")[2] if path else ""
    return name or f"{number:09d}"


def _problem(content: Any, label: Any, found: Found) -> str:
    """Say why a row is not used; "" if it is."""
    if not isinstance(content, bytes) or not content:
        return "no bytes, only a path" if content is None else "no bytes"
    if label is None or label == -1 or (isinstance(label, str) and not class_name(label)):
        return "no label"
    if (
        isinstance(label, int)
        and found.classes is not None
        and label not in range(len(found.classes))
    ):
        return f"label {label}, of {len(found.classes)} classes"
    return ""


def _columns(file: Path, found: Found, *, is_first: bool) -> Iterator[tuple[Any, Any]]:
    """Yield image and label of each row; the names of the classes are added to what was found."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            "parquet: needs pyarrow to read files; pip install 'mixbench[parquet]' (or pyarrow)"
        ) from None
    try:
        with parquet.ParquetFile(file) as table:
            _check_columns(table.schema_arrow, file)
            names = _class_names(table.schema_arrow)
            if not is_first and names != found.classes:
                raise UserError(f"parquet: {shown(file)} has other names of classes than the first")
            found.classes = names
            for batch in table.iter_batches(batch_size=_AT_ONCE, columns=list(COLUMNS)):
                images, labels = (batch.column(name).to_pylist() for name in COLUMNS)
                yield from zip(images, labels, strict=True)
    except (arrow.ArrowException, OSError) as error:
        raise UserError(f"parquet: {shown(file)} can't be read: {first_line(error)}") from None


def _check_columns(schema: Any, file: Path) -> None:
    from pyarrow import types

    for name in COLUMNS:
        if name not in schema.names:
            raise UserError(
                f"parquet: {shown(file)}: no column {name!r}{did_you_mean(name, schema.names)} it "
                f"has {', '.join(schema.names)}; rename_column of datasets renames one"
            )
    image, label = (schema.field(name).type for name in COLUMNS)
    inner = image
    if types.is_struct(image):
        inner = image.field("bytes").type if image.get_field_index("bytes") >= 0 else None
    if inner is None or not (types.is_binary(inner) or types.is_large_binary(inner)):
        raise UserError(
            f"parquet: {shown(file)}: image: got {str(image)[:60]}, expected the bytes of image "
            "files, alone or as {bytes, path}"
        )
    if not (types.is_integer(label) or types.is_string(label) or types.is_large_string(label)):
        raise UserError(
            f"parquet: {shown(file)}: label: got {label}, expected whole numbers or names"
        )


def _class_names(schema: Any) -> tuple[str, ...] | None:
    """Return the names that `datasets` write into a file's head; None without."""
    try:
        head = json.loads((schema.metadata or {})[b"huggingface"])
        names = head["info"]["features"]["label"]["names"]
        return tuple(class_name(str(name)) for name in names) or None
    except (KeyError, TypeError, ValueError):
        return None
