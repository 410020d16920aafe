"""Residual networks (He et al., 2016): 6n + 2 layers for CIFAR; 50, 101 and 152 layers for large images."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

CUT_OFF = 1 / 0.8796256610342398  # restores the variance that cutting off at two deviations takes
LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the size of the image, divided by the stride."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; where the size changes, a shortcut without parameters (option A).

    As in the authors' code the shortcut averages what it skips and adds the new channels on both sides.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.stride, self.new_channels = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(residual + shortcut)."""
        residual = functional.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        if self.new_channels:
            before = self.new_channels // 2
            x = functional.pad(functional.avg_pool2d(x, self.stride), (0, 0, 0, 0, before, self.new_channels - before))
        return functional.relu(residual + x)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the stride on the 3x3, a projection where the shape changes."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.bn3.weight)  # every block starts as the identity (Goyal et al., 2017)
        same = inputs == outputs and stride == 1
        projection = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if same else projection

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(residual + shortcut)."""
        residual = functional.relu(self.bn1(self.conv1(x)))
        residual = functional.relu(self.bn2(self.conv2(residual)))
        return functional.relu(self.bn3(self.conv3(residual)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, the blocks, the mean over the image, and a linear head of float32 logits."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], features: int, num_classes: int) -> None:
        super().__init__()
        self.stem, self.blocks = stem, nn.Sequential(*blocks)
        self.head = nn.Linear(features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (N, C)."""
        features = self.blocks(self.stem(images)).float().mean((2, 3))
        # bfloat16 has so few digits that logits would tie, and ties go to the first, which is the largest class.
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features)
        return logits


def cifar_resnet(depth: int, num_classes: int) -> ResNet:
    """Return the network of 6n + 2 layers with 16, 32 and 64 channels; 32 layers in the paper."""
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"--depth must be 6n + 2 for CIFAR, such as 20, 32 or 44, got {depth}")
    blocks: list[nn.Module] = []
    inputs = 16
    for outputs in (16, 32, 64):
        for i in range((depth - 2) // 6):
            blocks.append(BasicBlock(inputs, outputs, stride=2 if i == 0 and outputs != 16 else 1))
            inputs = outputs
    stem = nn.Sequential(conv(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
    return ResNet(stem, blocks, inputs, num_classes)


def large_resnet(depth: int, num_classes: int) -> ResNet:
    """Return the network of 50, 101 or 152 layers."""
    if depth not in LAYERS:
        raise ValueError(f"--depth must be one of {', '.join(map(str, LAYERS))} for large images, got {depth}")
    blocks: list[nn.Module] = []
    inputs = 64
    for stage, count in enumerate(LAYERS[depth]):
        for i in range(count):
            blocks.append(Bottleneck(inputs, 64 << stage, stride=2 if i == 0 and stage else 1))
            inputs = Bottleneck.expansion * 64 << stage
    stem = nn.Sequential(conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    return ResNet(stem, blocks, inputs, num_classes)


def init_(model: ResNet, generator: torch.Generator, large: bool) -> None:
    """Draw the weights as the authors' code does, in place.

    CIFAR: Glorot's uniform distribution. Large images: a normal distribution of variance 1 / fan-in, cut off at two
    deviations, and one of deviation 0.01 for the head.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and large:
            deviation = CUT_OFF / math.sqrt(module.weight[0].numel())
            nn.init.trunc_normal_(module.weight, 0, deviation, -2 * deviation, 2 * deviation, generator)
        elif isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight, generator=generator)
    if large:
        nn.init.normal_(model.head.weight, 0, 0.01, generator)
    else:
        nn.init.xavier_uniform_(model.head.weight, generator=generator)
    nn.init.zeros_(model.head.bias)
