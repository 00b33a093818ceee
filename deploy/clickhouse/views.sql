-- Views of what tcp-trace's agents send, over the Collector's own table `otel_logs`, and one rollup. Run once, in the
-- database of that table. Nothing here needs the column EventName, which not every version of the exporter fills.
-- In `tcp_trace.report.*` each list is JSON; sizes of lists are ten rows a report at most, the worst first.

-- What the service of a process is called: as `service.name` of a container, or of a systemd service; of any other
-- process its name.
CREATE OR REPLACE FUNCTION tcpService AS (process) -> multiIf(
    JSONExtractString(process, 'container', 'runtime') = 'systemd'
        AND NOT endsWith(JSONExtractString(process, 'container', 'id'), '.scope'),
    splitByChar('@', replaceRegexpOne(JSONExtractString(process, 'container', 'id'), '\\.[a-z]+$', ''))[1],
    JSONExtractString(process, 'container', 'runtime') IN ('', 'systemd'),
    JSONExtractString(process, 'comm'),
    JSONExtractString(process, 'container', 'name') != '',
    JSONExtractString(process, 'container', 'name'),
    JSONExtractString(process, 'container', 'image') != '',
    replaceRegexpOne(JSONExtractString(process, 'container', 'image'), '^(?:.*/)?([^/:@]+).*$', '\\1'),
    JSONExtractString(process, 'container', 'id'));

-- Which deploy of it: the tag of its image.
CREATE OR REPLACE FUNCTION tcpVersion AS (process) ->
    extract(JSONExtractString(process, 'container', 'image'), ':([^/:@]+)(?:@.*)?$');

-- Findings: opened, changed, closed.
CREATE OR REPLACE VIEW tcp_findings AS
SELECT
    Timestamp AS time,
    ResourceAttributes['k8s.cluster.name'] AS cluster,
    ResourceAttributes['host.name'] AS host,
    ResourceAttributes['deploy'] AS deploy,
    if(ServiceName = 'tcp-trace', LogAttributes['process.executable.name'], ServiceName) AS service,
    ResourceAttributes['k8s.namespace.name'] AS namespace,
    ResourceAttributes['k8s.pod.name'] AS pod,
    ResourceAttributes['container.id'] AS container,
    arrayElement(JSONExtract(ResourceAttributes['container.image.tags'], 'Array(String)'), 1) AS version,
    toUInt32OrZero(LogAttributes['process.pid']) AS pid,
    LogAttributes['tcp_trace.finding.id'] AS finding,
    LogAttributes['tcp_trace.finding.key'] AS key,
    LogAttributes['tcp_trace.finding.step'] AS step,
    LogAttributes['tcp_trace.finding.severity'] AS severity,
    parseDateTime64BestEffortOrNull(LogAttributes['tcp_trace.finding.since'], 9, 'UTC') AS since,
    LogAttributes['tcp_trace.finding.subject.name'] AS subject,
    LogAttributes['tcp_trace.finding.cause'] AS cause,
    LogAttributes['tcp_trace.finding.advice'] AS advice,
    mapFilter((k, v) -> startsWith(k, 'tcp_trace.finding.evidence.'), LogAttributes) AS evidence,
    Body AS message
FROM otel_logs
WHERE mapContains(LogAttributes, 'tcp_trace.finding.id');

-- Reports: one row for each report of each host.
CREATE OR REPLACE VIEW tcp_reports AS
SELECT
    Timestamp AS time,
    ResourceAttributes['k8s.cluster.name'] AS cluster,
    ResourceAttributes['host.name'] AS host,
    ResourceAttributes['deploy'] AS deploy,
    toFloat64OrZero(LogAttributes['tcp_trace.window.duration']) AS seconds,
    toUInt64OrZero(LogAttributes['tcp_trace.events.seen']) AS seen,
    toUInt64OrZero(LogAttributes['tcp_trace.events.lost']) AS lost,
    LogAttributes['tcp_trace.events.balanced'] = 'true' AS balanced,
    toUInt64OrZero(LogAttributes['tcp.close_wait.lingering']) AS lingering,
    toUInt64OrNull(LogAttributes['tcp.half_open.live']) AS half_open,
    mapApply((k, v) -> (substring(k, 17), toUInt64OrZero(v)),
        mapFilter((k, v) -> startsWith(k, 'tcp.transitions.'), LogAttributes)) AS transitions,
    mapApply((k, v) -> (substring(k, 13), toUInt64OrZero(v)),
        mapFilter((k, v) -> startsWith(k, 'tcp.sockets.'), LogAttributes)) AS sockets,
    LogAttributes['tcp_trace.report.close_wait'] AS close_wait,
    LogAttributes['tcp_trace.report.listeners'] AS listeners,
    LogAttributes['tcp_trace.report.destinations'] AS destinations,
    LogAttributes['tcp_trace.report.ports'] AS ports,
    LogAttributes['tcp_trace.report.processes'] AS processes
