from __future__ import annotations

import dataclasses
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionloss_adapters import AdapterError, CannotAnswerError, Question, load_adapter
from regionloss_adapters.darknet.adapter import DarknetFailedError, LiveDarknet
from regionloss_adapters.darknet.checkout import HOW_TO_GET, VARIABLE, Family, detect_family, find_checkout
from regionloss_adapters.darknet.request import darknet_options, defined_truths, encode, tree_file
from regionloss_spec import Batch, Case, Profile, load_cases, load_profile
from regionloss_spec.case import Expected
from regionloss_spec.clause import View
from regionloss_suite.judging.judge import Judge
from regionloss_suite.oracle.comparison import Comparison
from regionloss_suite.oracle.strategies import batches

GRADIENT = View("gradient", ("xy", "wh", "o", "c"), ("responsible", "ignored", "no-object"))
FAMILIES: tuple[Family, ...] = ("pjreddie", "alexeyab")
DARKNET, YEAR_2016, TREE = (load_profile(name) for name in ("darknet", "darknet-2016", "yolo9000"))


def batch_of(*truths: list[list[float]], tree: tuple[int, ...] | None = None) -> Batch:
    """One 1 x 2 grid with two anchors for each list of truths, its predictions 0, 1/8, 2/8 and so on."""
    classes = 2 if tree is None else len(tree)
    shape = (len(truths), 2 * (5 + classes), 1, 2)
    return Batch(
        predictions=np.arange(np.prod(shape)).reshape(shape) / 8,
        truths=tuple(np.array(rows, dtype=np.float64).reshape(len(rows), 5) for rows in truths),
        anchors=np.array([[1.0, 1.0], [2.0, 0.5]]),
        classes=classes,
        images_seen=12799,
        tree=tree,
    )


ONE_TRUTH = batch_of([[0.25, 0.5, 0.5, 0.5, 1.0]])


# --- without any darknet: options, domain, request ---


def test_darknets_own_profiles_are_its_options_at_their_defaults() -> None:
    config, base = darknet_options(DARKNET, "pjreddie")
    assert base == "darknet"
    assert {"softmax": 1, "rescore": 1, "bias_match": 1, "background": 0, "thresh": 0.6}.items() <= config.items()
    assert darknet_options(YEAR_2016, "alexeyab")[1] == "darknet-2016"
    assert darknet_options(TREE, "alexeyab")[1] == "yolo9000"


@pytest.mark.parametrize(
    ("family", "profile", "option", "value"),
    [
        ("pjreddie", DARKNET.replace(object_target="one"), "rescore", 0),
        ("pjreddie", DARKNET.replace(anchor_choice="predicted-shape"), "bias_match", 0),
        ("pjreddie", DARKNET.replace(objectness="background"), "background", 1),
        ("pjreddie", DARKNET.replace(class_term="logistic", class_collision="accumulate"), "softmax", 0),
        ("pjreddie", DARKNET.replace(no_object_weight=0.5), "noobject_scale", 0.5),
        ("alexeyab", YEAR_2016.replace(class_term="squared-linear"), "softmax", 0),
        ("alexeyab", YEAR_2016.replace(class_term="focal"), "focal", 1),
        ("alexeyab", YEAR_2016.replace(no_object_target="max-iou"), "classfix", -1),
        ("alexeyab", YEAR_2016.replace(ignored_class="full"), "classfix", 1),
        ("alexeyab", YEAR_2016.replace(ignored_class="by-objectness"), "classfix", 2),
    ],
)
def test_each_axis_has_its_option(family: Family, profile: Profile, option: str, value: float) -> None:
    assert value == darknet_options(profile, family)[0][option]


@pytest.mark.parametrize(
    ("family", "profile", "axis"),
    [
        ("pjreddie", YEAR_2016, "small_box_exponent"),
        ("pjreddie", DARKNET.replace(class_term="focal"), "class_term"),
        ("pjreddie", DARKNET.replace(no_object_target="max-iou"), "no_object_target"),
        ("pjreddie", DARKNET.replace(class_term="tree"), "class_term"),
        ("alexeyab", DARKNET, "small_box_exponent"),
        ("alexeyab", YEAR_2016.replace(objectness="background"), "objectness"),
        ("alexeyab", YEAR_2016.replace(class_term="logistic"), "class_term"),
        ("alexeyab", YEAR_2016.replace(prior_until=5000), "prior_until"),
    ],
)
def test_an_option_that_the_family_lacks_cannot_be_asked(family: Family, profile: Profile, axis: str) -> None:
    with pytest.raises(CannotAnswerError, match=axis):
        darknet_options(profile, family)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0, 0.5, 0.5, 0.5, 0.0], "x is 1.0"),
        ([0.5, 1 - 1e-9, 0.5, 0.5, 0.0], "y is 1.0"),  # in float32
        ([0.5, 0.5, 0.0, 0.5, 0.0], "w is 0.0"),
        ([0.5, 0.5, 0.5, 0.5, 2.0], "class is 2.0"),
    ],
)
def test_where_darknet_is_undefined_it_is_not_asked(row: list[float], message: str) -> None:
    with pytest.raises(CannotAnswerError, match=f"undefined: image 1, truth 0: {message}"):
        defined_truths(batch_of([], [row]), DARKNET, "pjreddie")


