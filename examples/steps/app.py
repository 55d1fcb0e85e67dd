"""Runs the steps of jobs. Each takes the state that the one before it left, and leaves its own.

However often a step runs, and wherever, it counts once: its state is written only if there is none.
"""

import re
from typing import Final, TypedDict

from starlette.applications import Starlette
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from atoll.client import AsyncNamespace
from atoll.core.errors import ConditionFailedError
from atoll.integrations.starlette import Namespaces

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
STEPS_MAX: Final = 9_999
NUMBER: Final = re.compile(rb"-?[0-9]{1,12}")


class State(TypedDict):
    """What a step leaves."""

    step: int
    total: int


setting = Config()
kv = Namespaces(
    setting("ATOLL_URL"),
    {"JOBS": setting("JOBS")},
    token=setting("ATOLL_TOKEN", default=None),
)


async def run(request: Request) -> Response:
    """Run a step, unless it ran before; the state that counts."""
    jobs = kv["JOBS"]
    job: str = request.path_params["job"]
    step: int = request.path_params["step"]
    if NAME.fullmatch(job) is None or not 1 <= step <= STEPS_MAX:
        return PlainTextResponse("Not found", 404)
    text = await request.body()
    if NUMBER.fullmatch(text) is None:
        return PlainTextResponse("The body is a whole number", 400)
    before = State(step=0, total=0) if step == 1 else await read(jobs, f"{job}/{step - 1}")
    if before is None:
        return PlainTextResponse(f"Step {step - 1} comes first", 409)
    after = State(step=step, total=before["total"] + int(text))
    try:
        await jobs.put(f"{job}/{step}", after, type="json", if_none_match="*")
    except ConditionFailedError:  # It ran before: what it left then is what counts.
        return JSONResponse(await read(jobs, f"{job}/{step}"))
    return JSONResponse(after, 201)


async def read(jobs: AsyncNamespace, key: str) -> State | None:
    """Return a state as central has it now: it may have been left elsewhere a moment ago."""
    state: State | None = await jobs.get(key, "json", max_age=0)
    return state


# Where nobody knows whether a step was written, the answer is 503. Whoever asks again learns it.
app = Starlette(
    routes=[Route("/{job}/{step:int}", run, methods=["POST"])],
    lifespan=kv.lifespan,
    exception_handlers=kv.exception_handlers,
)
