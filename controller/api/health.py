"""/healthz, /readyz, /metrics: open to load balancers and Prometheus."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from controller.api.deps import Deps
from controller.api.problems import NOT_SYNCED, Refused, described
from moorage.kit.telemetry import exposition

router = APIRouter(tags=["health"])


class HealthView(BaseModel):
    status: str


class ReadyView(HealthView):
    trouble: list[str] = []


METRICS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/healthz")
async def healthz() -> HealthView:
    """The process answers."""
    return HealthView(status="ok")


@router.get("/readyz", responses={503: described(503, (NOT_SYNCED,))})
async def readyz(deps: Deps) -> ReadyView:
    """It can answer truly: it has read the store once. Says why not, and what is wrong with the store since then."""
    trouble = deps.trouble()
    if not deps.cache.synced.is_set():
        raise Refused(
            NOT_SYNCED, "; ".join(("The controller is still reading the store (is etcd up?)", *trouble)) + "."
        )
    return ReadyView(status="ready", trouble=trouble)


@router.get("/metrics", response_class=Response, responses=METRICS)
async def metrics() -> Response:
    content, content_type = exposition()
    return Response(content, media_type=content_type)
