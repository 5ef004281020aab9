from datetime import timedelta

from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase
from django.utils import timezone

from orders.models import Order
from orders.tasks import charge, confirm, count_orders, refuse
from qw import testing
from qw.contrib.django.testing import TasksTestCase


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

    def test_staff_can_have_orders_confirmed_again(self):
        order = Order.objects.create(customer="Ada")
        self.client.force_login(User.objects.create_superuser("root"))

        self.client.post("/admin/orders/order/", {"action": "confirm_again", "_selected_action": [order.pk]})

        testing.assert_enqueued(connection, type="orders.tasks.confirm", payload={"args": [order.pk]}, priority=9)


class WorkTest(TasksTestCase):
    """Everything is committed here: a worker can run it."""

    def test_a_view_enqueues_and_a_worker_confirms(self):
        response = self.client.get("/orders/?customer=Ada").json()
        self.assertEqual(self.client.get(f"/tasks/{response['task']}/").json()["status"], "READY")

        self.run_tasks()

        shown = self.client.get(f"/tasks/{response['task']}/").json()
        self.assertEqual(shown, {"status": "SUCCESSFUL", "result": "confirmed for Ada"})
        self.assertIsNotNone(Order.objects.get(pk=response["order"]).confirmed_at)

    async def test_an_async_task_has_its_context(self):
        await Order.objects.acreate(customer="Ada")
        result = await count_orders.aenqueue(since=0)

        await self.arun_tasks()

        await result.arefresh()
        self.assertEqual(result.return_value, {"attempt": 1, "orders": 1})
        self.assertEqual(result.attempts, 1)

    def test_a_task_is_retried_when_it_says(self):
        result = charge.enqueue(7)

        self.run_tasks()
        result.refresh()
        self.assertEqual(result.status, "READY")

        self.advance(timedelta(hours=12))
        result.refresh()
        self.assertEqual(result.return_value, "order 7 is paid")

    def test_a_failed_attempt_has_its_error(self):
        result = refuse.enqueue("not you")
        self.run_tasks()

        result.refresh()
        self.assertEqual(result.status, "READY")  # it is to be retried
        self.assertEqual({error.exception_class for error in result.errors}, {PermissionError})
        self.assertIn("PermissionError: not you", result.errors[0].traceback)
        self.assertEqual(result.attempts, len(result.errors))

    def test_each_test_begins_with_no_tasks(self):
        testing.assert_enqueued(connection, count=0)
        confirm.enqueue(1)
