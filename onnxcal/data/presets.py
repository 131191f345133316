"""Named ways to make inputs of images: those that published networks were trained and are served with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}  # 0–1 becomes −1–1

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # torchvision's reference transforms of its ImageNet networks
    "imagenet": {
        "resize": 256, "crop": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    },
    # keras.applications, `preprocess_input` in mode "tf": MobileNet, MobileNetV2, ResNetV2 at 224
    "imagenet-tf": {"resize": [224, 224], **_HALF, "layout": "NHWC"},
    # keras.applications, mode "caffe": VGG and ResNet; the mean of ImageNet's pixels, blue first
    "imagenet-caffe": {
        "resize": [224, 224], "color": "BGR", "scale": 255, "mean": [103.939, 116.779, 123.68], "layout": "NHWC",
    },
    # keras.applications, mode "tf" at 299: InceptionV3, InceptionResNetV2, Xception
    "inception": {"resize": [299, 299], **_HALF, "layout": "NHWC"},
    # the image processor of google/vit-base-patch16-224
    "vit": {"resize": [224, 224], **_HALF},
    # openai/CLIP, `preprocess` of its networks at 224
    "clip": {
        "resize": 224, "interpolation": "bicubic", "crop": 224,
        "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
    },
    # mean and standard deviation of the training pixels
    "mnist": {"resize": [28, 28], "color": "grey", "mean": 0.1307, "std": 0.3081},
    "cifar10": {"resize": [32, 32], "mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616]},
}  # fmt: skip
"""Keys and values of a preprocess file, by name; what is left out is at its default (see `Preprocess`)."""
