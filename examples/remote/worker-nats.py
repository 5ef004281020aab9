"""A worker for the remote type `shout` over NATS: pip install nats-py && python worker-nats.py"""

import asyncio
import json
import os
from typing import Any

import nats


async def main() -> None:
    url = os.environ.get("NATS_SERVERS", "nats://127.0.0.1:4222")
    client = await nats.connect(url, max_reconnect_attempts=-1)
    requests = await client.subscribe("qw.remote.shout", queue="workers")
    print("ready", flush=True)
    async for message in requests.messages:
        await message.respond(json.dumps(shout(json.loads(message.data))).encode())


def shout(task: dict[str, Any]) -> dict[str, Any]:
    text = task["payload"].get("text")
    if not isinstance(text, str):
        return {"error": "text must be a string", "final": True}
    return {"result": {"text": text.upper(), "attempt": task["attempt"]}}


if __name__ == "__main__":
    asyncio.run(main())
