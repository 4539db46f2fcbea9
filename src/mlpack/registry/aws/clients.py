"""The address of a registry on AWS, and boto3's clients for it. Importing or creating them sends no request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlpack.core.distribution import install
from mlpack.errors import RecipeError

CONNECTIONS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a registry on AWS. `prefix` may be empty and neither begins nor ends with a slash."""

    bucket: str
    prefix: str
    table: str
    region: str | None = None

    def __str__(self) -> str:
        region = f"&region={self.region}" if self.region else ""
        return f"s3://{self.bucket}{f'/{self.prefix}' if self.prefix else ''}?table={self.table}{region}"

    @property
    def scope(self) -> str:
        """The prefix of this registry's partitions in the table."""
        return f"{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultAccount:
    """The account and region that boto3 finds, for a registry that is not on AWS. `where`: its name, for messages."""

    where: str
    region: str | None = None

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Time limits for AWS. `tries`: of every request, unless AWS's own configuration says how many."""

    connect_s: float = 10.0
    read_s: float = 30.0
    tries: int = 6


class Clients:
    """boto3's clients of one registry, made at their first use, because each takes 0.1 s. Threads may share them."""

    def __init__(self, address: Address | DefaultAccount, patience: Timeouts) -> None:
        try:
            from botocore.session import get_session
        except ImportError as error:
            raise RecipeError(f"{address}: questions to AWS need boto3: {install('aws')}") from error
        self._new_session: Callable[[], Any] = get_session
        self._address = address
        self._patience = patience
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, bool], Any] = {}
        self._session: Any = None

    def get(self, service: str, *, once: bool = False) -> Any:
        """The client of a service; with `once` one that repeats no request. ServiceError when there are no credentials, no region,
        or no such profile."""
        from mlpack.registry.aws.refusals import AwsCall, explained

        with self._lock:
            if (service, once) not in self._clients:
                with explained(AwsCall(where=str(self._address), action=f"{service}:*", resource="*")):
                    self._session = self._session or self._new_session()
                    self._clients[service, once] = self._session.create_client(
                        service, region_name=self._address.region, config=self._config(service, once)
                    )
            return self._clients[service, once]

    @property
    def partition(self) -> str:
        """`aws`, `aws-cn`, ...: the partition in ARNs."""
        return next((str(client.meta.partition) for client in self._clients.values()), "aws")

    def close(self) -> None:
        """Close every connection; a later `get` makes new clients."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients = {}

    def _config(self, service: str, once: bool) -> Any:
        from botocore.config import Config

        variable = self._session.get_config_variable
        retries: dict[str, Any] = {"mode": "standard" if variable("retry_mode") == "legacy" else variable("retry_mode")}
        if once or variable("max_attempts") is None:
            retries["total_max_attempts"] = 1 if once else self._patience.tries
        return Config(
            retries=retries,
            connect_timeout=self._patience.connect_s,
            read_timeout=self._patience.read_s,
            max_pool_connections=CONNECTIONS,
            # Every blob is checked against its SHA-256: another checksum would cost time and find nothing more.
            response_checksum_validation="when_required",
            user_agent_extra="mlpack",
            # Newer regions and encrypted objects refuse older signatures of URLs.
            signature_version="s3v4" if service == "s3" else None,
        )
