"""What each client of a build cache asks for, and which project a token opens."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from xml.sax.saxutils import escape

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from forebay.cache import Cache, DigestMismatchError
from http_server import METHODS, HttpError, Request

_MISSING = "there is no such artifact"
_MAX_VALUE = 2**20
"""How many bytes a key-value has at most."""
_KEPT = ("x-artifact-duration", "x-artifact-tag")
"""The headers of an upload that come back with the artifact: Turborepo's signature."""
_SHA256 = "x-checksum-sha256"
"""The header with the SHA-256 of an artifact: checked if a client sends it, always returned."""
_PROJECT = re.compile(r"[^/=]+/[^/=]+")
_ALL = ""
"""What a token opens that is not for one project."""


class Tokens:
    """The secrets of clients. Each opens one project, or all."""

    def __init__(self, tokens: Iterable[str]) -> None:
        """Read tokens: ``account/project=TOKEN`` for one project, ``TOKEN`` for all.

        Raises:
            ValueError: there is no token, or one is short or given twice.
        """
        self._projects: list[tuple[bytes, str]] = []
        for text in tokens:
            project, equals, token = text.partition("=")
            if not equals or not _PROJECT.fullmatch(project):
                project, token = _ALL, text
            if len(token) < 8:
                raise ValueError(f"a token has {len(token)} characters; it needs at least 8")
            if token.encode() in dict(self._projects):
                raise ValueError("a token is given twice: each project has its own")
            self._projects.append((token.encode(), project))
        if not self._projects:
            raise ValueError("no token: without one, nobody could use the server")

    def project(self, request: Request) -> str:
        """Return the project that the request's token opens, or `_ALL`.

        Raises:
            HttpError: no token, or an unknown one.
        """
        given = _secret(request.header(b"authorization"))
        found = None
        for token, project in self._projects:  # all of them, so that the time tells nothing
            if hmac.compare_digest(token, given):
                found = project
        if found is None:
            raise HttpError(401, "unknown token", ("www-authenticate", 'Basic realm="build cache"'))
        return found


