"""Registers the `webhook` event sink."""

from collections.abc import Iterable

from promoter_core.spi import SinkSpec, hookimpl


@hookimpl
def promoter_register_event_sinks() -> Iterable[SinkSpec]:
    yield SinkSpec(
        name="webhook",
        summary="CloudEvents over HTTP, in batches, signed and retried",
        target="promoter_webhook.sink:WebhookEvents",
        options=("url", "secret", "secret_env", "batch", "buffer", "timeout_s"),
        requires=("aiohttp", "standardwebhooks"),
        install="promoter-core[webhook]",
    )
