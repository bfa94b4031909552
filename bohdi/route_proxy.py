"""`bohdi route`: a server that speaks OpenAI's chat completions and asks the best model of each question's domain.

The `model` of a request says how the domain is found: `auto` by the question's text, `domain:Main > Secondary > Sub`
as given; a model's own name asks that one. The models are reached as the services reach them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bohdi import chat_protocol
from bohdi.chat_protocol import Refused, Request
from bohdi.domain_text import Told
from bohdi.profiles import Profile
from bohdi.route import Choice, choose
from bohdi_common.models.port import ChatModels, ModelRef, ModelRefused, ModelUnavailable, Reply

AUTO = "auto"
DOMAIN = "domain:"
BODY_BYTES_MAX = 1 << 20
IN_FLIGHT_MAX = 64
ANSWER_S = 600.0
_READ_S = 30.0
_DRAIN_S = 10.0
_TRIED_MAX = 2  # the best model, and the next where that one is away

_log = logging.getLogger("bohdi")


@dataclass(frozen=True)
class Candidate:
    """A model that may be asked, and the temperature at which it answered in the run."""

    model: ModelRef
    temperature: float


@dataclass
class Proxy:
    """Answers for `candidates`, models of the profile by name. `told` tells the domain of a question."""

    profile: Profile
    candidates: Mapping[str, Candidate]
    models: ChatModels
    told: Told
    in_flight_max: int = IN_FLIGHT_MAX
    answer_s: float = ANSWER_S
    in_flight: int = field(default=0, init=False)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_errors_as_objects])
        app.router.add_post("/v1/chat/completions", self._completions)
        app.router.add_get("/v1/models", self._list)
        return app

    async def _list(self, request: web.Request) -> web.Response:
        domains = [DOMAIN + " > ".join(path) for path in self.profile.rates if path]
        return web.json_response(chat_protocol.models_list([AUTO, *self.candidates, *domains]))

    async def _completions(self, request: web.Request) -> web.Response:
        if self.in_flight >= self.in_flight_max:
            raise Refused(
                429, f"{self.in_flight} requests are in flight already: ask again", "busy", "rate_limit_error"
            )
        self.in_flight += 1
        try:
            async with asyncio.timeout(self.answer_s):
                return await self._answered(request)
        except TimeoutError:
            raise Refused(504, f"no answer within {self.answer_s:.0f} s", "timeout", "server_error") from None
        finally:
            self.in_flight -= 1

    async def _answered(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":  # a page in a browser may send anything else unasked
            raise Refused(415, "the Content-Type must be application/json", "unsupported_media_type")
        async with asyncio.timeout(_READ_S):
            body = await request.read()
        asked = chat_protocol.request_in(body)
        choice = await self._choice(asked)
        name, reply = await self._reply(asked, choice)
        version = self.candidates[name].model.version
        routed: dict[str, Any] = {"model": name, "version": version}
        if asked.model not in self.candidates:
            rate = self.profile.rates[choice.domain][name].rate
            routed |= {"domain": list(choice.domain), "rate": round(rate, 4)}
        whole = chat_protocol.completion(f"chatcmpl-{secrets.token_hex(12)}", name, reply, routed)
        if not asked.stream:
            return web.json_response(whole)
        options = asked.stream_options
        events = chat_protocol.chunks(whole, options is not None and options.include_usage)
        return web.Response(body=events, headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})

    async def _choice(self, asked: Request) -> Choice:
        if asked.model in self.candidates:
            return Choice((asked.model,), (), self.profile.rates[()][asked.model])
        if asked.model == AUTO:
            return await asyncio.to_thread(choose, self.profile, asked.question, self.told, self.candidates)
        path = [part.strip() for part in asked.model.removeprefix(DOMAIN).split(">")]
        if not asked.model.startswith(DOMAIN) or not self.profile.nearest(path):
            known = f"`{AUTO}`, a model's name, or `{DOMAIN}` and a domain, as GET /v1/models lists them"
            raise Refused(404, f"no model or domain {asked.model!r} here: give {known}", "model_not_found")
        return choose(self.profile, path, among=self.candidates)

    async def _reply(self, asked: Request, choice: Choice) -> tuple[str, Reply]:
        """The best model's reply; the next one's, where that is away."""
        why = ""
        for name in choice.models[:_TRIED_MAX]:
            candidate = self.candidates[name]
            try:
                sampling = asked.sampling(candidate.temperature)
                return name, await self.models.complete(candidate.model, asked.chat, sampling)
            except ModelRefused as error:
                raise Refused(400, str(error), "refused_by_model") from None
            except ModelUnavailable as error:
                why = why or str(error)
        raise Refused(503, why, "model_unavailable", "server_error")


@web.middleware
async def _errors_as_objects(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every error as OpenAI's clients read it."""
    try:
        return await handler(request)
    except Refused as error:
        refused = error
    except web.HTTPRequestEntityTooLarge:
        refused = Refused(413, f"the body is over {BODY_BYTES_MAX} bytes", "body_too_large")
    except web.HTTPException as error:
        refused = Refused(error.status, f"{request.method} {request.path}: {error.reason}", "not_served")
    except Exception:
        _log.exception("%s %s failed", request.method, request.path)
        refused = Refused(500, "the proxy failed; its log says how", "internal_error", "server_error")
    headers = {"Retry-After": "1"} if refused.status in (429, 503) else {}
    return web.json_response(chat_protocol.error_object(refused), status=refused.status, headers=headers)


async def serve(proxy: Proxy, host: str, port: int, stop: asyncio.Event, listening: Callable[[str], None]) -> None:
    """Listens until `stop`, then lets what is in flight finish within a bound. `listening` is told the base URL. Raises
    OSError for an address that cannot be had."""
    runner = web.AppRunner(proxy.app(), handler_cancellation=True, shutdown_timeout=_DRAIN_S, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0]
        listening(f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}/v1")
        await stop.wait()
    finally:
        await runner.cleanup()
