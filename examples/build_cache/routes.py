"""What each client of a build cache asks for, and which project a token opens."""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
from collections.abc import Iterable
from xml.sax.saxutils import escape

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from forebay.cache import Cache
from http_server import METHODS, HttpError, Request

_PROJECT = re.compile(r"[^/=]+/[^/=]+")
_ALL = ""
"""What a token opens that is not for one project."""


class Tokens:
    """The secrets of clients. Each opens one project, or all."""

    def __init__(self, tokens: Iterable[str]) -> None:
        """Read tokens: ``account/project=TOKEN`` for one project, ``TOKEN`` for all.

        Raises:
            ValueError: a token has fewer than 8 characters.
        """
        self._projects: list[tuple[bytes, str]] = []
        for text in tokens:
            project, equals, token = text.partition("=")
            if not equals or not _PROJECT.fullmatch(project):
                project, token = _ALL, text
            if len(token) < 8:
                raise ValueError("a token needs at least 8 characters")
            self._projects.append((token.encode(), project))

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
            case ["GET" | "HEAD", ["up"]]:
                return await request.respond(200, b"ok\n")
            case ["OPTIONS", _]:  # a preflight of Turborepo
                allowed = [
                    ("access-control-allow-methods", ", ".join(METHODS)),
                    ("access-control-allow-headers", "Authorization, Content-Type, User-Agent"),
                ]
                return await request.respond(200, headers=allowed)
        opened = self._tokens.project(request)
        if request.segments == ["metrics"] and request.method == "GET":
            if opened != _ALL:
                raise HttpError(403, "the metrics need a token for all projects")
            headers = [("content-type", CONTENT_TYPE_LATEST)]
            return await request.respond(200, generate_latest(), headers)
        project, path = _locate(request, opened)
        if opened not in (_ALL, project):
            raise HttpError(403, "the token is for another project")
        if request.method != "PUT":
            async for _ in request.body():
                pass
        return await self._answer(request, project, path)

    async def _answer(self, request: Request, project: str, path: list[str]) -> None:
        key = "/".join([project, *path])
        match request.method, path:
            case "GET" | "HEAD", ["v8", "artifacts", "status"]:
                await _respond_json(request, 200, {"status": "enabled"})
            case "POST", ["v8", "artifacts", "events"]:
                await _respond_json(request, 200, {})
            case "PUT", ["v8", "artifacts", _]:
                await self._store(request, key)
                await _respond_json(request, 202, {"urls": [request.target]})
            case "PUT", _:
                await self._store(request, key)
                await request.respond(201)
            case "GET" | "HEAD", _:
                await self._load(request, key)
            case "PROPFIND", _:
                await self._describe(request, key)
            case "DELETE", ["clean"]:
                account, _, name = project.partition("/")
                deleted = await self._cache.artifacts.delete_project(account, name)
                await _respond_json(request, 200, {"deleted": deleted})
            case "DELETE", _:
                await self._cache.artifacts.delete([key])
                await request.respond(204)
            case _:
                raise HttpError(405, "method not allowed", ("allow", ", ".join(METHODS)))

    async def _store(self, request: Request, key: str) -> None:
        async with self._cache.files.writing(key) as path:
            with path.open("wb") as file:
                async for chunk in request.body():
                    file.write(chunk)
        await self._cache.artifacts.track_access(key)

    async def _load(self, request: Request, key: str) -> None:
        try:
            file = self._cache.files.path(key).open("rb")
        except FileNotFoundError:
            raise HttpError(404, "no such artifact") from None
        with file:
            await request.respond_file(file, os.fstat(file.fileno()).st_size)
        await self._cache.artifacts.track_access(key)

    async def _describe(self, request: Request, key: str) -> None:
        """Answer sccache, which asks for a folder before it writes into it: each one exists."""
        kind = "<D:collection/>"
        length = ""
        if not request.target.endswith("/"):
            size = await self._cache.files.size(key)
            if size is None:
                raise HttpError(404, "no such artifact")
            kind, length = "", f"<D:getcontentlength>{size}</D:getcontentlength>"
        modified = "<D:getlastmodified>Thu, 01 Jan 1970 00:00:00 GMT</D:getlastmodified>"
        body = (
            '<?xml version="1.0" encoding="utf-8"?><D:multistatus xmlns:D="DAV:"><D:response>'
            f"<D:href>{escape(request.target)}</D:href><D:propstat><D:prop>{length}{modified}"
            f"<D:resourcetype>{kind}</D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status>"
            "</D:propstat></D:response></D:multistatus>"
        )
        await request.respond(207, body.encode(), [("content-type", "application/xml")])


def _locate(request: Request, opened: str) -> tuple[str, list[str]]:
    """Return the project of a request, and the rest of its path.

    Turborepo and Nx may have no project in their path. Turborepo has its team.
    """
    match request.segments:
        case ["v1" | "v8", *_] as path:
            team = request.query.get("slug") or request.query.get("teamId") or "default"
            project = team if "/" in team else opened or f"{team}/default"
            if not _PROJECT.fullmatch(project):
                raise HttpError(400, "a team is account/project or a name")
            return project, list(path)
        case [account, project, *path] if path or request.method == "PROPFIND":
            return f"{account}/{project}", list(path)
    raise HttpError(404, "expected /account/project/key")


async def _respond_json(request: Request, status: int, content: object) -> None:
    headers = [("content-type", "application/json")]
    await request.respond(status, json.dumps(content).encode(), headers)
