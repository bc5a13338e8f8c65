"""Collect metrics over HTTP. The table has one row per metric and minute.

Programs send samples with `POST /samples`. Those of one row are merged in memory, into one upsert.
"""

import signal
import sys
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import hypercorn
import hypercorn.trio
import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

import forebay

MAX_BODY = 1 << 20  # bytes


class Sample(msgspec.Struct):  # msgspec checks the types and the ranges
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    value: Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]


class Minute(NamedTuple):
    name: str
    minute: datetime
    samples: int
    total: float
    smallest: float
    largest: float


minutes = forebay.Table(
    Minute,
    name="minutes",
    key=("name", "minute"),
    merge={
        "samples": forebay.Sum,
        "total": forebay.Sum,
        "smallest": forebay.Min,
        "largest": forebay.Max,
    },
)


async def post_samples(request: Request) -> JSONResponse:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return JSONResponse({"error": f"send at most {MAX_BODY} bytes"}, 413)
    try:
        samples = msgspec.json.decode(body, type=list[Sample])
    except msgspec.DecodeError as error:  # nothing of this request was accepted
        return JSONResponse({"error": str(error)}, 400)
    buffer: forebay.Buffer[Minute] = request.app.state.buffers[minutes]
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    accepted = 0
    with trio.move_on_after(1):  # a full buffer lets the client wait, but not for long
        for name, value in map(msgspec.structs.astuple, samples):
            await buffer.enqueue(Minute(name, now, 1, value, value, value))
            accepted += 1
    if accepted < len(samples):
        answer = {"accepted": accepted, "error": "the buffer is full: send the others later"}
        return JSONResponse(answer, 503, {"Retry-After": "1"})
    return JSONResponse({"accepted": accepted}, 202)  # committed within 0.2 s


async def get_minutes(request: Request) -> JSONResponse:
    store: forebay.SqliteStore = request.app.state.store
    sql = "SELECT * FROM minutes WHERE name = ? ORDER BY minute DESC LIMIT 60"
    rows = await store.fetch_all(sql, [request.path_params["name"]], table=minutes)
    return JSONResponse([{**row._asdict(), "minute": row.minute.isoformat()} for row in rows])


async def get_health(request: Request) -> JSONResponse:
    statistics = request.app.state.buffers[minutes].statistics()
    healthy = statistics.last_error is None  # the error of a flush that is being retried
    answer = {"accepted": statistics.accepted, "pending": statistics.pending}
    return JSONResponse(answer, 200 if healthy else 503)


async def receive_signals(
    stop: trio.Event, buffers: forebay.Buffers, task_status: trio.TaskStatus[None]
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        stop.set()  # no new requests; then the buffers drain
        await anext(signals)
        buffers.give_up()  # a second signal ends the drain


async def main(database: str, bind: str) -> None:
    app = Starlette()
    app.add_route("/samples", post_samples, methods=["POST"])
    app.add_route("/minutes/{name}", get_minutes)
    app.add_route("/health", get_health)
    config = hypercorn.Config.from_mapping(bind=bind, graceful_timeout=5)
    async with (
        forebay.open_sqlite(database, create=[minutes]) as store,
        trio.open_nursery() as tasks,
    ):
        async with forebay.open_buffers(store, minutes) as buffers:
            app.state.store, app.state.buffers = store, buffers
            stop = trio.Event()
            await tasks.start(receive_signals, stop, buffers)
            await hypercorn.trio.serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: metrics_collector.py DATABASE HOST:PORT")
    trio.run(main, sys.argv[1], sys.argv[2])
