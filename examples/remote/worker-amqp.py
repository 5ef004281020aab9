"""A worker for the remote type `shout` over RabbitMQ: pip install aio-pika && python worker-amqp.py"""

import asyncio
import json
import os
from typing import Any

from aio_pika import Message, connect_robust


async def main() -> None:
    connection = await connect_robust(os.environ.get("RABBITMQ_URL", "amqp://127.0.0.1"))
    channel = await connection.channel()
    await channel.set_qos(10)
    queue = await channel.declare_queue("qw.remote.shout", durable=True)
    print("ready", flush=True)
    async with queue.iterator() as messages:
        async for message in messages:
            async with (
                message.process()
            ):  # acknowledged after the answer: a worker that dies leaves the task to another
                answer = json.dumps(shout(json.loads(message.body))).encode()
                reply = Message(answer, correlation_id=message.correlation_id)
                await channel.default_exchange.publish(reply, routing_key=message.reply_to or "")


def shout(task: dict[str, Any]) -> dict[str, Any]:
    text = task["payload"].get("text")
    if not isinstance(text, str):
        return {"error": "text must be a string", "final": True}
    return {"result": {"text": text.upper(), "attempt": task["attempt"]}}


if __name__ == "__main__":
    asyncio.run(main())
