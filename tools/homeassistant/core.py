"""Run a Home Assistant core, let a device tell its day, and say what is not as it should be.

Runs in Home Assistant's own environment: `python core.py FOLDER STORY BLUEPRINT CARD PORT`. The
newest core for Python 3.11 is older than two things that Transom says: a device's discovery in one
message, and `default_entity_id`. So each entity is told by itself here, by the rules that Home
Assistant has for the one message (an entity takes from it what it does not say itself), and under
`object_id`, as that key was named.
"""

import argparse
import asyncio
import base64
import json
import logging
import re
import secrets
import shutil
import socket
from pathlib import Path

from aiohttp import ClientSession, web

from homeassistant import bootstrap, runner
from homeassistant.components import mqtt
from homeassistant.components.blueprint.errors import BlueprintException
from homeassistant.components.blueprint.models import Blueprint
from homeassistant.components.mobile_app.util import get_notify_service
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.util.yaml import load_yaml

WITHIN_S = 10.0
_CONFIGURATION = """\
homeassistant:
  name: Home
  time_zone: Europe/Berlin
  auth_providers:
    - type: trusted_networks
      trusted_networks: [127.0.0.1]
      allow_bypass_login: true
http:
  server_host: 127.0.0.1
  server_port: {port}
automation: !include automations.yaml
mobile_app:
config:
frontend:
history:
lovelace:
  mode: yaml
"""
_WELCOMED = {
    "version": 4, "minor_version": 1, "key": "onboarding",
    "data": {"done": ["user", "core_config", "analytics", "integration"]},
}  # fmt: skip
_LIMITS = {
    "successful": 1,
    "errors": 0,
    "maximum": 500,
    "remaining": 499,
    "resetsAt": "2030-01-01T00:00:00.000Z",
}
"""As the service answers that pushes to phones."""

_CONCERNS_US = re.compile("mqtt|automation|blueprint|template")
_SHARED = ("availability", "availability_mode", "qos", "encoding")
"""What an entity takes from the device's message where it does not say it itself."""


class Complaints(logging.Handler):
    """What Home Assistant says of messages and entities, from warnings on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is said."""
        self.lines.append(f"{record.name}: {record.getMessage()}")


class Phone:
    """A phone that has the app: it gets what is pushed, and fetches its picture."""

    def __init__(self, homeassistant: int) -> None:
        self.got: list[dict[str, str]] = []
        self.port = _free_port()
        self._homeassistant = homeassistant
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen for what is pushed."""
        application = web.Application()
        application.router.add_post("/push", self._push)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _push(self, request: web.Request) -> web.Response:
        told = await request.json()
        data = told.get("data", {})
        found = {key: told[key] for key in ("title", "message") if key in told}
        found["tag"] = data.get("tag", "")
        if data.get("image"):
            found["picture"] = await self._fetch(data["image"])
        self.got.append(found)
        return web.json_response({"rateLimits": _LIMITS}, status=201)

    async def _fetch(self, path: str) -> str:
        async with (
            ClientSession() as session,
            session.get(f"http://127.0.0.1:{self._homeassistant}{path}") as answer,
        ):
            data = await answer.read()
            is_picture = answer.status == 200 and data.startswith(b"\xff\xd8")
            return "shown" if is_picture else f"{answer.status} {path}"


def single_messages(device: dict) -> list[tuple[str, dict]]:
    """Return a device's discovery as a topic and a payload for each entity."""
    told = []
    for key, component in device["components"].items():
        payload = {name: device[name] for name in _SHARED if name in device} | component
        platform = payload.pop("platform")
        payload["object_id"] = payload.pop("default_entity_id").partition(".")[2]
        payload |= {"device": device["device"], "origin": device["origin"]}
        told.append((f"homeassistant/{platform}/transom/{key}/config", payload))
    return told


def blueprint_mistakes(file: Path) -> list[str]:
    """Return what Home Assistant's schema of blueprints says against a file."""
    try:
        Blueprint(load_yaml(str(file)), expected_domain="automation", path=file.name)
    except (BlueprintException, HomeAssistantError) as error:
        return [f"{file.name}: {error}"]
    return []


def missing_entities(hass: HomeAssistant, device: dict) -> list[str]:
    """Return the entities that are not in Home Assistant's registry under the id they ask for."""
    registry = entity_registry.async_get(hass)
    found = {entry.unique_id: entry.entity_id for entry in registry.entities.values()}
    wanted = {c["unique_id"]: c["default_entity_id"] for c in device["components"].values()}
    return [
        f"{wanted_id}: {'is not there' if unique not in found else f'became {found[unique]}'}"
        for unique, wanted_id in wanted.items()
        if found.get(unique) != wanted_id
    ]


async def start(folder: Path, card: Path, port: int, broker: int) -> HomeAssistant:
    """Start a core with its MQTT integration set up, and the card on its dashboard."""
    (folder / ".storage").mkdir()
    (folder / ".storage" / "onboarding").write_text(json.dumps(_WELCOMED))
    views = [{"title": "Doors", "cards": [load_yaml(str(card))]}]
    (folder / "ui-lovelace.yaml").write_text(json.dumps({"title": "Home", "views": views}))
    (folder / "configuration.yaml").write_text(_CONFIGURATION.format(port=port))
    (folder / "automations.yaml").write_text("[]\n")
    hass = await bootstrap.async_setup_hass(
        runner.RuntimeConfig(config_dir=str(folder), skip_pip=True)
    )
    assert hass is not None
    await hass.async_start()
    entry = ConfigEntry(
        version=1, minor_version=1, domain="mqtt", title="MQTT", source="user",
        data={"broker": "127.0.0.1", "port": broker, "discovery": True},
    )  # fmt: skip
    await hass.config_entries.async_add(entry)
    return hass


