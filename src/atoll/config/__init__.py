"""Settings: what there are (`settings`), and where they come from (`loading`)."""

from atoll.config.loading import (
    FROM_DEFAULT,
    FROM_FLAG,
    Loaded,
    default_of,
    environment_name,
    in_words,
    load,
    settings,
)
from atoll.config.settings import Config, Setting

__all__ = [
    "FROM_DEFAULT",
    "FROM_FLAG",
    "Config",
    "Loaded",
    "Setting",
    "default_of",
    "environment_name",
    "in_words",
    "load",
    "settings",
]