def test_the_first_family_is_asked_for_31_truths_of_which_it_reads_30() -> None:
    batch = batch_of([[0.25, 0.5, 0.5, 0.5, 1.0]] * 31)
    (rows,) = defined_truths(batch, DARKNET, "pjreddie")
    assert len(rows) == 31


@pytest.mark.parametrize("limit", [0, 7, 31])
def test_the_first_family_cannot_read_another_number_of_truths(limit: int) -> None:
    batch = batch_of([[0.25, 0.5, 0.5, 0.5, 1.0]] * 31)
    with pytest.raises(CannotAnswerError, match="reads 30 at most"):
        defined_truths(batch, DARKNET.replace(max_truths=limit), "pjreddie")


def test_without_a_terminator_a_list_is_asked_only_where_no_x_is_zero() -> None:
    profile = DARKNET.replace(truth_end="none")
    assert len(defined_truths(ONE_TRUTH, profile, "pjreddie")) == 1
    with pytest.raises(CannotAnswerError, match="truth 1: x is 0"):
        defined_truths(batch_of([[0.5, 0.5, 0.5, 0.5, 0.0], [0.0, 0.5, 0.5, 0.5, 0.0]]), profile, "pjreddie")


@pytest.mark.parametrize(("family", "rows"), [("pjreddie", 30), ("alexeyab", 2)])
def test_the_request_holds_what_the_shim_reads(family: Family, rows: int) -> None:
    profile = DARKNET if family == "pjreddie" else YEAR_2016
    config, _ = darknet_options(profile, family)
    request = encode(ONE_TRUTH, defined_truths(ONE_TRUTH, profile, family), config, profile, family)
    head = np.frombuffer(request, dtype=np.int64, count=14)
    floats = np.frombuffer(request, dtype=np.float32, offset=14 * 8)
    assert [1, 2, 1, 2, 2, rows, 12799, 1, 1, 1, 0, 0, 0] == head[1:].tolist()
    assert [np.float32(0.6), 1, 5, 1, 1] == floats[:5].tolist()
    assert ONE_TRUTH.anchors.ravel().tolist() == floats[5:9].tolist()
    assert [0.25, 0.5, 0.5, 0.5, 1, *[0] * 5 * (rows - 1)] == floats[9 : 9 + 5 * rows].tolist()
    assert ONE_TRUTH.predictions.ravel().tolist() == floats[9 + 5 * rows :].tolist()


def test_the_second_family_is_given_as_many_rows_as_the_profile_reads() -> None:
    batch, profile = batch_of([[0.25, 0.5, 0.5, 0.5, 1.0]] * 5), YEAR_2016.replace(max_truths=3)
    config, _ = darknet_options(profile, "alexeyab")
    request = encode(batch, defined_truths(batch, profile, "alexeyab"), config, profile, "alexeyab")
    assert np.frombuffer(request, dtype=np.int64, count=14)[6] == 3


def test_a_tree_is_written_as_darknet_reads_it() -> None:
    assert tree_file((-1, -1, 0)) == "class0 -1\nclass1 -1\nclass2 0\n"


# --- without any darknet: finding one, on files made here ---

FAKE_HEADER = """
#include <stddef.h>
#include <stdint.h>
typedef struct { int n; } tree;
typedef struct {
    int batch, w, h, n, classes, coords, truths, truth_size, outputs;
    int softmax, rescore, bias_match, background, classfix, focal_loss;
    float thresh, coord_scale, object_scale, noobject_scale, class_scale;
    float *biases, *delta, *output, *cost;
    tree *softmax_tree;
} layer;
typedef struct { float *input, *truth; int train; size_t *seen; } network;
"""

