import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transom.tasks import NAME_PATTERN, RESERVED_NAMES, Task, TaskSet

STATE = Task(name="state", classes=("closed", "ajar", "open"), ordinal=True)
KIND = Task(name="kind", classes=("door", "window"))


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("State", ("a", "b"), "task name must match"),
        ("", ("a", "b"), "task name must match"),
        ("state\n", ("a", "b"), r"got 'state\\n'"),
        ("1st", ("a", "b"), "task name must match"),
        ("zustand_ü", ("a", "b"), "task name must match"),
        ("a" * 33, ("a", "b"), "task name must match"),
        ("a/+", ("a", "b"), "task name must match"),
        ("state", ("open", "Closed"), "class name must match .* got 'Closed'"),
        ("state", ("open", "closed\n"), r"class name must match .* got 'closed\\n'"),
        ("state", ("open", ""), "class name must match"),
        ("state", ("open",), r"needs at least 2 classes, got \['open'\]"),
        ("state", (), "needs at least 2 classes"),
        ("state", ("open", "open"), "names a class twice"),
        ("state", ("open", "unknown"), "leave such pictures unlabelled"),
    ],
)
def test_refuses_a_task_that_breaks_the_rules(
    name: str, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Task(name=name, classes=classes)


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_refuses_a_task_named_like_a_column_or_an_output(name: str) -> None:
    with pytest.raises(ValueError, match=f"task must not be named '{name}'.*choose another name"):
        Task(name=name, classes=("closed", "open"))


@given(st.text(max_size=40))
def test_takes_exactly_the_names_that_fit_the_pattern(name: str) -> None:
    fits = re.fullmatch(NAME_PATTERN.strip("^$"), name) is not None and name not in RESERVED_NAMES
    try:
        Task(name=name, classes=("closed", "open"))
    except ValueError:
        assert not fits
    else:
        assert fits


def test_index_follows_the_order_of_the_logits() -> None:
    assert [STATE.index(c) for c in STATE.classes] == [0, 1, 2]


def test_an_absent_class_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no class 'opne', only closed, ajar, open"):
        STATE.index("opne")


def test_a_task_set_keeps_the_order_of_its_heads() -> None:
    tasks = TaskSet([STATE, KIND])
    assert tasks.names == ("state", "kind")
    assert list(tasks) == [STATE, KIND]
    assert len(tasks) == 2
    assert "kind" in tasks
    assert "size" not in tasks
    assert tasks["kind"] is KIND


def test_equal_task_sets_have_the_same_tasks_in_the_same_order() -> None:
    assert TaskSet([STATE, KIND]) == TaskSet([STATE, KIND])
    assert TaskSet([STATE, KIND]) != TaskSet([KIND, STATE])
    assert TaskSet([STATE]) != [STATE]


def test_refuses_a_task_given_twice() -> None:
    with pytest.raises(ValueError, match="task 'state' is given twice"):
        TaskSet([STATE, STATE])


def test_joining_appends_new_tasks_and_new_classes() -> None:
    more = Task(name="kind", classes=("window", "gate"))
    size = Task(name="size", classes=("small", "large"))
    joined = TaskSet([KIND]).joined(TaskSet([size, more]))
    assert joined == TaskSet([Task(name="kind", classes=("door", "window", "gate")), size])


def test_joining_a_task_set_with_itself_changes_nothing() -> None:
    tasks = TaskSet([STATE, KIND])
    assert tasks.joined(tasks) == tasks


def test_refuses_to_guess_the_common_order_of_two_ordinal_tasks() -> None:
    other = Task(name="state", classes=("closed", "open"), ordinal=True)
    with pytest.raises(ValueError, match="must list the same classes in the same order"):
        TaskSet([STATE]).joined(TaskSet([other]))


def test_refuses_to_join_an_ordinal_task_with_one_that_is_not() -> None:
    other = Task(name="state", classes=STATE.classes)
    with pytest.raises(ValueError, match="ordinal in one data set and not in another"):
        TaskSet([STATE]).joined(TaskSet([other]))
