"""The handlers: run by `qw daemon --app shop:app`."""

from __future__ import annotations

from qw import Context, Handlers

app = Handlers()


@app.task()
async def resize(context: Context, photo: int, sizes: list[int]) -> list[str]:
    made: list[str] = []
    for number, size in enumerate(sizes, start=1):
        made.append(f"{photo}-{size}.jpg")
        await context.progress(number / len(sizes), f"{size} pixels")
    return made