#: No loss: it gives back what it was given, or ends as its object_scale says.
FAKE_LAYER = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "region_layer.h"
layer make_region_layer(int batch, int w, int h, int n, int classes, int coords)
{
    layer l = {0};
    l.batch = batch; l.w = w; l.h = h; l.n = n; l.classes = classes; l.coords = coords;
    l.outputs = n * (classes + 5) * w * h;
    l.biases = calloc(2 * n, sizeof(float));
    l.delta = calloc(batch * l.outputs, sizeof(float));
    l.output = calloc(batch * l.outputs, sizeof(float));
    l.cost = calloc(1, sizeof(float));
    return l;
}
void forward_region_layer(const layer l, network net)
{
    if (l.object_scale == 2) abort();
    if (l.object_scale == 3) { fprintf(stderr, "out of patience"); exit(3); }
    if (l.object_scale == 4) sleep(60);
    for (int i = 0; i < l.batch * l.outputs; ++i) {
        l.delta[i] = net.input[i];
        l.output[i] = .5;
    }
    *l.cost = net.truth[0] + *net.seen;
    printf("detection\\n");
    printf("Region Avg IOU: %f, Class: %f, Obj: %f, No Obj: %f, Avg Recall: %f,  count: %d\\n",
           1e-9, 2., 3., 4., 5., 6);
}
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that lie where darknet's would, and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CFLAGS", raising=False)
    root = tmp_path / "darknet"
    for folder in ("include", "src"):
        (root / folder).mkdir(parents=True)
    (root / "include/darknet.h").write_text(FAKE_HEADER)
    (root / "src/list.h").write_text("typedef struct list list;\n")
    (root / "src/region_layer.h").write_text(
        '#include "darknet.h"\nlayer make_region_layer(int batch, int w, int h, int n, int classes, int coords);\n'
    )
    (root / "src/region_layer.c").write_text(FAKE_LAYER)
    (root / "src/tree.c").write_text('#include "darknet.h"\ntree *read_tree(char *filename) { return 0; }\n')
    for name in ("activations", "blas", "box", "utils", "list"):
        (root / f"src/{name}.c").write_text("")
    return root


needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def test_the_family_shows_in_the_headers(fake: Path) -> None:
    headers = (fake / "src",)
    assert detect_family(headers) == "pjreddie"
    (fake / "src/region_layer.h").write_text("region_layer make_region_layer(int batch,\n int coords, int max_boxes);")
    assert detect_family(headers) == "alexeyab"


@pytest.mark.parametrize(
    ("declared", "family"),
    [
        ("typedef struct network_state {} network_state;", "alexeyab"),
        ("typedef struct network {} network;", "pjreddie"),
    ],
)
def test_the_family_shows_in_darknet_h_alone(fake: Path, declared: str, family: Family) -> None:
    (fake / "include/darknet.h").write_text(declared)
    assert detect_family((fake / "include",)) == family


def test_headers_that_do_not_tell_the_family_ask_for_it(fake: Path) -> None:
    (fake / "src/region_layer.h").write_text("")
    with pytest.raises(AdapterError, match="family='pjreddie' or family='alexeyab'"):
        find_checkout(fake)
    assert find_checkout(fake, "pjreddie").family == "pjreddie"
    with pytest.raises(AdapterError, match="softmax_layer"):
        find_checkout(fake, "alexeyab")


def test_an_unknown_family_is_refused(fake: Path) -> None:
    with pytest.raises(AdapterError, match="family is 'yolo', expected one of pjreddie, alexeyab"):
        find_checkout(fake, "yolo")  # type: ignore[arg-type]  # what a user may type


def test_no_darknet_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for name in ("darknet", "regionloss_adapters.darknet.adapter:adapter"):
        with pytest.raises(AdapterError) as caught:
            load_adapter(name)
        assert str(caught.value) == f"{VARIABLE} names no darknet; {HOW_TO_GET}"
    assert "git clone https://github.com/pjreddie/darknet" in HOW_TO_GET
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(AdapterError, match="git clone"):
            LiveDarknet(path)


def test_a_library_built_for_a_gpu_is_refused(fake: Path) -> None:
    library = fake / "libdarknet.so"
    library.write_bytes(b"\0forward_region_layer_gpu\0")
    with pytest.raises(AdapterError, match="GPU=0"):
        find_checkout(library)


@needs_compiler
def test_answers_come_back_as_they_were_given(fake: Path) -> None:
    answer = LiveDarknet(fake).answer(Question(batch=ONE_TRUTH, profile=DARKNET))
    slope = np.ones((1, 2, 7, 1, 2))
    slope[:, :, [0, 1, 4]] = 0.25  # of a logistic output of 1/2, on tx, ty and to
    assert answer.gradient is not None
    assert (-ONE_TRUTH.predictions * slope.reshape(1, 14, 1, 2)).tolist() == answer.gradient.tolist()
    assert answer.printed_cost == 12799.25
    expected = {"avg_iou": 1e-9, "avg_class": 2, "avg_obj": 3, "avg_no_obj": 4, "avg_recall": 5, "count": 6}
    assert expected == answer.statistics


