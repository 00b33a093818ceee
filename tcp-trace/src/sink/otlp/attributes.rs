//! Attributes: of a resource, of a record, of a point of a metric. What is not known has none.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use tcp_trace_core::{endpoint::Endpoint, process::printable};

/// The longest text that is sent; what is cut off ends in `…`.
const MAX_TEXT: usize = 4096;

/// In the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// A text. Names from elsewhere come through here, so that nothing of them can disturb a terminal.
    pub(super) fn text(&mut self, key: impl Into<String>, text: impl AsRef<str>) {
        self.add(key, Value::StringValue(harmless(text.as_ref())));
    }

    pub(super) fn maybe_text(&mut self, key: &str, text: Option<impl AsRef<str>>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// A number of things. Those that OTLP has no integer for are texts: they are identifiers.
    pub(super) fn count(&mut self, key: impl Into<String>, count: u64) {
        self.add(
            key,
            i64::try_from(count).map_or_else(|_| Value::StringValue(count.to_string()), Value::IntValue),
        );
    }

    pub(super) fn maybe_count(&mut self, key: &str, count: Option<impl Into<u64>>) {
        if let Some(count) = count {
            self.count(key, count.into());
        }
    }

    pub(super) fn real(&mut self, key: impl Into<String>, real: f64) {
        self.add(key, Value::DoubleValue(real));
    }

    /// Nanoseconds, as the seconds that OpenTelemetry has durations in.
    pub(super) fn seconds(&mut self, key: &str, ns: Option<u64>) {
        if let Some(ns) = ns {
            self.real(key, seconds(ns));
        }
    }

    pub(super) fn flag(&mut self, key: &str, flag: bool) {
        self.add(key, Value::BoolValue(flag));
    }

    pub(super) fn list(&mut self, key: &str, texts: impl IntoIterator<Item = String>) {
        let values = texts.into_iter().map(|text| any(Value::StringValue(harmless(&text)))).collect();
        self.add(key, Value::ArrayValue(ArrayValue { values }));
    }

    /// One end of a connection, as far as it is known.
    pub(super) fn endpoint(&mut self, (address, port): (&str, &str), end: &Endpoint) {
        if end.is_known() || !end.address.is_unspecified() {
            self.text(address, end.address.to_string());
        }
        if end.is_known() {
            self.count(port, end.port.into());
        }
    }

    /// A value of JSON, as it is.
    pub(super) fn json(&mut self, key: &str, value: &serde_json::Value) {
        self.0.push(KeyValue { key: key.to_owned(), value: Some(from_json(value)), key_strindex: 0 });
    }

    fn add(&mut self, key: impl Into<String>, value: Value) {
        self.0.push(KeyValue { key: key.into(), value: Some(any(value)), key_strindex: 0 });
    }

    pub(super) fn into_vec(self) -> Vec<KeyValue> {
        self.0
    }
}

pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

pub(super) fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// `null` is a value of no kind, as OTLP has it.
fn from_json(json: &serde_json::Value) -> AnyValue {
    use serde_json::Value as Json;
    let value = match json {
        Json::Null => return AnyValue { value: None },
        Json::Bool(flag) => Value::BoolValue(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::IntValue(whole),
            (None, Some(real)) if !number.is_u64() => Value::DoubleValue(real),
            _ => Value::StringValue(number.to_string()),
        },
        Json::String(text) => Value::StringValue(harmless(text)),
        Json::Array(values) => {
            Value::ArrayValue(ArrayValue { values: values.iter().map(from_json).collect() })
        }
        Json::Object(fields) => {
            let pair = |(key, value): (&String, &Json)| KeyValue {
                key: harmless(key),
                value: Some(from_json(value)),
                key_strindex: 0,
            };
            Value::KvlistValue(KeyValueList { values: fields.iter().map(pair).collect() })
        }
    };
    any(value)
}

/// Escaped and cut.
pub(super) fn harmless(text: &str) -> String {
    let mut text = printable(text).into_owned();
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
