"""What exercises share: placeholders, verdicts, errors in answers, randomness, hints, judges."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from seglib import exercises
from seglib.exercises import kit
from seglib.exercises.kit import CORRECT, NOT_ATTEMPTED, NOT_YET, Lesson, NotYet, number, show


@pytest.fixture
def lesson():
    return Lesson("07", outcomes=("add two numbers", "double a number"))


def is_three(answer):
    if answer != 3:
        raise NotYet(f"found {answer}, expected 3")
    return "1 + 2"


def add(lesson, **changes):
    settings = {"name": "total", "title": "Total", "kind": "predict", "outcome": 0, "answer": 3}
    more = {"judge": is_three, "variable": "total", "hints": ("count", "count again")}
    return lesson.add(**{**settings, **more, **changes})


def said(capsys):
    return capsys.readouterr().out


OPEN = [..., (1, ...), (..., ...), [..., 2], {"a": 1, "b": ...}]
OPEN_SOURCES = ["def f(): ...", 'def f():\n    """Nothing but this."""', "f = lambda x: ..."]
OPEN_SOURCES += ["def f(number):\n    return ...", "def f():\n    return None"]
OPEN_SOURCES += [f'def f(number):\n    """Double it."""\n    {end}' for end in ("...", "pass")]
OPEN_SOURCES += [
    "class f:\n    size = ...",
    "class f:\n    size = 3\n    def forward(self, x): ...",
]
OPEN_SOURCES += ["def f(number: int, factor: int = 2, *more: int, key: str = 'a') -> int: ..."]
FILLED = [0, None, "", [], (), {}, np.zeros(3), torch.zeros(2), [np.zeros(3), np.zeros(3)]]
FILLED += [nn.Identity(), len, partial(int)]
FILLED_SOURCES = [
    "def f():\n    print('hello')",
    "def f():\n    return 0",
    "f = (lambda x: lambda: x)(3)",
]
FILLED_SOURCES += [
    "def f():\n    while True:\n        pass",
    "def f():\n    raise NotImplementedError",
]
FILLED_SOURCES += ["class f:\n    def forward(self, x): ...\nf = f()"]
FILLED_SOURCES += ["class f:\n    kind = 3\n    def forward(self, x): return x"]


def test_placeholders_of_every_form():
    for answers, sources, expected in (OPEN, OPEN_SOURCES, True), (FILLED, FILLED_SOURCES, False):
        for source in sources:
            exec(source, names := {})
            assert kit.is_placeholder(names["f"]) == expected, source
        for answer in answers:
            assert kit.is_placeholder(answer) == expected, repr(answer)


def test_what_is_filled_in_partly_is_told_what_is_left(lesson):
    exercise = add(lesson, judge=lambda answer: 1 / 0)  # (no fault, whatever the judge does)
    for answer in ({"a": 1, "b": ..., "c": ...}, [..., 3, ...]):
        assert exercise.judged(answer).message.startswith("2 of 3 still open; hint: ")
    assert exercise.judged((..., ...)).message == "hint: ex.total.hint()"


def test_the_three_verdicts(lesson, capsys):
    exercise = add(lesson)
    verdicts = {...: "not attempted yet · hint: ex.total.hint()"}
    verdicts |= {4: "not yet · found 4, expected 3", 3: "correct · 1 + 2"}
    for answer, text in verdicts.items():
        exercise.check(answer)
        assert said(capsys) == text + "\n" and exercise.state == text.split(" · ")[0]
    assert exercise.judged(4).state == NOT_YET and exercise.state == CORRECT
    assert add(lesson, name="a", judge=lambda answer: None).judged(1) == kit.Outcome(CORRECT)
    assert str(kit.Outcome(CORRECT)) == "correct"


class Unfinished(nn.Module):
    """Its __init__ forgets super().__init__(), so PyTorch cannot print it."""

    def __init__(self):
        self.size = 3


def ends(*_):
    raise SystemExit(1)


@pytest.mark.parametrize("answer", [None, np.ones(2), ends, Unfinished()], ids=type)
def test_a_judge_that_stumbles_is_no_error(lesson, answer):
    assert show(answer)
    found = add(lesson, judge=lambda answer: answer.no_such_thing()).judged(answer)
    assert found.state == NOT_YET
    assert found.message.startswith("the check stumbled over ") and "AttributeError" in str(found)


def test_use_hands_on_the_answer_once_it_is_correct(lesson, capsys):
    mine, theirs, judged = object(), object(), []

    def judge(answer):
        judged.append(answer)
        return is_three(3 if answer is mine else 4)

    exercise = add(lesson, answer=theirs, judge=judge)
    assert exercise.use(...) is theirs and exercise.use(mine) is mine  # before any check
    assert exercise.state == NOT_ATTEMPTED and said(capsys) == ""
    exercise.check(mine)
    judged.clear()
    assert exercise.use(mine) is mine and not judged  # (as it was just now)
    exercise.check(4)
    assert exercise.use(4) is theirs and exercise.use(mine) is mine


def test_call_turns_errors_into_verdicts():
    def endless(_):
        return endless(_)

    clues = {"takes 0": "no argument", "other": "what else"}
    for answer, told in (
        (lambda x: x.shape, r"^on a mask, <lambda> raised AttributeError: .* attribute 'shape'$"),
        (endless, "RecursionError"),
        (ends, "SystemExit"),
        (lambda: 0, r"^on a mask, <lambda> raised TypeError: .*takes 0 positional.*: no argument$"),
        (lambda x: None, r"^on a mask, <lambda> returned None; is the `return` missing\?"),
        (np.zeros(2), r"^expected a function, found an array of shape"),
    ):
        with pytest.raises(NotYet, match=told) as caught:
            kit.call(answer, 1, given="a mask", clues=clues)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None, told


def test_numbers():
    for answer in ("2", np.float32(2), torch.tensor(2.0)):
        assert number(answer, "x") == 2
    for answer in (None, "half", [1, 2], np.ones(3), object(), 1j):
        with pytest.raises(NotYet, match="expected a number for the share, found "):
            number(answer, "the share")
    for answer in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(NotYet, match=r"for the share, expected a number from 0 to 1"):
            number(answer, "the share", 0, 1)


def test_show_is_short():
    assert show(3) == "3" and show("a\nb") == r"'a\nb'"
    assert show(np.zeros((2, 3), np.uint8)) == "an array of shape (2, 3) and dtype uint8"
    assert show(torch.zeros(4)) == "an array of shape (4,) and dtype torch.float32"
    long = show(list(range(100)))
    assert len(long) <= 60 and long.endswith("…")


def draws():
    return (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002


def seed_all(value):
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002
    torch.manual_seed(value)


@pytest.mark.parametrize("error", [NotYet("no"), KeyError("x"), None], ids=repr)
def test_a_check_leaves_the_random_generators_as_they_were(lesson, error):
    def judge(answer):
        draws()
        seed_all(99)
        if error is not None:
            raise error

    exercise = add(lesson, judge=judge)
    seed_all(5)
    expected = draws(), draws()
    seed_all(5)
    first = draws()
    exercise.check(1)
    exercise.use(2)
    assert (first, draws()) == expected


def test_hints_come_in_order_and_then_the_way_to_the_solution(lesson, capsys):
    exercise = add(lesson)
    for _ in range(4):
        exercise.hint()
    end = ["no more hints; ex.total.solution() shows one way to do it"] * 2
    expected = ["hint 1 of 2 · count", "hint 2 of 2 · count again", *end]
    assert said(capsys).splitlines() == expected


def test_the_solution_as_it_would_stand_in_the_notebook(lesson, capsys):
    add(lesson).solution()
    add(lesson, name="pair", answer=(1, "b"), variable="n, letter").solution()
    assert said(capsys) == "total = 3\nn, letter = (1, 'b')\n"
    source = add(lesson, name="f", answer=draws, variable="").source()
    assert source.startswith("def draws():\n    return (random") and not source.endswith("\n")
    source = add(lesson, name="net", answer=Unfinished, variable="").source()
    assert source.startswith("class Unfinished(nn")


def test_summary(lesson, capsys):
    total, double = add(lesson), add(lesson, name="double", title="A longer title", outcome=1)
    lesson.summary()
    assert said(capsys).splitlines()[1:] == ["A longer title  not attempted yet", "0 of 2 correct"]
    total.check(3)
    double.check(4)
    said(capsys)
    lesson.summary()
    assert said(capsys) == "Total           correct\nA longer title  not yet\n1 of 2 correct\n"
    total.check(5)  # spoilt again
    lesson.summary()
    assert said(capsys).endswith("\n0 of 2 correct\n")


def test_settings_that_clash_and_an_edit_that_finds_nothing_to_change(lesson):
    add(lesson)
    for changes, told in (
        ({}, "the name is taken"),
        ({"name": "other", "kind": "guess"}, f"the kind is none of {', '.join(kit.KINDS)}"),
        ({"name": "other", "outcome": 2}, "tests outcome 2, but there are 2"),
        ({"name": "other", "outcome": -1}, "tests outcome -1, but there are 2"),
    ):
        with pytest.raises(ValueError, match=told):
            add(lesson, **changes)
    assert list(lesson.exercises) == ["total"] and Lesson("08", ("x",)).exercises == {}
    with pytest.raises(ValueError, match="found no 'nothing' in"):
        kit.edits(mean, ("hint", "nothing", "something"))


# ---------------------------------------------------------------- judges that are tables


def hears(judge, answer):
    """What a judge says of an answer that is not right."""
    with pytest.raises(NotYet) as caught:
        judge(answer)
    return str(caught.value)


def mean(values):
    return values.sum() / len(values)


CASES = [(np.array([1.0, 2.0, 6.0]),), (np.array([2.0, 4.0]),)]
WRONG = [("the sum", np.sum), ("never computed", lambda v: v.nothing), ("the middle", np.median)]
WRONG += kit.edits(mean, ("one too many", "len(values)", "(len(values) + 1)"))
WRONG += kit.edits(mean, "upside down", ("sum() / len(values)", "sum() ** -1 * len(values)"))
MEAN = kit.function(
    cases=CASES, right=mean, mistakes=WRONG, given=lambda v: f"{len(v)} values", praise="that is it"
)
FIELD = kit.numbers(
    right={"a": 3.0, "b": 7.0},
    readings={"a": [(2.0, "one less"), (9.0, "squared")]},
    what=lambda key: f"the field of {key}",
    low=0,
    praise="both",
    otherwise=lambda key, found: f"think of {key} again",
    wholes=[({"a": 7.0, "b": 3.0}, "the wrong way round")],
)
PLACES = kit.numbers(right=[1, 2], readings={1: [(3, "off by one")]}, what=lambda n: f"place {n}")
WHY = {"x": {"B": "b is not x"}, "y": {"A": "a is not y", "C": "c is not y"}}
CHOICE = kit.letters(right={"x": "A", "y": "B"}, why=WHY, once=True)
TRUTH = kit.letters(right=[True, False], why={0: {False: "it is"}, 1: {True: "it is not"}})
ONE = kit.numbers(right=0.5, readings={None: [(2.0, "upside down")]})
AGAIN = " (You gave this letter twice.)"


@pytest.mark.parametrize("judge", [MEAN, FIELD, PLACES, CHOICE, ONE, TRUTH])
def test_a_table_accepts_what_is_right_and_every_mistake_hears_its_hint(judge):
    assert judge(judge.right) == judge.praise
    rows = [(wrong, hint) for wrong, hint in judge.wrong_answers() if hint != "never computed"]
    assert rows
    for wrong, hint in rows:
        assert hears(judge, wrong).removesuffix(AGAIN).endswith(f": {hint}"), hint


def test_what_a_table_says():
    for judge, answer, told in (
        (MEAN, lambda x: x.sum(), "on 3 values: found 9, expected 3: the sum"),
        (MEAN, lambda x: 5 * x.sum(), "on 3 values: found 45, expected 3"),  # better no hint
        (MEAN, lambda x: x.sum() / 3, "on 2 values: found 2, expected 3"),
        (MEAN, lambda x: "many", "expected a number for the result on 3 values, found 'many'"),
        (FIELD, {"a": 3, "b": 8}, "the field of b: 8 is not it: think of b again"),
        (FIELD, {"a": 2, "b": 8}, "the field of a: 2 is not it: one less"),
        (FIELD, {"a": -1, "b": 7}, "found -1 for the field of a, expected a number from 0 to inf"),
        (FIELD, {"a": 3}, "expected a dict with the keys ['a', 'b'], found {'a': 3}"),
        (PLACES, [1, 4], "place 1: 4 is not it"),
        (PLACES, [1], "expected 2 values, found [1]"),
        (CHOICE, {"x": "b", "y": "B"}, "x: not B: b is not x" + AGAIN),
        (CHOICE, {"x": "A", "y": "C"}, "y: not C: c is not y"),
        (CHOICE, {"x": "D", "y": "B"}, "expected one of A, B for x, found 'D'"),
        (TRUTH, [True, 0], "expected one of False, True for 1, found 0"),
    ):
        assert hears(judge, answer) == told


def test_forms_that_a_table_takes_for_right():
    assert CHOICE({"x": " a", "y": "b"}) == "" and TRUTH(["true", np.bool_(False)]) == ""
    assert PLACES(np.array([1, 2])) == "" and PLACES((1, 2.0)) == ""

    def spoiling(values):
        result = mean(values)
        values[:] = 0
        return result

    assert MEAN(spoiling) == "that is it" and MEAN.cases[0][0].sum() == 9


def test_a_function_may_be_read_run_and_shown_otherwise():
    judge = kit.function(
        cases=[(2,), (3,)],
        right=lambda: nn.Linear(2, 2),
        mistakes=[("one short", lambda: nn.Linear(2, 1))],
        given=lambda n: f"{n} rows",
        run=lambda answer, given, n: answer()(torch.zeros(n, 2)).shape,
        read=lambda found, given: tuple(found),
        agree=lambda found, value: found == value,
        shown=lambda shape: f"{shape[1]} columns",
        otherwise=lambda found, value: f"{found[1] - value[1]} too many",
    )
    assert judge(lambda: nn.Linear(2, 2)) == ""
    for n, hint in ((1, "one short"), (5, "3 too many")):
        told = f"on 2 rows: found {n} columns, expected 2 columns: {hint}"
        assert hears(judge, lambda n=n: nn.Linear(2, n)) == told


def test_judges_in_turn():
    seen = []
    judge = kit.in_turn([FIELD, seen.append, lambda answer: "last"])
    assert hears(judge, {"a": 3}).startswith("expected a dict") and not seen
    assert judge(FIELD.right) == "last" and seen == [FIELD.right]
    both = [*FIELD.wrong_answers(), *CHOICE.wrong_answers()]
    assert kit.in_turn([FIELD, CHOICE]).wrong_answers() == both


def test_what_is_close():
    close = kit.close()
    assert close(1.0, 1 + 1e-7) and not close(1.0, 1.001) and kit.close(0.01)(1.0, 1.001)
    assert close(float("nan"), np.nan) and close([1, 2], (1, 2)) and not close(np.ones(2), 1.0)
    assert close(torch.ones(2, requires_grad=True), np.ones(2))


def test_lessons_are_found_in_order_and_fit_their_modules():
    numbers = [lesson.number for lesson in exercises.lessons()]
    assert numbers == sorted(numbers)
    for lesson in exercises.lessons():
        module = exercises.importlib.import_module(f"seglib.exercises.lesson{lesson.number}")
        assert module.LESSON is lesson and module.summary == lesson.summary
        for name, exercise in lesson.exercises.items():
            assert exercise.name == name and getattr(module, name) is exercise


def test_the_table_names_every_exercise_with_lesson_and_outcome(lesson, monkeypatch):
    add(lesson)
    add(lesson, name="double", title="Twice", kind="implement", outcome=1)
    monkeypatch.setattr(exercises, "lessons", lambda: [lesson])
    assert exercises.table() == (
        "lesson 07\n"
        "  ex.total (predict): Total\n      tests: add two numbers\n"
        "  ex.double (implement): Twice\n      tests: double a number"
    )
