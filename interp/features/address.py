"""The address of one unit: ``model/site/basis/index``. No torch."""

import re
from dataclasses import dataclass

from interp.errors import ConfigError


@dataclass(frozen=True, order=True)
class Address:
    """One unit of one basis of one site of one model.

    >>> str(Address.parse("shakespeare-1l/mlp_post.0/neurons/812"))
    'shakespeare-1l/mlp_post.0/neurons/812'
    """

    model: str
    """The model; a Hugging Face id may itself hold slashes."""
    site: str
    """The site's short name, such as ``resid_post.9``."""
    basis: str
    """``neurons``, ``random``, or the folder name of a dictionary."""
    index: int
    """The unit's number within its basis, from 0."""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address.

        Raises:
            ConfigError: the text is no address.
        """
        parts = text.strip().rsplit("/", 3)
        if len(parts) != 4 or not all(parts) or not re.fullmatch(r"[0-9]{1,9}", parts[3]):
            raise ConfigError(
                f"{text[:120]!r} is no unit address; write model/site/basis/index, for example "
                "smollm2-135m/resid_post.9/neurons/12"
            )
        return cls(parts[0], parts[1], parts[2], int(parts[3]))

    def __str__(self) -> str:
        return f"{self.model}/{self.site}/{self.basis}/{self.index}"