@needs_compiler
def test_nothing_is_built_in_the_checkout_and_nothing_twice(fake: Path, tmp_path: Path) -> None:
    before = sorted(fake.rglob("*"))
    LiveDarknet(fake)
    (program,) = programs(tmp_path / "cache")
    built = program.stat().st_mtime_ns
    LiveDarknet(fake)
    assert sorted(fake.rglob("*")) == before
    assert program.stat().st_mtime_ns == built
    (fake / "src/box.c").write_text("int changed;")
    LiveDarknet(fake)
    assert len(programs(tmp_path / "cache")) == 2


def programs(cache: Path) -> list[Path]:
    """What was compiled into a cache; the locks of what was being compiled stay there."""
    return [file for file in (cache / "regionloss").iterdir() if file.suffix != ".lock"]


@needs_compiler
@pytest.mark.parametrize(
    ("how", "message"),
    [(2, "darknet died of SIGABRT"), (3, "exited with status 3: out of patience"), (4, "did not answer within 0.5 s")],
)
def test_a_darknet_that_ends_takes_nobody_along(fake: Path, how: int, message: str) -> None:
    live = LiveDarknet(fake, timeout=0.5)
    with pytest.raises(DarknetFailedError, match=message):
        live.answer(Question(batch=ONE_TRUTH, profile=DARKNET.replace(object_weight=float(how))))


@needs_compiler
def test_what_cannot_be_compiled_is_said_in_the_compilers_words(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake / "src/box.c").write_text("int box(")
    with pytest.raises(AdapterError, match=r"box\.c"):
        LiveDarknet(fake)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(AdapterError, match="no C compiler 'no-such-compiler'"):
        LiveDarknet(fake)


@needs_compiler
def test_it_computes_in_float32_on_the_cpu_at_the_end_of_the_chain(fake: Path) -> None:
    live, question = LiveDarknet(fake), Question(batch=ONE_TRUTH, profile=DARKNET)
    replace = dataclasses.replace
    for other in (replace(question, dtype="float64"), replace(question, device="cuda"), replace(question, upstream=2)):
        with pytest.raises(CannotAnswerError):
            live.answer(other)


# --- with a darknet ---


@cache
def _live(family: Family) -> LiveDarknet | None:
    named = [os.environ.get(f"{VARIABLE}_{family.upper()}"), os.environ.get(VARIABLE)]
    adapters = [LiveDarknet(path) for path in named if path]
    return next((live for live in adapters if live.checkout.family == family), None)


@pytest.fixture(params=FAMILIES)
def live(request: pytest.FixtureRequest) -> LiveDarknet:
    """A real darknet of each family, for which a test runs once."""
    adapter = _live(request.param)
    if adapter is None:
        pytest.skip(f"no darknet of the family {request.param}: {HOW_TO_GET} ({VARIABLE}_{request.param.upper()} too)")
    return adapter


def test_every_recording_is_reproduced(live: LiveDarknet) -> None:
    cases = [case for case in load_cases() if case.recorded and case.base in live.describe().profiles]
    assert len(cases) == {"pjreddie": 29, "alexeyab": 33}[live.checkout.family]
    for case in cases:
        comparison = Comparison(case, live.answer(Question(batch=case.batch, profile=case.profile)), "float32")
        assert comparison.difference(GRADIENT) is None
        assert comparison.difference(View("printed cost")) is None


def test_no_clause_deviates_but_where_darknet_divides_zero_by_zero(live: LiveDarknet) -> None:
    judge = Judge(live, load_cases())
    verdicts = [judge.verdict(clause) for clause in judge.clauses]
    deviating = {verdict.first.case for verdict in verdicts if verdict.first is not None}
    # 0/0 in `box_iou` is NaN in the first family, and what follows from it is NaN; the second asks before it divides.
    assert deviating == (set() if live.checkout.family == "alexeyab" else {"hand-zero-over-zero"})
    assert judge.crashes == {}


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_random_batches_agree_with_the_reference(data: st.DataObject) -> None:
    family = data.draw(st.sampled_from(FAMILIES))
    live = _live(family)
    if live is None:
        pytest.skip(f"no darknet of the family {family}: {HOW_TO_GET}")
    profile = load_profile(data.draw(st.sampled_from(live.describe().profiles)))
    batch = data.draw(batches(profile))
    case = Case(id="drawn", title="drawn", base=profile.name, profile=profile, batch=batch, expected=Expected())
    comparison = Comparison(case, live.answer(Question(batch=batch, profile=profile)), "float32")
    assert comparison.difference(GRADIENT) is None
    assert comparison.difference(View("printed cost")) is None
