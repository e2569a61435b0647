"""Learns which cluster this node belongs to, once in its life.

Containers are labelled with their cluster, so nothing may be started before it is known; a session is opened for the
answer alone, with facts that offer no driver, and is closed again.
"""

from __future__ import annotations

import asyncio
import random

import grpc
import structlog

from agent.cgroup import Cgroups
from agent.fingerprint import fingerprint
from agent.launch import Identity
from agent.settings import Settings
from agent.version import VERSION
from moorage.kit.backoff import Jittered
from moorage.wire.session_pb2 import AgentMessage, ControllerMessage, Hello
from moorage.wire.session_pb2_grpc import AgentsStub

log = structlog.get_logger()

PROTOCOL = 1
CONNECT_S = 5.0
REDIRECTS = 4


async def learn_cluster(settings: Settings, who: Identity) -> str:
    """Asks the controllers in turn until one of them answers."""
    backoff = Jittered(random.Random(), cap_s=settings.reconnect_cap_s)
    facts = fingerprint(who.node_name, VERSION, {}, Cgroups())
    hello = Hello(node_id=who.node_id, agent_version=VERSION, protocol=PROTOCOL, facts=facts)
    while True:
        for address in settings.controllers:
            if cluster := await _ask(address, hello, settings.token):
                return cluster
            await asyncio.sleep(backoff.next_s())


async def _ask(address: str, hello: Hello, token: str) -> str:
    for _ in range(REDIRECTS):
        try:
            async with asyncio.timeout(CONNECT_S):
                answer = await _one(address, hello, token)
        except (grpc.RpcError, OSError, TimeoutError) as error:
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else repr(error)
            log.warning("cluster not learnt", controller=address, reason=reason, node=hello.facts.name)
            return ""
        if answer.welcome.cluster_id:
            return answer.welcome.cluster_id
        reason = answer.refused.reason or answer.redirect.reason
        log.warning("cluster not learnt", controller=address, reason=reason, node=hello.facts.name)
        if not answer.redirect.address:
            return ""
        address = answer.redirect.address
    return ""


async def _one(address: str, hello: Hello, token: str) -> ControllerMessage:
    async with grpc.aio.insecure_channel(address) as channel:
        call = AgentsStub(channel).Session(metadata=(("authorization", f"Bearer {token}"),))
        await call.write(AgentMessage(hello=hello))
        answer = await call.read()
        call.cancel()
        return answer if isinstance(answer, ControllerMessage) else ControllerMessage()
