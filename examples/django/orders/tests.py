from datetime import timedelta

from asgiref.sync import async_to_sync
from django.db import connection
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from orders.models import Order
from orders.tasks import confirm, count_orders, refuse
from qw import testing
from qw.contrib.django import app
from qw.contrib.django.database import url_of


def run_tasks():
    """Run what is due with the handlers of this project."""

    async def run():
        async with testing.worker(url_of("default"), app) as worker:
            return await worker.run_until_empty()

    return async_to_sync(run)()


class EnqueueTest(TestCase):
    """Nothing is committed here: tasks are seen over Django's own connection."""

    def test_an_order_enqueues_its_confirmation(self):
        response = self.client.get("/orders/?customer=Ada")

        (found,) = testing.assert_enqueued(
            connection, type="orders.tasks.confirm", payload={"args": [response.json()["order"]]}, queue="mail"
        )
        self.assertEqual(str(found.id), response.json()["task"])
        self.assertLess(found.priority, 5)

    def test_a_rollback_takes_the_task_with_it(self):
        self.client.get("/orders/?customer=nobody")

        testing.assert_enqueued(connection, count=0)

    def test_a_task_can_wait_for_its_time(self):
        tomorrow = timezone.now() + timedelta(days=1)

        result = confirm.using(run_after=tomorrow, priority=-100).enqueue(1)

        (found,) = testing.assert_enqueued(connection, priority=9)
        self.assertEqual(found.run_at, tomorrow)
        self.assertEqual(confirm.get_result(result.id).task.run_after, tomorrow)
        self.assertEqual(confirm.get_result(result.id).task.priority, -100)


class WorkTest(TransactionTestCase):
    """Everything is committed here: a worker can run it."""

    def tearDown(self):
        with connection.cursor() as cursor:
            cursor.execute("truncate qw.task, qw.ready, qw.scheduled, qw.finished, qw.attempt, qw.task_log")

    def test_a_view_enqueues_and_a_worker_confirms(self):
        response = self.client.get("/orders/?customer=Ada").json()
        self.assertEqual(self.client.get(f"/tasks/{response['task']}/").json()["status"], "READY")

        run_tasks()

        shown = self.client.get(f"/tasks/{response['task']}/").json()
        self.assertEqual(shown, {"status": "SUCCESSFUL", "result": "confirmed for Ada"})
        self.assertIsNotNone(Order.objects.get(pk=response["order"]).confirmed_at)

    async def test_an_async_task_has_its_context(self):
        await Order.objects.acreate(customer="Ada")
        result = await count_orders.aenqueue(since=0)

        async with testing.worker(url_of("default"), app) as worker:
            await worker.run_until_empty()

        await result.arefresh()
        self.assertEqual(result.return_value, {"attempt": 1, "orders": 1})
        self.assertEqual(result.attempts, 1)

    def test_a_failed_attempt_has_its_error(self):
        result = refuse.enqueue("not you")
        run_tasks()

        result.refresh()
        self.assertEqual(result.status, "READY")  # it is to be retried
        self.assertEqual({error.exception_class for error in result.errors}, {PermissionError})
        self.assertIn("PermissionError: not you", result.errors[0].traceback)
        self.assertEqual(result.attempts, len(result.errors))
