from datetime import timedelta

from django.utils import timezone

try:
    from django.tasks import task
except ImportError:  # before Django 6: the package django-tasks has the same
    from django_tasks import task

from orders.models import Order
from qw import Retry


@task(queue_name="mail", priority=10)
def confirm(order_id):
    order = Order.objects.get(pk=order_id)
    order.confirmed_at = timezone.now()
    order.save()
    return f"confirmed for {order.customer}"


@task(takes_context=True)
def charge(context, order_id):
    if context.attempt == 1:
        raise Retry("the bank is closed", after=timedelta(hours=12))
    return f"order {order_id} is paid"


@task(takes_context=True)
async def count_orders(context, *, since=0):
    return {"attempt": context.attempt, "orders": await Order.objects.filter(pk__gt=since).acount()}


@task()
def refuse(reason):
    raise PermissionError(reason)
