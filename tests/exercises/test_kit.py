"""What every exercise shares: placeholders, verdicts, errors in answers, randomness, hints."""

from __future__ import annotations

import functools
import random

import numpy as np
import pytest
import torch
from torch import nn

from seglib import exercises
from seglib.exercises.kit import (
    CORRECT,
    KINDS,
    NOT_ATTEMPTED,
    NOT_YET,
    Lesson,
    NotYet,
    Outcome,
    call,
    is_placeholder,
    number,
    show,
)


@pytest.fixture
def lesson():
    return Lesson("07", outcomes=("add two numbers", "double a number"))


def is_three(answer):
    if answer != 3:
        raise NotYet(f"found {answer}, expected 3")
    return "1 + 2"


def add(lesson, **changes):
    settings = {
        "name": "total",
        "title": "Total",
        "kind": "predict",
        "outcome": 0,
        "answer": 3,
        "judge": is_three,
        "variable": "total",
        "hints": ("count", "count again"),
    }
    return lesson.add(**{**settings, **changes})


def said(capsys):
    return capsys.readouterr().out


# ---------------------------------------------------------------- placeholders


def only_dots(): ...


def with_docstring(number):
    """Double it."""
    ...  # noqa: PIE790


def with_pass(number):
    """Double it."""
    pass  # noqa: PIE790


def returning_dots(number):
    return ...


def with_annotations(number: int, factor: int = 2, *more: int, key: str = "a") -> int:
    """Double it."""
    ...  # noqa: PIE790


def empty():
    """Nothing but this."""


def returning_none():
    return None


