"""The networks that can be trained: `--architecture`."""

from pantskit.networks.architectures.registry import (
    ARCHITECTURES as ARCHITECTURES,
)
from pantskit.networks.architectures.registry import (
    Architecture as Architecture,
)
from pantskit.networks.architectures.registry import (
    find_architecture as find_architecture,
)
