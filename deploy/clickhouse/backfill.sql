-- Fills the rollup with the reports that came before it was made. Maxima may be added twice, so this can be run again.
INSERT INTO tcp_close_wait_per_minute
SELECT toStartOfMinute(toDateTime(time, 'UTC')) AS minute, cluster, namespace, service, host, version, deploy,
    max(sockets) AS lingering, max(oldest) AS oldest_s
FROM (
    SELECT time, cluster, namespace, service, host, version, deploy, sum(lingering) AS sockets, max(oldest_s) AS oldest
    FROM tcp_close_wait
    GROUP BY time, cluster, namespace, service, host, version, deploy
)
GROUP BY minute, cluster, namespace, service, host, version, deploy;
