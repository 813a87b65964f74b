"""Features of a frozen backbone, each computed once: in this run, in an earlier one, or in one beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart import compute
from headstart._core.clock import Clock
from headstart._core.files import sha256_file
from headstart._core.records import record, to_plain
from headstart._core.seed import generator
from headstart._core.segments import Keys, Positions
from headstart._core.store import RowStore, namespace, row_keys
from headstart.data.images import open_rgb
from headstart.data.preprocess import Preprocess
from headstart.data.records import SCANNED_SINCE, Sample
from headstart.pixels import PRESETS, augmented_pixels, read_pixels
from headstart.pixels.batches import Loader
from headstart.weights import Backbone

PIECE = 512
"""Images computed between two visits to the store: what a killed process loses at most."""

_OUTPUT = "output"  # `compute`'s name for the network's own output: pooled features
_CLOCKS_DIFFER = 2.0  # seconds between this machine's clock and its file system's

Features = NDArray[np.float32]


@record
class View:
    """A changed copy of an image, the same one every time: what changes depends on the image's content and on the number.

    Attributes:
        number: 1, 2 …; the first is the mirrored image where that is allowed.
        flip: whether left and right may be exchanged.
    """

    number: int
    flip: bool


def views(count: int, *, flip: bool) -> tuple[View | None, ...]:
    """The image itself (None) and `count - 1` changed copies of it."""
    return (None, *(View(number=number, flip=flip) for number in range(1, count)))


def _changed(view: View, preprocess: Preprocess, _position: int, sample: Sample) -> NDArray[np.uint8]:
    """Pixels of the view: mirrored, or cropped, coloured and perhaps mirrored as the preset `light` does."""
    if view.number == 1 and view.flip:
        return np.ascontiguousarray(read_pixels(sample.source, preprocess)[:, ::-1])
    rng = generator(view.number, "view", sample.digest)
    image = open_rgb(sample.source)
    return augmented_pixels(image, preprocess, augment=PRESETS["light"], flip=view.flip, rng=rng)


class FeatureStore:
    """Features by image content: the same bytes are never sent through the same network twice.

    Rows are kept in the cache folder, under the content of the weights, the preprocessing contract, the depth and the
    runtime, so that runs, commands and processes share them; `headstart cache` shows and clears them.
    The runtime is chosen at the first call and serves all later ones: the features of one run are comparable.

    Args:
        backbone: the frozen network.
        among: images that will be asked for, as far as they are known: their number decides whether compiling pays. Without
            them, those of the first call.
        passes: how often an image will go through in all, where views make that more than the images.
        tapped: whether a network that reads every stage answers all calls, those for a few depths and for the output too:
            for work that asks for several. Another set of depths is another compiled network, seconds to make, and below
            float32 its sums are rounded elsewhere.
    """

    def __init__(
        self, backbone: Backbone, *, among: Sequence[Sample] = (), passes: int = 0, tapped: bool = False
    ) -> None:
        self._backbone = backbone
        self._among = among
        self._passes = passes
        self._all = tuple(dict.fromkeys(stage.output for stage in backbone.stages)) if tapped else ()
        self._networks: dict[tuple[str, ...], compute.Network] = {}
        self._known_widths: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._rows: dict[tuple[tuple[str, ...], View | None], dict[str, RowStore]] = {}

    def get(
        self, samples: Sequence[Sample], *, clock: Clock | None = None, view: View | None = None
    ) -> Features:
        """Pooled features (N, width), row by row those of the samples, which must have been scanned.

        Args:
            samples: scanned ones.
            clock: says when to end.
            view: which changed copy of each image is meant; None: the image as the contract shows it.

        Raises:
            Stopped: when somebody asked for an end; what was computed is kept.
            BadInput: for a sample without a digest.
        """
        return self._fill(samples, self._pass(samples, (), view), clock)[_OUTPUT]

    @property
    def count(self) -> int:
        """How many images are known to come, views included: what the runtime is chosen by."""
        return max(len(self._among), self._passes)

    @property
    def runtime(self) -> compute.Chosen | None:
        """The runtime that computes the features, and why; None before the first call."""
        return next((network.chosen for network in self._networks.values()), None)

    def get_depths(
        self,
        samples: Sequence[Sample],
        depths: Sequence[str],
        *,
        clock: Clock | None = None,
        view: View | None = None,
    ) -> dict[str, Features]:
        """Pooled features as `output`, and for each depth the mean and deviation (N, 2 * C) of its channels, in one pass.

        Args:
            samples: scanned ones.
            depths: dotted names of modules: `Stage.output` of the backbone's stages.
            clock: says when to end.
            view: which changed copy of each image is meant; None: the image as the contract shows it.

        Raises:
            Stopped: when somebody asked for an end; what was computed is kept.
            BadInput: for a sample without a digest.
            BadOption: for an unknown depth.
        """
        return self._fill(samples, self._pass(samples, tuple(depths), view), clock)

    def network(self, samples: Sequence[Sample], depths: Sequence[str]) -> compute.Network:
        """The network that answers for these depths, in the runtime that all calls of this store share.

        Args:
            samples: by whose number the runtime is chosen where the store knows of no others.
            depths: as for `get_depths`.

        Raises:
            BadOption: for an unknown depth.
        """
        read = self._all if set(depths) <= set(self._all) else tuple(depths)
        if read not in self._networks:
            self._networks[read] = compute.choose(
                self._backbone,
                self._among or samples,
                self._backbone.info.preprocess,
                depths=read,
                passes=self._passes,
            )
        return self._networks[read]

    def add(self, samples: Sequence[Sample], depths: Sequence[str], found: Mapping[str, Features]) -> None:
        """Keep what another pass of the same network computed in eager float32, as `get_depths` would have.

        Nothing is kept where another runtime answers this store: its features are to be the same to the last bit.

        Args:
            samples: scanned ones.
            depths: as for `get_depths`.
            found: `output` and each depth -> the samples' rows.

        Raises:
            BadInput: for a sample without a digest.
            BadOption: for an unknown depth.
        """
        through = self._pass(samples, tuple(depths), None)
        if through.network.chosen.engine != compute.REFERENCE:
            return
        keys = row_keys(sample.digest for sample in samples)
        known = np.ones(len(samples), bool)
        for rows in through.rows.values():
            known &= rows.has(keys)
        _Work(samples, keys, {name: found[name] for name in through.rows}, through).keep(
            np.flatnonzero(~known)
        )

    def _fill(self, samples: Sequence[Sample], through: _Pass, clock: Clock | None) -> dict[str, Features]:
        keys = row_keys(sample.digest for sample in samples)
        outs = {
            name: np.empty((len(samples), *rows.kind.shape), np.float32)
            for name, rows in through.rows.items()
        }
        work = _Work(samples, keys, outs, through)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        once = np.sort(first)
        todo = _shuffled(once[~work.read(once)])
        while len(todo):
            todo = work.compute(todo, clock)
        sources = first[inverse]
        twins = np.flatnonzero(sources != np.arange(len(samples)))
        for piece in _pieces(twins):
            for out in outs.values():
                out[piece] = out[sources[piece]]
        return outs

    def _pass(self, samples: Sequence[Sample], depths: tuple[str, ...], view: View | None) -> _Pass:
        """The network and its rows, opened at the first use: to hash its weights takes a moment."""
        contract = self._backbone.info.preprocess
        network = self.network(samples, depths)
        if (depths, view) not in self._rows:
            exact = network.precision == compute.ENGINES[compute.REFERENCE].precision
            common = {
                "arch": self._backbone.info.arch,
                "weights": compute.content_hash(self._backbone.module),
                "preprocess": to_plain(contract),
                # Below float32 what else is read decides which layers are fused, and so where sums are rounded.
                "runtime": [network.chosen.engine, network.precision, *(() if exact else network.outputs)],
            } | ({"view": to_plain(view)} if view else {})
            self._rows[depths, view] = {
                output: RowStore(namespace(output=output, **common), shape=(width,), dtype=np.float32)
                for output, width in zip((_OUTPUT, *depths), self._widths(depths), strict=True)
            }
        loader = partial(_changed, view, contract) if view else None
        return _Pass(network, self._rows[depths, view], loader)

    def _widths(self, depths: tuple[str, ...]) -> tuple[int, ...]:
        """Numbers in a row of the output and of each depth; inner ones are found by a blank image, once."""
        if not depths:
            return (self._backbone.width,)
        if depths not in self._known_widths:
            contract = self._backbone.info.preprocess
            blank = np.zeros((1, contract.height, contract.width, 3), np.uint8)
            found = compute.open_network(self._backbone, contract, depths=depths)(blank)
            self._known_widths[depths] = tuple(each.shape[1] for each in found)
        return self._known_widths[depths]


@dataclass(frozen=True)
class _Pass:
    """A network in its runtime, where the rows of each of its outputs are kept, and what makes its pixels."""

    network: compute.Network
    rows: dict[str, RowStore]
    loader: Loader | None


@dataclass(frozen=True)
class _Work:
    """Samples (N) with their keys, the arrays (N, width) to fill, and what fills them."""

    samples: Sequence[Sample]
    keys: Keys
    outs: dict[str, Features]
    through: _Pass

    def read(self, positions: Positions) -> NDArray[np.bool_]:
        """Which of these positions the stores could fill."""
        found = np.ones(len(positions), bool)
        for name, rows in self.through.rows.items():
            found &= rows.read(self.keys[positions], self.outs[name], at=positions)
        return found

    def compute(self, todo: Positions, clock: Clock | None) -> Positions:
        """What is left of `todo` when it is computed, or when another process has added rows that may be among it."""
        ready = kept = 0
        samples = [self.samples[position] for position in todo]
        stream = compute.stream(
            self.through.network,
            samples,
            label="computing features",
            clock=clock,
            loader=self.through.loader,
        )
        wanted = [self.through.network.outputs.index(name) for name in self.outs]
        try:
            with closing(stream):  # type: ignore[type-var]  # a generator
                for places, found in stream:
                    for out, number in zip(self.outs.values(), wanted, strict=True):
                        out[todo[list(places)]] = found[number]
                    ready += len(places)
                    if ready - kept < PIECE:
                        continue
                    self.keep(todo[kept:ready])
                    kept = ready
                    if any(rows.news() for rows in self.through.rows.values()):
                        break
        finally:
            self.keep(todo[kept:ready])
        left = todo[ready:]
        return left[~self.read(left)]

    def keep(self, positions: Positions) -> None:
        """Put the rows of these positions into the stores, but for images whose file has changed since it was scanned."""
        sound = positions[np.array([_unchanged(self.samples[position]) for position in positions], bool)]
        for name, rows in self.through.rows.items():
            rows.add(self.keys[sound], self.outs[name][sound])


def _unchanged(sample: Sample) -> bool:
    """Whether the file still has the content of its digest; one that was not touched since is not read for it."""
    if not isinstance(sample.source, Path):
        return True
    try:
        seen = sample.source.stat()
        if max(seen.st_mtime, seen.st_ctime) < SCANNED_SINCE - _CLOCKS_DIFFER:
            return True
        return sha256_file(sample.source) == sample.digest
    except OSError:  # gone since it was decoded
        return False


def _pieces(positions: Positions) -> list[Positions]:
    return [positions[start : start + PIECE] for start in range(0, len(positions), PIECE)]


def _shuffled(positions: Positions) -> Positions:
    """The pieces in an order of this process's own, so that processes with the same images do not walk in step.

    The one that is not full stays at the end: so the batches are the same ones in any order, and so are the rows to the last
    bit. That is why this needs no seed; two processes must not have the same.
    """
    pieces = _pieces(positions)
    full = len(positions) // PIECE
    order = (*np.random.default_rng().permutation(full), *range(full, len(pieces)))
    return np.concatenate([pieces[turn] for turn in order]) if pieces else positions
