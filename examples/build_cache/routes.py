"""What each client of a build cache asks for, and to which project a token gives access."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from xml.sax.saxutils import escape

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from forebay.cache import Cache, DigestMismatchError
from http_server import METHODS, HttpError, Request, is_plain

_MAX_VALUE = 2**20  # bytes of a key-value
_KEPT = ("x-artifact-duration", "x-artifact-tag")  # headers that come back with their artifact
_SHA256 = "x-checksum-sha256"  # a header: checked if a client sends it, always returned
_PROJECT = re.compile(r"[^/=]+/[^/=]+")
_ALL = ""  # the project of a token that is for all of them
_METHODS = ", ".join(METHODS)

# The answer to PROPFIND. sccache asks for a folder before it writes into it: each one exists.
_FOLDER = """<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:"><D:response><D:href>{}</D:href><D:propstat><D:prop>
<D:resourcetype><D:collection/></D:resourcetype>
<D:getlastmodified>Thu, 01 Jan 1970 00:00:00 GMT</D:getlastmodified>
</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>
"""


class Tokens:
    """The secrets of clients. Each gives access to one project, or to all."""

    def __init__(self, tokens: Iterable[str]) -> None:
        """Read tokens: ``account/project=TOKEN`` for one project, ``TOKEN`` for all."""
        self._projects: dict[bytes, str] = {}
        for text in tokens:
            project, equals, token = text.partition("=")
            if not equals or not _PROJECT.fullmatch(project):
                project, token = _ALL, text
            if len(token) < 8:
                raise ValueError(f"a token has {len(token)} characters; it needs at least 8")
            if self._projects.setdefault(_digest(token.encode()), project) != project:
                raise ValueError("a token is given twice, for two projects: each needs its own")
        if not self._projects:
            raise ValueError("no token: without one, nobody could use the server")

    def project(self, request: Request) -> str:
        """Return the project of the token of a request, or `_ALL`."""
        authorization = request.headers["authorization"]
        secret = authorization.encode("latin-1")  # the token alone, as Rush sends it
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            secret = value.strip().encode("latin-1")
        elif scheme.lower() == "basic":
            with suppress(ValueError):
                secret = base64.b64decode(value, validate=True).partition(b":")[2]
        project = self._projects.get(_digest(secret))
        if project is None:
            raise HttpError(401, "unknown token", {"www-authenticate": 'Basic realm="build cache"'})
        return project


def _digest(secret: bytes) -> bytes:
    """Return what is looked up instead of a secret, so that the time tells nothing about it."""
    return hashlib.sha256(secret).digest()


@dataclass(frozen=True)
class Routes:
    """Answers the requests of all clients from a cache."""

    cache: Cache
    tokens: Tokens

    async def __call__(self, request: Request) -> None:
        """Answer a request."""
        match request.method, request.segments:
            case "GET" | "HEAD", ["up" | "status"]:  # moon asks for /status
                await request.respond(200, b"ok\n")
            case "OPTIONS", _:  # a preflight of Turborepo
                headers = {
                    "access-control-allow-methods": _METHODS,
                    "access-control-allow-headers": "Authorization, Content-Type, User-Agent",
                }
                await request.respond(200, headers=headers)
            case "GET", ["metrics"]:
                if self.tokens.project(request) != _ALL:
                    raise HttpError(403, "the metrics need a token for all projects")
                await request.respond(200, generate_latest(), {"content-type": CONTENT_TYPE_LATEST})
            case _:
                await self._answer(request, *self._locate(request))

    async def _answer(self, request: Request, account: str, project: str, path: list[str]) -> None:
        key = "/".join([account, project, *path])
        values = self.cache.key_values
        match request.method, path:
            case "GET" | "HEAD", ["v8", "artifacts", "status"]:
                await _respond_json(request, 200, {"status": "enabled"})
            case "POST", ["v8", "artifacts", "events"]:
                await request.read(_MAX_VALUE)
                await _respond_json(request, 200, {})
            case "PUT", ["v8", "artifacts", _]:
                await self._store(request, key)
                await _respond_json(request, 202, {"urls": [request.target]})
            case "GET" | "HEAD", ["key-values", name]:
                value = await values.get_bytes(name, account, project)
                if value is None:
                    raise HttpError(404, "there is no such value")
                await request.respond(200, value)
            case "PUT", ["key-values", name]:
                value = await request.read(_MAX_VALUE)
                await values.put_bytes(name, account, project, value)
                await request.respond(200)
            case "DELETE", ["key-values", name]:
                await values.delete(name, account, project)
                await request.respond(204)
            case "DELETE", ["clean"]:
                deletion = await self.cache.delete_project(account, project)
                await _respond_json(request, 200, asdict(deletion))
            case "DELETE", [_, *_]:
                await self.cache.artifacts.delete([key])
                await request.respond(204)
            case "GET" | "HEAD", _:
                await self._load(request, key)
            case "PUT", [_, *_]:
                await self._store(request, key)
                await request.respond(200)  # Nx rejects 201
            case "PROPFIND", _:
                await request.read(_MAX_VALUE)
                folder = _FOLDER.format(escape(request.target)).encode()
                await request.respond(207, folder, {"content-type": "application/xml"})
            case _:
                raise HttpError(405, "method not allowed", {"allow": _METHODS})

    def _locate(self, request: Request) -> tuple[str, str, list[str]]:
        """Return the account and the project of a request, and its path there.

        The paths of Turborepo and Nx may lack the project. Then the team or the token tells it.
        """
        opened = self.tokens.project(request)
        path = request.segments
        if path[:1] in (["v1"], ["v8"]):
            team = request.query.get("slug") or request.query.get("teamId") or "default"
            name = team if "/" in team else opened or f"{team}/default"
            if not _PROJECT.fullmatch(name) or not all(map(is_plain, name.split("/"))):
                raise HttpError(400, "a team is a name, or account/project")
            path = [*name.split("/"), *path]
        if len(path) < 2:
            raise HttpError(404, "expected /account/project/key")
        if opened not in (_ALL, "/".join(path[:2])):
            raise HttpError(403, "the token is for another project")
        return path[0], path[1], path[2:]

    async def _store(self, request: Request, key: str) -> None:
        try:
            await self.cache.artifacts.store(
                key,
                request.body(),
                size=request.size,
                sha256=request.headers[_SHA256] or None,
                metadata={name: request.headers[name] for name in _KEPT if request.headers[name]},
            )
        except DigestMismatchError as error:
            raise HttpError(422, str(error)) from None
        except ValueError as error:  # the header is no SHA-256
            raise HttpError(400, str(error)) from None

    async def _load(self, request: Request, key: str) -> None:
        async with self.cache.artifacts.reading(key) as reader:
            if reader is None:
                raise HttpError(404, "there is no such artifact")
            headers = {"content-type": "application/octet-stream", **reader.artifact.metadata}
            if (sha256 := reader.artifact.sha256) is not None:
                headers |= {"etag": f'"{sha256}"', _SHA256: sha256}
            body = reader.chunks() if reader.content is None else reader.content
            await request.respond(200, body, headers, size=reader.artifact.size)


async def _respond_json(request: Request, status: int, content: object) -> None:
    headers = {"content-type": "application/json"}
    await request.respond(status, json.dumps(content).encode(), headers)
