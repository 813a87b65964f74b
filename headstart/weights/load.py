"""From a name to a network with verified weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from headstart._core import files
from headstart._core.errors import BadOption, BadWeights
from headstart._core.log import say
from headstart.weights.backbone import build, classifier_of, take_apart
from headstart.weights.records import Backbone, WeightsInfo
from headstart.weights.sources import SOURCES, Source, parse
from headstart.weights.state import KeyReport, by_order, compare, read_state, without_prefix

_SEED = 0  # random weights are the same every time


def info(name: str, *, arch: str = "") -> WeightsInfo:
    """The facts of weights, without loading them.

    Raises:
        BadOption: for a name without a known source, and for an architecture where the weights say it themselves.
        BadWeights: for weights that the source does not have.
    """
    source, identifier = _source(name, arch)
    return source.info(identifier, arch)


def _source(name: str, arch: str) -> tuple[Source, str]:
    source, identifier = parse(name)
    if arch and not source.takes_arch:
        raise BadOption(
            f"--arch {arch!r} has no effect on {name}, which says its architecture itself.",
            hint="Leave --arch away; it belongs to file: and to hf: repositories that do not say theirs.",
        )
    return source, identifier


def blank(arch: str, *, seed: int = _SEED, facts: WeightsInfo | None = None) -> Backbone:
    """A backbone with random weights, for the same seed always the same; needs no network.

    Args:
        arch: name of the architecture.
        seed: of the weights.
        facts: about it; None: those of the source `random`, which may build a network to count its parameters.
    """
    known = facts or SOURCES["random"].info(arch, "")
    with torch.random.fork_rng(devices=[]):
        # as torch.manual_seed, which also imports torch's compiler where nobody has yet: over a second
        torch.default_generator.manual_seed(seed)
        return take_apart(build(arch), known)


def load(name: str, *, arch: str = "") -> Backbone:
    """The backbone with its pretrained weights.

    Raises:
        BadOption: for a name without a known source, and for an architecture where the weights say it themselves.
        BadWeights: for a file that is missing, damaged or unsafe, or that fits less than the whole backbone.
    """
    source, identifier = _source(name, arch)
    facts = source.info(identifier, arch)
    path = source.fetch(identifier, arch)
    if path is None:
        return replace(blank(identifier), info=facts)
    digest = files.sha256_file(path)
    if facts.sha256 and digest != facts.sha256:
        raise BadWeights(
            f"{path} is not the file it should be: SHA-256 {digest}.",
            hint="Reinstall its package, or download it again.",
        )
    network = build(facts.arch)
    with_classifier = _fill(network, path, facts)
    backbone = take_apart(network, replace(facts, sha256=digest))
    return backbone if with_classifier else replace(backbone, classifier=None)


def _fill(network: nn.Module, path: Path, facts: WeightsInfo) -> bool:
    """Load the file into the network, and whether its classifier came along; only that may be missing or differ."""
    state = read_state(path)
    if facts.name.startswith("bundled:"):
        network.load_state_dict(by_order(network, state))
        return True
    state = without_prefix(network, state)
    report = compare(network, state)
    head = {f"{place}.{kind}" for place in classifier_of(network, facts.arch) for kind in ("weight", "bias")}
    broken = [key for key in (*report.missing, *report.wrong_shape) if key not in head]
    if broken:
        raise BadWeights(
            f"{facts.name} fits less than the backbone of {facts.arch}. {report}.",
            hint="Is --arch right? Keys must be named as in that network; only the classifier may differ.",
        )
    if report != KeyReport((), (), ()):
        say(f"{facts.name}: {report}")
    usable = {
        key: value for key, value in state.items() if key not in (*report.unexpected, *report.wrong_shape)
    }
    network.load_state_dict(usable, strict=False)
    return not head & {*report.missing, *report.wrong_shape}
