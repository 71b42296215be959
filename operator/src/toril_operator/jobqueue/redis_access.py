"""How a JobQueue's Redis is reached: its spec, with what the Secrets hold that it names."""

from __future__ import annotations

from dataclasses import replace

from toril import errors, kube
from toril.engine.redis.secret import Secret
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.tls import TlsMaterialError, TlsSettings
from toril.specs import jobqueue as specs
from toril_operator.conditions import Reason
from toril_operator.polling import endpoints


class SecretError(Exception):
    """A Secret is missing, or what it holds cannot be used. `str()` names it and shows nothing of its content."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def read_settings(client: kube.KubeClient, spec: specs.JobQueueSpec) -> RedisSettings:
    """Read the Secrets anew.

    Raises:
        SecretError: see there.
        KubeError: a Secret could not be asked for.
    """
    secrets = _Secrets(client, spec.namespace)
    redis = spec.redis
    if redis.url is not None or redis.url_from is not None:
        url = redis.url or await secrets.text_or_none(redis.url_from)
        try:
            settings = RedisSettings.from_url(url or "", "redis.url")
        except errors.SettingsError as problem:
            raise SecretError(Reason.SECRET_INVALID, str(problem)) from None
    else:
        tls = TlsSettings() if redis.has_tls else None
        settings = RedisSettings(host=redis.host or "", port=redis.port, db=redis.db, tls=tls)
    username = await secrets.text_or_none(redis.username_from)
    text = await secrets.text_or_none(redis.password_from)
    password = Secret(text) if text else None
    # As the workers do with their variables.
    if settings.username and username and username != settings.username:
        raise SecretError(Reason.SECRET_INVALID, "redis.usernameFrom says otherwise than the URL")
    if settings.password and password and password != settings.password:
        raise SecretError(Reason.SECRET_INVALID, "redis.passwordFrom says otherwise than the URL")
    settings = replace(settings, username=settings.username or username, password=settings.password or password)
    return endpoints.qualify(await _with_certificates(settings, redis.tls, secrets), spec.namespace)


async def _with_certificates(settings: RedisSettings, tls: specs.TlsSpec, secrets: _Secrets) -> RedisSettings:
    if not tls.secret_keys and tls.server_name is None:
        return settings
    if settings.tls is None:
        message = "redis.tls names certificates, and the URL asks for no TLS: it must begin with rediss://"
        raise SecretError(Reason.SECRET_INVALID, message)
    key = await secrets.text_or_none(tls.key_from)
    made = TlsSettings(
        ca=await secrets.text_or_none(tls.ca_from),
        cert=await secrets.text_or_none(tls.cert_from),
        key=Secret(key) if key else None,
        server_name=tls.server_name,
    )
    try:
        made.context()
    except TlsMaterialError as problem:
        wrong = tls.secret_keys[problem.part]
        raise SecretError(Reason.SECRET_INVALID, f"{_place(wrong)}: {problem}") from None
    return replace(settings, tls=made)


class _Secrets:
    """The Secrets of one namespace."""

    def __init__(self, client: kube.KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def text_or_none(self, wanted: specs.SecretKey | None) -> str | None:
        """One key's text; None when it is not asked for, or is missing and may be."""
        if wanted is None:
            return None
        place = _place(wanted)
        try:
            content = await self._client.secret_or_none(self._namespace, wanted.name)
        except errors.KubeForbiddenError:
            message = f"{place}: the operator may not read it (right `get` on `secrets`)"
            raise SecretError(Reason.SECRET_MISSING, message) from None
        if content is None or wanted.key not in content:
            if wanted.is_optional:
                return None
            what = "there is no such Secret" if content is None else "the Secret has no such key"
            raise SecretError(Reason.SECRET_MISSING, f"{place}: {what}")
        try:
            text = content[wanted.key].decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise SecretError(Reason.SECRET_INVALID, f"{place}: is not text") from None
        if not text:
            raise SecretError(Reason.SECRET_INVALID, f"{place}: is empty")
        return text


def _place(key: specs.SecretKey) -> str:
    return f"Secret {key.name}, key {key.key}"
