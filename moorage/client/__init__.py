"""The async Python SDK: one method per route of the API, typed by `moorage.model.view`.

    async with Client("http://127.0.0.1:7070", token) as client:
        applied = await client.put_job(spec)
        async for event in client.watch_jobs():
            ...

A refusal of the API is an `ApiProblem` with its permanent code; a controller that cannot be reached is `Unreachable`.
"""

from moorage.client.client import Applied, Client, Listed
from moorage.client.errors import ApiProblem, ClientError, Unreachable

__all__ = ["ApiProblem", "Applied", "Client", "ClientError", "Listed", "Unreachable"]
