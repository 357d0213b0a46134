from edge_runtime.newest_values import NewestValues
from transom.messages import Message

ONLINE = Message("status", b"online", qos=1, retain=True)


def value(topic: str, text: str, *, retain: bool = True) -> Message:
    return Message(topic, text.encode(), qos=0, retain=retain)


def due(values: NewestValues) -> list[tuple[str, str]]:
    found = []
    while (message := values.next()) is not None:
        found.append((message.topic, message.payload.decode()))
    return found


def test_a_value_replaces_the_one_before_of_its_topic() -> None:
    values = NewestValues(ONLINE)
    for message in (value("a", "old"), value("b", "other"), value("a", "new")):
        values.put(message)
    assert due(values) == [("a", "new"), ("b", "other")]
    assert len(values) == 0


def test_what_was_sent_in_vain_does_not_replace_what_is_newer() -> None:
    values = NewestValues(ONLINE)
    values.put(value("a", "new"))
    values.put_back([value("a", "old"), value("b", "lost")])
    assert due(values) == [("a", "new"), ("b", "lost")]


def test_repeats_what_is_retained_and_the_last_value_when_the_others_are_right() -> None:
    values = NewestValues(ONLINE)
    for message in (value("a", "1"), value("figure", "2", retain=False), value("b", "3")):
        values.put(message)
    due(values)
    values.put(value("late", "4"))
    values.repeat()
    values.put(value("later", "5"))
    values.repeat()
    assert due(values) == [
        ("late", "4"),
        ("a", "1"),
        ("b", "3"),
        ("later", "5"),
        ("status", "online"),
    ]


def test_figures_of_the_past_are_forgotten() -> None:
    values = NewestValues(ONLINE)
    values.put(value("figure", "1", retain=False))
    values.put(value("state", "2"))
    values.drop_figures()
    assert due(values) == [("state", "2")]
