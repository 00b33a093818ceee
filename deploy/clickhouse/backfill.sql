-- Fills the rollup with the reports that came before it was made. Maxima may be added twice, so this can be run again.
INSERT INTO tcp_close_wait_per_minute
SELECT toStartOfMinute(toDateTime(time, 'UTC')) AS minute, cluster, namespace, service, host, version, deploy,
    max(sockets) AS lingering, max(oldest) AS oldest_s
FROM (
    SELECT time, cluster, namespace, service, host, version, deploy, sum(count) AS sockets, max(age) AS oldest
    FROM (
        SELECT time, cluster, namespace, service, host, version, deploy, pid, max(lingering) AS count, max(oldest_s) AS age
        FROM tcp_close_wait
        GROUP BY time, cluster, namespace, service, host, version, deploy, pid
    )
    GROUP BY time, cluster, namespace, service, host, version, deploy
)
GROUP BY minute, cluster, namespace, service, host, version, deploy;