def _secret(authorization: str) -> bytes:
    """Return the token of a Bearer, the password of a Basic, or the value as it is (Rush)."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return authorization.encode("latin-1")


class Routes:
    """Answers the requests of all clients from a cache."""

    def __init__(self, cache: Cache, tokens: Tokens) -> None:
        """Set the cache and the tokens."""
        self._cache = cache
        self._tokens = tokens

    async def __call__(self, request: Request) -> None:
        """Answer a request."""
        match request.method, request.segments:
            case ["GET" | "HEAD", ["up" | "status"]]:  # moon asks for the latter
                return await request.respond(200, b"ok\n")
            case ["OPTIONS", _]:  # a preflight of Turborepo
                allowed = [
                    ("access-control-allow-methods", ", ".join(METHODS)),
                    ("access-control-allow-headers", "Authorization, Content-Type, User-Agent"),
                ]
                return await request.respond(200, headers=allowed)
            case ["GET", ["metrics"]]:
                if self._tokens.project(request) != _ALL:
                    raise HttpError(403, "the metrics need a token for all projects")
                headers = [("content-type", CONTENT_TYPE_LATEST)]
                return await request.respond(200, generate_latest(), headers)
        opened = self._tokens.project(request)
        account, project, path = _locate(request, opened)
        if opened not in (_ALL, f"{account}/{project}"):
            raise HttpError(403, "the token is for another project")
        if request.method != "PUT":
            async for _ in request.body():
                pass
        return await self._answer(request, account, project, path)

    async def _answer(self, request: Request, account: str, project: str, path: list[str]) -> None:
        key = "/".join([account, project, *path])
        match request.method, path:
            case "GET" | "HEAD", ["v8", "artifacts", "status"]:
                await _respond_json(request, 200, {"status": "enabled"})
            case "POST", ["v8", "artifacts", "events"]:
                await _respond_json(request, 200, {})
            case "PUT", ["v8", "artifacts", _]:
                await self._store(request, key)
                await _respond_json(request, 202, {"urls": [request.target]})
            case "GET" | "HEAD", ["key-values", name]:
                value = await self._cache.key_values.get_bytes(name, account, project)
                if value is None:
                    raise HttpError(404, _MISSING)
                await request.respond(200, value)
            case "PUT", ["key-values", name]:
                if request.size is None or request.size > _MAX_VALUE:
                    raise HttpError(413, f"a value has at most {_MAX_VALUE} bytes")
                value = b"".join([chunk async for chunk in request.body()])
                await self._cache.key_values.put_bytes(name, account, project, value)
                await request.respond(200)
            case "DELETE", ["key-values", name]:
                await self._cache.key_values.delete(name, account, project)
                await request.respond(204)
            case "DELETE", ["clean"]:
                deletion = await self._cache.delete_project(account, project)
                await _respond_json(request, 200, asdict(deletion))
            case "DELETE", [_, *_]:
                await self._cache.artifacts.delete([key])
                await request.respond(204)
            case "GET" | "HEAD", [_, *_]:
                await self._load(request, key)
            case "PUT", [_, *_]:
                await self._store(request, key)
                await request.respond(200)  # Nx takes no 201
            case "PROPFIND", _:
                await self._describe(request, key)
            case _, []:
                raise HttpError(404, "expected /account/project/key")
            case _:
                raise HttpError(405, "method not allowed", ("allow", ", ".join(METHODS)))

    async def _store(self, request: Request, key: str) -> None:
        kept = {name: request.header(name.encode()) for name in _KEPT}
        try:
            await self._cache.artifacts.store(
                key,
                request.body(),
                size=request.size,
                sha256=request.header(_SHA256.encode()) or None,
                metadata={name: value for name, value in kept.items() if value},
            )
        except DigestMismatchError as error:
            raise HttpError(422, str(error)) from None
        except ValueError as error:
            raise HttpError(400, str(error)) from None

    async def _load(self, request: Request, key: str) -> None:
        async with self._cache.artifacts.reading(key) as reader:
            if reader is None:
                raise HttpError(404, _MISSING)
            artifact = reader.artifact
            headers = [("content-type", "application/octet-stream"), *artifact.metadata.items()]
            if artifact.sha256 is not None:
                headers += [("etag", f'"{artifact.sha256}"'), (_SHA256, artifact.sha256)]
            await request.respond_file(reader.file, artifact.size, headers, reader.content)

    async def _describe(self, request: Request, key: str) -> None:
        """Answer sccache, which asks for a folder before it writes into it: each one exists."""
        properties = "<D:resourcetype><D:collection/></D:resourcetype>"
        if not request.target.endswith("/"):
            artifact = await self._cache.artifacts.find(key)
            if artifact is None:
                raise HttpError(404, _MISSING)
            properties = (
                f"<D:getcontentlength>{artifact.size}</D:getcontentlength><D:resourcetype/>"
            )
        body = (
            '<?xml version="1.0" encoding="utf-8"?><D:multistatus xmlns:D="DAV:"><D:response>'
            f"<D:href>{escape(request.target)}</D:href><D:propstat><D:prop>{properties}"
            "<D:getlastmodified>Thu, 01 Jan 1970 00:00:00 GMT</D:getlastmodified></D:prop>"
            "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>"
        )
        await request.respond(207, body.encode(), [("content-type", "application/xml")])


def _locate(request: Request, opened: str) -> tuple[str, str, list[str]]:
    """Return the account and the project of a request, and the rest of its path.

    Turborepo and Nx may have no project in their path. Turborepo has its team.
    """
    match request.segments:
        case ["v1" | "v8", *_] as path:
            team = request.query.get("slug") or request.query.get("teamId") or "default"
            name = team if "/" in team else opened or f"{team}/default"
            if not _PROJECT.fullmatch(name):
                raise HttpError(400, "a team is a name, or account/project")
            account, project = name.split("/")
            return account, project, list(path)
        case [account, project, *path]:
            return account, project, list(path)
    raise HttpError(404, "expected /account/project/key")


async def _respond_json(request: Request, status: int, content: object) -> None:
    headers = [("content-type", "application/json")]
    await request.respond(status, json.dumps(content).encode(), headers)
