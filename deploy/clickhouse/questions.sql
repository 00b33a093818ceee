-- The questions of a fleet, for the time from {from:DateTime} to {to:DateTime} (UTC). Each begins with its name.
-- A request that was taken, but whose answer was lost, is sent again: rows may be there twice then. Maxima and numbers of
-- hosts do not mind; sums may be too large by that.

-- name: leaking_services
-- Which service leaks CLOSE_WAIT, on how many hosts, how many sockets, since when, since which deploy?
SELECT
    service,
    namespace,
    uniqExact(host) AS hosts,
    sum(most) AS sockets,
    max(oldest) AS oldest_s,
    min(first) AS since,
    argMin(version, (first, version)) AS since_version,
    argMin(deploy, (first, deploy)) AS since_deploy
FROM (
    SELECT service, namespace, host, version, deploy,
        max(lingering) AS most, max(oldest_s) AS oldest, min(minute) AS first
    FROM tcp_close_wait_per_minute
    WHERE minute BETWEEN {from:DateTime} AND {to:DateTime}
    GROUP BY service, namespace, host, version, deploy
)
GROUP BY service, namespace
ORDER BY sockets DESC, service
LIMIT 20;

-- name: leak_by_deploy
-- The same by version and deploy, in the order in which they began to leak: the first one is to blame.
SELECT service, version, deploy, min(minute) AS since, uniqExact(host) AS hosts, max(lingering) AS most_on_a_host
FROM tcp_close_wait_per_minute
WHERE minute BETWEEN {from:DateTime} AND {to:DateTime}
GROUP BY service, version, deploy
ORDER BY service, since, version, deploy;

-- name: leaking_processes
-- Which processes, now? (The last report of each host.)
SELECT DISTINCT service, host, pod, pid, lingering, oldest_s
FROM tcp_close_wait
WHERE (host, time) IN (
    SELECT host, max(time) FROM tcp_reports
    WHERE time BETWEEN {from:DateTime} AND {to:DateTime} GROUP BY host)
ORDER BY lingering DESC, host, pid
LIMIT 50;

-- name: open_findings
-- What is wrong now, the worst first? A finding is open if its last step is not `closed`.
SELECT finding, last_severity AS severity, count() AS subjects, uniqExact(host) AS hosts,
    groupUniqArray(5)(service) AS services, any(last_message) AS one_of_them
FROM (
    SELECT host, key, any(finding) AS finding, argMax(severity, time) AS last_severity, argMax(step, time) AS last_step,
        argMax(service, time) AS service, argMax(message, time) AS last_message
    FROM tcp_findings
    WHERE time BETWEEN {from:DateTime} AND {to:DateTime}
    GROUP BY host, key
)
WHERE last_step != 'closed'
GROUP BY finding, severity
ORDER BY indexOf(['critical', 'warning', 'info'], severity), subjects DESC, finding;

-- name: transitions
-- 1. What is TCP doing? The transition matrix of the fleet: exact, because each report counts its own window.
SELECT cell.1 AS kind, sum(cell.2) AS count
FROM (
    SELECT arrayJoin(CAST(transitions, 'Array(Tuple(String, UInt64))')) AS cell
    FROM tcp_reports
    WHERE time BETWEEN {from:DateTime} AND {to:DateTime}
)
GROUP BY kind
ORDER BY count DESC, kind;

-- name: busiest_services
-- 1. And who does it? (The ten busiest processes of each report.)
SELECT tcpService(JSONExtractRaw(row, 'process')) AS service, uniqExact(host) AS hosts,
    sum(JSONExtractUInt(row, 'total')) AS transitions
FROM tcp_reports
ARRAY JOIN JSONExtractArrayRaw(processes) AS row
WHERE time BETWEEN {from:DateTime} AND {to:DateTime}
GROUP BY service
ORDER BY transitions DESC, service
LIMIT 20;

-- name: listeners
-- 2. A flood, a slow accept loop, or lost SYN-ACKs? Requests that died or were turned away, by service and port.
SELECT
    tcpService(JSONExtractRaw(row, 'process')) AS service,
    JSONExtractUInt(row, 'local', 'port') AS port,
    uniqExact(host) AS hosts,
    sum(JSONExtractUInt(row, 'completed')) AS completed,
    sum(JSONExtractUInt(row, 'died')) AS died,
    sum(JSONExtractUInt(row, 'cookies')) AS cookies,
    max(JSONExtractUInt(row, 'live')) AS most_half_open,
    max(JSONExtractUInt(row, 'accept_queue', 'length')) AS longest_accept_queue
FROM tcp_reports
ARRAY JOIN JSONExtractArrayRaw(listeners) AS row
WHERE time BETWEEN {from:DateTime} AND {to:DateTime}
GROUP BY service, port
ORDER BY died + cookies DESC, completed DESC, service, port
LIMIT 20;

-- name: local_ports
-- 4. Who runs out of local ports, to where?
SELECT host, JSONExtractString(row, 'local') AS local,
    concat(JSONExtractString(row, 'peer', 'address'), ':', JSONExtractRaw(row, 'peer', 'port')) AS destination,
    max(JSONExtractFloat(row, 'share')) AS share, max(JSONExtractUInt(row, 'time_wait')) AS time_wait
FROM tcp_reports
ARRAY JOIN JSONExtractArrayRaw(ports) AS row
WHERE time BETWEEN {from:DateTime} AND {to:DateTime}
GROUP BY host, local, destination
ORDER BY share DESC, host, destination
LIMIT 20;

-- name: failing_destinations
-- 5. Which destinations refuse, or do not answer, and whom?
SELECT
    concat(JSONExtractString(row, 'peer', 'address'), ':', JSONExtractRaw(row, 'peer', 'port')) AS destination,
    uniqExact(host) AS hosts,
    sum(JSONExtractUInt(row, 'refused')) AS refused,
    sum(JSONExtractUInt(row, 'timed_out')) AS timed_out,
    sum(JSONExtractUInt(row, 'unreachable')) AS unreachable,
    sum(JSONExtractUInt(row, 'completed')) AS completed
FROM tcp_reports
ARRAY JOIN JSONExtractArrayRaw(destinations) AS row
WHERE time BETWEEN {from:DateTime} AND {to:DateTime}
GROUP BY destination
ORDER BY refused + timed_out + unreachable DESC, destination
LIMIT 20;

-- name: endings
-- 5. How did connections end? (`level = "closed"`.)
SELECT ending, role, count() AS connections, quantile(0.99)(seconds) AS p99_s, sum(sent) AS sent, sum(received) AS received
FROM tcp_connections
WHERE time BETWEEN {from:DateTime} AND {to:DateTime}
GROUP BY ending, role
ORDER BY connections DESC, ending, role;

-- name: trust
-- Can these numbers be believed? Hosts that lost something, or whose counts do not balance.
SELECT host, sum(seen) AS seen, sum(lost) AS lost, countIf(NOT balanced) AS unbalanced, max(time) AS last_report
FROM tcp_reports
WHERE time BETWEEN {from:DateTime} AND {to:DateTime}
GROUP BY host
HAVING lost > 0 OR unbalanced > 0
ORDER BY lost DESC, host;
