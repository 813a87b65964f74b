"""What an audit found; `audit.json` holds it. Nothing that it names is deleted."""

from __future__ import annotations

from headstart._core.records import record
from headstart.auditing.confounds import Confound
from headstart.auditing.groups import GroupProposal
from headstart.auditing.shift import Shift


@record
class NearPair:
    """Two images that show the same picture.

    Attributes:
        names: of both.
        splits: where they are.
        labels: of both.
        score: correlation of their details once laid over each other; 1 for identical files.
        mirrored: whether one is the mirror image of the other.
    """

    names: tuple[str, str]
    splits: tuple[str, str]
    labels: tuple[str, str]
    score: float
    mirrored: bool


@record
class Leak:
    """A held-out image that the model has seen, or nearly.

    Attributes:
        name: of the held-out image.
        split: `val` or `test`.
        label: its label.
        twin: the image of an earlier split that shows the same picture.
        twin_split: `train` or `val`.
        twin_label: its label.
        score: correlation of their details.
    """

    name: str
    split: str
    label: str
    twin: str
    twin_split: str
    twin_label: str
    score: float


@record
class Series:
    """Three or more images that show the same thing, one like the next: a burst, a video, one place."""

    names: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]


@record
class Suspect:
    """An image whose label a probe that never saw it does not believe.

    Attributes:
        name: of the image.
        split: where it is.
        given: its label; several are joined by `|`, and `(none)` stands for no label.
        suggested: the class that the probe takes it for; of several labels all, with the doubtful ones the other way round.
        confidence: the probe's probability of the given label; of several labels that of the least believable.
        against: its probability of the suggested one; of several labels one minus the confidence.
        picture: of the image, relative to the run folder; empty where there is none.
    """

    name: str
    split: str
    given: str
    suggested: str
    confidence: float
    against: float
    picture: str = ""


@record
class LabelShift:
    """Classes have other shares among the test images than among the training images.

    Attributes:
        distance: half the sum of the differences of all shares: the share of test images that would have to change class.
        p: chance of so large a difference if both were drawn alike (chi-squared test).
        label: the class that differs most.
        train: its share in training.
        test: its share in test.
    """

    distance: float
    p: float
    label: str
    train: float
    test: float


@record
class Audit:
    """Everything that was found.

    Attributes:
        images: how many were looked at, by split.
        pairs: near duplicates, the most alike first; identical files stand in `facts.json`.
        leaks: held-out images that show a picture of an earlier split.
        removed: how many identical files were kept out of training because a held-out split has them.
        conflicts: pairs of (near) duplicates with different labels.
        series: clusters of three or more near duplicates.
        groups: group columns that names, times or places suggest and the pictures confirm, the best confirmed first.
        confounds: traits of the files that tell the label.
        shift: training against test images; None where that was not measured.
        label_shift: where the classes' shares differ between training and test beyond chance; else None.
        suspects: labels that are not believed, the least believable first.
        checked: how many labels were checked.
        skipped: what was not looked at, and why, in sentences.
        seconds: what the audit took, without features.
    """

    images: dict[str, int]
    pairs: tuple[NearPair, ...]
    leaks: tuple[Leak, ...]
    removed: int
    conflicts: tuple[NearPair, ...]
    series: tuple[Series, ...]
    groups: tuple[GroupProposal, ...]
    confounds: tuple[Confound, ...]
    shift: Shift | None
    label_shift: LabelShift | None
    suspects: tuple[Suspect, ...]
    checked: int
    skipped: tuple[str, ...]
    seconds: float

    def leaked(self, split: str = "test") -> frozenset[str]:
        """Names of the images of that split that a model trained on the earlier splits has (nearly) seen."""
        return frozenset(leak.name for leak in self.leaks if leak.split == split)

    @property
    def serious(self) -> bool:
        """Whether something was found that makes measured accuracy wrong: leaks, contradictions, technical confounds."""
        return bool(self.leaks or self.conflicts or any(each.technical for each in self.confounds))
