"""The workstation's connection to a broker."""

from pathlib import Path

import pytest

from edge_runtime.clock import Clock
from edge_runtime.link import Access, read_tls
from fleet.session import Session
from tests.edge_runtime.broker import Broker
from transom.config import MqttConfig
from transom.errors import TransomError


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
def test_tls_with_a_broker_that_has_none_says_what_may_be_meant(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        config = MqttConfig(host="127.0.0.1", port=broker.port, tls=True)
        access = Access(config, None, read_tls(config, tmp_path / "transom.toml"))
        with (
            pytest.raises(TransomError, match=r"that port has no TLS, .* mqtt\.tls = false"),
            Session(access, Clock()),
        ):
            pass
