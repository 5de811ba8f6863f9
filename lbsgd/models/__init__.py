"""Network descriptions that know no framework."""

from lbsgd.errors import UsageError, did_you_mean
from lbsgd.models.network import Network
from lbsgd.models.resnet import IMAGENET_BLOCKS, SMALL_BLOCKS, imagenet_resnet, small_resnet

MODELS = (*IMAGENET_BLOCKS, *SMALL_BLOCKS)
# Networks of another library, known to one framework only: prefix -> framework.
LIBRARIES = {"timm": "torch", "keras": "tensorflow", "reference": "reference"}


def library_model(name: str) -> tuple[str, str] | None:
    """("timm", "resnet18d") for "timm:resnet18d"; None for a model of our own."""
    library, colon, model = name.partition(":")
    return (library, model) if colon and library in LIBRARIES else None


def require_framework(name: str, framework: str) -> None:
    """Raise UsageError when the model is one of another framework's libraries."""
    library = library_model(name)
    if library and LIBRARIES[library[0]] != framework:
        raise UsageError(f"model {name!r} is for --framework {LIBRARIES[library[0]]}, not {framework}")


def describe(name: str, classes: int) -> Network:
    """The network of that name with `classes` outputs.

    Raises UsageError for a name that is not in MODELS.
    """
    if name in IMAGENET_BLOCKS:
        return imagenet_resnet(name, classes)
    if name in SMALL_BLOCKS:
        return small_resnet(name, classes)
    hint = did_you_mean(name, MODELS) or f"there are {', '.join(MODELS)}, timm:NAME and keras:NAME"
    raise UsageError(f"no model {name!r}; {hint}")
