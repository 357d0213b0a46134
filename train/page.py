"""A page that a person opens as one file: nothing beside it, light or dark as the reader likes."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import cv2
import numpy as np
import numpy.typing as npt

from transom.atomic import write_file

_PICTURE_SIDE = 160
_JPEG_QUALITY = 82
_TEMPLATE = Path(__file__).with_name("page_template.html")

EXTRACTOR_QUESTION = "Which feature extractor?"
PARAMETERS_QUESTION = "Which hyper-parameters?"


@dataclass(frozen=True)
class Answer:
    """A question and what the data say to it, in sentences of plain text."""

    question: str
    sentences: tuple[str, ...]


def answer_section(answers: Sequence[Answer]) -> str:
    """Return answers as a section of a page, HTML."""
    parts = ['<section class="answer"><h2>In plain words</h2>']
    for answer in answers:
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in answer.sentences)
        parts.append(f"<h3>{escape(answer.question)}</h3>{said}")
    return "\n".join([*parts, "</section>"])


def answer_text(answers: Sequence[Answer]) -> str:
    """Return answers as lines of plain text, a blank one before each question."""
    lines: list[str] = []
    for answer in answers:
        lines += ["", answer.question, *(f"  {sentence}" for sentence in answer.sentences)]
    return "\n".join(lines)


def write_page(path: Path, *, title: str, headline: str, basis: str, body: Sequence[str]) -> None:
    """Write a page; the file is replaced whole.

    Args:
        path: The file.
        title: What it is about, plain text.
        headline: What it says, in a sentence; HTML.
        basis: What that rests on; HTML.
        body: Sections, HTML.

    Raises:
        OSError: The file cannot be written.
    """
    page = Template(_TEMPLATE.read_text("utf-8")).substitute(
        title=escape(title), headline=headline, basis=basis, body="\n".join(body)
    )
    write_file(path, page.encode())


def jpeg_url(crop: npt.NDArray[np.uint8]) -> str:
    """Return a picture as a URL that holds it, made smaller where it is large.

    Args:
        crop: (S, S, 3) uint8 BGR.
    """
    picture = np.array(crop)
    if picture.shape[0] > _PICTURE_SIDE:
        picture = cv2.resize(
            picture, (_PICTURE_SIDE, _PICTURE_SIDE), interpolation=cv2.INTER_AREA
        ).astype(np.uint8)
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()
