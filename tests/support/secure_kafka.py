"""An embedded Kafka with TLS and SASL beside its plain listener, ACLs, and the certificates for it.

`KafkaListeners` are the further listeners by name: `TLS` (server certificate), `MTLS` (client certificate required),
`SASL` (TLS, and PLAIN, SCRAM or OAUTHBEARER). Their certificate is for `localhost` only, so that 127.0.0.1 is a wrong
host name. The plain listener's user is a superuser; everybody else may do what ACLs allow.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest

from fleetlake.local.broker import EmbeddedKafka
from fleetlake.local.broker.folder import BrokerFolder
from fleetlake.local.broker.jars import kafka_class_path
from fleetlake.local.broker.jvm import java_command
from fleetlake.ops.acls import Acl
from runtime.ports import free_port
from tests.support.certificates import Certificates

STAGES = ("topics", "connect", "stream", "delta", "alarms", "ui")
USERS = {name: f"{name}-secret" for name in ("alice", *STAGES)}
"""Passwords by user: `alice` may do everything, a stage's user what ACLs say."""
_PROTOCOLS = {"TLS": "SSL", "MTLS": "SSL", "SASL": "SASL_SSL"}
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


@dataclass
class SecureFolder(BrokerFolder):
    """The broker's folder, whose configuration has the further listeners and the users."""

    data_dir: Path
    certificates: Certificates
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.data_dir)
        self.ports = {name: free_port() for name in _PROTOCOLS}

    def write_configuration(self, port: int, controller_port: int) -> None:
        super().write_configuration(port, controller_port)
        more = ",".join(f"{name}://127.0.0.1:{number}" for name, number in self.ports.items())
        advertised = ",".join(f"{name}://localhost:{number}" for name, number in self.ports.items())
        lines = self.properties_file.read_text().splitlines()
        for number, line in enumerate(lines):
            if line.startswith("listeners="):
                lines[number] = f"{line},{more}"
            if line.startswith("advertised.listeners="):
                lines[number] = f"{line},{advertised}"
        self.properties_file.write_text("\n".join([*lines, *self._security()]) + "\n")
        if not self.is_formatted:
            self._format()

    def _security(self) -> list[str]:
        protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{n}:{p}" for n, p in _PROTOCOLS.items())]
        plain = "".join(f' user_{name}="{password}"' for name, password in USERS.items())
        package = "org.apache.kafka.common.security"
        modules = {
            "PLAIN": f"{package}.plain.PlainLoginModule required{plain};",
            "SCRAM-SHA-256": f"{package}.scram.ScramLoginModule required;",
            "SCRAM-SHA-512": f"{package}.scram.ScramLoginModule required;",
            "OAUTHBEARER": f'{package}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="x";',
        }
        return [
            f"listener.security.protocol.map={','.join(protocols)}",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={self.certificates.server}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self.certificates.authority}",
            "listener.name.mtls.ssl.client.auth=required",
            "listener.name.mtls.ssl.principal.mapping.rules=RULE:^.*$/alice/",
            f"sasl.enabled.mechanisms={','.join(_MECHANISMS)}",
            *(f"listener.name.sasl.{name.lower()}.sasl.jaas.config={line}" for name, line in modules.items()),
            "connection.failed.authentication.delay.ms=0",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS;User:alice",
        ]

    def _format(self) -> None:
        users = [
            f"--add-scram={mechanism}=[name={name},password={password}]"
            for mechanism in _MECHANISMS[1:3]
            for name, password in USERS.items()
        ]
        command = [*java_command(self, "64m", kafka_class_path()), "kafka.tools.StorageTool", "format"]
        command += ["--cluster-id=ZmxlZXRsYWtlLXNlY3VyZQ", "-c", str(self.properties_file), *users]
        subprocess.run(command, check=True, capture_output=True, cwd=self.path)


class SecureKafka(EmbeddedKafka):
    """The embedded broker with those listeners."""

    def __init__(self, data_dir: Path, certificates: Certificates) -> None:
        super().__init__(data_dir)
        self.folder = self.secure = SecureFolder(data_dir, certificates)

    def address(self, listener: str, host: str = "localhost") -> str:
        """`host:port` of a further listener."""
        return f"{host}:{self.secure.ports[listener]}"


_RESOURCES = {"topic": 2, "group": 3, "transactional-id": 5}
_PATTERNS = {"literal": 3, "prefixed": 4}
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10, "AlterConfigs": 11}
_ALLOW = 3


async def grant(bootstrap: str, grants: Sequence[Acl]) -> None:
    """Give each stage's user its grants, as the superuser of the plain listener."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    requests = [
        CreateAclsRequest(
            _RESOURCES[each.resource],
            each.name,
            _PATTERNS[each.pattern],
            f"User:{each.stage}",
            "*",
            _OPERATIONS[operation],
            _ALLOW,
        )
        for each in grants
        for operation in each.operations
    ]
    try:
        node = client.get_random_node()
        for response in await asyncio.gather(*(client.send(node, request) for request in requests)):
            assert [code for code, _ in response.creation_responses] == [0], response
    finally:
        await client.close()
