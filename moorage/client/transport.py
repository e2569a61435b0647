"""HTTP beneath the client: the token, refusals as exceptions, patience with reads, and the way to the leader.

Reads are tried again on 503 (a controller that just started, an etcd that elects). Writes never are: whether to send
one again is the caller's decision. What only the leader can do is sent on to where the answer says it is.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from moorage.client.errors import ApiProblem, Unreachable, refusal
from moorage.kit.backoff import Jittered

READ_TRIES = 4
Params = Mapping[str, str | int | bool | None]


class Transport:
    def __init__(
        self, url: str, token: str, *, timeout_s: float, rng: random.Random, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self.rng = rng
        # Proxies of the environment are for the internet; a controller is near.
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_s,
            transport=transport,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def read(self, path: str, params: Params | None = None) -> httpx.Response:
        backoff = Jittered(self.rng, base_s=0.2, cap_s=2.0)
        for _ in range(READ_TRIES - 1):
            try:
                return await self.send("GET", path, params=params)
            except ApiProblem as error:
                if error.problem.status != 503:
                    raise
                await asyncio.sleep(backoff.next_s())
        return await self.send("GET", path, params=params)

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request, at most a second one at the leader. Raises ApiProblem, Unreachable."""
        try:
            return await self._once(method, path, params=_given(params), json=json, headers=headers)
        except ApiProblem as error:
            if not error.leader_url or error.leader_url.rstrip("/") == self.url:
                raise
            there = error.leader_url.rstrip("/") + path
            return await self._once(method, there, params=_given(params), json=json, headers=headers)

    async def _once(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, url, **arguments)
        except httpx.HTTPError as error:
            raise self.unreachable(error) from error
        _check(response, response.content)
        return response

    @asynccontextmanager
    async def lines(self, path: str, params: Params, silence_s: float) -> AsyncIterator[AsyncIterator[str]]:
        """A stream of lines; one that is silent for too long counts as broken."""
        timeout = httpx.Timeout(10.0, read=silence_s)
        try:
            async with self._http.stream("GET", path, params=_given(params), timeout=timeout) as response:
                if not response.is_success:
                    _check(response, await response.aread())
                yield response.aiter_lines()
        except httpx.HTTPError as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            self.url, "no answer in time" if isinstance(error, httpx.TimeoutException) else reason(error)
        )


def reason(error: BaseException) -> str:
    """What the system said beneath all the libraries ("connection refused"); else what the last of them says."""
    beneath: BaseException | None = error
    while beneath is not None:
        if isinstance(beneath, OSError) and beneath.errno is not None:
            words = os.strerror(beneath.errno) if beneath.errno > 0 else str(beneath.strerror)
            return words[:1].lower() + words[1:]
        beneath = beneath.__cause__ or beneath.__context__
    return str(error) or type(error).__name__


def _check(response: httpx.Response, body: bytes) -> None:
    if not response.is_success:
        raise refusal(response.status_code, {k.lower(): v for k, v in response.headers.items()}, body)


def _given(params: Params | None) -> dict[str, str]:
    """Without what is None; booleans as the API reads them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in (params or {}).items()
        if value is not None
    }