class Half(nn.Module):
    """One method is open."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x): ...


class Value:
    size = ...


PLACEHOLDERS = {
    "dots": ...,
    "tuple": (1, ...),
    "tuple of dots": (..., ...),
    "list": [..., 2],
    "dict": {"a": 1, "b": ...},
    "function": only_dots,
    "docstring": with_docstring,
    "pass": with_pass,
    "return dots": returning_dots,
    "annotations": with_annotations,
    "empty": empty,
    "return None": returning_none,
    "lambda": lambda x: ...,
    "class": Half,
    "class with a value": Value,
}


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_placeholders_of_every_form(name):
    assert is_placeholder(PLACEHOLDERS[name])


class Whole(nn.Module):
    """Everything is written."""

    kind = "whole"

    def forward(self, x):
        return x


def printing():
    print("hello")


def zero():
    return 0


def looping():
    while True:
        pass


def raising():
    raise NotImplementedError


def closing(x=3):
    def inner():
        return x

    return inner


ANSWERS = {
    "zero": 0,
    "none": None,
    "empty text": "",
    "empty list": [],
    "empty tuple": (),
    "dict": {},
    "array": np.zeros(3),
    "tensor": torch.zeros(2),
    "prints": printing,
    "returns 0": zero,
    "loops": looping,
    "raises": raising,
    "closure": closing(),
    "lambda": lambda x: x,
    "class": Whole,
    "builtin": len,
    "partial": functools.partial(zero),
    "module": nn.Identity(),
    "instance of an open class": Half(),
    "list of arrays": [np.zeros(3), np.zeros(3)],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_no_placeholders(name):
    assert not is_placeholder(ANSWERS[name])


def test_what_is_filled_in_partly_is_told_what_is_left(lesson):
    exercise = add(lesson)
    for answer in ({"a": 1, "b": ..., "c": ...}, [..., 3, ...]):
        assert exercise.judged(answer).message.startswith("2 of 3 still open; hint: ")
    assert exercise.judged((..., ...)).message == "hint: ex.total.hint()"


def test_a_placeholder_is_no_fault_whatever_the_judge_does(lesson, capsys):
    exercise = add(lesson, judge=lambda answer: 1 / 0)
    exercise.check(...)
    assert said(capsys) == "not attempted yet · hint: ex.total.hint()\n"
    assert exercise.state == NOT_ATTEMPTED


# ---------------------------------------------------------------- verdicts


def test_the_three_verdicts(lesson, capsys):
    exercise = add(lesson)
    for answer, text in (
        (..., "not attempted yet · hint: ex.total.hint()"),
        (4, "not yet · found 4, expected 3"),
        (3, "correct · 1 + 2"),
    ):
        exercise.check(answer)
        assert said(capsys) == text + "\n"
        assert exercise.state == text.split(" · ")[0]
    assert str(Outcome(CORRECT)) == "correct"


def test_a_judge_may_have_nothing_to_say(lesson, capsys):
    add(lesson, judge=lambda answer: None).check(1)
    assert said(capsys) == "correct\n"


@pytest.mark.parametrize(
    "answer",
    [None, "3", np.zeros((2, 2)), [1], object(), float("nan")],
    ids=lambda answer: type(answer).__name__,
)
def test_a_judge_that_stumbles_is_no_error(lesson, answer):
    found = add(lesson, judge=lambda answer: answer.no_such_thing).judged(answer)
    assert found.state == NOT_YET
    assert found.message.startswith("the check stumbled over ") and "AttributeError" in str(found)


def test_judging_alone_leaves_the_state(lesson):
    exercise = add(lesson)
    exercise.check(3)
    assert exercise.judged(4).state == NOT_YET and exercise.state == CORRECT


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


class Unfinished(nn.Module):
    """Its __init__ forgets super().__init__(), so PyTorch cannot print it."""

    def __init__(self):
        self.size = 3


@pytest.mark.parametrize(
    "make", [Unprintable, Unfinished, lambda: np, lambda: np.ndarray, lambda: torch.Tensor]
)
def test_an_answer_that_cannot_be_shown_is_no_error(lesson, make):
    assert show(make())
    found = add(lesson, judge=lambda answer: answer.no_such_thing).judged(make())
    assert found.state == NOT_YET


def test_an_answer_that_ends_the_program_is_no_error(lesson):
    def ends(*_):
        raise SystemExit(1)

    found = add(lesson, judge=lambda f: call(f, given="nothing")).judged(ends)
    assert found.state == NOT_YET


# ---------------------------------------------------------------- use


def test_use_hands_on_the_answer_once_it_is_correct(lesson, capsys):
    mine, theirs = object(), object()
    exercise = add(lesson, answer=theirs, judge=lambda a: is_three(3 if a is mine else 4))
    assert exercise.use(...) is theirs and exercise.use(mine) is mine  # before any check
    exercise.check(mine)
    assert exercise.use(mine) is mine
    assert exercise.use(4) is theirs  # another one
    exercise.check(4)
    assert exercise.use(4) is theirs and exercise.use(mine) is mine
    exercise.check(...)
    assert exercise.use(...) is theirs
    said(capsys)


def test_use_after_check_does_not_judge_again(lesson, capsys):
    judged = []
    exercise = add(lesson, judge=judged.append)
    exercise.check(3)
    exercise.use(3)
    assert judged == [3]
    exercise.use(4)
    assert judged == [3, 4] and said(capsys) == "correct\n"  # use prints nothing


def test_use_before_check_leaves_the_summary_alone(lesson):
    exercise = add(lesson)
    assert exercise.use(3) == 3 and exercise.state == NOT_ATTEMPTED


# ---------------------------------------------------------------- errors in the reader's code


def test_call_turns_errors_into_verdicts():
    assert call(lambda a, b: a + b, 1, 2, given="1 and 2") == 3
    with pytest.raises(NotYet, match=r"^on 1, raising raised NotImplementedError: $"):
        call(named(raising), 1, given="1")
    with pytest.raises(NotYet, match=r"^on a mask, printing returned None; is the `return` miss"):
        call(printing, given="a mask")
    with pytest.raises(NotYet, match=r"^on 1, zero raised TypeError: .*takes 0 positional"):
        call(zero, 1, given="1")
    with pytest.raises(NotYet, match=r"^expected a function, found 3$"):
        call(3, given="1")
    with pytest.raises(NotYet, match=r"^expected a function, found an array of shape"):
        call(np.zeros(2), given="1")
    with pytest.raises(NotYet, match="Whole returned None"):
        call(WithoutReturn(), given="x")
    with pytest.raises(NotYet, match="RecursionError"):
        call(endless, given="1")


def named(function):
    @functools.wraps(function)
    def wrapper(*_):
        return function()

    return wrapper


class WithoutReturn:
    __name__ = "Whole"

    def __call__(self):
        pass


def endless():
    return endless()


def test_no_cause_hangs_on_a_verdict():
    with pytest.raises(NotYet) as caught:
        call(named(raising), 1, given="1")
    assert caught.value.__suppress_context__


def test_number():
    assert number("0.5", "x") == 0.5 and number(np.float32(2), "x") == 2
    assert number(torch.tensor(3.0), "x") == 3
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


# ---------------------------------------------------------------- randomness


def draws():
    return (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002


def seed_all(value):
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002
    torch.manual_seed(value)


@pytest.mark.parametrize("what", ["draws", "seeds", "fails", "stumbles"])
def test_a_check_leaves_the_random_generators_as_they_were(lesson, what, capsys):
    def judge(answer):
        draws()
        if what == "seeds":
            seed_all(99)
        if what == "fails":
            raise NotYet("no")
        if what == "stumbles":
            raise KeyError("x")

    exercise = add(lesson, judge=judge)
    seed_all(5)
    expected = draws(), draws()
    seed_all(5)
    first = draws()
    exercise.check(1)
    exercise.use(2)
    assert (first, draws()) == expected
    said(capsys)


# ---------------------------------------------------------------- hints, solution, summary


def test_hints_come_in_order_and_then_the_way_to_the_solution(lesson, capsys):
    exercise = add(lesson)
    for _ in range(4):
        exercise.hint()
    assert said(capsys).splitlines() == [
        "hint 1 of 2 · count",
        "hint 2 of 2 · count again",
        *["no more hints; ex.total.solution() shows one way to do it"] * 2,
    ]


def test_the_solution_as_it_would_stand_in_the_notebook(lesson, capsys):
    add(lesson).solution()
    add(lesson, name="pair", answer=(1, "b"), variable="n, letter").solution()
    add(lesson, name="table", answer={"a": 0.5}, variable="table").solution()
    assert said(capsys) == "total = 3\nn, letter = (1, 'b')\ntable = {'a': 0.5}\n"
    function = add(lesson, name="zero", answer=zero, variable="").source()
    assert function == "def zero():\n    return 0"
    assert add(lesson, name="net", answer=Whole, variable="").source().startswith("class Whole(nn")


def test_summary(lesson, capsys):
    first, second = add(lesson), add(lesson, name="double", title="A longer title", outcome=1)
    lesson.summary()
    assert said(capsys).splitlines() == [
        "Total           not attempted yet",
        "A longer title  not attempted yet",
        "0 of 2 correct",
    ]
    first.check(3)
    second.check(4)
    said(capsys)
    lesson.summary()
    assert said(capsys).splitlines() == [
        "Total           correct",
        "A longer title  not yet",
        "1 of 2 correct",
    ]
    first.check(5)  # spoilt again
    said(capsys)
    lesson.summary()
    assert said(capsys).endswith("0 of 2 correct\n")


def test_settings_that_clash(lesson):
    add(lesson)
    with pytest.raises(ValueError, match="the name is taken"):
        add(lesson)
    with pytest.raises(ValueError, match=f"the kind is none of {', '.join(KINDS)}"):
        add(lesson, name="other", kind="guess")
    for outcome in (2, -1):
        with pytest.raises(ValueError, match=f"tests outcome {outcome}, but there are 2"):
            add(lesson, name="other", outcome=outcome)
    assert list(lesson.exercises) == ["total"]


def test_lessons_do_not_share_exercises(lesson):
    add(lesson)
    assert Lesson("08", ("x",)).exercises == {}


# ---------------------------------------------------------------- all lessons


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
