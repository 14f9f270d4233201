"""The stable code of each kind of line in the log, for whoever filters or alerts on lines.

A code stays when its line is reworded. Tests hold the templates to those that the stages log, and docs/log-codes.md to
this catalogue (`python -m runtime.log_codes` prints that page's table).
"""

from __future__ import annotations

from functools import cache

CODES: dict[str, tuple[str, ...]] = {
    # Every stage
    "stage-health": ("%s: health and metrics at %s",),
    "stage-failed": ("%s failed: %s", "stream worker failed: %s"),
    "stage-stuck": ("%s %s; ending the process",),
    "kafka-waiting": ("no Kafka broker answers at %s: %s; waiting for one",),
    "kafka-found": ("Kafka at %s answers",),
    "kafka-open": ("Kafka at %s has no password: every user of this machine can read and write its topics",),
    "kafka-away": ("Kafka is away (%s); nothing is acknowledged upstream until it is back",),
    "kafka-back": ("Kafka is back",),
    "topic-config-unchecked": ("settings of topics cannot be checked or raised: %s",),
    "topic-config-refused": ("topic %s should have %s, but Kafka refuses to set it (%s)",),
    "topic-config-raised": ("topic %s: %s",),
    "periodic-failed": ("%s failed (%s); trying again",),
    "periodic-back": ("%s succeeds again",),
    # Servers
    "server-full": ("%s: %d connections are open (max_connections); refusing further ones",),
    "server-address-full": ("%s: %s has too many connections (max_connections_per_address); refusing further ones",),
    "server-not-http": ("%s: a client sent what is not HTTP (%s)",),
    "certificate-renewed": ("%s: renewed",),
    "certificate-unusable": ("the certificate before stays in use: %s",),
    # The supervisor
    "supervisor-restart": ("%s %s; restarting it in %.1f s%s",),
    "supervisor-not-live": ("%s is not live (%s): killing it",),
    "supervisor-not-stopped": ("%s did not stop within %.0f s: killing it",),
    "supervisor-not-drained": (
        "records still waited after %.0f s; they are in Kafka and will be read at the next start",
    ),
    # Connectors
    "connection-up": ("%s %s: connected to %s", "%s %s: connected to %d: %s"),
    "connection-lost": (
        "%s %s: no connection to %s (%s); trying again",
        "%s %s: no connection to %d of %d (%s); trying again: %s",
    ),
    "connection-back": (
        "%s %s: connected again to %s",
        "%s %s: connected again to %d; %d still away: %s",
    ),
    "connection-still-away": ("%s %s: still no connection to %d after %g min (%s): %s",),
    "connector-failed": ("%s: the connector failed and is restarted: %s",),
    "coverage-off": ("%s: no topic %s: silence counts while nobody listens, too",),
    "message-bug": (
        "a message of type %s cannot be read: a bug (%s in %s)",
        "a message of type %s could not be normalised: a bug",
        "a record of %s could not be applied: a bug",
    ),
    "message-slow": ("a message of type %s took more than %g s to read",),
    "record-refused": ("Kafka refuses a record of %d bytes on %s",),
    "clock-ahead": (
        "Kafka refuses times so far ahead: this machine's clock is fast, or the broker's is slow; records are written "
        "without a time of their own until that is mended (their envelopes keep it)",
    ),
    "ownership": ("%s: this process owns %d of %d partitions of the devices",),
    "ownership-waiting": ("%s: Kafka does not assign devices to this process (%s)",),
    "flood": ("%s floods: messages beyond %g per second are left out",),
    "flood-over": ("%s: the flood is over; %d messages were left out",),
    "device-vanished": ("%s: %s is registered no more: %s does not list it",),
    "registry-unread": ("%s: the registry topic cannot be read yet: %r",),
    "karcher-sockets-forbidden": (
        "karcher: sockets are forbidden (403): the scope external-api/websocket:connect is needed; going on with REST",
    ),
    "karcher-no-status": ("karcher: no status of %s (%s)",),
    "ogmen-api-away": ("ogmen: the API at %s does not answer (%s); trying again",),
    "ogmen-api-back": ("ogmen: the API at %s answers again",),
    "ogmen-endpoint-failed": ("ogmen: cannot read %s at %s (%s); trying again%s",),
    "ogmen-endpoint-back": ("ogmen: reading %s again",),
    "ogmen-state-unwritten": ("ogmen: cannot store which log entries of %s were published: %s",),
    "ogmen-webhook": ("ogmen: robots may post to %s://%s:%d%s",),
    "ogmen-webhook-closed": ("ogmen: neither webhook_secret nor signature_secret in [ogmen]: every alert is refused",),
    "wayscloud-backfill": ("wayscloud: back-filling telemetry of %d devices since %s",),
    "wayscloud-backfill-failed": ("wayscloud: cannot back-fill telemetry (%s); trying again",),
    "wayscloud-backfill-back": ("wayscloud: back-filling telemetry again",),
    "wayscloud-backfill-impossible": (
        "wayscloud: no telemetry of %s can be back-filled (%s)",
        "wayscloud: the broker has forgotten our session, and without api_key nothing can be back-filled",
    ),
    "wayscloud-no-definitions": ("wayscloud: no datapoint definitions yet (%s)",),
    "wayscloud-topics-uncovered": ("wayscloud: no topic filter covers these topics of profiles: %s",),
    "climasense-server": ("climasense: devices may post to %s://%s:%d/v1/telemetry",),
    "climasense-keys-unread": ("climasense: %s; %d keys stay in force",),
    "climasense-keys-back": ("climasense: the keys can be read again",),
    "climasense-database-away": ("climasense: the database is away (%s); devices are asked to try again later",),
    "climasense-database-back": ("climasense: the database is back",),
    # Stream workers
    "record-skipped": ("%s[%s]@%s is skipped: %s",),
    "transaction-abandoned": ("%s[%s]: transaction abandoned",),
    "duplicates-window-short": (
        "%s: duplicates are recognised for %d s only, not for %d s: more ids do not fit into "
        "`[stream] dedupe_max_bytes` (reported once)",
    ),
    "rules-no-file": ("no rules_file in [stream]: the rules are those of the rules topic",),
    "rule-refused": ("%s: refused: %s", "not in force: %s", "partly in force: %s"),
    "rule-unknown-metric": ("%s: unknown metric: %s",),
    "rule-changed": ("rule %s: %s as in %s",),
    "maintenance-unreadable": ("%s: %s is no maintenance window",),
    # Sinks
    "sink-assigned": ("%s: reads %d partitions of %d topics",),
    "sink-stale": ("%s: %s: %s; re-reading from the stored offsets",),
    "sink-records-expired": ("%s: %s: up to %d records expired in Kafka before they were written",),
    "sink-unreadable": ("%s: %d records of %s cannot be read: see dead_letters",),
    "delta-new-topic": ("delta: table %s continues with the new topic %s",),
    "delta-maintenance-failed": ("delta: maintenance of table %s failed and will be retried: %s",),
    "duckdb-waiting": ("%s: another process publishes from this data folder; waiting to take over",),
    "duckdb-rebuilt": (
        "%s: table %s has another history than was applied, and is rebuilt",
        "%s: table %s is rebuilt from a snapshot: %s",
    ),
    # The alarm service
    "alarms-server": ("alarms: %s://%s:%d/v1/iot/alarms",),
    "alarms-request-failed": ("alarms: %s %s failed",),
    "alarms-deleted": ("alarms: deleted %d alarms that were resolved more than %d days ago",),
    "alarms-rule-left-out": ("alarms: left out from the rules topic: %s",),
    "alarms-records-expired": ("alarms: %s: %d records expired before they were read",),
    "alarms-stale": ("alarms: %s; continuing behind it",),
    "alarms-unreadable": ("alarms: not an alarm event: %s[%d] at offset %d: %s",),
    "notify-refused": ("notify: %s refuses the %d open alarms: %s",),
    "notify-given-up": ("notify: gave up %d deliveries after %g h", "notify: %s: gave up delivery %s: %s"),
    "notify-failed": ("notify: %s: cannot send", "notify: %s does not accept notifications: %s"),
    "notify-back": ("notify: %s accepts notifications again",),
    # The live page
    "ui-open": ("ui: open %s",),
    "ui-following": ("ui: following the topics",),
    "ui-kafka-away": ("ui: Kafka does not answer (%s); trying again",),
    "ui-tables-unread": ("ui: %s failed: %s",),
    "ui-request-failed": ("ui: %s %s failed",),
    # The SQL server
    "sql-server": ("sql: postgresql://%s:%s/%s",),
    # Simulators
    "simulator": ("simulator: %s at %s", "simulating %s", "simulators stopped; planted: %s"),
    "simulator-stopped": ("a simulated device has stopped",),
    "simulator-unacknowledged": ("alert %s of %s was never acknowledged",),
    "simulator-slow": ("the MQTT broker does not keep up: a message on %s is dropped",),
}

LIBRARY = "library"
"""The code of lines that a library logs."""
DETAIL = "detail"
"""The code of lines at level debug."""


def code_of(template: object) -> str | None:
    """The code of a template of ours; None where it has none."""
    return _codes().get(str(template))


@cache
def _codes() -> dict[str, str]:
    return {template: code for code, templates in CODES.items() for template in templates}


def table() -> str:
    """The catalogue as a table in Markdown."""
    rows = ["| code | line |", "| --- | --- |"]
    for code, templates in CODES.items():
        rows.append(f"| `{code}` | {'<br>'.join(f'`{template}`' for template in templates)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")
