"""`TransferLearner` behaves as scikit-learn's tools expect, on images in every form they come in."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

import headstart
from headstart import TransferLearner
from headstart._core.errors import BadInput, BadOption, NotFitted
from headstart.data.handed import as_sources

TINY = "random:test_resnet"  # 160 pixels and 0.5 million parameters: speed, not accuracy
Pixels = NDArray[np.uint8]


def tiny(**changes: Any) -> TransferLearner:
    return TransferLearner(**({"weights": TINY} | changes))


@pytest.fixture(scope="module")
def digits() -> tuple[Pixels, NDArray[np.int64]]:
    """The handwritten 0, 1 and 2 of scikit-learn's digits, 16 of each, as (48, 8, 8) 8-bit images."""
    found = load_digits()
    chosen = np.concatenate([np.flatnonzero(found.target == digit)[:16] for digit in (0, 1, 2)])
    return (found.images[chosen] * 15).astype(np.uint8), found.target[chosen]


@pytest.fixture(scope="module")
def fitted(digits: tuple[Pixels, NDArray[np.int64]]) -> TransferLearner:
    """Fitted on the digits under names; shared, so tests must not fit it again."""
    X, y = digits
    return tiny().fit(X, np.array(["zero", "one", "two"])[y])


def test_answers_are_the_labels_that_were_given(
    fitted: TransferLearner, digits: tuple[Pixels, NDArray[np.int64]]
) -> None:
    X, y = digits
    assert fitted.classes_.tolist() == ["one", "two", "zero"]
    answers, probability = fitted.predict(X), fitted.predict_proba(X)
    assert set(answers) <= {"zero", "one", "two"}
    assert (answers == np.array(["zero", "one", "two"])[y]).mean() > 0.7, "random features tell 0, 1, 2 apart"
    assert probability.shape == (48, 3)
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-6)
    assert (fitted.classes_[probability.argmax(1)] == answers).all()
    logits = fitted.decision_function(X)
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(shifted / shifted.sum(1, keepdims=True), probability, atol=1e-6)
    assert (
        fitted.score(X, np.array(["zero", "one", "two"])[y])
        == (answers == np.array(["zero", "one", "two"])[y]).mean()
    )
    assert fitted.predict(X[:0]).shape == (0,)


def test_the_form_of_an_image_does_not_change_the_answer(
    fitted: TransferLearner, digits: tuple[Pixels, NDArray[np.int64]], tmp_path: Path
) -> None:
    X = digits[0][:4]
    files = [tmp_path / f"{number}.png" for number in range(4)]
    for image, file in zip(X, files, strict=True):
        Image.fromarray(image).save(file)
    colour = np.repeat(X[..., None], 3, axis=3)
    forms: dict[str, Any] = {
        "paths": files,
        "names": [str(file) for file in files],
        "array of names": np.array([str(file) for file in files]),
        "PIL": [Image.fromarray(image) for image in X],
        "colour": colour,
        "one channel": X[..., None],
        "list of arrays": list(colour),
        "opaque": [np.dstack([image, np.full((8, 8), 255, np.uint8)]) for image in colour],
        "mixed": [files[0], Image.fromarray(X[1]), X[2], colour[3]],
    }
    expected = fitted.predict_proba(X)
    for name, form in forms.items():
        np.testing.assert_allclose(fitted.predict_proba(form), expected, atol=1e-6, err_msg=name)


