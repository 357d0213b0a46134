"""Cameras as they are: files, MJPEG and RTSP servers that freeze, drip, lie and vanish."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime import sources
from edge_runtime.capture import MOST_HELD, CameraProcess, read_file
