"""Every part of the documentation that is made from code, by name."""

from functools import partial

import msgspec

from tools.reference.commands import command_sections
from tools.reference.pages import Part
from tools.reference.requests import refusal_table, request_table, type_sections
from tools.reference.structs import key_table, payload_table
from tools.reference.words import error_table, exit_code_table
from transom import config, messages, sharing, updates

TABLES: tuple[type[msgspec.Struct], ...] = (
    config.Config,
    config.MqttConfig,
    config.ModelsConfig,
    config.DecisionConfig,
    config.HomeAssistantConfig,
    config.OutboxConfig,
    config.CaptureConfig,
    config.SamplesConfig,
    config.UpdatesConfig,
    config.PageConfig,
    config.CameraConfig,
    config.ZoneConfig,
    config.ContactConfig,
)
PAYLOADS: tuple[type[msgspec.Struct], ...] = (
    messages.ZoneState,
    messages.TaskAnswer,
    messages.Taught,
    messages.Contact,
    messages.ZoneEvent,
    messages.CameraProblem,
    messages.Diagnostics,
    messages.ModelState,
    updates.Install,
    updates.Rollback,
    updates.ModelReport,
    updates.TrustedKeys,
    updates.DepotEntry,
    sharing.SamplesOffer,
)

PARTS: dict[str, Part] = {
    "commands": command_sections,
    "errors": error_table,
    "exit-codes": exit_code_table,
    "page-refusals": refusal_table,
    "page-requests": request_table,
    "page-types": type_sections,
    **{part.__name__: partial(key_table, part) for part in TABLES},
    **{part.__name__: partial(payload_table, part) for part in PAYLOADS},
}
