from django.contrib import admin

from orders.models import Order
from orders.tasks import confirm


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["customer", "confirmed_at"]
    actions = ["confirm_again"]

    @admin.action(description="Confirm again")
    def confirm_again(self, request, orders):
        for order in orders:
            confirm.using(priority=-100).enqueue(order.pk)
        self.message_user(request, f"{len(orders)} confirmations enqueued")
