"""What the figures show is what the records say: their lines, bands and images, by hand."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from lenet_jax.reports import figures

ROWS = [
    {"epoch": 1, "train_errors_on_the_fly": [40, 60], "test_errors": [10, 30]},
    {"epoch": 2, "train_errors_on_the_fly": [20, 30], "test_errors": [6, 8]},
]
RECORD = {
    "experiment": "classic", "variant": "", "dataset": "mnist", "seeds": [3, 4], "epochs": 2,
    "train_size": 1000, "test_size": 200, "errors": [6, 8],
    "curve": {
        "train_errors_on_the_fly": [[40, 60], [20, 30]],
        "test_errors": [[10, 30], [6, 8]],
    },
    "rejection": {"rejected_percent": [0, 5], "error_percent": [[3, 4], [1.0, 2.0]]},
    "robustness": {
        kind: {"levels": [1, 2], "errors": [[20 + n, 40 + n], [100, 120]]}
        for n, kind in enumerate(("rotation", "scale", "shift", "squeeze", "noise"))
    },
}  # fmt: skip
OTHER = RECORD | {"dataset": "uci-digits"}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws to a file, for real; gives the figure."""
    kept = []
    real = Figure.savefig

    def savefig(figure, *arguments, **options):
        kept.append(figure)
        return real(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)

    def draw(function, *arguments):
        function(*arguments, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
        return kept[-1]

    return draw


def lines(axes):
    return {
        line.get_label(): np.column_stack(line.get_data()).tolist() for line in axes.get_lines()
    }


def bands(axes):
    """Of each band the places and the lowest and highest values there, in order."""
    found = []
    for band in axes.collections:
        points = band.get_paths()[0].vertices
        places = sorted(set(points[:, 0]))
        at = {place: points[points[:, 0] == place, 1] for place in places}
        found.append([(place, values.min(), values.max()) for place, values in at.items()])
    return found


def test_the_curve_of_a_run_is_of_its_rows(drawn):
    figure = drawn(figures.curve, ROWS, RECORD)
    (axes,) = figure.axes
    assert lines(axes) == {
        "train, on the fly: 25 of 1,000 misclassified in the last epoch on average": [
            [1, 5], [2, 2.5],
        ],
        "train, on the fly, the paper's Fig. 5": [[1, 4.89], [2, 3.05]],
        "test: 7 of 200 misclassified in the last epoch on average": [[1, 10], [2, 3.5]],
        "test, the paper's Fig. 5": [[1, 2.65], [2, 2.24]],
    }  # fmt: skip
    assert bands(axes) == [[(1, 4, 6), (2, 2, 3)], [(1, 5, 15), (2, 3, 4)]]
    assert axes.get_title() == "classic on mnist, 2 seeds (3, 4)"


def test_the_papers_points_stand_beside_mnist_alone(drawn):
    for function in (figures.fig_5, figures.fig_6, figures.fig_10):
        for record, shown in ((RECORD, True), (OTHER, False)):
            given = record if function is figures.fig_5 else [record]
            (axes,) = drawn(function, given).axes
            assert any("the paper's" in label for label in lines(axes)) == shown
    systems = [("a", "LeNet", 100, 2.0, None), ("b", "Nielsen", 1000, 1.0, 0.5)]
    for data, shown in (("mnist", True), ("uci-digits", False)):
        (axes,) = drawn(figures.family, systems, "parameters", data).axes
        assert ("published" in lines(axes)) == shown


def test_what_is_left_after_rejection(drawn):
    (axes,) = drawn(figures.fig_10, [RECORD]).axes
    assert lines(axes)["classic"] == [[0, 3.5], [5, 1.5]]
    assert bands(axes) == [[(0, 3, 4), (5, 1, 2)]]
    assert [1.8, 0.5] in lines(axes)["the paper's Fig. 10, LeNet-4"]
    assert [0.5, 0.5] in lines(axes)["the paper's Fig. 10, boosted LeNet-4"]
    (axes,) = drawn(figures.rejection, np.array([2.0, 1.0, 0.5, 0.0]), "a title").axes
    (curve, limit) = axes.get_lines()
    assert np.column_stack(curve.get_data()).tolist() == [[0, 2], [25, 1], [50, 0.5], [75, 0]]
    assert list(limit.get_ydata()) == [0.5, 0.5] and axes.get_title() == "a title"


def test_changed_digits_have_a_panel_for_each_kind(drawn):
    figure = drawn(figures.fig_13, [RECORD])
    for number, axes in enumerate(figure.axes[:5]):
        assert lines(axes)["classic"] == [[1, 15 + number / 2], [2, 55]]
        assert bands(axes) == [[(1, 10 + number / 2, 20 + number / 2), (2, 50, 60)]]
        assert axes.get_ylim() == (0, 100)
    assert not figure.axes[5].axison
    assert [text.get_text() for text in figure.axes[5].get_legend().get_texts()] == ["classic"]


def test_in_a_confusion_matrix_the_errors_stand_out(drawn):
    (axes,) = drawn(figures.confusion, [[50, 3, 0], [0, 40, 4], [1, 0, 30]], "a title").axes
    (image,) = axes.get_images()
    assert image.get_array().tolist() == [[0, 3, 0], [0, 0, 4], [1, 0, 0]]
    assert image.get_clim() == (0, 8)
    written = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert ((1, 0), "3") in written and ((2, 1), "4") in written and ((0, 2), "1") in written
    assert ((0, 0), "50") in written and len(written) == 6


@pytest.mark.parametrize("channels", [(), (3,)])
def test_misclassified_images_stand_in_rows_of_twelve(drawn, channels):
    images = np.random.default_rng(0).integers(0, 255, (30, 6, 5, *channels), np.uint8)
    wrong = [[at, at % 10, (at + 1) % 10] for at in range(29, 2, -2)]  # fourteen, two rows
    (axes,) = drawn(figures.misclassified, images, wrong, "a title").axes
    sheet = np.asarray(axes.get_images()[0].get_array())
    assert sheet.shape == (2 * 18, 12 * 13, *channels)
    np.testing.assert_array_equal(sheet[12:18, 4:9], images[29])
    np.testing.assert_array_equal(sheet[12:18, 13 + 4 : 13 + 9], images[27])
    np.testing.assert_array_equal(sheet[30:36, 13 + 4 : 13 + 9], images[3])
    assert (sheet[18:, 2 * 13 :] == (255 if channels else 0)).all()
    assert [text.get_text() for text in axes.texts][:2] == ["9->0", "7->8"]
    assert axes.texts[13].get_position() == (13 + 13 // 2, 18 + 10)


def test_the_tutorials_curve_stands_beside_ours(drawn):
    (axes,) = drawn(figures.tutorial, RECORD).axes
    found = lines(axes)
    assert found["train, on the fly, ours"] == [[1, 5], [2, 2.5]]
    assert found["test, ours"] == [[1, 10], [2, 3.5]]
    assert bands(axes) == [[(1, 4, 6), (2, 2, 3)], [(1, 5, 15), (2, 3, 4)]]
    accuracy = {1: 86.35, 2: 96.67, 3: 97.48, 4: 97.89, 5: 98.09}
    accuracy |= {10: 98.71, 20: 99.20, 30: 99.49, 40: 99.60, 50: 99.65}
    assert found["train, the tutorial's"] == [[epoch, 100 - a] for epoch, a in accuracy.items()]
