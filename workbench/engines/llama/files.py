"""Where a model's file is, whether it is a whole GGUF, and its hash.

A model is named by a path, by `pkg:PACKAGE/FILE` (a file inside an installed package, which is not
imported) or by `hf:OWNER/REPO/FILE` (through huggingface_hub; a file that is in its cache is used without
asking the hub).
GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_dir

from workbench.errors import ModelError
from workbench.records import Json

_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf$")


def cache_folder() -> Path:
    """The user's cache folder of the workbench, made where it is missing."""
    folder = Path(user_cache_dir("prompt-workbench"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find(settings: Mapping[str, Json], *, download: bool = True) -> Path:
    """The file that the setting `path` names, checked by `check`.

    Raises ModelError where there is none. With `download=False` a hub file has to be here already.
    """
    place = settings.get("path")
    if not isinstance(place, str) or not place:
        raise ModelError("a llama model needs `path`: a .gguf file, pkg:PACKAGE/FILE or hf:OWNER/REPO/FILE")
    scheme, _, rest = place.partition(":")
    if scheme == "pkg":
        path = _in_package(rest)
    elif scheme == "hf":
        path = _from_hub(rest, download)
    else:
        path = Path(place).expanduser()
    check(path)
    return path


def check(path: Path) -> None:
    """Raises ModelError unless the path is a file that begins as a GGUF does."""
    if not path.is_file():
        raise ModelError(f"there is no model file {path}; give `path` a .gguf file")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if magic != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file: it begins with {magic!r}, not with b'GGUF'")


def shards(path: Path) -> list[Path]:
    """All files of a model that is split in several (`…-00001-of-00003.gguf`), else the one."""
    match = _SHARD.match(path.name)
    if match is None:
        return [path]
    stem, _, count = match.groups()
    return [path.with_name(f"{stem}-{i:05d}-of-{count}.gguf") for i in range(1, int(count) + 1)]


def sha256(path: Path) -> str:
    """SHA-256 of a model's content, all its shards in order, in hex.

    It is kept in the cache folder under path, size and time of change, so that a file is read once.
    """
    kept = _kept_hash(path)
    if is_hashed(path):
        return kept.read_text()
    digest = hashlib.sha256()
    for file in shards(path):
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    write_text(kept, digest.hexdigest())
    return digest.hexdigest()


def is_hashed(path: Path) -> bool:
    """Whether `sha256` answers without reading the model."""
    return _kept_hash(path).is_file()


def _kept_hash(path: Path) -> Path:
    stamp = [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in shards(path)]
    return cache_folder() / "hashes" / hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:32]


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all, also when two processes do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def _in_package(rest: str) -> Path:
    package, _, file = rest.partition("/")
    spec = _spec(package) if file else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"pkg:{rest}: there is no installed package '{package}'; pip install it, or give a path")
    return Path(next(iter(spec.submodule_search_locations))) / file


def _spec(package: str) -> ModuleSpec | None:
    try:
        return find_spec(package)
    except (ImportError, ValueError):
        return None


def _from_hub(rest: str, download: bool) -> Path:
    parts = rest.split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise ModelError(f"hf:{rest}: write hf:OWNER/REPO/FILE")
    repo, file = "/".join(parts[:2]), parts[2]
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise ModelError(f"hf:{rest} needs huggingface_hub: pip install 'prompt-workbench[llama]'") from error
    try:
        return Path(hub.hf_hub_download(repo, file, local_files_only=True))
    except hub.errors.LocalEntryNotFoundError as error:
        if not download:
            raise ModelError(f"hf:{rest} is not fetched yet; `workbench models check` does it") from error
    except hub.errors.HFValidationError as error:
        raise ModelError(f"hf:{rest}: {_first_line(error)}") from error
    try:
        # Fails at once where the hub cannot be reached; the download would try for half a minute.
        hub.get_hf_file_metadata(hub.hf_hub_url(repo, file))
        return Path(hub.hf_hub_download(repo, file))
    except hub.errors.HfHubHTTPError as error:
        reason = f"{_first_line(error)}; check owner, repository and file, and HF_TOKEN if it is not public"
        raise ModelError(f"hf:{rest}: {reason}") from error
    except Exception as error:
        # Which errors mean "no connection" depends on the HTTP client that the package's version uses.
        reason = f"the model hub cannot be reached ({_first_line(error)}); check the network and HF_ENDPOINT"
        raise ModelError(f"hf:{rest}: {reason}, or give a path") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
