from train.charts import Dot, dot_chart


def test_a_name_stands_beside_its_dot() -> None:
    assert ">short</text>" in dot_chart([Dot(x=1, y=0.5, name="short"), Dot(x=2, y=0.6)], "x", "y")


def test_a_name_that_fits_on_neither_side_is_left_to_the_title() -> None:
    name = "a name that is longer than half of a chart is wide"
    dots = [Dot(x=1, y=0.5), Dot(x=2, y=0.6, name=name, title=name), Dot(x=3, y=0.5)]
    chart = dot_chart(dots, "x", "y")
    assert f"<title>{name}</title>" in chart
    assert f">{name}</text>" not in chart
