"""The REST API: `create_app` makes the ASGI application, `tokens` are what its callers (and agents) show."""

from controller.api.app import create_app
from controller.api.deps import ApiDeps, ApiSettings

__all__ = ["ApiDeps", "ApiSettings", "create_app"]
