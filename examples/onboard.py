"""A customer's first two weeks, as one function: create the account, wait out the trial, ask, bill.

cd examples; qw daemon --app onboard:app
qw enqueue onboard '{"user": "ada"}'
qw task list --status suspended
qw task signal ID answer --payload '{"plan": "team", "seats": 3}'
"""

from datetime import timedelta

from pydantic import BaseModel

from qw import Context, Handlers, TimedOut

app = Handlers()

TRIAL = timedelta(days=14)
PATIENCE = timedelta(days=3)


class Account(BaseModel):
    id: int
    user: str


class Answer(BaseModel):
    plan: str
    seats: int = 1


@app.task()
async def bill(account: int, seats: int) -> str:
    return f"INV-{account}-{seats}"


@app.task(queue="mail")
async def welcome(user: str, page: str) -> str:
    return f"{user} was sent {page}"


async def create_account(user: str) -> Account:
    """In a program, a request to another system, with an idempotency key: it may run again if the process ends here."""
    return Account(id=len(user), user=user)


async def close_account(account: int) -> None:
    """As above."""


@app.task(max_retries=10)
async def onboard(context: Context, user: str) -> str:
    account = await context.step("create", create_account, user)
    await context.gather(*(context.call(welcome, user, page) for page in ("a tour", "an invitation")))
    await context.sleep("trial", TRIAL)
    try:
        answer = await context.wait_signal("answer", Answer, timeout=PATIENCE)
    except TimedOut:
        await context.step("close", close_account, account.id)
        return "closed"
    return await context.call(bill, account.id, answer.seats)
