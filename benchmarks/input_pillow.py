"""The usual PyTorch pipeline: Pillow decodes, torchvision's RandomResizedCrop and flip, ToTensor, Normalize, a DataLoader.

torchvision's transforms are written out: they are a few lines, and the package cannot always be installed beside torch.
"""

import math
import random
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

IMAGE = ((3, 224, 224), "float32")
VERSIONS = {"pillow": PIL.__version__, "torch": torch.__version__}

SIZE = 224
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class ImageFolder(Dataset):
    """Images below <class>/ folders, transformed, with their labels."""

    def __init__(self, folder: Path, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths = sorted(folder.glob("*/*"))
        classes = sorted({path.parent for path in self.paths})
        self.labels = [classes.index(path.parent) for path in self.paths]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with self.paths[index].open("rb") as file:
            image = Image.open(file).convert("RGB")
        return self.transform(image), self.labels[index]


def batches(folder: str, batch: int, threads: int) -> Iterator[torch.Tensor]:
    """float32 [batch, 3, 224, 224], normalised, without end."""
    return load(folder, batch, threads, lambda image: normalise(to_tensor(random_flip(random_resized_crop(image)))))


def load(folder: str, batch: int, threads: int, transform: Callable[[Image.Image], torch.Tensor]) -> Iterator[torch.Tensor]:
    """The images of batches made in this process, without end."""
    torch.set_num_threads(threads)
    loader = DataLoader(ImageFolder(Path(folder) / "train", transform), batch, shuffle=True, drop_last=True)
    return (images for each in repeat(loader) for images, _ in each)


def random_resized_crop(image: Image.Image) -> Image.Image:
    """A crop of 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3, at SIZE x SIZE."""
    left, top, width, height = random_crop(*image.size)
    return image.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def random_crop(width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, width, height); the whole image when ten tries do not fit."""
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            return random.randint(0, width - across), random.randint(0, height - down), across, down
    return 0, 0, width, height


def random_flip(image: Image.Image) -> Image.Image:
    """Mirrored every second time."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image


def to_tensor(image: Image.Image) -> torch.Tensor:
    """float32 [3, height, width] from 0 to 1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)


def normalise(image: torch.Tensor) -> torch.Tensor:
    """ImageNet's mean and standard deviation of each colour become 0 and 1."""
    return image.sub_(MEAN).div_(STD)
