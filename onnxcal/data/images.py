"""A folder of class folders of images: decoded as they are needed, several at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from onnxcal.cores import available_cores
from onnxcal.data.batch import AnyArray, Batch
from onnxcal.data.folder import ClassFolder, class_folders
from onnxcal.data.picture import read_image, require_pillow
from onnxcal.data.preprocess import Preprocess
from onnxcal.data.streamed import StreamedSource
from onnxcal.data.wanted import Declared
from onnxcal.errors import DataError
from onnxcal.logits import Task


class ImageFolder(StreamedSource):
    """Images and the classes of the folders that they lie in, class by class.

    Labels are the folders' names where the model calls its classes so, else indices.
    """

    def __init__(
        self,
        root: Path,
        how: Preprocess,
        inputs: Collection[str] | Mapping[str, Declared] = (),
        classes: Sequence[str | int] | None = None,
    ) -> None:
        """Find the files, and decode the first to know its shape.

        Parameters
        ----------
        root : the folder.
        how : what is done to each image.
        inputs : what the model wants, by name, where that is known.
        classes : what the model calls its classes, in the order of its logits.

        Raises
        ------
        DataError
            The folders or the first image are not usable, or do not fit the model.
        """
        require_pillow()
        self.name, self._how = f"'{root}'", how
        folders = class_folders(root)
        self._names, by_name = _class_names(root, folders, how, classes)
        self._refuse_empty(root, folders, by_name=by_name)
        self._paths = [path for folder in folders for path in folder.images]
        counts = [len(folder.images) for folder in folders]
        names = [folder.name for folder in folders]
        called = names if by_name == "model" else [self._names.index(name) for name in names]
        self._labels: AnyArray = np.repeat(np.array(called), counts)
        self._by_model = by_name == "model"
        self.n_samples = len(self._paths)
        self.notes = tuple(_passed_over(folders))
        first = read_image(Path(self._paths[0]), how)
        self._shape, self.sample_bytes = first.shape, first.nbytes
        if isinstance(inputs, Mapping) and len(inputs) == 1:
            ((name, wanted),) = inputs.items()
            check_fits(f"{self.name}: an image", first, how, name, wanted)

    def chunks(self, size: int) -> Iterator[Batch]:
        """`size` images at a time; those of a batch are decoded on all cores, and the batch before may run meanwhile.

        Raises
        ------
        DataError
            An image cannot be read, or its shape is not that of the first.
        """
        cores = available_cores()
        few = 8 * cores  # whoever interrupts waits for those that were begun
        with ThreadPoolExecutor(cores, thread_name_prefix="onnxcal-images") as pool:
            for start in range(0, len(self._paths), size):
                paths = self._paths[start : start + size]
                array: AnyArray = np.empty((len(paths), *self._shape), self._how.dtype)
                for first in range(0, len(paths), few):
                    for i, image in enumerate(pool.map(self._read, paths[first : first + few]), first):
                        array[i] = image
                yield Batch((array,), self._labels[start : start + size])

    def check_classes(self, output: str, task: Task, num_classes: int) -> None:
        """Raise DataError unless there is one folder a class; names that the model knows need no count."""
        if self._by_model:
            return
        if task == "multilabel":
            raise DataError(
                f"{self.name} gives each image one class, but '{output}' has {num_classes} independent 0/1 labels",
                hint="yield rows of 0/1 labels from file.py:function",
            )
        if len(self._names) != num_classes:
            count = len(self._names)
            found = f"is to have {count:,}" if isinstance(self._how.classes, tuple) else f"has {count:,}"
            raise DataError(
                f"{self.name} {found} class{'' if count == 1 else 'es'}, but '{output}' has {num_classes:,}",
                hint="name all classes, in the order of the logits, as classes in the preprocess file",
            )
        if self._how.classes is None and all(map(str.isdecimal, self._names)):
            by_number = sorted(self._names, key=int)
            if by_number != self._names:
                first = next(a for a, b in zip(by_number, self._names, strict=True) if a != b)
                raise DataError(
                    f"{self.name}: folders are named by numbers, and in sorted order '{first}' is class "
                    f"{self._names.index(first)}",
                    hint='write classes = "numbers" in the preprocess file if a name is the class, or "sorted" if '
                    "the model was trained on sorted names (torchvision's ImageFolder)",
                )

    def _read(self, path: str) -> AnyArray:
        array = read_image(Path(path), self._how)
        if array.shape != self._shape:
            raise DataError(
                f"'{path}' becomes an input of shape {array.shape}, '{self._paths[0]}' one of {self._shape}",
                hint="write resize = [height, width], or resize and crop, in the preprocess file",
            )
        return array

    def _refuse_empty(self, root: Path, folders: Sequence[ClassFolder], *, by_name: str) -> None:
        empty = next((folder for folder in folders if not folder.images), None)
        if all(not folder.images for folder in folders):
            raise DataError(f"'{root}' holds no images", hint="it must have one sub-folder of images a class")
        if empty is not None and not by_name:
            raise DataError(
                f"class folder '{root / empty.name}' holds no images",
                hint="put some there; or name all classes in the preprocess file, and such a folder may be empty",
            )


def check_fits(what: str, image: AnyArray, how: Preprocess, name: str, wanted: Declared) -> None:
    """Raise DataError if an image as it was prepared cannot be what the model's input `name` takes.

    The hint says which key of the preprocess file would mend it.
    """
    if wanted.dtype.startswith(("int", "uint")) and wanted.dtype != how.dtype:
        hint = 'write dtype = "uint8", scale = 255, and neither mean nor std' if wanted.dtype == "uint8" else None
        raise DataError(
            f"{what} becomes {how.dtype}, input '{name}' wants {wanted.dtype}",
            hint=hint or "yield arrays of that type from file.py:function",
        )
    if wanted.shape is None:
        return
    have, want = image.shape, wanted.shape[1:]
    if _matches(have, want):
        return
    shown = f"({', '.join('?' if w is None else str(w) for w in wanted.shape)})"
    message = f"{what} becomes an input of shape {have} ({how.layout[1:]}), input '{name}' wants {shown}"
    raise DataError(message, hint=_remedy(have, want, how))


def _matches(have: Sequence[int], want: Sequence[int | str | None]) -> bool:
    """Whether sizes are those that are declared, as far as they are."""
    return len(have) == len(want) and all(
        not isinstance(w, int) or w in (-1, h) for h, w in zip(have, want, strict=True)
    )


def _remedy(have: tuple[int, ...], want: Sequence[Any], how: Preprocess) -> str:
    if len(want) != 3:
        return "only inputs of shape (N, C, H, W) or (N, H, W, C) take images: yield arrays from file.py:function"
    at = 0 if how.layout == "NCHW" else 2
    turned = (*have[1:], have[0]) if at == 0 else (have[2], *have[:2])
    if _matches(turned, want) or (want[2 - at] in (1, 3) and want[at] not in (1, 3, None)):
        return f'write layout = "{"NHWC" if how.layout == "NCHW" else "NCHW"}" in the preprocess file'
    if want[at] in (1, 3) and want[at] != have[at]:
        color = '"grey"' if want[at] == 1 else '"RGB"'
        return f"write color = {color}, and mean and std to go with it, in the preprocess file"
    if want[at] not in (have[at], None) and isinstance(want[at], int):
        return f"the model takes {want[at]} channels: yield arrays from file.py:function"
    height, width = (want[i] if isinstance(want[i], int) else have[i] for i in (1 - at // 2, 2 - at // 2))
    key = "resize" if how.crop is None else "crop"
    return f"write {key} = [{height}, {width}] in the preprocess file"


def _class_names(
    root: Path, folders: Sequence[ClassFolder], how: Preprocess, classes: Sequence[str | int] | None
) -> tuple[list[str], str]:
    """All classes in the order of the logits; and who names them: `file`, `model`, or nobody."""
    names = [folder.name for folder in folders]
    if isinstance(how.classes, tuple):
        _check_known(root, names, how.classes, "classes in the preprocess file")
        return list(how.classes), "file"
    if how.classes == "numbers":
        if not all(map(str.isdecimal, names)) or sorted(map(int, names)) != list(range(len(names))):
            raise DataError(
                f"the folders in '{root}' are not the numbers from 0 to {len(names) - 1}: {_listed(names)}",
                hint='leave classes out, or write "sorted" or a list of names',
            )
        return sorted(names, key=int), ""
    if how.classes is None and classes is not None:
        known = [str(name) for name in classes]
        if any(isinstance(name, str) for name in classes):
            _check_known(root, names, known, "the classes that the model names")
            return known, "model"
        if set(names) <= set(known):
            return known, "model"
    return names, ""


def _check_known(root: Path, names: Sequence[str], known: Sequence[str], what: str) -> None:
    stranger = next((name for name in names if name not in known), None)
    if stranger is not None:
        near = get_close_matches(stranger, known, 1, cutoff=0.6)
        raise DataError(
            f"folder '{root / stranger}' is none of {what}",
            hint=f"did you mean {near[0]}? They are {_listed(known)}" if near else f"they are {_listed(known)}",
        )


def _passed_over(folders: Sequence[ClassFolder]) -> Iterator[str]:
    others = [path for folder in folders for path in folder.others]
    if others:
        count = "1 file is no image" if len(others) == 1 else f"{len(others):,} files are no images"
        yield f"{count} by suffix and passed over: '{others[0]}'{' and others' if len(others) > 1 else ''}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")
