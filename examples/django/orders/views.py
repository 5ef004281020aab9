from django.db import transaction
from django.http import HttpRequest, JsonResponse

from orders.models import Order
from orders.tasks import confirm


def place_order(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():
        order = Order.objects.create(customer=request.GET["customer"])
        result = confirm.enqueue(order.pk)  # exists if and only if the order does
        if request.GET["customer"] == "nobody":
            transaction.set_rollback(True)
    return JsonResponse({"order": order.pk, "task": result.id}, status=202)


def show_task(request: HttpRequest, id: str) -> JsonResponse:
    result = confirm.get_result(id)
    return JsonResponse({"status": result.status, "result": result.return_value if result.is_finished else None})