async def register_phone(hass: HomeAssistant, phone: Phone) -> str:
    """Register a phone as the app does, and return its device id."""
    owner = await hass.auth.async_create_user("Owner", group_ids=["system-admin"])
    push = {"push_token": "token", "push_url": f"http://127.0.0.1:{phone.port}/push"}
    data = {
        "app_data": push, "app_id": "io.transom.test", "app_name": "Phone", "app_version": "1",
        "device_id": "phone", "device_name": "Phone", "manufacturer": "none", "model": "none",
        "os_name": "none", "os_version": "1", "supports_encryption": False,
        "webhook_id": secrets.token_hex(), "user_id": owner.id,
    }  # fmt: skip
    flow = hass.config_entries.flow
    result = await flow.async_init("mobile_app", data=data, context={"source": "registration"})
    await hass.async_block_till_done()
    webhook = result["data"]["webhook_id"]
    assert get_notify_service(hass, webhook) is not None
    devices = device_registry.async_get(hass).devices.values()
    return next(device.id for device in devices if device.name == "Phone")


async def add_automation(hass: HomeAssistant, blueprint: Path, phone: str) -> None:
    """Make an automation of the blueprint, as the form in its interface does."""
    place = Path(hass.config.path("blueprints", "automation", "transom"))
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(blueprint, place)
    inputs = {"event": "event.front_door", "phone": phone, "picture": "image.front_door"}
    use = {"path": f"transom/{blueprint.name}", "input": inputs}
    automation = {"id": "left_open", "alias": "Front door left open", "use_blueprint": use}
    Path(hass.config.path("automations.yaml")).write_text(json.dumps([automation]))
    await hass.services.async_call("automation", "reload", blocking=True)


async def until(condition, what) -> str:
    """Wait until a condition holds; return what is wrong where it does not within `WITHIN_S`."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        return what()
    return ""


async def play(hass: HomeAssistant, story: dict, phone: Phone, pause: str) -> list[str]:
    """Tell the story step by step; return what did not come of it.

    After the step named `pause` it waits for a line of standard input, so that somebody can look.
    """
    mistakes = []
    for step in story["steps"]:
        wrong = await _outcome(hass, step, phone)
        print("WRONG" if wrong else "ok   ", step["name"])
        mistakes += wrong
        if pause and step["name"] == pause:
            device = device_registry.async_get(hass).async_get_device({("mqtt", "transom_hall-pi")})
            print(f"LOOK {hass.http.server_port} {device.id}", flush=True)
            await hass.async_add_executor_job(input)
    return mistakes


async def _outcome(hass: HomeAssistant, step: dict, phone: Phone) -> list[str]:
    """Say what a step says, and return what did not come of it."""
    before, wanted = len(phone.got), step["phone"]
    for said in step["messages"]:
        payload = base64.b64decode(said["payload"])
        await mqtt.async_publish(hass, said["topic"], payload, 1, said["retain"])
    found = [await until(*_state_is(hass, *pair)) for pair in step["states"].items()]
    if wanted is not None:
        found.append(await until(lambda: len(phone.got) > before, lambda: "nothing was pushed"))
    await hass.async_block_till_done()
    got = phone.got[before:]
    if got != ([] if wanted is None else [wanted]):
        found.append(f"the phone got {got}, not {wanted}")
    return [mistake for mistake in found if mistake]


def _state_is(hass: HomeAssistant, entity: str, wanted: str):
    def now() -> str:
        state = hass.states.get(entity)
        return "not there" if state is None else state.state

    return (lambda: now() == wanted), (lambda: f"{entity} must be {wanted}, is {now()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def check(arguments: argparse.Namespace) -> int:
    """Return 0 where all is as it should be."""
    story = json.loads(arguments.story.read_text())
    port = _free_port()
    complaints, phone = Complaints(), Phone(port)
    hass = await start(arguments.folder, arguments.card, port, arguments.port)
    logging.getLogger("homeassistant").addHandler(complaints)
    try:
        await phone.start()
        for topic, payload in single_messages(story["discovery"]):
            await mqtt.async_publish(hass, topic, json.dumps(payload), 1, True)
        missing = lambda: missing_entities(hass, story["discovery"])  # noqa: E731
        await until(lambda: not missing(), lambda: "")
        mistakes = [*blueprint_mistakes(arguments.blueprint), *missing()]
        print(f"{len(story['discovery']['components'])} entities are told")
        await add_automation(hass, arguments.blueprint, await register_phone(hass, phone))
        mistakes += await play(hass, story, phone, arguments.pause)
        mistakes += [line for line in complaints.lines if _CONCERNS_US.search(line)]
    finally:
        await hass.async_stop()
        await phone.stop()
    print(*(mistakes or ["all well"]), sep="\n")
    return 1 if mistakes else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("folder", "story", "blueprint", "card"):
        parser.add_argument(name, type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--pause", default="")
    raise SystemExit(asyncio.run(check(parser.parse_args())))
