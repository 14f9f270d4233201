"""The embedded broker's configuration files, and how to read its log. Pure: text in, text out."""

from __future__ import annotations

import re

NODE_ID = 1
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_ERROR = re.compile(r" (ERROR|FATAL) |^Caused by|^Error|^\S*(Exception|Error)\b|OutOfMemory")
_LONGEST_LINE = 300


def server_properties(port: int, controller_port: int) -> str:
    """Kafka's `server.properties` for a single node in KRaft combined mode that listens on loopback only.

    Names as in Kafka's documentation, «Broker Configs». The log is the folder `data` of the broker's working directory:
    Kafka would split a full path at commas and strip its blanks, and read any letter but Latin-1 as others.
    """
    listener = f"PLAINTEXT://127.0.0.1:{port}"
    properties = {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{listener},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": listener,
        "log.dirs": "data",
        # A single node has one replica of everything.
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # Acknowledged means on disk: with one replica, `acks=all` alone does not survive a power loss.
        "log.flush.interval.messages": 1,
        # After an unclean stop the old registration has to expire before the node can serve (default 9 s).
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # Small internal topics start quickly; one process group needs no more.
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.num.partitions": 8,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # A killed worker's open transaction holds up `read_committed` readers until it is aborted; the default is to
        # look for such every 10 s.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        "auto.create.topics.enable": "false",
        "message.max.bytes": MAX_MESSAGE_BYTES,
        # The default of 128 MiB would be a third of the heap.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "num.network.threads": 2,
        "num.io.threads": 4,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def log4j2_properties() -> str:
    """Log4j 2's configuration: one file, rolled at 5 MB, three old ones kept, open until the broker has stopped.

    The file is relative to the broker's working directory, for the reason that `server_properties` gives.
    """
    return """\
status=error
shutdownHook=disable
rootLogger.level=info
rootLogger.appenderRefs=file
rootLogger.appenderRef.file.ref=file
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName=logs/broker.log
appender.file.filePattern=logs/broker.log.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{yyyy-MM-dd'T'HH:mm:ss.SSSX}{UTC} %p %m (%c{1})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=5MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
"""


def error_lines(log: str, most: int = 8) -> list[str]:
    """The last lines that report an error, shortened; if there are none, the last three lines."""
    lines = [line[:_LONGEST_LINE] for line in log.splitlines() if line.strip()]
    return [line for line in lines if _ERROR.search(line)][-most:] or lines[-3:]
