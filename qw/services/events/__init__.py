"""Reads events from the outbox and publishes them to brokers and webhooks, in order per task."""