def test_images_may_differ_in_size(fitted: TransferLearner) -> None:
    rng = np.random.default_rng(0)
    sizes = ((8, 8, 3), (300, 20, 3), (1, 1), (50, 70, 4))
    images = [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    together = fitted.predict_proba(images)
    alone = np.concatenate([fitted.predict_proba([image]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 1e-3


def test_pil_images_are_turned_upright_and_laid_on_white(tmp_path: Path) -> None:
    sideways = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn right to see the scene
    sideways.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        (upright,) = as_sources([image])
    assert isinstance(upright, np.ndarray)
    np.testing.assert_array_equal(upright[..., 0], np.rot90(np.asarray(sideways), -1))
    (clear,) = as_sources([Image.new("RGBA", (2, 2), (0, 0, 0, 0))])
    assert (np.asarray(clear) == 255).all()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("photo.jpg", "one str, not a sequence"),
        (Path("photo.jpg"), "not a sequence of images"),
        (Image.new("RGB", (4, 4)), "one Image, not a sequence"),
        (np.zeros((5, 4, 3), np.uint8), r"one ndarray of shape \(5, 4, 3\)"),
        (np.zeros((5, 4), np.uint8), r"one ndarray of shape \(5, 4\)"),
        (np.zeros((5, 4, 4, 3)), r"X\[0\] is ndarray of shape \(4, 4, 3\) and type float64"),
        ([np.zeros((2, 2), np.uint8), 7], r"X\[1\] is int"),
        ([np.zeros((2, 2, 5), np.uint8)], r"X\[0\] is ndarray of shape \(2, 2, 5\)"),
    ],
)
def test_what_is_no_sequence_of_images_is_named(fitted: TransferLearner, X: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        fitted.predict(X)


def test_a_table_is_not_taken_for_its_column_names(fitted: TransferLearner) -> None:
    class Table(dict[str, list[str]]):
        columns = ("path",)

    with pytest.raises(BadInput, match=r"X is a table\.\n.*table\['path'\]"):
        fitted.predict(Table(path=["a.jpg"]))  # type: ignore[arg-type]


def test_bad_labels_and_options_are_told_before_the_work(digits: tuple[Pixels, NDArray[np.int64]]) -> None:
    X, y = digits
    with pytest.raises(BadInput, match="X has 48 images but y has 47 labels"):
        tiny().fit(X, y[1:])
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        tiny().fit(X, y + 0.5)
    with pytest.raises(BadInput, match="class"):
        tiny().fit(X, np.zeros_like(y))
    with pytest.raises(BadOption, match="Did you mean 'folds'"):
        tiny(params={"fold": 3}).fit(X, y)
    with pytest.raises(BadOption, match="linear-prob"):
        tiny(method="linear-prob").fit(X, y)


def test_before_fit_every_answer_is_refused_in_both_languages() -> None:
    for name in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError, match="not fitted yet") as caught:
            getattr(tiny(), name)([np.zeros((8, 8), np.uint8)])
        assert isinstance(caught.value, NotFitted)


def test_parameters_are_scikit_learns(fitted: TransferLearner) -> None:
    names = {"method", "weights", "budget", "seed", "val_fraction", "params"}
    assert set(fitted.get_params()) == names
    copied = clone(fitted.set_params(seed=0))
    assert not hasattr(copied, "bundle_")
    assert copied.get_params() == fitted.get_params()
    assert copied.set_params(seed=7, params={"folds": 3}).get_params()["params"] == {"folds": 3}
    with pytest.raises(ValueError, match="Invalid parameter 'sead'"):
        copied.set_params(sead=1)
    assert is_classifier(copied)


def test_a_second_fit_forgets_the_first(digits: tuple[Pixels, NDArray[np.int64]]) -> None:
    X, y = digits
    learner = tiny().fit(X, y)
    assert learner.fit(X[:32], y[:32]) is learner
    assert learner.classes_.tolist() == [0, 1]
    assert learner.predict_proba(X[:3]).shape == (3, 2)
    fresh = tiny().fit(X[:32], y[:32])
    np.testing.assert_array_equal(learner.predict_proba(X), fresh.predict_proba(X))


def test_two_classes_have_one_column_of_decisions(digits: tuple[Pixels, NDArray[np.int64]]) -> None:
    X, y = digits[0][:32], np.where(digits[1][:32] == 1, "one", "other")
    learner = tiny().fit(X, y)
    decisions, probability = learner.decision_function(X), learner.predict_proba(X)
    assert decisions.shape == (32,)
    np.testing.assert_allclose(1 / (1 + np.exp(-decisions)), probability[:, 1], atol=1e-6)
    assert ((decisions > 0) == (learner.predict(X) == "other")).all()
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    scores = cross_val_score(tiny(), X, y == "one", cv=folds, scoring="roc_auc")  # asks for the decisions
    assert scores.min() > 0.8


@pytest.mark.parametrize("form", ["array", "sparse"])
def test_many_labels_come_back_as_columns(form: str, digits: tuple[Pixels, NDArray[np.int64]]) -> None:
    X, y = digits
    many = np.stack([y == 0, y >= 1, y == 2], axis=1).astype(int)
    learner = tiny().fit(X, many if form == "array" else csr_matrix(many))
    answers, probability = learner.predict(X), learner.predict_proba(X)
    assert learner.bundle_.task == "multilabel"
    assert answers.shape == probability.shape == (48, 3)
    assert ((probability > 0.5) == answers).all()
    assert np.abs(probability.sum(1) - 1).max() > 0.1, "labels do not exclude each other"
    assert (answers == many).mean() > 0.7


def test_pipelines_cross_validation_and_search(digits: tuple[Pixels, NDArray[np.int64]]) -> None:
    X, y = digits
    turned = make_pipeline(FunctionTransformer(lambda images: [np.rot90(image) for image in images]), tiny())
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    scores = cross_val_score(turned, X, y, cv=folds, error_score="raise")
    assert scores.min() > 0.5, "chance is a third"
    listed = cross_val_predict(tiny(), [Image.fromarray(image) for image in X], y, cv=folds)
    assert (listed == y).mean() > 0.5
    search = GridSearchCV(tiny(), {"val_fraction": [0.2, 0.4]}, cv=2, refit=False).fit(X, y)
    assert len(search.cv_results_["params"]) == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_fitted_learner_can_be_pickled(
    fitted: TransferLearner, digits: tuple[Pixels, NDArray[np.int64]]
) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(digits[0][:4]), fitted.predict_proba(digits[0][:4]))
    assert again.classes_.tolist() == fitted.classes_.tolist()


class OnNumbers(TransferLearner):
    """What scikit-learn's checks can feed: each row of numbers becomes a picture of grey squares."""

    @staticmethod
    def _pictures(X: Any) -> Pixels:
        grey = (127.5 * (1 + np.sin(np.asarray(X, float)))).astype(np.uint8)
        return np.repeat(np.repeat(grey[:, None, :], 8, axis=1), 8, axis=2)

    def fit(self, X: Any, y: Any) -> OnNumbers:
        super().fit(self._pictures(X), y)
        return self

    def _logits(self, X: Any) -> NDArray[np.float64]:
        return super()._logits(self._pictures(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


# scikit-learn itself skips estimators whose X is not a table of numbers. These checks mean something for them too.
WITHOUT_FIT = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_get_params_invariance",
    "check_set_params",
    "check_parameters_default_constructible",
)
# Those that fit, on rows of numbers drawn as pictures. Left out: `check_classifiers_train` and
# `check_classifiers_classes` pass too but take 17 and 5 seconds. Cannot apply: checks of NaN, infinity, sparse,
# complex and object X and of `n_features_in_`, feature names and 1-d X (X is a sequence of images of any size);
# of `sample_weight` and `partial_fit` (there are none).
WITH_FIT = (
    "check_fit_score_takes_y",
    "check_estimators_overwrite_params",
    "check_dont_overwrite_parameters",
    "check_estimators_fit_returns_self",
    "check_fit_check_is_fitted",
    "check_dict_unchanged",
    "check_fit_idempotent",
    "check_estimators_pickle",
    "check_classifiers_one_label",
    "check_decision_proba_consistency",
    "check_supervised_y_2d",
    "check_supervised_y_no_nan",
    "check_classifiers_regression_target",
    "check_classifiers_multilabel_output_format_predict",
    "check_classifiers_multilabel_output_format_predict_proba",
    "check_classifiers_multilabel_output_format_decision_function",
    "check_classifiers_multilabel_representation_invariance",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_readonly_memmap_input",
    "check_requires_y_none",
)


@pytest.mark.parametrize("check", WITHOUT_FIT)
def test_scikit_learns_checks(check: str) -> None:
    getattr(estimator_checks, check)("TransferLearner", TransferLearner())


@pytest.mark.parametrize("check", WITH_FIT)
def test_scikit_learns_checks_that_fit(check: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks look for the warnings they mean themselves
        getattr(estimator_checks, check)("OnNumbers", OnNumbers(weights=TINY))


@pytest.mark.slow
@pytest.mark.parametrize("check", ["check_classifiers_classes", "check_classifiers_train"])
def test_scikit_learns_slow_checks(check: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(estimator_checks, check)("OnNumbers", OnNumbers(weights=TINY))


def test_a_run_is_loaded_and_asked_from_python(
    digits: tuple[Pixels, NDArray[np.int64]], tmp_path: Path
) -> None:
    for label, image in zip(digits[1], digits[0], strict=True):
        folder = tmp_path / "photos" / f"digit {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{len(list(folder.iterdir()))}.png")
    (tmp_path / "broken.png").write_bytes(b"")
    done = headstart.fit(tmp_path / "photos", method="linear-probe", weights=TINY, out=str(tmp_path / "run"))
    assert done.report.is_file()
    assert 0 <= done.evaluation.splits["test"].metrics["accuracy"].value <= 1
    model = headstart.load(done.folder)
    assert model.classes == ("digit 0", "digit 1", "digit 2")
    first = tmp_path / "photos" / "digit 0" / "0.png"
    answers = model.predict([first, digits[0][0], tmp_path / "broken.png"], top_k=2)
    assert [answer.path for answer in answers] == [str(first), "memory:1", str(tmp_path / "broken.png")]
    assert answers[0].answer in model.classes
    assert answers[0].probability == pytest.approx(answers[1].probability, abs=1e-6)
    assert [len(answer.top_k) for answer in answers] == [2, 2, 0]
    assert "empty" in str(answers[2].error)