FROM otel_logs
WHERE mapContains(LogAttributes, 'tcp_trace.window.duration') AND mapContains(LogAttributes, 'tcp.close_wait.lingering');

-- Lingering CLOSE_WAIT sockets of each process, report by report.
CREATE OR REPLACE VIEW tcp_close_wait AS
SELECT
    time, cluster, host, deploy,
    tcpService(JSONExtractRaw(row, 'process')) AS service,
    JSONExtractString(row, 'process', 'container', 'namespace') AS namespace,
    JSONExtractString(row, 'process', 'container', 'pod') AS pod,
    tcpVersion(JSONExtractRaw(row, 'process')) AS version,
    JSONExtractUInt(row, 'process', 'pid') AS pid,
    JSONExtractUInt(row, 'count') AS lingering,
    JSONExtractUInt(row, 'oldest_ns') / 1e9 AS oldest_s
FROM tcp_reports
ARRAY JOIN JSONExtractArrayRaw(close_wait) AS row;

-- Finished connections (`level = "closed"`).
CREATE OR REPLACE VIEW tcp_connections AS
SELECT
    Timestamp AS time,
    ResourceAttributes['k8s.cluster.name'] AS cluster,
    ResourceAttributes['host.name'] AS host,
    if(ServiceName = 'tcp-trace', LogAttributes['process.executable.name'], ServiceName) AS service,
    ResourceAttributes['k8s.namespace.name'] AS namespace,
    LogAttributes['tcp.connection.role'] AS role,
    LogAttributes['tcp.connection.closer'] AS closer,
    LogAttributes['tcp.connection.ending'] AS ending,
    LogAttributes['error.type'] AS error,
    LogAttributes['network.local.address'] AS local,
    toUInt16OrZero(LogAttributes['network.local.port']) AS local_port,
    LogAttributes['network.peer.address'] AS peer,
    toUInt16OrZero(LogAttributes['network.peer.port']) AS peer_port,
    toFloat64OrNull(LogAttributes['tcp.connection.duration']) AS seconds,
    toFloat64OrNull(LogAttributes['tcp.connect.duration']) AS connect_s,
    toFloat64OrNull(LogAttributes['tcp.half_open.duration']) AS half_open_s,
    toUInt64OrNull(LogAttributes['tcp.bytes.sent']) AS sent,
    toUInt64OrNull(LogAttributes['tcp.bytes.received']) AS received,
    toUInt64OrNull(LogAttributes['tcp.retransmits']) AS retransmits
FROM otel_logs
WHERE mapContains(LogAttributes, 'tcp.connection.complete');

-- The rollup: for each minute, host and service the most that lingered at once. A year of it is small, and it answers
-- in milliseconds what the logs answer in seconds. It begins with what is inserted after it was made; backfill.sql
-- fills in what was there before.
CREATE TABLE IF NOT EXISTS tcp_close_wait_per_minute (
    minute DateTime('UTC'),
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    service LowCardinality(String),
    host LowCardinality(String),
    version LowCardinality(String),
    deploy LowCardinality(String),
    lingering SimpleAggregateFunction(max, UInt64),
    oldest_s SimpleAggregateFunction(max, Float64)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (service, namespace, cluster, minute, host, version, deploy)
TTL minute + toIntervalDay(400);

CREATE MATERIALIZED VIEW IF NOT EXISTS tcp_close_wait_per_minute_of_logs TO tcp_close_wait_per_minute AS
SELECT
    toStartOfMinute(toDateTime(Timestamp, 'UTC')) AS minute,
    cluster, namespace, service, host, version, deploy,
    max(sockets) AS lingering,
    max(oldest) AS oldest_s
FROM (
    SELECT Timestamp, cluster, namespace, service, host, version, deploy, sum(count) AS sockets, max(age) AS oldest
    FROM (
        -- A report that was sent twice counts once: first by process, and only then by service.
        SELECT
            Timestamp,
            ResourceAttributes['k8s.cluster.name'] AS cluster,
            ResourceAttributes['host.name'] AS host,
            ResourceAttributes['deploy'] AS deploy,
            tcpService(JSONExtractRaw(row, 'process')) AS service,
            JSONExtractString(row, 'process', 'container', 'namespace') AS namespace,
            tcpVersion(JSONExtractRaw(row, 'process')) AS version,
            JSONExtractUInt(row, 'process', 'pid') AS pid,
            max(JSONExtractUInt(row, 'count')) AS count,
            max(JSONExtractUInt(row, 'oldest_ns') / 1e9) AS age
        FROM otel_logs
        ARRAY JOIN JSONExtractArrayRaw(LogAttributes['tcp_trace.report.close_wait']) AS row
        GROUP BY Timestamp, cluster, host, deploy, service, namespace, version, pid
    )
    GROUP BY Timestamp, cluster, namespace, service, host, version, deploy
)
GROUP BY minute, cluster, namespace, service, host, version, deploy;
