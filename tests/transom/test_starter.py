from pathlib import Path

from transom.starter import bundle_path


def test_any_other_word_is_a_path() -> None:
    assert bundle_path("hall/7.bundle") == Path("hall/7.bundle")
