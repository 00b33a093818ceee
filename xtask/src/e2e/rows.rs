//! OTLP as JSON to the rows that the Collector's ClickHouse exporter makes of it: values become texts, nested ones JSON.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// A row of `otel_logs`.
#[derive(Clone, Debug, Default)]
pub(super) struct LogRow {
    /// RFC 3339, nine digits.
    pub(super) timestamp: String,
    pub(super) severity: String,
    pub(super) severity_number: u64,
    pub(super) event: String,
    pub(super) body: String,
    pub(super) resource: BTreeMap<String, String>,
    pub(super) attributes: BTreeMap<String, String>,
    scope: [String; 4],
}

impl LogRow {
    /// The exporter's column `ServiceName`.
    pub(super) fn service(&self) -> &str {
        self.resource.get("service.name").map_or("", String::as_str)
    }

    /// For `INSERT … FORMAT JSONEachRow`. The exporter writes `EventName` only into tables that have such a column.
    pub(super) fn to_json(&self, with_event: bool) -> Value {
        let [name, version, scope_url, resource_url] = &self.scope;
        let mut row = json!({
            "Timestamp": self.timestamp,
            "SeverityText": self.severity,
            "SeverityNumber": self.severity_number,
            "ServiceName": self.service(),
            "Body": self.body,
            "ResourceSchemaUrl": resource_url,
            "ResourceAttributes": self.resource,
            "ScopeSchemaUrl": scope_url,
            "ScopeName": name,
            "ScopeVersion": version,
            "LogAttributes": self.attributes,
        });
        if with_event {
            row["EventName"] = json!(self.event);
        }
        row
    }
}

/// The elements of an array; none of what is no array.
pub(super) fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The records of one request.
pub(super) fn logs(body: &[u8]) -> Result<Vec<LogRow>> {
    let body: Value = serde_json::from_slice(body).context("a request that is no JSON")?;
    let mut rows = Vec::new();
    for resource in each(&body["resourceLogs"]) {
        let attributes = attributes(&resource["resource"]["attributes"]);
        for scope in each(&resource["scopeLogs"]) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let named = &scope["scope"];
            let scope_texts =
                [&named["name"], &named["version"], &scope["schemaUrl"], &resource["schemaUrl"]];
            for record in each(&scope["logRecords"]) {
                rows.push(LogRow {
                    resource: attributes.clone(),
                    scope: scope_texts.map(text),
                    ..row(record)?
                });
            }
        }
    }
    Ok(rows)
}

fn row(record: &Value) -> Result<LogRow> {
    let ns: u64 = record["timeUnixNano"].as_str().context("a record without a time")?.parse()?;
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    Ok(LogRow {
        timestamp: rfc3339(ns),
        severity: text("severityText"),
        severity_number: record["severityNumber"].as_u64().unwrap_or_default(),
        event: text("eventName"),
        body: as_text(&record["body"]),
        attributes: attributes(&record["attributes"]),
        ..LogRow::default()
    })
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let pair = |pair: &Value| Some((pair["key"].as_str()?.to_owned(), as_text(&pair["value"])));
    each(list).filter_map(pair).collect()
}

/// What `Value.AsString` of the Collector makes of it.
fn as_text(value: &Value) -> String {
    match plain(value) {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Without OTLP's names of types.
fn plain(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match kind.as_str() {
        // 64-bit integers are texts in OTLP's JSON.
        "intValue" => inner
            .as_str()
            .and_then(|text| text.parse::<i64>().ok())
            .map_or_else(|| inner.clone(), Value::from),
        "arrayValue" => Value::Array(each(&inner["values"]).map(plain).collect()),
        "kvlistValue" => {
            let pair = |pair: &Value| Some((pair["key"].as_str()?.to_owned(), plain(&pair["value"])));
            Value::Object(each(&inner["values"]).filter_map(pair).collect::<Map<_, _>>())
        }
        _ => inner.clone(),
    }
}

/// UTC, to the nanosecond. Days are counted as in the Gregorian calendar, which begins its years in March here: a leap
/// day is the last one of such a year.
fn rfc3339(ns: u64) -> String {
    let (seconds, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (1_795_379_696, "2026-11-22T20:34:56.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000_000), text);
        }
    }

    #[test]
    fn values_become_the_texts_that_the_exporter_writes() {
        let body = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]},
            "scopeLogs":[{"scope":{"name":"tcp-trace"},"logRecords":[{"timeUnixNano":"1000000001","severityNumber":13,
            "eventName":"tcp.finding","body":{"stringValue":"x"},"attributes":[
            {"key":"n","value":{"intValue":"40"}},{"key":"r","value":{"doubleValue":1.5}},{"key":"b","value":{"boolValue":true}},
            {"key":"l","value":{"arrayValue":{"values":[{"kvlistValue":{"values":[{"key":"count","value":{"intValue":"2"}},
            {"key":"process","value":{}}]}}]}}}]}]}]}]}"#;
        let [row] = &logs(body).unwrap()[..] else { panic!() };
        assert_eq!((row.service(), row.event.as_str(), row.severity_number), ("cart", "tcp.finding", 13));
        assert_eq!(row.timestamp, "1970-01-01T00:00:01.000000001Z");
        let attribute = |key: &str| row.attributes[key].as_str();
        assert_eq!(["n", "r", "b"].map(attribute), ["40", "1.5", "true"]);
        assert_eq!(attribute("l"), r#"[{"count":2,"process":null}]"#);
    }
}
