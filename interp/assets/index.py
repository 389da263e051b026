"""``fetch``: bring a pinned asset into the workspace, once.

1. An asset already unpacked from the pinned bytes is returned as it is.
2. The archive is taken from ``<workspace>/assets/<file>`` if someone put it there, else from pip's
   find-links, else from pip's indexes, in `Client.download`'s resumable way.
3. Its SHA-256 must be the pinned one.
4. The wanted members are unpacked into a temporary folder, which is renamed as the last step.
"""

import shutil
from pathlib import Path

from filelock import FileLock

from interp.assets.download import Client, Unreachable
from interp.assets.listing import Link, shown
from interp.assets.pinned import Asset, pinned
from interp.assets.settings import read_settings
from interp.assets.unpack import unpack
from interp.errors import AssetError, FormatError
from interp.files import read_json, resource_error, sha256, write_json
from interp.progress import Progress, silent
from interp.workspace import Workspace

_RECORD = "interp-asset.json"


def fetch(asset_name: str, workspace: Workspace, progress: Progress = silent) -> Path:
    """The folder of an asset's unpacked members, fetched first if need be.

    Args:
        asset_name: a name of `interp.assets.ASSETS`.
        workspace: where it is kept.
        progress: told the bytes of the download.

    Raises:
        UnknownName: no asset is called so.
        AssetError: it is on no configured index, no index answers, or its bytes are not the pinned
            ones.
        ResourceError: no space is left, or the workspace cannot be written.
    """
    return fetch_asset(pinned(asset_name), workspace, progress)


def is_fetched(asset_name: str, workspace: Workspace) -> bool:
    """Whether `fetch` would return at once."""
    asset = pinned(asset_name)
    return _is_ready(asset, workspace.asset(asset.name))


def fetch_asset(asset: Asset, workspace: Workspace, progress: Progress = silent) -> Path:
    """`fetch` for an asset of one's own, such as one of a test; same errors."""
    folder = workspace.asset(asset.name)
    if _is_ready(asset, folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not _is_ready(asset, folder):  # another process may have fetched it meanwhile
                _fetch(asset, folder, progress)
    except OSError as error:
        raise resource_error(error, folder) from error
    return folder


def _is_ready(asset: Asset, folder: Path) -> bool:
    try:
        record = read_json(folder / _RECORD)
    except FormatError:
        return False
    return record == _record(asset)


def _record(asset: Asset) -> dict[str, object]:
    return {
        "format": "interp-asset",
        "version": 1,
        "file": asset.file,
        "sha256": asset.sha256,
        "members": list(asset.members),
        "licence": asset.licence,
    }


def _fetch(asset: Asset, folder: Path, progress: Progress) -> None:
    archive = folder.parent / asset.file
    by_hand = archive.exists()
    if by_hand and sha256(archive) != asset.sha256:
        raise AssetError(
            f"{archive} is not the pinned {asset.file} (its SHA-256 is {sha256(archive)}, the "
            f"pinned one {asset.sha256}); delete it and run the same command again"
        )
    if not by_hand:
        _download(asset, archive, progress)
    temporary = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        unpack(archive, temporary, asset.wants)
        write_json(temporary / _RECORD, _record(asset))
        if folder.exists():  # unpacked from an earlier pin
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not by_hand:
        archive.unlink()


def _download(asset: Asset, archive: Path, progress: Progress) -> None:
    """Put the pinned archive at its place.

    Raises:
        AssetError: it cannot be had; the message says why at each place that was asked.
    """
    settings = read_settings()
    partial = archive.with_name(archive.name + ".partial")
    places = [(place, place) for place in settings.find_links]
    places += [(f"{index}/{asset.package}/", index) for index in settings.indexes]
    offline: list[str] = []
    differs: list[str] = []
    with Client(settings) as client:
        for page, place in places:
            try:
                for link in client.links(page):
                    if link.file != asset.file:
                        continue
                    found = link.sha256
                    if found in ("", asset.sha256):
                        _download_link(client, link, partial, progress, asset)
                        found = sha256(partial)
                        if found == asset.sha256:
                            partial.replace(archive)
                            return
                        partial.unlink()
                    differs.append(f"{shown(place)} (SHA-256 {found})")
                    break
            except Unreachable as error:
                offline.append(f"{shown(place)} ({error})")
    raise AssetError(
        _refusal(asset, archive, [shown(place) for _, place in places], offline, differs)
    )


def _download_link(
    client: Client, link: Link, partial: Path, progress: Progress, asset: Asset
) -> None:
    """Download; once more from the first byte if what was continued turns out wrong."""
    continued = partial.exists()
    client.download(link, partial, progress, f"get {asset.file}")
    if continued and sha256(partial) != asset.sha256:
        partial.unlink()
        client.download(link, partial, progress, f"get {asset.file}")


def _refusal(
    asset: Asset, archive: Path, places: list[str], offline: list[str], differs: list[str]
) -> str:
    by_hand = f"or put {asset.file} into {archive.parent} by hand"
    if differs:
        return (
            f"{asset.file} on {', '.join(differs)} is not the pinned file (SHA-256 "
            f"{asset.sha256}); use an index that serves the original, {by_hand}"
        )
    if offline:
        return (
            f"{asset.file} cannot be downloaded: {'; '.join(offline)}; connect, set PIP_INDEX_URL "
            f"to an index that can be reached, {by_hand}"
        )
    if not places:
        return (
            f"{asset.file} cannot be looked for: pip is set to use no index (PIP_NO_INDEX); unset "
            f"it, {by_hand}"
        )
    return (
        f"{asset.file} is not on the package index ({', '.join(places)}); set PIP_INDEX_URL to one "
        f"that has it, {by_hand}"
    )
