"""What the engine says, in the words of the person whose job it is, and whether trying again may help. Pure."""

from __future__ import annotations

import re

from agent.drivers.docker_engine import Refused
from agent.drivers.protocol import DriverError

_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.I)
_NO_COMMAND = re.compile(r'exec: "(?P<name>[^"]*)": (?P<why>executable file not found|stat .*: no such file)')
_BAD_COMMAND = re.compile(r'exec: "(?P<name>[^"]*)": (?P<why>permission denied|is a directory)')
_FORMAT = re.compile(r"exec format error")
_NO_USER = re.compile(r"unable to find (?P<kind>user|group) (?P<name>[^:]+):")
_NO_SOURCE = re.compile(r"bind source path does not exist: (?P<path>\S+)")
_NO_RUNTIME = re.compile(r"unknown or invalid runtime name|unknown runtime specified", re.I)
_NO_NAMESPACE = re.compile(r"moorage: (?P<why>[^\"\\]*)")
_GONE_MEANWHILE = re.compile(r"cannot join network of a non running container|no such container", re.I)
_NO_IMAGE = re.compile(r"no such image", re.I)
_LAST = re.compile(
    r"(?:OCI runtime create failed|failed to create (?:shim )?task)[^:]*: (?P<why>.*?)(?:: unknown)?$", re.S
)

_WRONG_LOGIN = re.compile(r"unauthorized|no basic auth credentials|incorrect username or password|denied", re.I)
_NOT_THERE = re.compile(r"manifest unknown|not found|name unknown", re.I)
_NO_ANSWER = re.compile(
    r"no such host|connection refused|connection reset|i/o timeout|timeout exceeded|deadline exceeded|"
    r"network is unreachable|no route to host|tls handshake|server misbehaving|lookup|proxyconnect|EOF|dial tcp",
    re.I,
)


_REGISTRY = re.compile(r"https?://(?P<name>[^/\"\s]+)")


def is_missing_image(refused: Refused) -> bool:
    return refused.status == 404 and _NO_IMAGE.search(refused.message) is not None


def start_error(image: str, refused: Refused) -> DriverError:
    """Why a container could not be created or started."""
    message = refused.message
    if is_missing_image(refused):
        return DriverError(f"image {image} has gone from this node")
    if _NO_SPACE.search(message):
        return DriverError(f"no disk space is left on this node to start image {image}")
    if found := _NO_COMMAND.search(message):
        return DriverError(f'command "{found["name"]}" does not exist in image {image}', retry=False)
    if found := _BAD_COMMAND.search(message):
        return DriverError(f'command "{found["name"]}" of image {image} cannot be run: {found["why"]}', retry=False)
    if _FORMAT.search(message):
        return DriverError(f"image {image} is for another kind of processor (exec format error)", retry=False)
    if found := _NO_USER.search(message):
        return DriverError(f'{found["kind"]} "{found["name"]}" does not exist in image {image}', retry=False)
    if found := _NO_SOURCE.search(message):
        return DriverError(f"{found['path']}, which is to be mounted, does not exist on this node")
    if _NO_RUNTIME.search(message):
        return DriverError("the container engine does not know the runtime that joins prepared namespaces; register it")
    if found := _NO_NAMESPACE.search(message):
        return DriverError(found["why"].strip())
    if _GONE_MEANWHILE.search(message):
        return DriverError(f"a container that it needs has gone meanwhile ({message.strip()})")
    return DriverError(_essence(message), retry=refused.status >= 500)


def _essence(message: str) -> str:
    """Without the chain of components through which the engine passed the message on."""
    found = _LAST.search(message)
    return f"the container engine could not start it: {(found['why'] if found else message).strip()}"


def pull_error(image: str, message: str) -> DriverError:
    """Why an image could not be had."""
    if _NO_SPACE.search(message):
        return DriverError(f"no disk space is left on this node for image {image}")
    if "repository does not exist" in message:
        return DriverError(
            f"image {image} is not on this node, and its registry shows none without login",
            retry=False,
        )
    if _WRONG_LOGIN.search(message):
        return DriverError(f"the registry refused the credentials for image {image} ({message.strip()})", retry=False)
    if _NO_ANSWER.search(message):
        return DriverError(f"image {image} is not on this node, and no registry answered ({_who_and_why(message)})")
    if _NOT_THERE.search(message):
        return DriverError(f"image {image} is not on this node, and its registry does not have it", retry=False)
    return DriverError(f"image {image} could not be pulled: {message.strip()}")


def _who_and_why(message: str) -> str:
    """The registry, and the end of the chain of reasons: "registry.example: connection refused"."""
    registry, why = _REGISTRY.search(message), message.strip().rpartition(": ")[2]
    return f"{registry['name']}: {why}" if registry and why else message.strip()


def never_pulled(image: str) -> DriverError:
    return DriverError(f"image {image} is not on this node, and its pull policy is never", retry=False)
